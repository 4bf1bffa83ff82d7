"""All measures of corpora by the same draws, and what is recorded of their differences."""

from __future__ import annotations

import numpy as np
import pytest
from random_corpora import columns, random_corpus

from hf_nat.metrics import (
    LexicalCounts,
    complexity,
    corpus_bootstraps,
    corpus_differences,
    fuzzy_reordering,
    training_bleu,
)


DRAWS = {"num_samples": 40, "seed": 3}
REAL, FIRST, SECOND = (random_corpus(seed, num_rows=12) for seed in (3, 4, 5))
KEPT = np.array([11, 0, 2, 3, 5, 6, 8, 9])


def counted(rows) -> LexicalCounts:
    return LexicalCounts.from_corpus(*columns(rows), keep_rows=True)


def measured(pairs, **options):
    return corpus_bootstraps(counted(pairs), fuzzy_reordering(columns(pairs)[2]), **options, **DRAWS)


def bleu(rows, references) -> np.ndarray:
    texts, real = ([" ".join(target) for _, target, _ in side] for side in (rows, references))
    return training_bleu(texts, real, target_lang="en").statistics


MEASURES = {
    "real": measured(REAL),
    "first": measured(FIRST, real=counted(REAL), bleu_statistics=bleu(FIRST, REAL)),
    "some of second": measured(
        [SECOND[i] for i in KEPT],
        real=counted(REAL),
        rows=KEPT,
        bleu_statistics=bleu([SECOND[i] for i in KEPT], [REAL[i] for i in KEPT]),
    ),
}


def test_every_two_corpora_are_compared_by_what_both_have():
    rows = corpus_differences(MEASURES)
    pairs = [("real", "first"), ("real", "some of second"), ("first", "some of second")]
    assert [(row["first"], row["second"]) for row in rows] == pairs
    own = {"first", "second", "complexity", "reordering"}
    assert set(rows[0]) == set(rows[1]) == own
    assert set(rows[2]) == own | {"faithfulness", "training_bleu"}
    for row in rows:
        for name in set(row) - {"first", "second"}:
            difference = MEASURES[row["first"]][name] - MEASURES[row["second"]][name]
            centered = name in ("complexity", "faithfulness")
            low, high = difference.interval(centered=centered)
            assert row[name] == {"value": difference.value, "interval": [low, high]}
            assert low < high


def test_pairs_of_one_source_are_drawn_together():
    # Three targets of every source, one corpus after the other, in samples of the sources.
    together = measured([*REAL, *FIRST, *SECOND], rows=np.arange(36) % 12, num_rows=12)
    rng = np.random.default_rng(DRAWS["seed"])
    for i in range(DRAWS["num_samples"]):
        drawn = rng.integers(12, size=12)
        sample = [rows[source] for source in drawn for rows in (REAL, FIRST, SECOND)]
        sources, targets, links = columns(sample)
        expected = complexity(LexicalCounts.from_corpus(sources, targets, links)).value
        assert together["complexity"].samples[i] == pytest.approx(expected)
        assert together["reordering"].samples[i] == pytest.approx(fuzzy_reordering(links).value)
    row = corpus_differences({"together": together, "one": MEASURES["real"]})[0]
    assert row["complexity"]["value"] == together["complexity"].value - MEASURES["real"]["complexity"].value


def test_corpora_of_other_draws_are_not_compared():
    other = corpus_bootstraps(counted(FIRST), fuzzy_reordering(columns(FIRST)[2]), num_samples=40, seed=4)
    with pytest.raises(ValueError, match="must have the same draws"):
        corpus_differences({"real": MEASURES["real"], "other": other})
