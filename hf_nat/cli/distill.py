"""`hf-nat distill`."""

from __future__ import annotations

from collections.abc import Sequence

from ..config import load_config
from ..distillation import DistillArguments, distill
from ..hub.cards import write_corpus_card
from ..inference import load_model, process_state
from ..utils import read_json


def run(argv: Sequence[str]) -> None:
    """Distills the corpus that the YAML file describes, with its card."""
    (args,) = load_config((DistillArguments,), argv, prog="hf-nat distill")
    folder = distill(*load_model(args.teacher, revision=args.teacher_revision), args)
    if process_state().is_main_process:
        write_corpus_card(folder)
        manifest = read_json(folder / "manifest.json")
        flagged = ", ".join(f"{count} {flag}" for flag, count in manifest["flag_counts"].items() if count)
        print(f"{folder}: {manifest['counts']['train']} training pairs distilled, flagged: {flagged or 'none'}")
