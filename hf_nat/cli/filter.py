"""`hf-nat filter`."""

from __future__ import annotations

from collections.abc import Sequence

from ..base.config import load_config
from ..base.processes import process_state
from ..base.utils import read_json
from ..steps import Filter, FilterArguments


def run(argv: Sequence[str]) -> None:
    """Leaves suspicious rows of a distilled corpus out and writes the new corpus's card."""
    folder = Filter(*load_config((FilterArguments,), argv, prog="hf-nat filter")).run()
    if not process_state().is_main_process:
        return
    manifest = read_json(folder / "manifest.json")
    applied = manifest["filters"][-1]
    print(f"{folder}: {manifest['counts']['train']} of {applied['num_rows']} training pairs stay")
    print(f"left out: {applied['num_dropped']} ({_counts(applied['reasons'])}; a row may count for several reasons)")
    print(f"flagged and kept: {_counts(manifest['flag_counts'])}")


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "none"
