"""Bootstraps of all measures of a corpus by the same draws, and the differences of every two corpora."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

from .bootstrap import Array, Bootstrap
from .complexity import complexity_bootstrap
from .faithfulness import faithfulness_bootstrap
from .lexicon import LexicalCounts
from .reordering import Reordering, reordering_bootstrap
from .sentence_statistics import training_bleu_bootstrap


# A sample holds fewer distinct sentences than the corpus, which moves measures of a lexicon: see `Bootstrap.interval`.
CENTERED = ("complexity", "faithfulness")


def corpus_bootstraps(
    counts: LexicalCounts,
    reordering: Reordering,
    *,
    real: LexicalCounts | None = None,
    rows: Array | None = None,
    num_rows: int | None = None,
    bleu_statistics: Array | None = None,
    num_samples: int = 1000,
    seed: int = 1,
) -> dict[str, Bootstrap]:
    """Measures a corpus in samples of the rows of the real corpus, the same samples for every corpus.

    Args:
        counts (`LexicalCounts`): link counts of the corpus, made with `keep_rows=True`.
        reordering (`Reordering`): what `fuzzy_reordering` gives without `micro`.
        real (`LexicalCounts`, *optional*): link counts of the real corpus that it was distilled from; None for the
            real corpus itself, which has no F(d).
        rows (`np.ndarray`, *optional*): number of the real row that each row belongs to, int64 `[counts.num_rows]`; by
            default the corpora have the same rows in the same order.
        num_rows (`int`, *optional*): rows that are drawn from without `real`; by default those of the corpus.
        bleu_statistics (`np.ndarray`, *optional*): of the targets against the real ones, int64
            `[counts.num_rows, 10]`, see [`MetricScore`]; without them there is no training BLEU.
        num_samples (`int`, *optional*): samples drawn.
        seed (`int`, *optional*): of the draws.

    Returns:
        `dict[str, Bootstrap]`: `complexity`, `reordering`, and where they can be had `faithfulness` and
        `training_bleu`.

    Raises:
        ValueError: if the rows were not kept or do not fit, or `num_samples` is below 1.
    """
    draws: dict[str, Any] = {"num_samples": num_samples, "seed": seed, "rows": rows}
    drawn = draws | {"num_rows": num_rows if real is None else real.num_rows}
    found = {
        "complexity": complexity_bootstrap(counts, **drawn),
        "reordering": reordering_bootstrap(reordering, **drawn),
    }
    if real is not None:
        found["faithfulness"] = faithfulness_bootstrap(real, counts, **draws)
    if bleu_statistics is not None:
        found["training_bleu"] = training_bleu_bootstrap(bleu_statistics, **drawn)
    return found


def corpus_differences(measures: Mapping[str, Mapping[str, Bootstrap]]) -> list[dict[str, Any]]:
    """Compares every two corpora by all measures that both have.

    Args:
        measures (`Mapping[str, Mapping[str, Bootstrap]]`): by corpus, what `corpus_bootstraps` gives.

    Returns:
        `list[dict[str, Any]]`: for each pair the names `first` and `second`, and by measure `value`, first less
        second, and the 95 % `interval` of the paired bootstrap.

    Raises:
        ValueError: if the corpora were not resampled by the same draws.
    """
    found = []
    for first, second in combinations(measures, 2):
        row: dict[str, Any] = {"first": first, "second": second}
        for name in measures[first]:
            if name in measures[second]:
                difference = measures[first][name] - measures[second][name]
                row[name] = {
                    "value": difference.value,
                    "interval": list(difference.interval(centered=name in CENTERED)),
                }
        found.append(row)
    return found
