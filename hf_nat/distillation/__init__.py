"""Sequence-level knowledge distillation: a corpus whose targets are a teacher's translations."""

from __future__ import annotations

from .arguments import DistillArguments
from .distill import write_distilled_corpus
from .filter import filter_corpus
from .filter_arguments import FilterArguments
from .mix import MixArguments, mix_corpora


__all__ = [
    "DistillArguments",
    "FilterArguments",
    "MixArguments",
    "filter_corpus",
    "mix_corpora",
    "write_distilled_corpus",
]
