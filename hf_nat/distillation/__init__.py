"""Sequence-level knowledge distillation: a corpus whose targets are a teacher's translations."""

from __future__ import annotations

from .arguments import DistillArguments
from .distill import distill


__all__ = ["DistillArguments", "distill"]
