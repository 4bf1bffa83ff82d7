"""`hf-nat distill`."""

from __future__ import annotations

from collections.abc import Sequence

from ..base.config import load_config
from ..base.processes import process_state
from ..base.utils import read_json
from ..steps import Distill, DistillArguments


def run(argv: Sequence[str]) -> None:
    """Distills the corpus that the YAML file describes, with its card."""
    folder = Distill(*load_config((DistillArguments,), argv, prog="hf-nat distill")).run()
    if process_state().is_main_process:
        manifest = read_json(folder / "manifest.json")
        flagged = ", ".join(f"{count} {flag}" for flag, count in manifest["flag_counts"].items() if count)
        print(f"{folder}: {manifest['counts']['train']} training pairs distilled, flagged: {flagged or 'none'}")
        if num_cut := manifest["flag_counts"].get("cut_source"):
            remedy = "" if "split_sentences" in manifest else ": --split_sentences, where a row is a document"
            print(f"{num_cut} of their sources were cut to the teacher's positions{remedy}")
