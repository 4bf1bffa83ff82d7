"""A run of every strategy, with what it cannot do without; and the judge of one of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


JUDGE = f"{__file__}:most_vowels"

RUNS: dict[str, dict[str, Any]] = {
    **{
        name: {"strategy": name}
        for name in ("beam", "greedy", "sampling", "top-k", "top-p", "n-best", "interpolation")
    },
    "mbr": {"strategy": "mbr"},
    "mbr of samples": {"strategy": "mbr", "candidates": "sampling", "num_candidates": 6, "temperature": 0.8},
    "rerank": {"strategy": "rerank", "quality": JUDGE},
    "stream": {"strategy": "greedy", "streaming": True},
    "expanded": {"strategy": "n-best", "expand": True},
}


def most_vowels(sources: Sequence[str], candidates: Sequence[str]) -> list[float]:
    """A judge that is neither the teacher nor the real target."""
    return [
        sum(text.count(vowel) for vowel in "aeiou") - 0.1 * len(source)
        for source, text in zip(sources, candidates, strict=True)
    ]
