"""`hf-nat analyze`."""

from __future__ import annotations

from collections.abc import Sequence

from ..base.config import load_config
from ..base.processes import process_state
from ..steps import Analyze, AnalyzeArguments


def run(argv: Sequence[str]) -> None:
    """Measures corpora, and brings the cards of distilled ones up to date."""
    step = Analyze(*load_config((AnalyzeArguments,), argv, prog="hf-nat analyze"))
    step.run()
    if process_state().is_main_process:
        print(step.table().markdown())
        print("C(d), F(d): in nats. A, U: the parts of F(d), of what the distilled corpus has and of what it lacks.")
        print(f"Report: {step.folder / 'report.html'}")
