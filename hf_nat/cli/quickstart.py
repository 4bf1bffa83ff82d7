"""`hf-nat quickstart`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..base.config import load_config, option
from ..experiments.quickstart import quickstart


@dataclass
class QuickstartArguments:
    """Where the runs of the quickstart are described, and where they go."""

    config_dir: str = option("configs/toy", "folder of the YAML files")
    output_dir: str = option("runs/quickstart", "folder of everything that is made")


def run(argv: Sequence[str]) -> None:
    """Runs the whole path on the toy corpus and prints the report."""
    (args,) = load_config((QuickstartArguments,), argv, prog="hf-nat quickstart")
    report = quickstart(Path(args.config_dir), Path(args.output_dir))
    print(report.with_suffix(".md").read_text(encoding="utf-8"))
    print(f"Report: {report.resolve()}")
