"""Measures of translations and of parallel data."""

from __future__ import annotations

from .complexity import Complexity, corpus_complexity
from .translation import MetricScore, score_translations


__all__ = ["Complexity", "MetricScore", "corpus_complexity", "score_translations"]
