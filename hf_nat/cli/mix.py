"""`hf-nat mix`."""

from __future__ import annotations

from collections.abc import Sequence

from ..base.config import load_config
from ..base.processes import process_state
from ..base.utils import read_json
from ..steps import Mix, MixArguments


def run(argv: Sequence[str]) -> None:
    """Makes one corpus of several and writes its card."""
    folder = Mix(*load_config((MixArguments,), argv, prog="hf-nat mix")).run()
    if process_state().is_main_process:
        manifest = read_json(folder / "manifest.json")
        print(f"{folder}: {manifest['counts']['train']} training pairs")
        for part in manifest["mix"]:
            print(f"{part['name']}: {part['num_taken']} of {part['num_rows']} rows, weight {part['weight']:g}")
