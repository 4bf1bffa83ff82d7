"""Sequence-level knowledge distillation: a corpus whose targets are a teacher's translations."""

from __future__ import annotations

from .arguments import DistillArguments
from .distill import distill
from .filter import FilterArguments, filter_corpus


__all__ = ["DistillArguments", "FilterArguments", "distill", "filter_corpus"]
