"""`hf-nat analyze`."""

from __future__ import annotations

from collections.abc import Sequence

from ..analysis import AnalyzeArguments, measures_table
from ..base.config import load_config
from ..steps import Analyze


def run(argv: Sequence[str]) -> None:
    """Measures corpora, and brings the cards of distilled ones up to date."""
    step = Analyze(*load_config((AnalyzeArguments,), argv, prog="hf-nat analyze"))
    step.run()
    print(measures_table(step.results["corpora"]).markdown())
    print(f"Report: {step.folder / 'report.html'}")
