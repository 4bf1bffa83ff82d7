from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from random_corpora import columns, random_corpus

from hf_nat.metrics.faithfulness import faithfulness, faithfulness_bootstrap
from hf_nat.metrics.lexicon import LexicalCounts


OPTIONS = [
    {},
    {"base": 2},
    {"eps": 1e-3},
    {"eps": 1.0},
    {"add_k": 1.0},
    {"add_k": 0.1, "base": 2},
    {"skip_unseen_types": True},
    {"min_count": 4},
    {"min_count": 3, "skip_unseen_types": True, "add_k": 0.5},
]


def counted(rows, keep_rows: bool = False) -> LexicalCounts:
    return LexicalCounts.from_corpus(*columns(rows), keep_rows=keep_rows)


def lexicon(**words: str) -> LexicalCounts:
    """One row for each letter of the value, a target word, and one for the key, its source word."""
    pairs = [([word], [target]) for word, targets in words.items() for target in targets]
    return LexicalCounts.from_corpus(*zip(*pairs, strict=True), [[(0, 0)]] * len(pairs))


def links_by_word(rows) -> dict[str, Counter]:
    counts: dict[str, Counter] = {}
    for source, target, links in rows:
        for i, j in links:
            counts.setdefault(source[i], Counter())[target[j]] += 1
    return counts


def by_hand(
    real, distilled, *, eps=1e-9, base="e", add_k=0.0, skip_unseen_types=False, min_count=1
) -> dict[str, float] | None:
    """The divergence of each word from the definition, None where no word counts."""
    log = math.log2 if base == 2 else math.log
    occurrences = Counter(word for source, _, _ in real for word in source)
    real_links, distilled_links = links_by_word(real), links_by_word(distilled)
    divergences = {}
    for word, links in real_links.items():
        others = distilled_links.get(word, Counter())
        if occurrences[word] < min_count or (skip_unseen_types and not others):
            continue
        support = links.keys() | others.keys()
        total, other_total = links.total() + add_k * len(support), others.total() + add_k * len(support)
        divergences[word] = 0.0
        for target in support:
            prob = (links[target] + add_k) / total
            other = (others[target] + add_k) / other_total if other_total else 0.0
            divergences[word] += prob * log(prob / (other or eps)) if prob else 0.0
    return divergences or None


def test_a_hand_computed_pair_of_corpora():
    # a: (1/2, 1/2, 0) against (3/4, 0, 1/4); b: 1 against 1; c: never linked in d; e: only in d.
    real, distilled = lexicon(a="xy", b="zz", c="xxy"), lexicon(a="xxxw", b="z", e="x")
    result = faithfulness(real, distilled, eps=1e-6)
    floor = math.log(1e6)
    of_a = 0.5 * math.log(2 / 3) + 0.5 * (math.log(0.5) + floor)
    of_c = 2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3) + floor
    assert result.per_word == pytest.approx({"a": of_a, "b": 0.0, "c": of_c})
    assert result.value == pytest.approx((of_a + of_c) / 3)
    assert result.unseen_mass == pytest.approx(0.5)
    assert result.agreement == pytest.approx((of_a - floor / 2 + of_c - floor) / 3)
    assert result.num_types == 3


def test_options_of_a_hand_computed_pair_of_corpora():
    real, distilled = lexicon(a="xy", b="zz", c="xxy"), lexicon(a="xxxw", b="z", e="x")
    skipped = faithfulness(real, distilled, skip_unseen_types=True)
    assert (list(skipped.per_word), skipped.unseen_mass) == (["a", "b"], 0.25)
    assert list(faithfulness(real, distilled, min_count=3).per_word) == ["c"]
    # a over x, y, w: (2, 2, 1)/5 against (4, 1, 2)/7; c over x, y: (3, 2)/5 against (1, 1)/2.
    smoothed = faithfulness(real, distilled, add_k=1.0)
    of_a = 0.4 * math.log(0.4 * 7 / 4) + 0.4 * math.log(0.4 * 7) + 0.2 * math.log(0.2 * 7 / 2)
    assert smoothed.per_word == pytest.approx({"a": of_a, "b": 0, "c": 0.6 * math.log(1.2) + 0.4 * math.log(0.8)})
    assert (smoothed.unseen_mass, smoothed.agreement) == (0.0, smoothed.value)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("seed", range(4))
def test_random_corpora_against_counters(seed, options):
    # Corpora of different lengths, so that each lacks words of the other.
    real, distilled = random_corpus(seed, num_rows=12), random_corpus(seed + 50, num_rows=6)
    result = faithfulness(counted(real), counted(distilled), **options)
    divergences = by_hand(real, distilled, **options)
    assert result.per_word == pytest.approx(divergences, abs=1e-12)
    assert result.value == pytest.approx(sum(divergences.values()) / len(divergences), abs=1e-12)
    assert result.num_types == len(divergences)


@pytest.mark.parametrize("options", OPTIONS[1:], ids=str)
def test_every_option_changes_the_result(options):
    real, distilled = counted(random_corpus(0, num_rows=12)), counted(random_corpus(51, num_rows=6))
    assert faithfulness(real, distilled, **options).value != pytest.approx(faithfulness(real, distilled).value)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_real_against_real_is_exactly_zero(options):
    rows = random_corpus(5)
    # Tripled links outweigh the same smoothing, so with `add_k` only the order may differ.
    for other in (rows, rows[::-1], rows if "add_k" in options else rows * 3):
        result = faithfulness(counted(rows), counted(other), **options)
        assert (result.value, result.agreement, result.unseen_mass) == (0.0, 0.0, 0.0)
        assert set(result.per_word.values()) == {0.0}


@pytest.mark.parametrize("base", ["e", 2])
def test_agreement_and_unseen_mass_give_any_eps(base):
    real, distilled = counted(random_corpus(1)), counted(random_corpus(2))
    result = faithfulness(real, distilled, base=base)
    assert result.unseen_mass > 0
    for eps in (1e-12, 1e-3, 1.0):
        other = faithfulness(real, distilled, base=base, eps=eps)
        assert (other.agreement, other.unseen_mass) == (result.agreement, result.unseen_mass)
        log = math.log2 if base == 2 else math.log
        assert other.value == pytest.approx(result.agreement + result.unseen_mass * log(1 / eps))


@pytest.mark.parametrize("seed", range(4))
def test_smoothed_divergence_is_never_negative(seed):
    result = faithfulness(counted(random_corpus(seed)), counted(random_corpus(seed + 9)), add_k=0.5)
    assert min(result.per_word.values()) > -1e-15 and result.value > 0


def test_words_may_be_renamed_and_the_corpora_doubled():
    real, distilled = random_corpus(1), random_corpus(2)
    names = dict(zip("abcdeuvwxyz\u00a0", "zyxwvutsrqpo", strict=True))
    renamed = [
        [([names[w] for w in source], [names[w] for w in target], links) for source, target, links in rows]
        for rows in (real, distilled)
    ]
    value = faithfulness(counted(real), counted(distilled)).value
    assert faithfulness(*map(counted, renamed)).value == pytest.approx(value)
    assert faithfulness(counted(real * 2), counted(distilled * 3)).value == value > 0


@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_interval_is_that_of_a_joint_resampling_loop(options, centered):
    real, distilled = random_corpus(3, num_rows=9), random_corpus(4, num_rows=9)
    generator, values = np.random.default_rng(7), []
    for _ in range(60):
        draw = generator.integers(len(real), size=len(real))
        divergences = by_hand([real[i] for i in draw], [distilled[i] for i in draw], **options)
        values += [] if divergences is None else [sum(divergences.values()) / len(divergences)]
    if centered:
        divergences = by_hand(real, distilled, **options)
        shift = sum(divergences.values()) / len(divergences) - sum(values) / len(values)
        values = [value + shift for value in values]
    result = faithfulness_bootstrap(counted(real, True), counted(distilled, True), num_samples=60, seed=7, **options)
    low, high = result.interval(0.8, centered=centered)
    assert (low, high) == pytest.approx(tuple(np.quantile(values, [0.1, 0.9])), abs=1e-12)
    assert low < high


def test_interval_of_real_against_real_is_zero():
    rows = random_corpus(6)
    assert faithfulness_bootstrap(counted(rows, True), counted(rows, True), num_samples=20).interval() == (0.0, 0.0)


def test_interval_needs_the_same_rows():
    rows = random_corpus(6)
    with pytest.raises(ValueError, match=r"must have the same rows, got 15 and 14\. Give `rows`"):
        faithfulness_bootstrap(counted(rows, True), counted(rows[1:], True))
    with pytest.raises(ValueError, match="`keep_rows` must be True"):
        faithfulness_bootstrap(counted(rows, True), counted(rows))
    for wrong in ([0] * 13, [15] * 14, [-1] * 14):
        with pytest.raises(ValueError, match="`rows` must be 14 numbers below 15"):
            faithfulness_bootstrap(counted(rows, True), counted(rows[1:], True), rows=np.array(wrong))


def test_samples_of_other_rows_are_those_of_the_same_rows_in_another_order():
    rows, shuffled = random_corpus(6), [14, *range(14)]
    distilled = random_corpus(7)
    options = {"num_samples": 30, "seed": 3}
    moved = counted([distilled[row] for row in shuffled], True)
    real = counted(rows, True)
    expected = faithfulness_bootstrap(real, counted(distilled, True), **options).samples
    assert faithfulness_bootstrap(real, moved, rows=np.array(shuffled), **options).samples == pytest.approx(expected)
    assert faithfulness_bootstrap(real, moved, **options).samples != pytest.approx(expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eps": 0.0}, "`eps` must be > 0 and <= 1, got 0.0"),
        ({"eps": 2}, "`eps` must be > 0 and <= 1, got 2"),
        ({"base": 10}, "`base` must be"),
        ({"add_k": -1}, "`add_k` must be >= 0, got -1"),
        ({"min_count": 0}, "`min_count` must be >= 1, got 0"),
        ({"min_count": 9}, "At least 1 source type must count, got 0 of 2"),
        ({"skip_unseen_types": True}, "or no `skip_unseen_types`, got True"),
    ],
)
def test_options_are_checked(options, message):
    for measure in (faithfulness, faithfulness_bootstrap):
        with pytest.raises(ValueError, match=message):
            measure(lexicon(a="xxx", b="y"), lexicon(c="xxxx"), **options)
