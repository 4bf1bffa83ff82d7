"""`hf-nat experiment`."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Sequence

from ..config import load_config
from ..experiments.registry import EXPERIMENTS
from ..inference import process_state


def run(argv: Sequence[str]) -> None:
    """Runs one study of the paper and prints its report."""
    summaries = {name: (inspect.getdoc(study.run) or "").split("\n")[0] for name, study in EXPERIMENTS.items()}
    parser = argparse.ArgumentParser(
        prog="hf-nat experiment",
        usage="hf-nat experiment NAME [CONFIG.yaml ...] [--key value ...]",
        description="`hf-nat experiment NAME --help` lists the keys of a study.",
        epilog="\n".join(f"  {name:<15} {summary}" for name, summary in summaries.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", metavar="NAME", choices=EXPERIMENTS, help="one of those below")
    name = parser.parse_args(argv[:1]).name
    study = EXPERIMENTS[name]
    (args,) = load_config((study.arguments,), argv[1:], prog=f"hf-nat experiment {name}")
    report = study.run(args)
    if process_state().is_main_process:
        print(report.with_suffix(".md").read_text(encoding="utf-8"))
        print(f"Report: {report.resolve()}")
