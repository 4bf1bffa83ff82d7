"""Complexity of a parallel corpus: how uncertain the translation of a source word is."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest


@dataclass(frozen=True)
class Complexity:
    """Result of `corpus_complexity`.

    Args:
        value (`float`): C(d) in nats: mean of `per_word`.
        per_word (`dict[str, float]`): H(y|x) in nats for each source type x that has a link.
        num_types (`int`): number of those source types.
        num_links (`int`): number of links counted.
    """

    value: float
    per_word: dict[str, float]
    num_types: int
    num_links: int


def corpus_complexity(
    sources: Iterable[Sequence[str]],
    targets: Iterable[Sequence[str]],
    alignments: Iterable[Sequence[tuple[int, int]]],
) -> Complexity:
    """Computes C(d), the mean over source types of the entropy of their aligned target types.

    p(y|x) is the share of the links of source type x that go to target type y; words without a link contribute
    nothing. Only counts are kept, so the three arguments may be generators over a corpus of any size.

    Args:
        sources (`Iterable[Sequence[str]]`): tokens of each source sentence.
        targets (`Iterable[Sequence[str]]`): tokens of each target sentence.
        alignments (`Iterable[Sequence[tuple[int, int]]]`): links (source index, target index) of each pair, from 0.

    Returns:
        `Complexity`: the mean in nats, with the entropy of each source type.

    Raises:
        ValueError: if the three lengths differ, a link points outside its sentence, or there is no link at all.

    Source: Zhou, Gu & Neubig 2020, section 3.2 (arXiv:1911.02727); the minus sign that its formula lacks is added.
    """
    counts: dict[str, Counter[str]] = {}
    for row, (source, target, links) in enumerate(zip_longest(sources, targets, alignments)):
        if source is None or target is None or links is None:
            raise ValueError(f"`sources`, `targets` and `alignments` must have one length, one of them ends at {row}.")
        for i, j in links:
            if not (0 <= i < len(source) and 0 <= j < len(target)):
                raise ValueError(
                    f"Links must lie inside their sentences, got {i}-{j} in row {row} with "
                    f"{len(source)} source and {len(target)} target tokens."
                )
            counts.setdefault(source[i], Counter())[target[j]] += 1
    if not counts:
        raise ValueError("`alignments` must hold at least 1 link, got 0. The complexity of no links is undefined.")
    per_word = {word: _entropy(links_of_word) for word, links_of_word in counts.items()}
    num_links = sum(links_of_word.total() for links_of_word in counts.values())
    return Complexity(math.fsum(per_word.values()) / len(per_word), per_word, len(per_word), num_links)


def _entropy(counts: Counter[str]) -> float:
    """Entropy in nats of the distribution that the counts are proportional to."""
    total = counts.total()
    return math.fsum(count / total * math.log(total / count) for count in counts.values())
