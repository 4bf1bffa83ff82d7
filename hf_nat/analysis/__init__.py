"""What distillation did to a corpus: measures, and a report that puts corpora side by side."""

from __future__ import annotations

from .comparison import MEASURES_FILE, AnalyzeArguments, analyze, measures_table, read_measures
from .measures import AlignedCorpus, MeasureArguments, check_links, measure_corpus


__all__ = [
    "MEASURES_FILE",
    "AlignedCorpus",
    "AnalyzeArguments",
    "MeasureArguments",
    "analyze",
    "check_links",
    "measure_corpus",
    "measures_table",
    "read_measures",
]
