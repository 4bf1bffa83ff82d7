"""`hf-nat analyze`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..config import load_config
from ..experiments.analyze import AnalyzeArguments, analyze, measures_table
from ..hub.cards import write_corpus_card


def run(argv: Sequence[str]) -> None:
    """Measures corpora, and brings the cards of distilled ones up to date."""
    (args,) = load_config((AnalyzeArguments,), argv, prog="hf-nat analyze")
    results = analyze(args)
    for corpus in args.distilled_corpora.values():
        if (Path(corpus) / "manifest.json").is_file():
            write_corpus_card(corpus)
    print(measures_table(results["corpora"]).markdown())
    print(f"Report: {Path(args.output_dir) / 'report.html'}")
