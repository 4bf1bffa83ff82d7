"""`hf-nat born-again`."""

from __future__ import annotations

from collections.abc import Sequence

from ..config import load_config
from ..experiments.born_again import BornAgainArguments, born_again
from ..inference import process_state


def run(argv: Sequence[str]) -> None:
    """Runs the iterations and prints the report."""
    (args,) = load_config((BornAgainArguments,), argv, prog="hf-nat born-again")
    report = born_again(args)
    if process_state().is_main_process:
        print(report.with_suffix(".md").read_text(encoding="utf-8"))
        print(f"Report: {report.resolve()}")
