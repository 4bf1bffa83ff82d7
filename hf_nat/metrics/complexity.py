"""Complexity of a parallel corpus: how uncertain the translation of a source word is."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ..base.bounds import require_choice, require_number
from .bootstrap import Array, Bootstrap, bootstrap, drawn_rows
from .lexicon import LexicalCounts, LogBase, nats_per_unit


_TINY = np.finfo(float).tiny


@dataclass(frozen=True)
class Complexity:
    """Result of `complexity`.

    Args:
        value (`float`): C(d) in nats (bits with base 2): mean of `per_word`.
        per_word (`dict[str, float]`): H(y|x) in nats (bits) for each source type x that counts.
        num_types (`int`): number of those source types.
        num_links (`int`): number of their links.
        occurrences (`dict[str, int]`): tokens of each of those source types.
    """

    value: float
    per_word: dict[str, float]
    num_types: int
    num_links: int
    occurrences: dict[str, int]


@dataclass(frozen=True)
class AmbiguousWord:
    """A row of `ambiguous_words`.

    Args:
        word (`str`): the source type.
        count (`int`): its tokens in the first corpus.
        entropy (`float`): H(y|x) in the first corpus, in nats (bits with base 2).
        targets (`list[tuple[str, float]]`): its most frequent target types there, with their shares 0-1.
        entropy_after (`float`, *optional*): H(y|x) in the second corpus, where one was given.
        targets_after (`list[tuple[str, float]]`, *optional*): its most frequent target types there.
    """

    word: str
    count: int
    entropy: float
    targets: list[tuple[str, float]]
    entropy_after: float | None = None
    targets_after: list[tuple[str, float]] | None = None


def complexity(
    counts: LexicalCounts,
    *,
    base: LogBase = "e",
    weighting: Literal["types", "tokens"] = "types",
    include_unlinked: bool = False,
    min_count: int = 1,
    miller_madow: bool = False,
) -> Complexity:
    """Computes C(d), the mean over source types of the entropy of their aligned target types.

    p(y|x) is the share of the links of source type x that go to target type y.

    Args:
        counts (`LexicalCounts`): link counts of the corpus.
        base (`"e"` or `2`, *optional*): of the logarithm: nats or bits.
        weighting (`str`, *optional*): `"types"` counts every source type alike, `"tokens"` as often as it occurs.
        include_unlinked (`bool`, *optional*): whether source types without a link count, with entropy 0.
        min_count (`int`, *optional*): a source type counts if it occurs at least so often, linked or not: data sets on
            one set of sources are then compared on the same words.
        miller_madow (`bool`, *optional*): whether to add (target types - 1) / (2 links) nats to each entropy, the
            first-order correction of its low bias at few links.

    Returns:
        `Complexity`: the mean in nats (bits), with the entropy of each source type.

    Raises:
        ValueError: if an option is out of range or no source type counts.

    Source: Zhou, Gu & Neubig 2020, section 3.2 (arXiv:1911.02727); the minus sign that its formula lacks is added.
    Miller 1955 (bias correction).
    """
    kept, entropies, value = _measure(counts, base, weighting, include_unlinked, min_count, miller_madow)
    if not len(kept):
        raise ValueError(
            f"`min_count` must leave at least 1 source type, got {min_count} where the most frequent type with a link "
            f"occurs {counts.occurrences[counts.sources].max()} times. Use a lower one."
        )
    words = [counts.source_types[i] for i in kept]
    return Complexity(
        value=value,
        per_word=dict(zip(words, entropies.tolist(), strict=True)),
        num_types=len(kept),
        num_links=int(counts.links_per_type()[kept].sum()),
        occurrences=dict(zip(words, counts.occurrences[kept].tolist(), strict=True)),
    )


def _measure(
    counts: LexicalCounts,
    base: LogBase,
    weighting: str,
    include_unlinked: bool,
    min_count: int,
    miller_madow: bool,
) -> tuple[Array, Array, float]:
    """Returns the indices of the source types that count, their entropies, and C: nan where no type counts."""
    unit = nats_per_unit(base)
    require_number("min_count", min_count, least=1)
    require_choice("weighting", weighting, ("types", "tokens"))
    num_links = counts.links_per_type()
    linked = num_links > 0
    (kept,) = np.nonzero((counts.occurrences >= min_count) & (linked | include_unlinked))
    num_links = np.maximum(num_links, 1)
    probs = counts.counts / num_links[counts.sources]
    # A pair whose rows a resample left out has probability 0 and adds 0.
    entropies = counts.sum_by_source(-probs * np.log(np.maximum(probs, _TINY)))
    if miller_madow:
        num_targets = counts.sum_by_source(counts.counts > 0)
        entropies += np.where(linked, (num_targets - 1) / (2 * num_links), 0)
    entropies = entropies[kept] / unit
    if not len(kept):
        return kept, entropies, math.nan
    weights = counts.occurrences[kept] if weighting == "tokens" else np.ones(len(kept))
    return kept, entropies, float(entropies @ weights / weights.sum())


def corpus_complexity(
    sources: Iterable[Sequence[str]],
    targets: Iterable[Sequence[str]],
    alignments: Iterable[Sequence[tuple[int, int]]],
    **options: Any,
) -> Complexity:
    """Computes C(d) of a corpus in one call: `complexity` of `LexicalCounts.from_corpus`.

    Args:
        sources (`Iterable[Sequence[str]]`): tokens of each source sentence.
        targets (`Iterable[Sequence[str]]`): tokens of each target sentence.
        alignments (`Iterable[Sequence[tuple[int, int]]]`): links (source index, target index) of each pair, from 0.
        **options: of `complexity`.

    Returns:
        `Complexity`: the mean in nats, with the entropy of each source type.

    Raises:
        ValueError: if the three lengths differ, a link points outside its sentence, or there is no link at all.

    Source: Zhou, Gu & Neubig 2020, section 3.2 (arXiv:1911.02727).
    """
    return complexity(LexicalCounts.from_corpus(sources, targets, alignments), **options)


def complexity_bootstrap(
    counts: LexicalCounts,
    *,
    num_samples: int = 1000,
    seed: int = 1,
    rows: Array | None = None,
    num_rows: int | None = None,
    **options: Any,
) -> Bootstrap:
    """Measures C(d) in samples of the sentences; the difference of two corpora of the same rows is paired by them.

    They show how far C moves with the choice of sentences, and do not correct the low bias of the entropy. A sample
    holds fewer distinct sentences than the corpus and so less entropy: center the interval.

    Args:
        counts (`LexicalCounts`): link counts of the corpus, made with `keep_rows=True`.
        num_samples (`int`, *optional*): samples of as many rows as are drawn from, with replacement (multinomial).
        seed (`int`, *optional*): of the draws.
        rows (`np.ndarray`, *optional*): number of the drawn row that each row of the corpus belongs to, int64
            `[counts.num_rows]`, where it lacks some of the rows of the corpus it is compared with.
        num_rows (`int`, *optional*): rows that are drawn from; by default those of the corpus.
        **options: of `complexity`; each sample is measured anew with all of them.

    Returns:
        `Bootstrap`: C(d) and its samples, in nats (bits with base 2).

    Raises:
        ValueError: if the rows were not kept or do not fit, an option is out of range, or no source type counts.

    Source: Efron & Tibshirani 1993, section 13.3.
    """
    complexity(counts, **options)  # Checks the options, and that C is defined.
    settings = {**(complexity.__kwdefaults__ or {}), **options}.values()
    num_rows = counts.num_rows if num_rows is None else num_rows
    own_rows = drawn_rows(rows, counts.num_rows, num_rows)

    def statistic(row_weights: Array) -> float:
        return _measure(counts.resample(row_weights[own_rows]), *settings)[-1]

    return bootstrap(statistic, num_rows, num_samples=num_samples, seed=seed)


def sentence_entropies(sources: Iterable[Sequence[str]], per_word: Mapping[str, float]) -> tuple[Array, Array]:
    """Computes the conditional entropy H(Y|X=x) of each sentence: the sum of H(y|x_t) over its source tokens.

    Length dominates the sum; the mean per token compares sentences of any length.

    Args:
        sources (`Iterable[Sequence[str]]`): tokens of each source sentence.
        per_word (`Mapping[str, float]`): H(y|x) of each source type, as `Complexity` has it; a type that is not there
            (without a link, or under `min_count`) has entropy 0.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: sum and mean per token of each sentence, float64 `[rows]` each, in the unit of
        `per_word`; a sentence without a token has sum 0 and mean nan.

    Source: Zhou, Gu & Neubig 2020, section 3.2 and Figure 7 (arXiv:1911.02727).
    """
    sums, lengths = [], []
    for source in sources:
        sums.append(math.fsum(per_word.get(word, 0.0) for word in source))
        lengths.append(len(source))
    totals, sizes = np.array(sums, dtype=float), np.array(lengths, dtype=float)
    return totals, np.divide(totals, sizes, out=np.full(len(sizes), math.nan), where=sizes > 0)


def ambiguous_words(
    before: LexicalCounts,
    after: LexicalCounts | None = None,
    k: int = 20,
    *,
    num_targets: int = 3,
    base: LogBase = "e",
    min_count: int = 1,
) -> list[AmbiguousWord]:
    """Lists the source types with the highest entropy, or those whose entropy falls most from one corpus to another.

    Args:
        before (`LexicalCounts`): link counts of the corpus.
        after (`LexicalCounts`, *optional*): those of a second corpus with the same sources, such as a distilled one;
            only types with a link in both are listed then, as no link at all is not certainty.
        k (`int`, *optional*): length of the list.
        num_targets (`int`, *optional*): target types listed for each word and corpus.
        base (`"e"` or `2`, *optional*): of the logarithm: nats or bits.
        min_count (`int`, *optional*): tokens that a source type must have in the first corpus.

    Returns:
        `list[AmbiguousWord]`: at most `k` words, highest entropy or deepest fall first, then the more frequent.

    Raises:
        ValueError: if an option is out of range or no source type counts.

    Source: Zhou, Gu & Neubig 2020, section 3.2 (arXiv:1911.02727); the table is not in the paper.
    """
    require_number("k", k, least=1)
    require_number("num_targets", num_targets, least=1)
    first = complexity(before, base=base, min_count=min_count)
    later = {} if after is None else complexity(after, base=base).per_word
    words = [word for word in first.per_word if after is None or word in later]
    words = heapq.nsmallest(
        k, words, key=lambda word: (later.get(word, 0.0) - first.per_word[word], -first.occurrences[word])
    )
    return [
        AmbiguousWord(
            word=word,
            count=first.occurrences[word],
            entropy=first.per_word[word],
            targets=before.top_targets(word, num_targets),
            entropy_after=later.get(word),
            targets_after=None if after is None else after.top_targets(word, num_targets),
        )
        for word in words
    ]
