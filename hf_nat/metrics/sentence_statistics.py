"""What a metric counts in each sentence: from it follows the score of any sample of the sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sacrebleu.metrics import BLEU
from sacrebleu.metrics.base import Metric

from .bootstrap import Array, Bootstrap, bootstrap, drawn_rows


_ORDERS = np.arange(1, 5)  # of BLEU's n-grams


def bleu_record(statistics: Array) -> dict[str, Any]:
    """Packs BLEU's sentence statistics for a JSON file, about 14 bytes a sentence.

    The number of n-grams of a hypothesis follows from its length and is left out.

    Args:
        statistics (`np.ndarray`): int64 `[sentences, 10]`, as [`MetricScore`] holds them.

    Returns:
        `dict[str, Any]`: `lengths` and `reference_lengths` in tokens and `matches` of 1- to 4-grams, each a line of
        numbers between blanks; read again by `bleu_statistics`.
    """
    lengths, reference_lengths, *matches = (" ".join(map(str, column)) for column in statistics[:, :6].T.tolist())
    return {"lengths": lengths, "reference_lengths": reference_lengths, "matches": matches}


def bleu_statistics(record: Mapping[str, Any]) -> Array:
    """Reads BLEU's sentence statistics from what `bleu_record` made of them.

    Raises:
        ValueError: if the columns differ in length.
    """
    columns = [record["lengths"], record["reference_lengths"], *record["matches"]]
    numbers = [[int(number) for number in column.split()] for column in columns]
    if len(set(map(len, numbers))) > 1:
        raise ValueError(f"The columns must have one number a sentence, got {sorted(set(map(len, numbers)))}.")
    found = np.array(numbers, dtype=np.int64).T
    return np.concatenate([found, np.maximum(found[:, :1] + 1 - _ORDERS, 0)], axis=1)


def training_bleu_bootstrap(
    statistics: Array,
    *,
    num_samples: int = 1000,
    seed: int = 1,
    rows: Array | None = None,
    num_rows: int | None = None,
) -> Bootstrap:
    """Measures training BLEU in samples of the sentences; the difference of two corpora is paired by them.

    Args:
        statistics (`np.ndarray`): of the distilled targets against the real ones, `[sentences, 10]`; see
            [`MetricScore`].
        num_samples (`int`, *optional*): samples of as many rows as are drawn from, with replacement (multinomial).
        seed (`int`, *optional*): of the draws.
        rows (`np.ndarray`, *optional*): number of the drawn row that each sentence belongs to, int64 `[sentences]`,
            where the corpus lacks some of the rows of the corpus it is compared with.
        num_rows (`int`, *optional*): rows that are drawn from; by default the sentences.

    Returns:
        `Bootstrap`: BLEU and its samples, 0-100.

    Raises:
        ValueError: if the rows do not fit or `num_samples` is below 1.

    Source: Koehn 2004; Zhou, Gu & Neubig 2020, section 4.2 ("training BLEU").
    """
    num_rows = len(statistics) if num_rows is None else num_rows
    own_rows = drawn_rows(rows, len(statistics), num_rows)
    metric = BLEU()

    def statistic(row_weights: Array) -> float:
        return score_of(metric, row_weights[own_rows] @ statistics)

    return bootstrap(statistic, num_rows, num_samples=num_samples, seed=seed)


def score_of(metric: Metric, sums: Array) -> float:
    """Returns the corpus score, 0-100, of statistics summed over sentences: `[K]`."""
    return float(metric._compute_score_from_stats(sums.tolist()).score)
