"""fast_align's model of one direction, trained by variational Bayes EM over a corpus on disk."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from .diagonal_prior import INITIAL_TENSION, NULL_PROB, feature, source_prior, update_tension
from .encoded_corpus import EncodedCorpus, Side
from .scratch import StoredArray
from .symmetrization import distinct


NUM_ITERATIONS = 5  # the last one makes no counts: it is the search for the best links
DIRICHLET_ALPHA = 0.01
UNLINKED = -1

_Map = Callable[[Callable[[int], Any], int], Iterator[Any]]


@dataclass(frozen=True)
class _Rows:
    """The target words of a chunk whose sentences have a source, sorted by the length of that source.

    Args:
        order (`np.ndarray`): place of each in the chunk's target tokens.
        sentence (`np.ndarray`): its sentence in the chunk.
        position (`np.ndarray`): its position in that sentence, from 1.
        groups (`list[tuple[int, slice, slice]]`): source length n, the rows that have it, and their cells: n + 1 a
            row, NULL first.
        num_tokens (`int`): target tokens of the chunk, with those whose sentence has no source.
    """

    order: np.ndarray
    sentence: np.ndarray
    position: np.ndarray
    groups: list[tuple[int, slice, slice]]
    num_tokens: int

    @classmethod
    def of(cls, source: Side, target: Side) -> _Rows:
        """Sorts the target words of a chunk."""
        sentence, position = target.positions()
        order = np.argsort(source.lengths[sentence], kind="stable")
        order = order[source.lengths[sentence[order]] > 0]
        sentence = sentence[order]
        groups, row, cell = [], 0, 0
        for n, size in enumerate(np.bincount(source.lengths[sentence]).tolist()):
            if size:
                groups.append((n, slice(row, row + size), slice(cell, cell + size * (n + 1))))
                row, cell = row + size, cell + size * (n + 1)
        return cls(order, sentence, position[order] + 1, groups, len(position))

    @property
    def num_cells(self) -> int:
        """Pairs of a target word and a source word or NULL."""
        return self.groups[-1][2].stop if self.groups else 0


class FastAlign:
    """t(target word | source word) of one direction, and the links it finds.

    A chunk has a lexicon of its own, its distinct word pairs, so that the work on it stays in the cache; what grows
    with the corpus is on disk. Memory: 24 bytes for each distinct pair of words that meet in a sentence, at the peak
    40. Chunks are worked on by as many threads as torch uses; the result does not depend on their number.

    Args:
        corpus (`EncodedCorpus`): the corpus.
        reverse (`bool`, *optional*, defaults to `False`): exchange the sides: each *source* word then chooses a target
            word.
        device (`str` or `torch.device`, *optional*, defaults to `"cpu"`): where the sums are made.
        bar (`tqdm`, *optional*): advanced by the words that choose, in each of `NUM_ITERATIONS` passes.

    Source: Dyer, Chahuneau & Smith 2013, with the constants and the departures of the tool (`-d -o -v`).
    """

    def __init__(
        self,
        corpus: EncodedCorpus,
        reverse: bool = False,
        device: str | torch.device = "cpu",
        bar: tqdm | None = None,
    ) -> None:
        self._corpus, self._reverse, self._device, self._bar = corpus, reverse, torch.device(device), bar
        self._num_types = corpus.num_types[0 if reverse else 1] + 1
        self._shapes = {(m, n) if reverse else (n, m): count for (n, m), count in corpus.shapes.items()}
        self.tension = INITIAL_TENSION
        with _worker_threads(self._device) as for_each_chunk:
            self._lexicons, self._row_lengths = self._index(for_each_chunk)
            self._train(for_each_chunk)

    def links(self) -> Iterator[np.ndarray]:
        """Yields the Viterbi alignment chunk by chunk: for each target word the position of its source word from 0, or
        `UNLINKED`, `int32` of shape `[target words of the chunk]`. Ties go to NULL, then to the lower position."""
        with _worker_threads(self._device) as for_each_chunk:
            for links in for_each_chunk(self._search, self._corpus.num_chunks):
                self._advance(len(links))
                yield links

    def _index(self, for_each_chunk: _Map) -> tuple[list[tuple[StoredArray, StoredArray]], Tensor]:
        """Numbers the distinct word pairs of the corpus by source word, then target word.

        Returns:
            For each chunk its pairs, and the place among them of each cell's pair; the number of pairs of each source
            word.
        """
        scratch, merged = self._corpus.scratch, np.empty(0, np.int64)
        pending: list[np.ndarray] = []
        chunks = []
        for keys, cells in for_each_chunk(self._chunk_keys, self._corpus.num_chunks):
            chunks.append((scratch.write(keys), scratch.write(cells)))
            pending.append(keys)
            if sum(map(len, pending)) > len(merged):
                merged, pending = distinct(np.concatenate([merged, *pending])), []
        if pending:
            merged = distinct(np.concatenate([merged, *pending]))
        lexicons = [(scratch.write(np.searchsorted(merged, scratch.read(keys))), cells) for keys, cells in chunks]
        _, row_lengths = np.unique(merged // self._num_types, return_counts=True)
        return lexicons, torch.from_numpy(row_lengths).to(self._device)

    def _chunk_keys(self, chunk: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the sorted distinct pairs of a chunk (source id * types + target id), and the pair of each cell."""
        source, target, rows = self._read(chunk)
        keys = np.empty(rows.num_cells, np.int64)
        words, starts = source.tokens.astype(np.int64), source.starts
        for n, of_group, of_cells in rows.groups:
            block = keys[of_cells].reshape(-1, n + 1)
            block[:, 0] = 0
            block[:, 1:] = words[starts[rows.sentence[of_group], None] + np.arange(n)]
            block *= self._num_types
            block += target.tokens[rows.order[of_group], None]
        pairs, cells = np.unique(keys, return_inverse=True)
        return pairs, cells.astype(np.int32)

    def _read(self, chunk: int) -> tuple[Side, Side, _Rows]:
        source, target = self._corpus.chunk(chunk)
        if self._reverse:
            source, target = target, source
        return source, target, _Rows.of(source, target)

    def _train(self, for_each_chunk: _Map) -> None:
        self._table: Tensor | None = None  # t(target word | source word) of each pair; the same for all at first
        num_pairs = int(self._row_lengths.sum())
        if not num_pairs:
            return
        for iteration in range(1, NUM_ITERATIONS):
            counts = torch.zeros(num_pairs, dtype=torch.float64, device=self._device)
            # One sum on the device: a read of each chunk's would stop its queue.
            total_feature = torch.zeros((), dtype=torch.float64, device=self._device)
            results = for_each_chunk(self._expect, self._corpus.num_chunks)
            for pairs, chunk_counts, chunk_feature, num_words in results:
                counts.index_add_(0, pairs, chunk_counts)
                total_feature += chunk_feature
                self._advance(num_words)
            if iteration > 1:
                observed = float(total_feature) / self._corpus.num_words(self._reverse)
                self.tension = update_tension(self.tension, observed, self._shapes)
            self._table = self._maximize(counts)

    def _advance(self, num_words: int) -> None:
        if self._bar is not None:
            self._bar.update(num_words)

    def _weights(self, chunk: int) -> tuple[_Rows, list[tuple[Tensor, Tensor, Tensor]], Tensor, Tensor, Tensor]:
        """Returns P(a_j = i) t(f_j | e_i) of every cell of a chunk, with what belongs to it."""
        source, target, rows = self._read(chunk)
        pairs, cells = (
            torch.from_numpy(self._corpus.scratch.read(stored)).to(self._device) for stored in self._lexicons[chunk]
        )
        if self._table is None:
            weights = torch.ones(len(cells), dtype=torch.float64, device=self._device)
        else:
            weights = self._table.index_select(0, pairs).index_select(0, cells)
        lengths = target.lengths[rows.sentence]
        position, length = (torch.from_numpy(x.astype(np.float64)).to(self._device) for x in (rows.position, lengths))
        blocks = []
        for n, of_group, of_cells in rows.groups:
            block = weights[of_cells].view(-1, n + 1)
            block[:, 0] *= NULL_PROB
            block[:, 1:] *= source_prior(position[of_group], length[of_group], n, self.tension)
            blocks.append((block, position[of_group], length[of_group]))
        return rows, blocks, weights, pairs, cells

    def _expect(self, chunk: int) -> tuple[Tensor, Tensor, Tensor, int]:
        """Returns the pairs of a chunk, their expected counts, the sum of the posterior features, the target words."""
        rows, blocks, weights, pairs, cells = self._weights(chunk)
        total_feature = torch.zeros((), dtype=torch.float64, device=self._device)
        for block, position, length in blocks:
            block /= block.sum(dim=1, keepdim=True)
            # The tool counts the target position from 0 here, and from 1 in the prior.
            total_feature += (block[:, 1:] * feature(position - 1, length, block.shape[1] - 1)).sum()
        counts = torch.zeros(len(pairs), dtype=torch.float64, device=self._device).index_add_(0, cells, weights)
        return pairs, counts, total_feature, len(rows.order)

    def _maximize(self, counts: Tensor) -> Tensor:
        """Turns expected counts into t: exp(psi(count + alpha) - psi(sum of those of the source word)), in place."""
        counts += DIRICHLET_ALPHA
        totals = torch.segment_reduce(counts, "sum", lengths=self._row_lengths).digamma_()
        totals = totals.repeat_interleave(self._row_lengths, output_size=len(counts))
        return counts.digamma_().sub_(totals).exp_()

    def _search(self, chunk: int) -> np.ndarray:
        rows, blocks, *_ = self._weights(chunk)
        links = np.full(rows.num_tokens, UNLINKED, np.int32)
        if blocks:
            best = torch.cat([block.argmax(dim=1) for block, *_ in blocks])
            links[rows.order] = best.cpu().numpy() - 1
        return links


@contextmanager
def _worker_threads(device: torch.device) -> Iterator[_Map]:
    """Starts as many threads as torch uses on a CPU, each of which calls torch without further ones.

    What it gives calls a function for every chunk and yields the results in order. It is never further ahead than the
    threads can work: what waits takes memory.
    """
    num_threads = torch.get_num_threads()
    num_workers = num_threads if device.type == "cpu" else 1

    def for_each_chunk(function: Callable[[int], Any], num_chunks: int) -> Iterator[Any]:
        waiting: deque[Future] = deque()
        for chunk in range(num_chunks):
            waiting.append(pool.submit(function, chunk))
            if len(waiting) > num_workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    try:
        with ThreadPoolExecutor(num_workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield for_each_chunk
    finally:
        torch.set_num_threads(num_threads)
