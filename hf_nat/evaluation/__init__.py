"""Models scored on a split, and a decoding knob tuned on one."""

from __future__ import annotations

from .evaluate import EvaluateArguments, SplitArguments, evaluate, load_pairs, measure
from .tune import TuneArguments, chosen_knob, chosen_values, default_knob, results_path, tune


__all__ = [
    "EvaluateArguments",
    "SplitArguments",
    "TuneArguments",
    "chosen_knob",
    "chosen_values",
    "default_knob",
    "evaluate",
    "load_pairs",
    "measure",
    "results_path",
    "tune",
]
