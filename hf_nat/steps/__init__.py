"""Steps: each knows what its result depends on, does its work once, and leaves a record and a card."""

from __future__ import annotations

from .analyze import Analyze
from .distill import Distill, distill
from .evaluate import Evaluate
from .filter import Filter
from .step import RECORD_FILE, Step, check_steps
from .train import Train
from .tune import Tune


__all__ = [
    "RECORD_FILE",
    "Analyze",
    "Distill",
    "Evaluate",
    "Filter",
    "Step",
    "Train",
    "Tune",
    "check_steps",
    "distill",
]
