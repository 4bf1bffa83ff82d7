from __future__ import annotations

import random

import pytest
from fast_align_oracle import grow

from hf_nat.alignment import SYMMETRIZATIONS, symmetrize


def random_links(rng: random.Random) -> set[tuple[int, int]]:
    n, m = rng.randint(1, 7), rng.randint(1, 7)
    return {(rng.randrange(n), rng.randrange(m)) for _ in range(rng.randint(0, 12))}


@pytest.mark.parametrize("method", SYMMETRIZATIONS)
def test_links_are_those_of_one_candidate_after_the_other(method: str) -> None:
    rng = random.Random(0)
    pairs = [(random_links(rng), random_links(rng)) for _ in range(3000)]
    forward, reverse = ([sorted(pair[side]) for pair in pairs] for side in (0, 1))
    assert symmetrize(forward, reverse, method) == [grow(*pair, method) for pair in pairs]


def test_order_and_repetition_of_the_given_links_do_not_matter() -> None:
    links = [[(2, 1), (0, 0), (0, 0), (1, 1)]]
    assert symmetrize(links, links) == [[(0, 0), (1, 1), (2, 1)]]


def test_sentences_do_not_touch_one_another() -> None:
    # The link of the second sentence's corner is no neighbour of the first one's last word.
    forward, reverse = [[(1, 1)], [(0, 0)]], [[(1, 1)], []]
    assert symmetrize(forward, reverse, "grow-diag") == [[(1, 1)], []]


def test_nothing_is_joined_to_nothing() -> None:
    for method in SYMMETRIZATIONS:
        assert symmetrize([], [], method) == []
        assert symmetrize([[], []], [[], []], method) == [[], []]


def test_other_lengths_and_methods_are_errors() -> None:
    with pytest.raises(ValueError, match="must be of the same sentences, got 1 and 2"):
        symmetrize([[]], [[], []])
    with pytest.raises(ValueError, match="must be one of .*, got 'final'"):
        symmetrize([[]], [[]], "final")
