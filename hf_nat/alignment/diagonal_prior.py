"""The alignment prior of fast_align: words at the same relative position are likely partners.

Letters: n source words, m target words, i source position from 1, j target position from 1. The feature of a pair of
positions is h = -|i/n - j/m|, and P(i | j, m, n) is proportional to exp(tension * h).

Source: Dyer, Chahuneau & Smith 2013, section 2; where the tool's program departs from the paper, its numbers are kept
and the comment says so.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor


NULL_PROB = 0.08
INITIAL_TENSION = 4.0
MIN_TENSION, MAX_TENSION = 0.1, 14.0
TENSION_STEPS, TENSION_RATE = 8, 20.0


def feature(j: Tensor, m: Tensor, n: int) -> Tensor:
    """Returns h of target positions `j` of `m` (`float64`, `[R]`) for every source position: `[R, n]`."""
    source = torch.arange(1, n + 1, dtype=torch.float64, device=j.device) / n
    return (source - (j / m).unsqueeze(1)).abs_().neg_()


def source_prior(j: Tensor, m: Tensor, n: int, tension: float) -> Tensor:
    """Returns P(i | j, m, n) of the source positions, which sum to 1 - `NULL_PROB`.

    Args:
        j (`Tensor`): target positions from 1, `float64` of shape `[R]`.
        m (`Tensor`): target words of each one's sentence, `float64` of shape `[R]`.
        n (`int`): source words.
        tension (`float`): strength of the prior.

    Returns:
        `Tensor`: `float64` of shape `[R, n]`.
    """
    diagonal = (j * n / m).floor()
    z = _sum_of_geometric_series(j, m, torch.full_like(j, n), tension, diagonal, n - diagonal)
    return feature(j, m, n).mul_(tension).exp_().div_((z / (1 - NULL_PROB)).unsqueeze(1))


def update_tension(tension: float, observed: float, shapes: Mapping[tuple[int, int], int]) -> float:
    """Moves the tension towards the one whose expected feature is the observed one.

    Args:
        tension (`float`): present value.
        observed (`float`): mean posterior feature of a target word.
        shapes (`Mapping[tuple[int, int], int]`): (source words, target words) -> number of sentence pairs.

    Returns:
        `float`: the new value, in [0.1, 14].
    """
    lengths = np.array([shape for shape in shapes if min(shape)], np.int64)
    counts = np.array([count for shape, count in shapes.items() if min(shape)], np.float64)
    words = lengths[:, 1]
    j = torch.from_numpy(np.arange(words.sum()) - np.repeat(words.cumsum() - words, words) + 1.0)
    n, m, weight = (torch.from_numpy(np.repeat(x, words)) for x in (lengths[:, 0] * 1.0, words * 1.0, counts))
    for _ in range(TENSION_STEPS):
        expected = (weight * _mean_feature(j, m, n, tension)).sum() / weight.sum()
        tension = min(max(tension + (observed - float(expected)) * TENSION_RATE, MIN_TENSION), MAX_TENSION)
    return tension


def _mean_feature(j: Tensor, m: Tensor, n: Tensor, tension: float) -> Tensor:
    """Returns the expected feature under the prior: `[R]`."""
    diagonal = (j * n / m).floor()
    total = torch.zeros_like(j)
    ratio = (-tension / n).exp()
    for position, terms in ((diagonal, diagonal), (diagonal + 1, n - diagonal)):
        h = -(position / n - j / m).abs()
        first = (tension * h).exp()
        after_last = first * ratio**terms
        series = ((h - (terms - 1) / n) * after_last - h * first) / (ratio - 1)
        series += (after_last - first * ratio) / (n * (ratio - 1) ** 2)
        total += torch.where(terms > 0, series, 0.0)
    # The tool normalises with m and n exchanged; its number of terms is an unsigned difference there, so that one
    # below 0 stands for the endless series.
    diagonal = (j * m / n).floor()
    above = torch.where(diagonal > m, torch.inf, m - diagonal)
    return total / _sum_of_geometric_series(j, n, m, tension, diagonal, above)


def _sum_of_geometric_series(j: Tensor, m: Tensor, n: Tensor, tension: float, below: Tensor, above: Tensor) -> Tensor:
    """Sums exp(tension * h) over source positions, `below` of them up to the diagonal and `above` of them beyond.

    On either side each position further away has exp(-tension / n) of the one before it.
    """
    ratio = (-tension / n).exp()
    total = torch.zeros_like(j)
    for position, terms in ((below, below), (below + 1, above)):
        first = (tension * -(position / n - j / m).abs()).exp()
        total += first * (1 - ratio**terms) / (1 - ratio)
    return total
