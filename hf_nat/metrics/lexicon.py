"""Link counts between the source and target types of a corpus: what complexity and faithfulness are computed from."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from typing import Literal

import numpy as np

from .bootstrap import Array


LogBase = Literal["e", 2]

_BUFFER = 1 << 20  # links and source tokens that are collected before numpy counts them


@dataclass(frozen=True, eq=False)
class LexicalCounts:
    """How often each source type of a corpus is linked to each target type; made by `from_corpus`.

    Types and pairs stand in sorted order, so the order of the rows leaves no trace. Letters: V source types, P
    distinct pairs, L links, N source tokens.

    Args:
        source_types (`list[str]`): the V source types, sorted, also those without a link.
        target_types (`list[str]`): the target types, sorted, also those without a link.
        occurrences (`np.ndarray`): int64 `[V]`, tokens of each source type.
        sources (`np.ndarray`): int32 `[P]`, index of each pair's source type, ascending.
        targets (`np.ndarray`): int32 `[P]`, index of its target type, ascending within a source type.
        counts (`np.ndarray`): int64 `[P]`, links of each pair.
        num_rows (`int`): sentence pairs of the corpus.
        link_rows (`np.ndarray`, *optional*): int32 `[L]`, the row of each link, all links of the first pair first.
        token_rows (`np.ndarray`, *optional*): int32 `[N]`, the row of each source token, first type first.
    """

    source_types: list[str]
    target_types: list[str]
    occurrences: Array
    sources: Array
    targets: Array
    counts: Array
    num_rows: int
    link_rows: Array | None = None
    token_rows: Array | None = None

    @classmethod
    def from_corpus(
        cls,
        sources: Iterable[Sequence[str]],
        targets: Iterable[Sequence[str]],
        alignments: Iterable[Sequence[tuple[int, int]]],
        *,
        keep_rows: bool = False,
    ) -> LexicalCounts:
        """Counts the links of a corpus in one pass.

        Memory is linear in the distinct pairs, so the three arguments may be generators over a corpus of any size.

        Args:
            sources (`Iterable[Sequence[str]]`): tokens of each source sentence.
            targets (`Iterable[Sequence[str]]`): tokens of each target sentence.
            alignments (`Iterable[Sequence[tuple[int, int]]]`): links (source index, target index) of each row, from
                0.
            keep_rows (`bool`, *optional*): whether to keep the row of every link and source token (4 bytes each), from
                which sentences are resampled.

        Returns:
            `LexicalCounts`: the counts.

        Raises:
            ValueError: if the three lengths differ, a link points outside its sentence, or there is no link at all.

        Source: Zhou, Gu & Neubig 2020, section 3.2 (arXiv:1911.02727); words without a link count no pair.
        """
        counter = _Counter(keep_rows)
        for row, (source, target, links) in enumerate(zip_longest(sources, targets, alignments)):
            if source is None or target is None or links is None:
                raise ValueError(
                    f"`sources`, `targets` and `alignments` must have one length, one of them ends at {row}."
                )
            counter.add(source, target, links)
        return counter.finish()

    @property
    def num_links(self) -> int:
        """Number of links L."""
        return int(self.counts.sum())

    def links_per_type(self) -> Array:
        """Returns the links of each source type, float64 `[V]`, exact up to 2**53."""
        return self.sum_by_source(self.counts)

    def sum_by_source(self, values: Array) -> Array:
        """Sums values `[P]` of the pairs over the pairs of each source type, float64 `[V]`."""
        return np.bincount(self.sources, weights=values, minlength=len(self.source_types))

    def top_targets(self, word: str, k: int) -> list[tuple[str, float]]:
        """Returns the (at most) `k` target types that source type `word` is linked to most, with their shares 0-1.

        Ties stand in the order of the words. The list is empty where the word has no link or does not occur.
        """
        index = bisect_left(self.source_types, word)
        if index == len(self.source_types) or self.source_types[index] != word:
            return []
        start, end = np.searchsorted(self.sources, [index, index + 1])
        counts = self.counts[start:end]
        best = np.argsort(-counts, kind="stable")[:k]
        return [(self.target_types[self.targets[start + i]], float(counts[i] / counts.sum())) for i in best]

    def resample(self, row_weights: Array) -> LexicalCounts:
        """Returns the counts of the corpus in which each row stands as often as its weight says.

        Args:
            row_weights (`np.ndarray`): int64 `[num_rows]`, how often each row is repeated; 0 leaves it out.

        Returns:
            `LexicalCounts`: with the same types and pairs, some of which may have no occurrence or link now.

        Raises:
            ValueError: if the rows were not kept.
        """
        if self.link_rows is None or self.token_rows is None:
            raise ValueError("`keep_rows` must be True to resample sentences, got False. Pass it to `from_corpus`.")
        return replace(
            self,
            counts=np.add.reduceat(row_weights.take(self.link_rows), self.counts.cumsum() - self.counts),
            occurrences=np.add.reduceat(
                row_weights.take(self.token_rows), self.occurrences.cumsum() - self.occurrences
            ),
            link_rows=None,
            token_rows=None,
        )


class _Vocabulary(defaultdict[str, int]):
    """Numbers words from 0 as they are looked up."""

    def __init__(self) -> None:
        super().__init__()
        self.default_factory = self.__len__

    def sorted(self) -> tuple[list[str], Array]:
        """Returns the words in sorted order, and for each number the place of its word there, int64 `[words]`."""
        words = sorted(self)
        places = np.empty(len(words), dtype=np.int64)
        places[[self[word] for word in words]] = np.arange(len(words))
        return words, places


class _Counter:
    """Collects rows in flat buffers and counts a buffer at a time: a few C calls a row, and numpy for the rest.

    A pair is one integer: source number * 2**32 + target number.
    """

    def __init__(self, keep_rows: bool) -> None:
        self.source_vocab, self.target_vocab = _Vocabulary(), _Vocabulary()
        self.keys = np.empty(0, dtype=np.int64)
        self.counts = np.empty(0, dtype=np.int64)
        self.occurrences = np.empty(0, dtype=np.int64)
        self.num_rows = 0
        self.keep_rows = keep_rows
        self.link_keys, self.link_rows = [self.keys], [np.empty(0, dtype=np.int32)]
        self.token_types, self.token_rows = [np.empty(0, dtype=np.int32)], [np.empty(0, dtype=np.int32)]
        self._clear()

    def _clear(self) -> None:
        """Empties the buffers."""
        self.source_ids, self.target_ids, self.links = array("q"), array("q"), array("q")
        self.source_lengths, self.target_lengths, self.link_numbers = array("q"), array("q"), array("q")

    def add(self, source: Sequence[str], target: Sequence[str], links: Sequence[tuple[int, int]]) -> None:
        """Takes one row."""
        self.source_ids.extend(map(self.source_vocab.__getitem__, source))
        self.target_ids.extend(map(self.target_vocab.__getitem__, target))
        self.links.extend(chain.from_iterable(links))
        self.source_lengths.append(len(source))
        self.target_lengths.append(len(target))
        self.link_numbers.append(len(links))
        # A buffer that grows with the number of pairs keeps the cost of merging linear in the links.
        if len(self.source_ids) + len(self.links) // 2 >= max(_BUFFER, len(self.keys) // 4):
            self._flush()

    def _flush(self) -> None:
        """Adds the rows of the buffers to the counts."""
        source_lengths, target_lengths = np.array(self.source_lengths), np.array(self.target_lengths)
        rows = np.repeat(np.arange(len(source_lengths)), self.link_numbers)
        i, j = np.array(self.links, dtype=np.int64).reshape(len(rows), 2).T
        outside = (i < 0) | (i >= source_lengths[rows]) | (j < 0) | (j >= target_lengths[rows])
        if outside.any():
            first = outside.argmax()
            row = rows[first]
            raise ValueError(
                f"Links must lie inside their sentences, got {i[first]}-{j[first]} in row {self.num_rows + row} with "
                f"{source_lengths[row]} source and {target_lengths[row]} target tokens."
            )
        source_ids, target_ids = np.array(self.source_ids), np.array(self.target_ids)
        source_starts, target_starts = (
            source_lengths.cumsum() - source_lengths,
            target_lengths.cumsum() - target_lengths,
        )
        keys = source_ids[source_starts[rows] + i] << 32 | target_ids[target_starts[rows] + j]
        self._merge(*np.unique(keys, return_counts=True))
        occurrences = np.bincount(source_ids, minlength=len(self.source_vocab))
        occurrences[: len(self.occurrences)] += self.occurrences
        self.occurrences = occurrences
        if self.keep_rows:
            self.link_keys.append(keys)
            self.link_rows.append((self.num_rows + rows).astype(np.int32))
            self.token_types.append(source_ids.astype(np.int32))
            token_rows = np.repeat(np.arange(len(source_lengths)), source_lengths)
            self.token_rows.append((self.num_rows + token_rows).astype(np.int32))
        self.num_rows += len(source_lengths)
        self._clear()

    def _merge(self, keys: Array, counts: Array) -> None:
        """Adds the counts of sorted distinct keys; the stable sort merges two sorted runs in linear time."""
        keys, counts = np.concatenate([self.keys, keys]), np.concatenate([self.counts, counts])
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        starts = np.flatnonzero(np.diff(keys, prepend=-1))
        self.keys, self.counts = keys[starts], np.add.reduceat(counts[order], starts) if len(starts) else counts

    def finish(self) -> LexicalCounts:
        """Returns the counts with all types in sorted order."""
        self._flush()
        if not len(self.keys):
            raise ValueError("`alignments` must hold at least 1 link, got 0. The complexity of no links is undefined.")
        source_types, source_places = self.source_vocab.sorted()
        target_types, target_places = self.target_vocab.sorted()

        def in_order(keys: Array) -> Array:
            return source_places[keys >> 32] << 32 | target_places[keys & 0xFFFFFFFF]

        keys = in_order(self.keys)
        order = np.argsort(keys)
        keys = keys[order]
        occurrences = np.empty_like(self.occurrences)
        occurrences[source_places] = self.occurrences
        link_rows = token_rows = None
        if self.keep_rows:
            link_order = np.argsort(in_order(np.concatenate(self.link_keys)), kind="stable")
            link_rows = np.concatenate(self.link_rows)[link_order]
            token_order = np.argsort(source_places[np.concatenate(self.token_types)], kind="stable")
            token_rows = np.concatenate(self.token_rows)[token_order]
        return LexicalCounts(
            source_types,
            target_types,
            occurrences,
            (keys >> 32).astype(np.int32),
            (keys & 0xFFFFFFFF).astype(np.int32),
            self.counts[order],
            self.num_rows,
            link_rows,
            token_rows,
        )


def nats_per_unit(base: LogBase) -> float:
    """Returns the unit of a logarithm's base in nats: 1 for "e" (nats), ln 2 for 2 (bits).

    Raises:
        ValueError: if the base is another one.
    """
    if base not in ("e", 2):
        raise ValueError(f"`base` must be 'e' (nats) or 2 (bits), got {base!r}.")
    return 1.0 if base == "e" else math.log(2)
