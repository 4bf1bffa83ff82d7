"""Models scored on a split, a decoding knob tuned on one, and confidence learned on one."""

from __future__ import annotations

from .calibrate import CalibrateArguments, calibrate
from .confidence import CONFIDENCE_FILE, read_calibration
from .evaluate import EvaluateArguments, SplitArguments, evaluate, load_pairs, measure
from .tune import TuneArguments, chosen_knob, chosen_values, default_knob, results_path, tune


__all__ = [
    "CONFIDENCE_FILE",
    "CalibrateArguments",
    "EvaluateArguments",
    "SplitArguments",
    "TuneArguments",
    "calibrate",
    "chosen_knob",
    "chosen_values",
    "default_knob",
    "evaluate",
    "load_pairs",
    "measure",
    "read_calibration",
    "results_path",
    "tune",
]
