"""What tells a bad pair of sentences from its texts alone: a number for each pair."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np


Tokens = Sequence[Sequence[str]]

_URL = re.compile(r"(?:\b(?:https?|ftp)://|\bwww\.)[^\s<>\"“”«»]+", re.IGNORECASE)
# What ends a sentence or a bracket around a URL is no part of it.
_AFTER_URL = ".,;:!?)]}'’…"
# Digits, and what separates thousands and decimals in some language; a plain space may also part two numbers.
_NUMBER = re.compile("\\d+(?:[.,'’\u00a0\u2009\u202f]\\d+)*")


def length_ratios(sources: Tokens, targets: Tokens) -> np.ndarray:
    """Returns the tokens of the longer side per token of the other: `[rows]`, infinite if it has none, 1 if neither
    has."""
    lengths = np.array([[len(tokens) for tokens in side] for side in (sources, targets)], dtype=float)
    shorter, longer = np.sort(lengths, axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(longer > 0, longer / shorter, 1.0)


def copy_rates(sources: Tokens, targets: Tokens) -> np.ndarray:
    """Returns the share (0-1) of the words of each source that its target has too: `[rows]`, 0 without a word.

    A word is a token with a letter: numbers and punctuation are the same in many languages. A word that stands twice
    in the source must stand twice in the target to count twice.
    """
    return np.array([_copy_rate(*pair) for pair in zip(sources, targets, strict=True)], dtype=float)


def num_differences(
    sources: Sequence[str], targets: Sequence[str], find: Callable[[str], Sequence[str]]
) -> np.ndarray:
    """Returns how many things that `find` finds are on one side only: `[rows]`; one that is there twice is two."""
    found = ((Counter(find(source)), Counter(find(target))) for source, target in zip(sources, targets, strict=True))
    return np.array([((left - right) + (right - left)).total() for left, right in found], dtype=np.int32)


def find_numbers(text: str) -> list[str]:
    """Returns the numbers of a text, outside URLs, each as its digits 0-9 alone.

    So 1,000.50 and 1.000,50 are the same number, in whatever script; numbers in words are not found.
    """
    digits = (re.sub(r"\D", "", number) for number in _NUMBER.findall(_URL.sub(" ", text)))
    return ["".join(str(int(digit)) for digit in number) for number in digits]


def find_urls(text: str) -> list[str]:
    """Returns the URLs of a text: from `http://`, `https://`, `ftp://` or `www.` to the next blank or quote."""
    return [url.rstrip(_AFTER_URL) for url in _URL.findall(text)]


def _copy_rate(source: Sequence[str], target: Sequence[str]) -> float:
    words, others = (Counter(token for token in side if any(map(str.isalpha, token))) for side in (source, target))
    return (words & others).total() / max(1, words.total())
