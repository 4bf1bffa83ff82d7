"""How good a translation is expected to be, from the score that its model gave it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..base.bounds import require_number
from .bootstrap import Array


@dataclass(frozen=True)
class Calibration:
    """A rising curve from a model's score of a sentence to the quality that such sentences have.

    Args:
        scores (`tuple[float, ...]`): knots, ascending: scores of a model (mean log-probability, nats).
        confidences (`tuple[float, ...]`): expected quality at each knot, 0-1, never falling.
    """

    scores: tuple[float, ...]
    confidences: tuple[float, ...]

    @classmethod
    def fit(cls, scores: Sequence[float], qualities: Sequence[float]) -> Calibration:
        """Fits the curve by isotonic regression; its knots are the means of the steps.

        Args:
            scores (`Sequence[float]`): score of each sentence by its model.
            qualities (`Sequence[float]`): measured quality of each, 0-1, in the same order.

        Returns:
            `Calibration`: the curve.

        Raises:
            ValueError: if there is no sentence, or the two lengths differ.

        Source: Zadrozny & Elkan 2002 (isotonic regression), by scipy.
        """
        from scipy.optimize import isotonic_regression  # Half a second that nobody else should wait for.

        if not len(scores):
            raise ValueError("`scores` must hold at least 1 sentence, got 0.")
        if len(scores) != len(qualities):
            raise ValueError(f"`scores` and `qualities` must have one length, got {len(scores)} and {len(qualities)}.")
        # Equal scores are one point: nothing could tell their sentences apart.
        points, which = np.unique(np.asarray(scores, dtype=float), return_inverse=True)
        weights = np.bincount(which)
        means = np.bincount(which, np.asarray(qualities, dtype=float)) / weights
        blocks = isotonic_regression(means, weights=weights).blocks
        sizes = np.add.reduceat(weights, blocks[:-1])
        knots = (np.add.reduceat(values * weights, blocks[:-1]) / sizes for values in (points, means))
        return cls(*(tuple(values.tolist()) for values in knots))

    def confidence(self, scores: Sequence[float]) -> Array:
        """Returns the quality that is expected at each score, 0-1: linear between the knots, constant outside them."""
        return np.interp(np.asarray(scores, dtype=float), self.scores, self.confidences)


@dataclass(frozen=True)
class Reliability:
    """Confidence beside quality, over bins of equal width in confidence; empty bins are left out.

    Args:
        counts (`tuple[int, ...]`): sentences of each bin.
        confidences (`tuple[float, ...]`): their mean confidence, 0-1.
        qualities (`tuple[float, ...]`): their mean quality, 0-1.
        error (`float`): expected calibration error, 0-1: the mean over the sentences of the distance of both in
            their bin.
    """

    counts: tuple[int, ...]
    confidences: tuple[float, ...]
    qualities: tuple[float, ...]
    error: float


def reliability(confidences: Sequence[float], qualities: Sequence[float], num_bins: int = 10) -> Reliability:
    """Measures how far confidences are from the truth.

    Args:
        confidences (`Sequence[float]`): confidence of each sentence, 0-1.
        qualities (`Sequence[float]`): measured quality of each, 0-1, in the same order.
        num_bins (`int`, *optional*, defaults to 10): bins between 0 and 1.

    Returns:
        `Reliability`: the bins and the expected calibration error.

    Raises:
        ValueError: if there is no sentence, the two lengths differ, or `num_bins` is below 1.

    Source: Guo et al. 2017, section 2; the quality of a translation takes the place of being right.
    """
    require_number("num_bins", num_bins, least=1)
    if len(confidences) != len(qualities) or not len(confidences):
        raise ValueError(
            f"`confidences` and `qualities` must have one length, at least 1, got {len(confidences)} and "
            f"{len(qualities)}."
        )
    left, right = (np.asarray(values, dtype=float) for values in (confidences, qualities))
    bins = np.minimum((left * num_bins).astype(int), num_bins - 1)
    counts = np.bincount(bins, minlength=num_bins)
    used = counts > 0
    sums = [np.bincount(bins, values, num_bins)[used] for values in (left, right)]
    means = [tuple((values / counts[used]).tolist()) for values in sums]
    error = float(np.abs(sums[0] - sums[1]).sum() / len(left))
    return Reliability(tuple(counts[used].tolist()), means[0], means[1], error)
