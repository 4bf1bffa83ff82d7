"""Scores of every sentence of a list against every other: n-grams are counted once a sentence, not once a pair."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sacrebleu.metrics import BLEU, CHRF

from .bootstrap import Array


_SMALLEST = 1e-16  # sacrebleu's value for a precision or recall without n-grams


def pairwise_chrf(texts: Sequence[str]) -> Array:
    """Returns chrF as sacrebleu computes it by default, of each text as hypothesis against each as reference.

    Args:
        texts (`Sequence[str]`): N sentences.

    Returns:
        `np.ndarray`: float64 `[N, N]`, 0 to 100, a hypothesis a row.

    Source: Popović 2015; sacrebleu's `CHRF.sentence_score`, with the same values.
    """
    letters = [np.frombuffer("".join(text.split()).encode("utf-32-le", "surrogatepass"), np.uint32) for text in texts]
    shape, factor = (len(texts), len(texts)), CHRF.BETA**2
    precision, recall, orders = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for counts in _ngram_counts(letters, CHRF.CHAR_ORDER):
        totals, matches = counts.sum(axis=1), _matches(counts)
        both = (totals[:, None] > 0) & (totals[None] > 0)
        safe = np.maximum(totals, 1)
        precision += np.where(both, matches / safe[:, None], 0.0)
        recall += np.where(both, matches / safe[None], 0.0)
        orders += both
    precision, recall = (side / np.maximum(orders, 1) for side in (precision, recall))
    denominator = factor * precision + recall
    return np.where(denominator > 0, 100 * ((1 + factor) * precision * recall / np.maximum(denominator, _SMALLEST)), 0)


def pairwise_bleu(texts: Sequence[str], tokenize: str) -> Array:
    """Returns sentence BLEU with effective order, of each text as hypothesis against each as reference.

    Args:
        texts (`Sequence[str]`): N sentences.
        tokenize (`str`): sacrebleu's name of the tokens.

    Returns:
        `np.ndarray`: float64 `[N, N]`, 0 to 100, a hypothesis a row.

    Source: Papineni et al. 2002; sacrebleu's `BLEU.sentence_score` with `effective_order`, with the same values.
    """
    bleu: Any = BLEU(tokenize=tokenize, effective_order=True)
    numbers: dict[str, int] = {}
    tokens = [bleu._preprocess_segment(text).split() for text in texts]
    words = [np.array([numbers.setdefault(token, len(numbers)) for token in own], dtype=np.int64) for own in tokens]
    orders = _ngram_counts(words, bleu.max_ngram_order)
    matches = np.stack([_matches(counts) for counts in orders], axis=-1).astype(int).tolist()  # [N, N, orders]
    totals = np.stack([counts.sum(axis=1) for counts in orders], axis=-1).astype(int).tolist()
    lengths = [len(own) for own in words]
    scores = [
        [
            bleu._compute_score_from_stats([length, other, *matches[i][j], *totals[i]]).score
            for j, other in enumerate(lengths)
        ]
        for i, length in enumerate(lengths)
    ]
    return np.array(scores)


def _ngram_counts(sequences: Sequence[Array], num_orders: int) -> list[Array]:
    """Returns for each order the counts `[N, G]` of the G n-grams that occur in N sequences of whole numbers."""
    lengths = [len(sequence) for sequence in sequences]
    owners = np.repeat(np.arange(len(sequences)), lengths)
    _, symbols = np.unique(np.concatenate(sequences).astype(np.int64), return_inverse=True)
    base, ngrams, counts = len(symbols) + 1, symbols, []
    for order in range(1, num_orders + 1):
        if order > 1:
            # An n-gram is the one of n - 1 at its place and its last symbol; both are numbered from 0 without a gap.
            _, ngrams = np.unique(ngrams[:-1] * base + symbols[order - 1 :], return_inverse=True)
        inside = owners[: len(ngrams)] == owners[order - 1 :]
        size = int(ngrams.max(initial=0)) + 1
        flat = np.bincount(owners[: len(ngrams)][inside] * size + ngrams[inside], minlength=len(sequences) * size)
        counts.append(flat.reshape(len(sequences), size).astype(np.float32))
    return counts


def _matches(counts: Array) -> Array:
    """Returns the n-grams that each two rows of counts `[N, G]` share, each as often as both have it: `[N, N]`.

    min(a, b) is the number of t from 1 on for which a >= t and b >= t: a matrix product for every t. Only n-grams that
    two rows have count.
    """
    matches = np.zeros((len(counts), len(counts)))
    counts, times = counts[:, counts.any(axis=0)], 1
    while counts.size:
        present = (counts >= times).astype(np.float32)
        matches += present @ present.T
        times += 1
        counts = counts[:, (counts >= times).any(axis=0)]
    return matches
