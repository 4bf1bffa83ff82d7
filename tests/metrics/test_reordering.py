from __future__ import annotations

import random
from itertools import pairwise

import pytest

from hf_nat.metrics.reordering import fuzzy_reordering, num_chunks, reordering_chunks


TABLE = {
    "0-0 1-1 2-2 3-3": (1, 1, 1),
    "3-0 2-1 1-2 0-3": (0, 0, 0),
    "0-0 2-1 1-2 3-3": (0, 0, 0.4),
    "2-0 3-1 0-2 1-3": (2 / 3, 2 / 3, 0.4),
    "0-0 0-1 1-2": (1, 1, 1),
    "0-0 2-1 3-2": (1, 0.5, 1),
    "0-2": (1, 1, 1),
    "": (None, None, None),
    "0-0 3-0 1-1 2-2": (0.5, 0.5, 0.5),
}


def parse(line: str) -> list[tuple[int, int]]:
    return [(int(i), int(j)) for i, j in (link.split("-") for link in line.split())]


def by_hand(links, length, *, gaps=False, boundary=False) -> tuple[int, int] | None:
    """Breaks and places for one, without renumbering: linked source words strictly between two words break."""
    words = [[i for i, j in links if j == target] for target in sorted({j for _, j in links})]
    if not words:
        return None
    if boundary:
        words = [[-1], *words, [length if gaps else max(i for i, _ in links) + 1]]
    counted = set(range(length)) if gaps else {i for i, _ in links}
    breaks = 0
    for a, b in pairwise(words):
        skipped = any(max(a) < i < min(b) for i in counted)
        breaks += min(b) < min(a) or max(b) < max(a) or skipped
    return breaks, len(words) - 1


def random_links(seed: int) -> tuple[list[list[tuple[int, int]]], list[int]]:
    generator = random.Random(seed)
    alignments, lengths = [], []
    for _ in range(30):
        size, target_size = generator.randint(1, 7), generator.randint(1, 6)
        places = [(i, j) for i in range(size) for j in range(target_size)]
        # Half of the sentences lean to the diagonal, so that long chunks occur.
        if generator.random() < 0.5:
            places = [(i, j) for i, j in places if abs(i - j) < 2] or places
        alignments.append(generator.sample(places, k=min(len(places), generator.randrange(9))))
        lengths.append(size)
    return alignments, lengths


@pytest.mark.parametrize("line", TABLE)
def test_the_table_of_single_sentences(line):
    # A monotonic sentence beside it keeps the row that is left out from being the whole corpus.
    alignments = [parse(line), [(0, 0), (1, 1)]]
    for options, expected in zip(({}, {"gaps": True}, {"boundary": True}), TABLE[line], strict=True):
        result = fuzzy_reordering(alignments, **options)
        assert result.scores == [None if expected is None else pytest.approx(expected), 1.0]
        assert result.num_sentences == (1 if expected is None else 2)
        assert result.value == pytest.approx(1.0 if expected is None else (expected + 1) / 2)


def test_gaps_and_boundary_together_see_unlinked_words_at_both_ends():
    # start | 1 2 | end: source word 0 and source word 3 lie between them.
    both = fuzzy_reordering([[(1, 0), (2, 1)]], gaps=True, boundary=True, source_lengths=[4])
    assert both.value == pytest.approx(1 - 2 / 3)
    assert fuzzy_reordering([[(1, 0), (2, 1)]], gaps=True, boundary=True, source_lengths=[3]).value == 1 - 1 / 3


@pytest.mark.parametrize("micro", [False, True])
@pytest.mark.parametrize("boundary", [False, True])
@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_random_corpora_against_the_definition_without_renumbering(seed, gaps, boundary, micro):
    alignments, lengths = random_links(seed)
    options = {"gaps": gaps, "boundary": boundary}
    counts = [by_hand(links, length, **options) for links, length in zip(alignments, lengths, strict=True)]
    scores = [count and (1 - count[0] / count[1] if count[1] else 1.0) for count in counts]
    result = fuzzy_reordering(alignments, micro=micro, source_lengths=lengths, **options)
    assert result.scores == [score if score is None else pytest.approx(score) for score in scores]
    scored = [score for score in scores if score is not None]
    breaks, places = (sum(count[k] for count in counts if count) for k in (0, 1))
    assert result.value == pytest.approx(1 - breaks / places if micro else sum(scored) / len(scored))
    assert result.num_sentences == len(scored) < len(scores)
    assert 0 < result.value < 1


def test_micro_of_single_words_is_one():
    assert fuzzy_reordering([[(3, 0)], [], [(0, 1)]], micro=True).value == 1.0


def test_order_of_links_rows_and_doubled_corpora_do_not_matter():
    alignments, _ = random_links(9)
    shuffled = [links[::-1] for links in alignments[::-1]]
    result = fuzzy_reordering(alignments)
    assert fuzzy_reordering(iter(shuffled)).value == pytest.approx(result.value)
    assert fuzzy_reordering(shuffled).scores == result.scores[::-1]
    for micro in (False, True):
        twice = fuzzy_reordering(alignments * 2, micro=micro).value
        assert twice == pytest.approx(fuzzy_reordering(alignments, micro=micro).value)


def test_chunks_hold_target_positions():
    # Target 2 has no link and is skipped; source 1 has none and is skipped too, unless gaps count.
    links = parse("2-0 3-1 4-3 0-4 0-5")
    assert reordering_chunks(links) == [[0, 1, 3], [4, 5]]
    assert reordering_chunks(parse("0-0 2-1")) == [[0, 1]]
    assert reordering_chunks(parse("0-0 2-1"), gaps=True) == [[0], [1]]
    assert reordering_chunks([]) == [] and num_chunks([]) == 0


@pytest.mark.parametrize("seed", range(4))
def test_chunks_partition_the_linked_words_and_count_as_the_score_says(seed):
    alignments, lengths = random_links(seed)
    for gaps in (False, True):
        for links, length in zip(alignments, lengths, strict=True):
            chunks = reordering_chunks(links, gaps=gaps)
            assert [j for chunk in chunks for j in chunk] == sorted({j for _, j in links})
            count = by_hand(links, length, gaps=gaps)
            assert num_chunks(links, gaps=gaps) == len(chunks) == (count[0] + 1 if count else 0)


@pytest.mark.parametrize(
    ("alignments", "options", "message"),
    [
        ([[], []], {}, "at least 1 link, got 0"),
        ([], {}, "at least 1 link, got 0"),
        ([[(0, 0)], [(-1, 0)]], {}, "got -1-0 in row 1"),
        ([[(0, -1)]], {}, "got 0--1 in row 0"),
        ([[(2, 0)]], {"source_lengths": [2]}, "got 2-0 in row 0 with 2 source tokens"),
        ([[(0, 0)]] * 2, {"source_lengths": [1]}, "one of them ends at 1"),
        ([[(0, 0)]], {"source_lengths": [1, 1]}, "one of them ends at 1"),
        ([[(0, 0)]], {"gaps": True, "boundary": True}, "`source_lengths` must be given"),
    ],
)
def test_errors_name_rule_and_row(alignments, options, message):
    with pytest.raises(ValueError, match=message):
        fuzzy_reordering(alignments, **options)


def test_chunks_of_a_negative_position_are_an_error():
    with pytest.raises(ValueError, match="got 0--2 with positions counted from 0"):
        reordering_chunks([(0, -2)])
