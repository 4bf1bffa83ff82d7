"""Bootstraps of a statistic and of differences, against loops over resampled sentences."""

from __future__ import annotations

import math

import numpy as np
import pytest
from random_corpora import columns, random_corpus

from hf_nat.metrics.bootstrap import Bootstrap, bootstrap, drawn_rows
from hf_nat.metrics.complexity import complexity_bootstrap, corpus_complexity
from hf_nat.metrics.faithfulness import faithfulness, faithfulness_bootstrap
from hf_nat.metrics.lexicon import LexicalCounts
from hf_nat.metrics.reordering import fuzzy_reordering, reordering_bootstrap


REAL, FIRST, SECOND = (random_corpus(seed, num_rows=9) for seed in (3, 4, 5))
DRAWS = {"num_samples": 60, "seed": 7}


def counted(rows) -> LexicalCounts:
    return LexicalCounts.from_corpus(*columns(rows), keep_rows=True)


def complexity_of(rows) -> Bootstrap:
    return complexity_bootstrap(counted(rows), **DRAWS)


def faithfulness_of(rows) -> Bootstrap:
    return faithfulness_bootstrap(counted(REAL), counted(rows), **DRAWS)


def reordering_of(rows) -> Bootstrap:
    return reordering_bootstrap(fuzzy_reordering(columns(rows)[2]), **DRAWS)


def by_hand(name: str, real, rows) -> float:
    """The measure of a corpus of these rows, nan where it is undefined."""
    try:
        if name == "complexity":
            return corpus_complexity(*columns(rows)).value
        if name == "faithfulness":
            return faithfulness(counted(real), counted(rows)).value
        return fuzzy_reordering(columns(rows)[2]).value
    except ValueError:
        return math.nan


MEASURES = {"complexity": complexity_of, "faithfulness": faithfulness_of, "reordering": reordering_of}


@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("name", MEASURES)
def test_interval_of_a_difference_is_that_of_a_joint_resampling_loop(name, centered):
    generator, values = np.random.default_rng(DRAWS["seed"]), []
    for _ in range(DRAWS["num_samples"]):
        draw = generator.integers(9, size=9)
        real, first, second = ([rows[i] for i in draw] for rows in (REAL, FIRST, SECOND))
        values.append(by_hand(name, real, first) - by_hand(name, real, second))
    value = by_hand(name, REAL, FIRST) - by_hand(name, REAL, SECOND)
    if centered:
        values = [one + value - np.nanmean(values) for one in values]
    difference = MEASURES[name](FIRST) - MEASURES[name](SECOND)
    assert difference.value == pytest.approx(value)
    assert difference.interval(0.8, centered=centered) == pytest.approx(tuple(np.nanquantile(values, [0.1, 0.9])))


@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("name", MEASURES)
def test_swapped_corpora_mirror_the_interval_and_equal_ones_have_none(name, centered):
    measure = MEASURES[name]
    one, other = measure(FIRST) - measure(SECOND), measure(SECOND) - measure(FIRST)
    low, high = one.interval(centered=centered)
    assert low < high
    assert (other.value, *other.interval(centered=centered)) == pytest.approx((-one.value, -high, -low))
    same = measure(FIRST) - measure(FIRST)
    assert (same.value, *same.interval(centered=centered)) == (0.0, 0.0, 0.0)


def test_paired_interval_is_narrower_than_what_two_intervals_allow():
    rows = random_corpus(6, num_rows=60)
    # A corpus and itself with three rows changed.
    changed = [*random_corpus(7, num_rows=60)[:3], *rows[3:]]
    low, high = (complexity_of(changed) - complexity_of(rows)).interval(centered=True)
    (low_1, high_1), (low_2, high_2) = (complexity_of(r).interval(centered=True) for r in (changed, rows))
    assert high - low < 0.5 * ((high_1 - low_2) - (low_1 - high_2))


def test_corpus_without_some_rows_is_paired_by_those_that_it_has():
    kept = np.array([8, 0, 3, 4, 5, 6])
    part = complexity_bootstrap(counted([FIRST[i] for i in kept]), rows=kept, num_rows=9, **DRAWS)
    generator = np.random.default_rng(DRAWS["seed"])
    for sample in part.samples:
        draw = generator.integers(9, size=9)
        expected = by_hand("complexity", REAL, [FIRST[i] for i in draw if i in kept])
        assert sample == pytest.approx(expected, nan_ok=True)
    assert (complexity_of(FIRST) - part).value == pytest.approx(
        by_hand("complexity", REAL, FIRST) - by_hand("complexity", REAL, [FIRST[i] for i in kept])
    )
    links = columns([FIRST[i] for i in kept])[2]
    moved = reordering_bootstrap(fuzzy_reordering(links), rows=kept, num_rows=9, **DRAWS)
    assert moved.draws == part.draws


def test_other_draws_do_not_subtract():
    one = complexity_of(FIRST)
    for other in (
        complexity_bootstrap(counted(FIRST), num_samples=60, seed=8),
        complexity_bootstrap(counted(FIRST), num_samples=61, seed=7),
        complexity_of(FIRST[1:]),
    ):
        with pytest.raises(ValueError, match="must have the same draws, got 60 samples of"):
            one - other


def test_rows_must_fit():
    with pytest.raises(ValueError, match=r"must have the same rows, got 9 and 8\. Give `rows`"):
        drawn_rows(None, 8, 9)
    for wrong in ([0] * 7, [9] * 8, [-1] * 8):
        with pytest.raises(ValueError, match="`rows` must be 8 numbers below 9"):
            drawn_rows(np.array(wrong), 8, 9)


@pytest.mark.parametrize(
    ("num_samples", "confidence", "message"),
    [
        (0, 0.9, "`num_samples` must be >= 1, got 0"),
        (1, 95, "`confidence` must be > 0 and < 1, got 95"),
        (3, 0.9, "At least 1 of 3 samples"),
    ],
)
def test_bootstrap_settings_are_checked(num_samples, confidence, message):
    with pytest.raises(ValueError, match=message):
        bootstrap(lambda weights: float("nan"), 4, num_samples=num_samples).interval(confidence)


def test_bootstrap_of_a_mean_has_the_width_of_the_normal_approximation():
    values = np.random.default_rng(0).normal(5, 2, size=400)
    result = bootstrap(lambda weights: float(weights @ values / 400), 400, num_samples=2000)
    intervals = [result.interval(0.9, centered=centered) for centered in (False, True)]
    half = 1.645 * values.std() / 20
    for low, high in intervals:
        assert low == pytest.approx(values.mean() - half, abs=half / 8)
        assert high == pytest.approx(values.mean() + half, abs=half / 8)
    assert intervals[0] != intervals[1]
