"""Fuzzy reordering score: how monotonic the word alignments of a corpus are."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise, repeat, zip_longest
from typing import NamedTuple

import numpy as np

from .bootstrap import Array, Bootstrap, bootstrap, drawn_rows


@dataclass(frozen=True)
class Reordering:
    """Result of `fuzzy_reordering`.

    Args:
        value (`float`): score of the corpus, from 0 to 1 = monotonic.
        scores (`list[float | None]`): score of each sentence, None for a sentence without a link, which is left out.
        num_sentences (`int`): number of sentences with a score.
    """

    value: float
    scores: list[float | None]
    num_sentences: int


class _Span(NamedTuple):
    """A target position and the first and last source position that it is linked to."""

    target: int
    low: float
    high: float


def fuzzy_reordering(
    alignments: Iterable[Sequence[tuple[int, int]]],
    *,
    micro: bool = False,
    gaps: bool = False,
    boundary: bool = False,
    source_lengths: Iterable[int] | None = None,
) -> Reordering:
    """Computes the fuzzy reordering score 1 - (C - 1) / (M - 1): M linked target words in C chunks.

    A chunk is a run of linked target words whose source words go on from each other, see `reordering_chunks`. One
    linked word alone scores 1.

    Args:
        alignments (`Iterable[Sequence[tuple[int, int]]]`): links (source index, target index) of each pair, from 0.
        micro (`bool`, *optional*): whether the corpus score is 1 - sum(C - 1) / sum(M - 1) instead of the mean over
            sentences; 1 if no sentence has two linked words.
        gaps (`bool`, *optional*): whether a source word without a link breaks the chunk, instead of being skipped.
        boundary (`bool`, *optional*): whether virtual words before and after both sentences, linked to each other,
            belong to the chunks; M + 1 is the denominator then.
        source_lengths (`Iterable[int]`, *optional*): tokens of each source sentence, where the virtual word at the end
            stands if both `gaps` and `boundary` are set, which need it; otherwise it only bounds the links.

    Returns:
        `Reordering`: the score of the corpus and of each sentence.

    Raises:
        ValueError: if a link is outside its sentence, there is no link at all, or the lengths are missing or not one
            for each sentence.

    Source: Talbot et al. 2011, section 3; `boundary` is the form of Neubig's lader. Used in Zhou, Gu & Neubig 2020,
    section 4.2 (arXiv:1911.02727).
    """
    if gaps and boundary and source_lengths is None:
        raise ValueError("`source_lengths` must be given with `gaps` and `boundary`, got None. Pass them or drop one.")
    scores: list[float | None] = []
    breaks = places = 0
    rows = zip(alignments, repeat(math.inf)) if source_lengths is None else zip_longest(alignments, source_lengths)
    for row, (links, length) in enumerate(rows):
        if links is None or length is None:
            raise ValueError(f"`alignments` and `source_lengths` must have one length, one of them ends at {row}.")
        _check_links(links, length, f" in row {row}")
        spans = _spans(links, gaps)
        if not spans:
            scores.append(None)
            continue
        if boundary:
            end = length if gaps else 1 + max(span.high for span in spans)
            spans = [_Span(-1, -1, -1), *spans, _Span(-1, end, end)]
        num_breaks = sum(not _joined(a, b) for a, b in pairwise(spans))
        scores.append(_score(num_breaks, len(spans) - 1))
        breaks, places = breaks + num_breaks, places + len(spans) - 1
    scored = [score for score in scores if score is not None]
    if not scored:
        raise ValueError("`alignments` must hold at least 1 link, got 0. The reordering of no links is undefined.")
    value = _score(breaks, places) if micro else math.fsum(scored) / len(scored)
    return Reordering(value, scores, len(scored))


def reordering_bootstrap(
    result: Reordering,
    *,
    num_samples: int = 1000,
    seed: int = 1,
    rows: Array | None = None,
    num_rows: int | None = None,
) -> Bootstrap:
    """Measures the fuzzy reordering score, the mean over sentences, in samples of the sentences.

    Args:
        result (`Reordering`): what `fuzzy_reordering` gives without `micro`.
        num_samples (`int`, *optional*): samples of as many rows as are drawn from, with replacement (multinomial).
        seed (`int`, *optional*): of the draws.
        rows (`np.ndarray`, *optional*): number of the drawn row that each sentence belongs to, int64 `[sentences]`,
            where the corpus lacks some of the rows of the corpus it is compared with.
        num_rows (`int`, *optional*): rows that are drawn from; by default the sentences.

    Returns:
        `Bootstrap`: the score and its samples, 0-1.

    Raises:
        ValueError: if the rows do not fit or `num_samples` is below 1.

    Source: Efron & Tibshirani 1993, section 13.3.
    """
    scores = np.array(result.scores, dtype=float)
    scored = ~np.isnan(scores)
    num_rows = len(scores) if num_rows is None else num_rows
    own_rows = drawn_rows(rows, len(scores), num_rows)

    def statistic(row_weights: Array) -> float:
        weights = row_weights[own_rows][scored]
        return float(weights @ scores[scored] / weights.sum()) if weights.any() else math.nan

    return bootstrap(statistic, num_rows, num_samples=num_samples, seed=seed)


def reordering_chunks(links: Sequence[tuple[int, int]], *, gaps: bool = False) -> list[list[int]]:
    """Splits the linked target words of a sentence into chunks that follow the order of the source.

    Each target word spans the source words from its first to its last link, counted over linked source words only.
    Neighbours a, b (target words without a link skipped) are in one chunk iff neither end of the span moves back and b
    starts at most one source word after a ends.

    Args:
        links (`Sequence[tuple[int, int]]`): links (source index, target index) of the sentence, from 0.
        gaps (`bool`, *optional*): whether source words without a link are counted too, so that one breaks the chunk.

    Returns:
        `list[list[int]]`: the target positions of each chunk, in target order; empty without a link.

    Raises:
        ValueError: if a link has a negative position.

    Source: Talbot et al. 2011, section 3; Zhou, Gu & Neubig 2020, Figure 2 (arXiv:1911.02727).
    """
    _check_links(links, math.inf)
    chunks: list[list[int]] = []
    previous = None
    for span in _spans(links, gaps):
        if previous is None or not _joined(previous, span):
            chunks.append([])
        chunks[-1].append(span.target)
        previous = span
    return chunks


def num_chunks(links: Sequence[tuple[int, int]], *, gaps: bool = False) -> int:
    """Returns the number of `reordering_chunks`: C, from 1 to the number of linked target words; 0 without a link."""
    return len(reordering_chunks(links, gaps=gaps))


def _check_links(links: Sequence[tuple[int, int]], length: float, where: str = "") -> None:
    for i, j in links:
        if not (0 <= i < length and j >= 0):
            sentence = f"{length} source tokens" if length < math.inf else "positions counted from 0"
            raise ValueError(f"Links must lie inside their sentences, got {i}-{j}{where} with {sentence}.")


def _spans(links: Sequence[tuple[int, int]], gaps: bool) -> list[_Span]:
    """Returns the spans of the linked target words, in target order."""
    sources = sorted({i for i, _ in links})
    places = {i: i if gaps else place for place, i in enumerate(sources)}
    linked: dict[int, list[int]] = {}
    for i, j in links:
        linked.setdefault(j, []).append(places[i])
    return [_Span(target, min(linked[target]), max(linked[target])) for target in sorted(linked)]


def _joined(a: _Span, b: _Span) -> bool:
    """Whether target word b goes on where a, the one before it, ends."""
    return b.low >= a.low and b.high >= a.high and b.low - a.high <= 1


def _score(breaks: int, places: int) -> float:
    """Share of the places between neighbours that do not break; 1 where there is no such place."""
    return 1 - breaks / places if places else 1.0
