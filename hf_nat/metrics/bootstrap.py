"""Bootstrap over the sentences of a corpus, alone and of the difference of two corpora that share them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..base.bounds import require_number


Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """A statistic of a corpus and its values in samples of the sentences.

    Two with the same draws subtract sample by sample, which is the paired bootstrap of their difference.

    Args:
        value (`float`): the statistic of the corpus itself.
        samples (`np.ndarray`): float64 `[num_samples]`, that of each sample; nan where it is undefined.
        draws (`Mapping[str, int]`): what decides the draws: the sizes that are drawn from, and the seed.

    Source: Efron & Tibshirani 1993, chapter 13; Koehn 2004 (paired).
    """

    value: float
    samples: Array
    draws: Mapping[str, int]

    def __sub__(self, other: Bootstrap) -> Bootstrap:
        """Takes the difference in every sample.

        Raises:
            ValueError: if the samples are not of the same sentences.
        """
        if self.draws != other.draws or len(self.samples) != len(other.samples):
            raise ValueError(
                f"Both bootstraps must have the same draws, got {len(self.samples)} samples of {dict(self.draws)} and "
                f"{len(other.samples)} of {dict(other.draws)}. Use the same sentences, number of samples and seed."
            )
        return Bootstrap(self.value - other.value, self.samples - other.samples, self.draws)

    def interval(self, confidence: float = 0.95, *, centered: bool = False) -> tuple[float, float]:
        """Computes the percentile interval.

        Args:
            confidence (`float`, *optional*): share of the samples inside the interval, between 0 and 1.
            centered (`bool`, *optional*): whether the interval is shifted by the value on the corpus minus the mean of
                the samples. A sample holds about 63 % of the distinct sentences, which alone moves a measure of a
                lexicon, so that the plain percentiles may exclude the value.

        Returns:
            `tuple[float, float]`: lower and upper end.

        Raises:
            ValueError: if `confidence` is out of range, or the statistic is undefined in every sample.
        """
        require_number("confidence", confidence, above=0, below=1, remedy="Use 0.95 for 95 %.")
        values = self.samples[~np.isnan(self.samples)]
        if not len(values):
            raise ValueError(
                f"At least 1 of {len(self.samples)} samples must hold a word to measure, got 0. Lower `min_count`."
            )
        if centered:
            values = values + (self.value - values.mean())
        low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
        return float(low), float(high)


def bootstrap(
    statistic: Callable[[Array], float], num_rows: int, *, num_samples: int = 1000, seed: int = 1
) -> Bootstrap:
    """Resamples the sentences of a corpus.

    Each sample draws `num_rows` rows with replacement, so the weights of the rows are multinomial.

    Args:
        statistic (`Callable[[np.ndarray], float]`): its value when the rows stand as often as their int64 weights say;
            nan where it is undefined.
        num_rows (`int`): rows that are drawn from.
        num_samples (`int`, *optional*, defaults to 1000): samples drawn, at least 1.
        seed (`int`, *optional*, defaults to 1): of the draws.

    Returns:
        `Bootstrap`: the statistic and its samples.

    Raises:
        ValueError: if `num_samples` is below 1.

    Source: Efron & Tibshirani 1993, section 13.3.
    """
    samples = bootstrap_samples(statistic, num_rows, num_samples, seed)
    value = statistic(np.ones(num_rows, dtype=np.int64))
    return Bootstrap(float(value), samples, {"rows": num_rows, "seed": seed})


def bootstrap_samples(statistic: Callable[[Array], Any], num_rows: int, num_samples: int, seed: int) -> Array:
    """Returns the statistic, a number or an array, of each sample: float64 `[num_samples, ...]`; see `bootstrap`."""
    require_number("num_samples", num_samples, least=1)
    rng = np.random.default_rng(seed)
    draws = (np.bincount(rng.integers(num_rows, size=num_rows), minlength=num_rows) for _ in range(num_samples))
    return np.array([statistic(weights) for weights in draws], dtype=float)


def drawn_rows(rows: Array | None, num_own: int, num_rows: int) -> Array:
    """Returns the number of the drawn row that each row of a corpus belongs to: int64 `[num_own]`.

    Args:
        rows (`np.ndarray`, *optional*): these numbers, where the corpus lacks, repeats or reorders the rows that are
            drawn; by default it has them in their order.
        num_own (`int`): rows of the corpus.
        num_rows (`int`): rows that are drawn from.

    Raises:
        ValueError: if they do not fit.
    """
    if rows is None:
        if num_own != num_rows:
            raise ValueError(
                f"Corpora that are resampled together must have the same rows, got {num_rows} and {num_own}. Give "
                "`rows`, or report the measure without an interval."
            )
        return np.arange(num_rows)
    if len(rows) != num_own or not ((rows >= 0) & (rows < num_rows)).all():
        raise ValueError(
            f"`rows` must be {num_own} numbers below {num_rows}, one for each row of the corpus, got {len(rows)}."
        )
    return rows
