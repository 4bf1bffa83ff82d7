"""`hf-nat language-model`."""

from __future__ import annotations

from collections.abc import Sequence

from ..base.config import load_config
from ..base.processes import process_state
from ..steps import LanguageModel, LanguageModelArguments


def run(argv: Sequence[str]) -> None:
    """Makes an n-gram model of a corpus' targets, for the beam search of a student."""
    step = LanguageModel(*load_config((LanguageModelArguments,), argv, prog="hf-nat language-model"))
    step.run()
    if process_state().is_main_process:
        print(f"{step.file}: what `--language_model {step.folder}` reads, with a beam search")
