"""Models scored on a split, a decoding knob tuned on one, and confidence learned on one."""

from __future__ import annotations

from .calibrate import CalibrateArguments, calibrate
from .confidence import CONFIDENCE_FILE
from .evaluate import EvaluateArguments, evaluate
from .tune import TuneArguments


__all__ = [
    "CONFIDENCE_FILE",
    "CalibrateArguments",
    "EvaluateArguments",
    "TuneArguments",
    "calibrate",
    "evaluate",
]
