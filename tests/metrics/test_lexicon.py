from __future__ import annotations

import tracemalloc
from collections import Counter

import numpy as np
import pytest
from random_corpora import columns, random_corpus

from hf_nat.metrics import lexicon
from hf_nat.metrics.lexicon import LexicalCounts, nats_per_unit


def as_counters(counts: LexicalCounts) -> tuple[Counter, Counter]:
    """Links of each pair of words and tokens of each source word, without zeros."""
    pairs = zip(counts.sources, counts.targets, counts.counts, strict=True)
    links = {(counts.source_types[i], counts.target_types[j]): int(count) for i, j, count in pairs if count}
    tokens = dict(zip(counts.source_types, counts.occurrences.tolist(), strict=True))
    return Counter(links), Counter({word: count for word, count in tokens.items() if count})


def counted_by_hand(rows) -> tuple[Counter, Counter]:
    links = Counter((source[i], target[j]) for source, target, links in rows for i, j in links)
    return links, Counter(word for source, _, _ in rows for word in source)


def test_counts_of_a_hand_computed_corpus():
    counts = LexicalCounts.from_corpus(
        [["b", "a"], [], ["a", "c"]],
        [["y", "x"], ["x"], ["x"]],
        [[(0, 0), (1, 1), (1, 0)], [], [(0, 0)]],
        keep_rows=True,
    )
    assert (counts.source_types, counts.target_types) == (["a", "b", "c"], ["x", "y"])
    assert counts.sources.tolist() == [0, 0, 1] and counts.targets.tolist() == [0, 1, 1]
    assert counts.counts.tolist() == [2, 1, 1] and counts.occurrences.tolist() == [2, 1, 1]
    assert counts.link_rows.tolist() == [0, 2, 0, 0] and counts.token_rows.tolist() == [0, 2, 0, 2]
    assert (counts.num_links, counts.num_rows, counts.links_per_type().tolist()) == (4, 3, [3.0, 1.0, 0.0])
    assert counts.counts.dtype == counts.occurrences.dtype == np.int64
    assert {array.dtype for array in (counts.sources, counts.targets, counts.link_rows)} == {np.dtype(np.int32)}


@pytest.mark.parametrize("buffer", [1, 7, 1 << 20])
@pytest.mark.parametrize("seed", range(5))
def test_counts_are_those_of_counters_whatever_the_buffer(monkeypatch, buffer, seed):
    rows = random_corpus(seed)
    monkeypatch.setattr(lexicon, "_BUFFER", buffer)
    counts = LexicalCounts.from_corpus(*columns(rows), keep_rows=True)
    assert as_counters(counts) == counted_by_hand(rows)
    assert counts.source_types == sorted(counts.source_types)
    assert np.all(np.diff(counts.sources.astype(np.int64) << 32 | counts.targets) > 0)


def test_order_of_rows_leaves_no_trace():
    rows = random_corpus(3)
    one, other = (LexicalCounts.from_corpus(*columns(order)) for order in (rows, rows[::-1]))
    assert (one.source_types, one.target_types) == (other.source_types, other.target_types)
    for name in ("occurrences", "sources", "targets", "counts"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize("buffer", [1, 1 << 20])
@pytest.mark.parametrize("seed", range(5))
def test_a_resample_is_the_corpus_with_its_rows_repeated(monkeypatch, buffer, seed):
    rows = random_corpus(seed)
    monkeypatch.setattr(lexicon, "_BUFFER", buffer)
    weights = np.random.default_rng(seed).integers(3, size=len(rows))
    repeated = [row for row, weight in zip(rows, weights, strict=True) for _ in range(weight)]
    counts = LexicalCounts.from_corpus(*columns(rows), keep_rows=True)
    assert as_counters(counts.resample(weights)) == counted_by_hand(repeated)


def test_resampling_without_rows_names_the_remedy():
    counts = LexicalCounts.from_corpus([["a"]], [["x"]], [[(0, 0)]])
    with pytest.raises(ValueError, match="`keep_rows` must be True"):
        counts.resample(np.ones(1, dtype=np.int64))


def test_top_targets():
    counts = LexicalCounts.from_corpus(
        [["a"] * 6 + ["b", "c"]], [["z", "z", "z", "y", "x", "x", "y"]], [[*((i, i) for i in range(6)), (6, 6)]]
    )
    assert counts.top_targets("a", 2) == [("z", 0.5), ("x", pytest.approx(1 / 3))]
    assert [word for word, _ in counts.top_targets("a", 9)] == ["z", "x", "y"]
    assert counts.top_targets("b", 1) == [("y", 1.0)]
    assert counts.top_targets("c", 1) == counts.top_targets("aa", 1) == counts.top_targets("zz", 1) == []


def test_memory_does_not_grow_with_the_corpus(monkeypatch):
    monkeypatch.setattr(lexicon, "_BUFFER", 100)
    size = 20_000
    tracemalloc.start()
    counts = LexicalCounts.from_corpus(
        (["a", "b"] for _ in range(size)), ([str(i % 9)] for i in range(size)), ([(1, 0)] for _ in range(size))
    )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert counts.num_links == size and len(counts.counts) == 9
    assert peak < 200_000, f"{peak} bytes"


@pytest.mark.parametrize("buffer", [1, 1 << 20])
def test_a_link_outside_names_its_row_whatever_the_buffer(monkeypatch, buffer):
    monkeypatch.setattr(lexicon, "_BUFFER", buffer)
    with pytest.raises(ValueError, match="got 0-1 in row 2 with 1 source and 1 target tokens"):
        LexicalCounts.from_corpus([["a"]] * 4, [["x"]] * 4, [[(0, 0)], [], [(0, 0), (0, 1)], [(5, 5)]])


def test_base_is_checked():
    assert (nats_per_unit("e"), nats_per_unit(2)) == (1.0, pytest.approx(0.693147, abs=1e-6))
    with pytest.raises(ValueError, match=r"`base` must be 'e' \(nats\) or 2 \(bits\), got 10"):
        nats_per_unit(10)
