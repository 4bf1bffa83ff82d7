"""Models as graphs that decode without torch: traced, quantised, compared with what they were made from."""

from __future__ import annotations

from .arguments import ExportArguments
from .export import export


__all__ = ["ExportArguments", "export"]
