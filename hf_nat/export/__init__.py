"""Models as graphs that decode without torch: traced, quantised, compared with what they were made from."""

from __future__ import annotations

from .arguments import ExportArguments
from .export import export
from .parity import load_validation


__all__ = ["ExportArguments", "export", "load_validation"]
