"""Faithfulness of an altered corpus: how far its word translations are from those of the real data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..base.bounds import require_number
from .bootstrap import Array, Bootstrap, bootstrap, drawn_rows
from .lexicon import LexicalCounts, LogBase, nats_per_unit


@dataclass(frozen=True)
class Faithfulness:
    """Result of `faithfulness`.

    Args:
        value (`float`): F(d) in nats (bits with base 2), the mean of `per_word`; low is faithful. It equals
            `agreement + unseen_mass * ln(1 / eps)` (log2 with base 2), so F at any other eps follows from the two.
        agreement (`float`): A, mean over the source types of the sum of p_r ln(p_r / p_d) over targets with p_d > 0
            and of p_r ln p_r over the others, in nats (bits); it may be negative.
        unseen_mass (`float`): U, mean over the source types of the real probability of targets with p_d = 0, 0-1; 0
            with `add_k`, which leaves no such target.
        per_word (`dict[str, float]`): divergence of each source type that counts, in nats (bits).
        num_types (`int`): number of those source types.
    """

    value: float
    agreement: float
    unseen_mass: float
    per_word: dict[str, float]
    num_types: int


def faithfulness(
    real: LexicalCounts,
    distilled: LexicalCounts,
    *,
    eps: float = 1e-9,
    base: LogBase = "e",
    add_k: float = 0.0,
    skip_unseen_types: bool = False,
    min_count: int = 1,
) -> Faithfulness:
    """Computes F(d), the mean over source types of KL(p_r(y|x) || p_d(y|x)).

    p(y|x) is the share of the links of source type x that go to target type y, in the real data r and in the altered
    data d. The mean goes over the source types with a link in the real data. Words are matched as strings.

    Args:
        real (`LexicalCounts`): link counts of the real corpus.
        distilled (`LexicalCounts`): link counts of the altered corpus, aligned by itself.
        eps (`float`, *optional*): p_d(y|x) where d does not link x to y, also where x has no link in d at all; above
            0, at most 1. Nothing is renormalised. F depends on it strongly.
        base (`"e"` or `2`, *optional*): of the logarithm: nats or bits.
        add_k (`float`, *optional*): added to the links of x with each target type that x has in either corpus, in both
            corpora, before the shares are taken. Above 0, no such p_d is 0 and `eps` has no effect.
        skip_unseen_types (`bool`, *optional*): whether to leave out source types without a link in d.
        min_count (`int`, *optional*): a source type counts if it occurs at least so often in the real corpus.

    Returns:
        `Faithfulness`: the mean in nats (bits) and its parts; exactly 0 for a corpus against itself.

    Raises:
        ValueError: if an option is out of range or no source type counts.

    Source: Zhou, Gu & Neubig 2020, section 3.2, equation 4 (arXiv:1911.02727), which does not say what p_d is for an
    unseen pair.
    """
    pairs = _JoinedPairs(real, distilled, add_k)
    kept, agreement, unseen = pairs.measure(real, distilled, base, skip_unseen_types, min_count)
    floor = _floor(eps, base)
    if not len(kept):
        raise ValueError(
            f"At least 1 source type must count, got 0 of {len(real.source_types)}. Use a lower `min_count`, "
            f"got {min_count}, or no `skip_unseen_types`, got {skip_unseen_types}."
        )
    per_word = (agreement + unseen * floor).tolist()
    mean_agreement, mean_unseen = float(agreement.mean()), float(unseen.mean())
    return Faithfulness(
        value=mean_agreement + mean_unseen * floor,
        agreement=mean_agreement,
        unseen_mass=mean_unseen,
        per_word=dict(zip((real.source_types[i] for i in kept), per_word, strict=True)),
        num_types=len(kept),
    )


def faithfulness_bootstrap(
    real: LexicalCounts,
    distilled: LexicalCounts,
    *,
    num_samples: int = 1000,
    seed: int = 1,
    rows: Array | None = None,
    **options: Any,
) -> Bootstrap:
    """Measures F(d) in samples of the real rows; the difference of two altered corpora is paired by them.

    Where an altered corpus lacks rows, a sample of the real rows holds those altered rows that belong to them. Center
    the interval.

    Args:
        real (`LexicalCounts`): link counts of the real corpus, made with `keep_rows=True`.
        distilled (`LexicalCounts`): those of the altered corpus, made with `keep_rows=True`.
        num_samples (`int`, *optional*): samples of as many rows as the real corpus has, drawn with replacement
            (multinomial).
        seed (`int`, *optional*): of the draws.
        rows (`np.ndarray`, *optional*): number of the real row that each altered row belongs to,
            int64 `[distilled.num_rows]`; by default the corpora have the same rows in the same order.
        **options: of `faithfulness`; each sample is measured anew with all of them.

    Returns:
        `Bootstrap`: F(d) and its samples, in nats (bits with base 2).

    Raises:
        ValueError: if the corpora differ in length and there are no `rows`, these do not fit, the corpora were made
            without `keep_rows=True`, an option is out of range, or no source type counts.

    Source: Efron & Tibshirani 1993, section 13.3.
    """
    own_rows = drawn_rows(rows, distilled.num_rows, real.num_rows)
    faithfulness(real, distilled, **options)  # Checks the options, and that F is defined.
    eps, base, add_k, *rest = {**(faithfulness.__kwdefaults__ or {}), **options}.values()
    floor = _floor(eps, base)
    pairs = _JoinedPairs(real, distilled, add_k)

    def statistic(row_weights: Array) -> float:
        samples = real.resample(row_weights), distilled.resample(row_weights[own_rows])
        kept, agreement, unseen = pairs.measure(*samples, base, *rest)
        return float((agreement + unseen * floor).mean()) if len(kept) else math.nan

    return bootstrap(statistic, real.num_rows, num_samples=num_samples, seed=seed)


def _floor(eps: float, base: LogBase) -> float:
    """Returns the log of 1 / eps in the unit of the base."""
    require_number("eps", eps, above=0, most=1, remedy="Use 1e-9 for the default floor.")
    return -math.log(eps) / nats_per_unit(base)


class _JoinedPairs:
    """The pairs of two corpora under the real one's numbering: its V source types, and Q pairs.

    The Q pairs are those of the real corpus, and with `add_k` also those that its source types have in the other one.
    """

    def __init__(self, real: LexicalCounts, distilled: LexicalCounts, add_k: float) -> None:
        require_number("add_k", add_k, least=0, remedy="Use 0 for the floor `eps`.")
        self.add_k = add_k
        places = {word: place for place, word in enumerate(real.source_types)}
        numbers = {word: number for number, word in enumerate(real.target_types)}
        sources = np.array([places.get(word, -1) for word in distilled.source_types])
        targets = np.array([numbers.setdefault(word, len(numbers)) for word in distilled.target_types])
        real_keys = real.sources.astype(np.int64) << 32 | real.targets
        # Source types that the real corpus lacks give negative keys, which match nothing.
        distilled_keys = sources[distilled.sources] << 32 | targets[distilled.targets]
        keys = np.union1d(real_keys, distilled_keys[distilled_keys >= 0]) if add_k else real_keys
        self.sources = keys >> 32
        self.real_pairs, self.distilled_pairs = _find(keys, real_keys), _find(keys, distilled_keys)
        self.distilled_types = _find(np.arange(len(places)), sources)

    def measure(
        self, real: LexicalCounts, distilled: LexicalCounts, base: LogBase, skip_unseen_types: bool, min_count: int
    ) -> tuple[Array, Array, Array]:
        """Returns the indices of the source types that count, and the agreement and the unseen mass of each.

        The corpora are those the pairs were joined from, or resamples of them; the options are `faithfulness`'s.
        """
        unit = nats_per_unit(base)
        require_number("min_count", min_count, least=1)
        counts, distilled_counts = _pick(real.counts, self.real_pairs), _pick(distilled.counts, self.distilled_pairs)
        links, distilled_links = real.links_per_type(), _pick(distilled.links_per_type(), self.distilled_types)
        kept = (links > 0) & (real.occurrences >= min_count)
        if skip_unseen_types:
            kept &= distilled_links > 0
        if self.add_k:
            smoothing = self.add_k * (counts + distilled_counts > 0)
            counts, distilled_counts = counts + smoothing, distilled_counts + smoothing
            added = np.bincount(self.sources, weights=smoothing, minlength=len(links))
            links, distilled_links = links + added, distilled_links + added
        probs, distilled_probs = (
            number / np.where(total > 0, total, 1)[self.sources]
            for number, total in ((counts, links), (distilled_counts, distilled_links))
        )
        seen = distilled_probs > 0
        ratios = np.where(probs > 0, probs / np.where(seen, distilled_probs, 1), 1)
        agreement = np.bincount(self.sources, weights=probs * np.log(ratios), minlength=len(links))
        unseen_mass = np.bincount(self.sources, weights=probs * ~seen, minlength=len(links))
        (indices,) = np.nonzero(kept)
        return indices, agreement[indices] / unit, unseen_mass[indices]


def _find(keys: Array, values: Array) -> Array:
    """Returns for each of the distinct keys where it stands among the values, -1 for nowhere."""
    indices = np.full(len(keys), -1)
    _, found, places = np.intersect1d(keys, values, return_indices=True)
    indices[found] = places
    return indices


def _pick(values: Array, indices: Array) -> Array:
    """Returns the values at the indices, and 0 at index -1."""
    return np.append(values, 0).take(indices)
