"""`hf-nat born-again`."""

from __future__ import annotations

from collections.abc import Sequence

from .experiment import run_study


def run(argv: Sequence[str]) -> None:
    """Runs the iterations and prints the report."""
    run_study("born-again", argv, "hf-nat born-again")
