"""`hf-nat recommend`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..base.config import load_config
from ..recommendation.advice import RecommendArguments, recommend_corpus, recommendation_table, verdict


def run(argv: Sequence[str]) -> None:
    """Ranks distilled corpora for a student."""
    (args,) = load_config((RecommendArguments,), argv, prog="hf-nat recommend")
    results = recommend_corpus(args)
    print(recommendation_table(results).markdown())
    print(verdict(results["recommendation"]))
    print(results["recommendation"]["explanation"])
    print(f"Report: {Path(args.output_dir) / 'report.html'}")
