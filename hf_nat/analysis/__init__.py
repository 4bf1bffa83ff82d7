"""What distillation did to a corpus: measures, and a report that puts corpora side by side."""

from __future__ import annotations

from .comparison import MEASURES_FILE, AnalyzeArguments, analyze, measures_table, named_corpora
from .measures import AlignedCorpus, MeasureArguments, measure_corpus


__all__ = [
    "MEASURES_FILE",
    "AlignedCorpus",
    "AnalyzeArguments",
    "MeasureArguments",
    "analyze",
    "measure_corpus",
    "measures_table",
    "named_corpora",
]
