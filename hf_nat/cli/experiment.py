"""`hf-nat experiment`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ..base.config import load_config
from ..base.processes import process_state
from ..experiments.registry import EXPERIMENTS


def run(argv: Sequence[str]) -> None:
    """Runs one study of the paper and prints its report."""
    parser = argparse.ArgumentParser(
        prog="hf-nat experiment",
        usage="hf-nat experiment NAME [CONFIG.yaml ...] [--key value ...]",
        description="`hf-nat experiment NAME --help` lists the keys of a study.",
        epilog="\n".join(f"  {name:<15} {study.summary}" for name, study in EXPERIMENTS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", metavar="NAME", choices=EXPERIMENTS, help="one of those below")
    name = parser.parse_args(argv[:1]).name
    run_study(name, argv[1:], f"hf-nat experiment {name}")


def run_study(name: str, argv: Sequence[str], prog: str) -> None:
    """Runs a study and prints its report."""
    study = EXPERIMENTS[name]
    report = study.run(*load_config((study.arguments,), argv, prog=prog))
    if process_state().is_main_process:
        print(report.with_suffix(".md").read_text(encoding="utf-8"))
        print(f"Report: {report.resolve()}")
