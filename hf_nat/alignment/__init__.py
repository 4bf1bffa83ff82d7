"""Word alignment: which target word translates which source word."""

from __future__ import annotations

from .align import align
from .pharaoh import format_links, parse_links
from .symmetrization import SYMMETRIZATIONS, symmetrize


__all__ = ["SYMMETRIZATIONS", "align", "format_links", "parse_links", "symmetrize"]
