"""`hf-nat quickstart`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..base.config import load_config
from ..experiments.quickstart import quickstart


@dataclass
class QuickstartArguments:
    """Where the runs of the quickstart are described, and where they go."""

    config_dir: str = field(default="configs/toy", metadata={"help": "folder of the YAML files"})
    output_dir: str = field(default="runs/quickstart", metadata={"help": "folder of everything that is made"})


def run(argv: Sequence[str]) -> None:
    """Runs the whole path on the toy corpus and prints the report."""
    (args,) = load_config((QuickstartArguments,), argv, prog="hf-nat quickstart")
    report = quickstart(Path(args.config_dir), Path(args.output_dir))
    print(report.with_suffix(".md").read_text(encoding="utf-8"))
    print(f"Report: {report.resolve()}")
