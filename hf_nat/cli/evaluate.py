"""`hf-nat evaluate`."""

from __future__ import annotations

from collections.abc import Sequence

from ..base.config import load_config
from ..base.processes import process_state
from ..decoding import DraftCounts
from ..steps import DecodingArguments, Evaluate, EvaluateArguments


def run(argv: Sequence[str]) -> None:
    """Scores a model on a test split, and brings the card of a local model up to date."""
    step = Evaluate(*load_config((EvaluateArguments, DecodingArguments), argv, prog="hf-nat evaluate"))
    step.run()
    if not process_state().is_main_process:
        return
    metrics = step.metrics
    for name, score in metrics["scores"].items():
        interval = " [{:.2f}, {:.2f}]".format(*score["interval"]) if "interval" in score else ""
        print(f"{name:<10} {score['score']:6.2f}{interval}  {score['signature']}")
    for name, reason in metrics["without_score"].items():
        print(f"{name:<10}    n/a  {reason}")
    # A record from before there were these rates has none.
    rates = metrics.get("error_rates", {"translations": {}})
    for name, rate in rates["translations"].items():
        unit = "" if name == "length_ratio" else " %"
        print(f"{name:<14} {rate:6.2f}{unit}  (references {rates['references'][name]:.2f}{unit})")
    rounds = "" if metrics["iterations_mean"] is None else f", {metrics['iterations_mean']:.2f} rounds"
    if "drafting" in metrics:
        rounds = f", {DraftCounts.phrase(metrics['drafting'])}"
    print(f"{metrics['num_sentences']} sentences, {metrics['sentences_per_second']:.1f} sentences/s{rounds}")
    print(f"{step.folder}: metrics.json, translations.txt")
