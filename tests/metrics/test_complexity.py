from __future__ import annotations

import math

import pytest

from hf_nat.metrics.complexity import corpus_complexity


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
