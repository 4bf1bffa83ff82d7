"""A run of every strategy, with what it cannot do without; others with files of a folder; and the judge of some."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
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

# Paths begin with FOLDER; see `in_folder` for the teachers and the text.
SEVERAL: dict[str, dict[str, Any]] = {
    "union": {"strategy": "rerank", "quality": JUDGE, "num_candidates": 3, "union": ["FOLDER/second", "FOLDER/third"]},
    "ensemble": {"strategy": "beam", "ensemble": ["FOLDER/second"]},
    "backward": {"strategy": "rerank", "backward_teacher": "FOLDER/second"},
    "sources alone": {"strategy": "greedy", "corpus": None, "source": "FOLDER/news.en"},
}


def in_folder(changes: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Returns the arguments of a run with a folder for FOLDER: one with `second`, `third` and `news.en`."""
    return json.loads(json.dumps(changes).replace("FOLDER", str(folder)))


def most_vowels(sources: Sequence[str], candidates: Sequence[str]) -> list[float]:
    """A judge that is neither the teacher nor the real target."""
    return [
        sum(text.count(vowel) for vowel in "aeiou") - 0.1 * len(source)
        for source, text in zip(sources, candidates, strict=True)
    ]
