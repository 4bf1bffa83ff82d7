from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from random_corpora import columns, random_corpus

from hf_nat.metrics.complexity import (
    AmbiguousWord,
    ambiguous_words,
    complexity,
    complexity_bootstrap,
    corpus_complexity,
    sentence_entropies,
)
from hf_nat.metrics.lexicon import LexicalCounts


def test_complexity_of_a_hand_computed_corpus():
    # a -> x, x, y: H = ln 3 - 2/3 ln 2; b -> z: 0; "c" has no link and does not count.
    result = corpus_complexity(
        sources=[["a", "b"], ["a", "c"], ["b", "a"]],
        targets=[["x", "z"], ["x", "w"], ["y"]],
        alignments=[[(0, 0), (1, 1)], [(0, 0)], [(1, 0)]],
    )
    entropy_of_a = math.log(3) - 2 / 3 * math.log(2)
    assert result.per_word == {"a": pytest.approx(entropy_of_a), "b": 0.0}
    assert result.value == pytest.approx(entropy_of_a / 2)
    assert (result.num_types, result.num_links) == (2, 4)


def test_source_types_count_alike_however_often_they_occur():
    pairs = [(["a"], ["x"])] * 98 + [(["b"], ["x"]), (["b"], ["y"])]
    result = corpus_complexity(*zip(*pairs, strict=True), [[(0, 0)]] * 100)
    assert result.value == pytest.approx(math.log(2) / 2)


def test_a_word_linked_to_two_target_words_shares_its_mass():
    assert corpus_complexity([["a"]], [["x", "y"]], [[(0, 0), (0, 1)]]).value == pytest.approx(math.log(2))


def test_a_deterministic_lexicon_has_complexity_zero_exactly():
    assert corpus_complexity([["a", "b", "a"]], [["x", "y", "x"]], [[(0, 0), (1, 1), (2, 2)]]).value == 0.0


def test_order_of_sentences_does_not_matter():
    rows = [(["a"], ["x"], [(0, 0)]), (["a"], ["y"], [(0, 0)]), (["b", "a"], ["z"], [(1, 0)]), (["b"], [], [])]
    forward = corpus_complexity(*zip(*rows, strict=True))
    backward = corpus_complexity(*zip(*rows[::-1], strict=True))
    assert forward == backward
    assert forward.value == pytest.approx(math.log(3))


def test_generators_are_consumed_as_they_come():
    size = 1000
    result = corpus_complexity((["a"] for _ in range(size)), ([str(i % 4)] for i in range(size)), ([(0, 0)],) * size)
    assert result.value == pytest.approx(math.log(4))


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_unequal_lengths_are_an_error_that_names_the_row(missing):
    columns = [[["a"]] * 3, [["x"]] * 3, [[(0, 0)]] * 3]
    columns[missing] = columns[missing][:2]
    with pytest.raises(ValueError, match="one of them ends at 2"):
        corpus_complexity(*columns)


@pytest.mark.parametrize("link", [(2, 0), (0, 1), (-1, 0), (0, -1)])
def test_a_link_outside_the_sentence_is_an_error(link):
    with pytest.raises(ValueError, match=f"got {link[0]}-{link[1]} in row 1 with 2 source and 1 target tokens"):
        corpus_complexity([["a"], ["a", "b"]], [["x"], ["y"]], [[(0, 0)], [link]])


def test_no_link_at_all_is_an_error():
    with pytest.raises(ValueError, match="at least 1 link, got 0"):
        corpus_complexity([["a"]], [["x"]], [[]])


OPTIONS = [
    {},
    {"base": 2},
    {"weighting": "tokens"},
    {"include_unlinked": True},
    {"weighting": "tokens", "include_unlinked": True, "base": 2},
    {"min_count": 4},
    {"min_count": 4, "include_unlinked": True},
    {"miller_madow": True},
    {"miller_madow": True, "include_unlinked": True},
    {"miller_madow": True, "base": 2, "weighting": "tokens", "min_count": 3},
]


def by_hand(
    rows, *, base="e", weighting="types", include_unlinked=False, min_count=1, miller_madow=False
) -> tuple[float, dict[str, float]] | None:
    """C and the entropies from the definition, None where no word counts."""
    log = math.log2 if base == 2 else math.log
    occurrences = Counter(word for source, _, _ in rows for word in source)
    entropies = {}
    for word, count in occurrences.items():
        links = Counter(target[j] for source, target, links in rows for i, j in links if source[i] == word)
        if count < min_count or not (links or include_unlinked):
            continue
        probs = [number / links.total() for number in links.values()]
        entropies[word] = -sum(prob * log(prob) for prob in probs)
        if miller_madow and links:
            entropies[word] += (len(links) - 1) / (2 * links.total()) * log(math.e)
    if not entropies:
        return None
    weights = {word: occurrences[word] if weighting == "tokens" else 1 for word in entropies}
    return sum(entropies[word] * weights[word] for word in entropies) / sum(weights.values()), entropies


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("seed", range(4))
def test_random_corpora_against_counters(seed, options):
    rows = random_corpus(seed)
    result = corpus_complexity(*columns(rows), **options)
    value, entropies = by_hand(rows, **options)
    assert result.value == pytest.approx(value, abs=1e-12)
    assert result.per_word == pytest.approx(entropies, abs=1e-12)
    assert result.num_types == len(entropies)
    assert result.num_links == sum(source[i] in entropies for source, _, links in rows for i, _ in links)
    occurrences = Counter(word for source, _, _ in rows for word in source)
    assert result.occurrences == {word: occurrences[word] for word in entropies}


@pytest.mark.parametrize("options", OPTIONS[1:], ids=str)
def test_every_option_changes_the_result(options):
    rows = random_corpus(0)
    assert corpus_complexity(*columns(rows), **options).value != pytest.approx(corpus_complexity(*columns(rows)).value)


def test_options_of_a_hand_computed_corpus():
    # a: x, x, y in 3 tokens; b: z in 2; c in 1, without a link.
    counts = LexicalCounts.from_corpus(
        [["a", "b"], ["a", "c"], ["b", "a"]],
        [["x", "z"], ["x", "w"], ["y"]],
        [[(0, 0), (1, 1)], [(0, 0)], [(1, 0)]],
    )
    entropy_of_a = math.log(3) - 2 / 3 * math.log(2)
    assert complexity(counts, base=2).value == pytest.approx(entropy_of_a / 2 / math.log(2))
    assert complexity(counts, include_unlinked=True).value == pytest.approx(entropy_of_a / 3)
    assert complexity(counts, weighting="tokens").value == pytest.approx(entropy_of_a * 3 / 5)
    assert complexity(counts, weighting="tokens", include_unlinked=True).value == pytest.approx(entropy_of_a / 2)
    assert complexity(counts, min_count=3).value == pytest.approx(entropy_of_a)
    assert complexity(counts, miller_madow=True).per_word == {"a": pytest.approx(entropy_of_a + 1 / 6), "b": 0.0}


def test_words_may_be_renamed_and_the_corpus_doubled():
    rows = random_corpus(1)
    names = dict(zip("aábcdeuvwxyz\u00a0", "zyxwvutsrqpon", strict=True))
    renamed = [([names[w] for w in source], [names[w] for w in target], links) for source, target, links in rows]
    value = corpus_complexity(*columns(rows)).value
    assert corpus_complexity(*columns(renamed)).value == pytest.approx(value)
    assert corpus_complexity(*columns(rows * 2)).value == value > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base": "2"}, "`base` must be"),
        ({"weighting": "links"}, r"`weighting` must be one of \['types', 'tokens'\], got 'links'"),
        ({"min_count": 0}, "`min_count` must be >= 1, got 0"),
        (
            {"min_count": 4},
            "must leave at least 1 source type, got 4 where the most frequent type with a link occurs 3",
        ),
    ],
)
def test_options_are_checked(options, message):
    counts = LexicalCounts.from_corpus([["a", "b"]] * 3, [["x"]] * 3, [[(0, 0)]] * 3, keep_rows=True)
    for measure in (complexity, complexity_bootstrap):
        with pytest.raises(ValueError, match=message):
            measure(counts, **options)


@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_interval_is_that_of_a_resampling_loop(options, centered):
    rows = random_corpus(2, num_rows=8)
    generator, values = np.random.default_rng(7), []
    for _ in range(60):
        result = by_hand([rows[i] for i in generator.integers(len(rows), size=len(rows))], **options)
        values += [] if result is None else [result[0]]
    if centered:
        values = [value + by_hand(rows, **options)[0] - sum(values) / len(values) for value in values]
    counts = LexicalCounts.from_corpus(*columns(rows), keep_rows=True)
    result = complexity_bootstrap(counts, num_samples=60, seed=7, **options)
    low, high = result.interval(0.8, centered=centered)
    assert (low, high) == pytest.approx(tuple(np.quantile(values, [0.1, 0.9])), abs=1e-12)
    assert low < high


def test_samples_without_a_link_are_left_out_of_the_interval():
    counts = LexicalCounts.from_corpus([["a", "a"], ["a"]], [["x", "y"], []], [[(0, 0), (1, 1)], []], keep_rows=True)
    assert complexity_bootstrap(counts, num_samples=20).interval() == pytest.approx((math.log(2), math.log(2)))


def test_sentence_entropies_sum_and_average_over_tokens():
    sums, means = sentence_entropies((source.split() for source in ["a b a", "", "c", "b c"]), {"a": 1.0, "b": 0.5})
    assert sums.tolist() == [2.5, 0.0, 0.0, 0.5]
    assert means.tolist() == pytest.approx([2.5 / 3, math.nan, 0.0, 0.25], nan_ok=True)
    assert [part.shape for part in sentence_entropies([], {})] == [(0,), (0,)]


def test_sentence_entropies_average_to_the_token_weighted_complexity():
    rows = random_corpus(4)
    result = corpus_complexity(*columns(rows), weighting="tokens", include_unlinked=True)
    sums, _ = sentence_entropies(columns(rows)[0], result.per_word)
    assert sums.sum() / sum(len(source) for source, _, _ in rows) == pytest.approx(result.value)


BEFORE = {"a": "xxyy", "b": "xxxxyy", "c": "xyzw", "d": "xx", "A": "xy"}
AFTER = {"a": "xxxy", "b": "xxxxxx", "c": "xyzw", "d": "xy"}


def lexicon(words: dict[str, str]) -> LexicalCounts:
    """A corpus of one row for each source word and target word, and one of an unlinked "u"."""
    pairs = [([word], [target]) for word, targets in words.items() for target in targets]
    return LexicalCounts.from_corpus(*zip(*pairs, (["u"], []), strict=True), [[(0, 0)]] * len(pairs) + [[]])


def test_the_most_ambiguous_words_of_a_corpus():
    rows = ambiguous_words(lexicon(BEFORE), k=3, num_targets=2)
    assert [row.word for row in rows] == ["c", "a", "A"], "a before A: as ambiguous, and more frequent"
    assert rows[1] == AmbiguousWord("a", 4, pytest.approx(math.log(2)), [("x", 0.5), ("y", 0.5)])
    assert [row.word for row in ambiguous_words(lexicon(BEFORE), k=9)] == ["c", "a", "A", "b", "d"]
    assert [row.word for row in ambiguous_words(lexicon(BEFORE), k=9, min_count=4)] == ["c", "a", "b"]


def test_the_words_whose_entropy_falls_most():
    rows = ambiguous_words(lexicon(BEFORE), lexicon(AFTER), 9, base=2)
    assert [row.word for row in rows] == ["b", "a", "c", "d"], "A has no link any more, which is not certainty"
    entropy = math.log2(3) - 2 / 3
    assert rows[0] == AmbiguousWord(
        "b", 6, pytest.approx(entropy), [("x", pytest.approx(2 / 3)), ("y", pytest.approx(1 / 3))], 0.0, [("x", 1.0)]
    )
    assert rows[1].entropy_after == pytest.approx(2 - 0.75 * math.log2(3))
    with pytest.raises(ValueError, match="`k` must be >= 1, got 0"):
        ambiguous_words(lexicon(BEFORE), k=0)
