"""Joins the links of both directions, as the tool `atools` of fast_align does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..base.bounds import require_choice


SYMMETRIZATIONS = ("intersect", "union", "grow-diag", "grow-diag-final", "grow-diag-final-and")


class LinkGrid:
    """The possible links of many sentence pairs, one number each: its cell.

    Cells are numbered sentence by sentence, source word by source word; a margin of one cell around the words of a
    sentence makes every cell's neighbours cells as well.

    Args:
        source_lengths (`np.ndarray`): source words of each sentence, `[num_sentences]`.
        target_lengths (`np.ndarray`): target words of each sentence.
    """

    def __init__(self, source_lengths: np.ndarray, target_lengths: np.ndarray) -> None:
        self._width = target_lengths.astype(np.int64) + 2
        sizes = (source_lengths.astype(np.int64) + 2) * self._width
        self._starts = np.cumsum(sizes) - sizes
        self.num_cells = int(sizes.sum())

    def cells(self, sentence: np.ndarray, source: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Numbers links by sentence and positions from 0: `int64` of shape `[num_links]`."""
        return self._starts[sentence] + (source + 1) * self._width[sentence] + target + 1

    def links(self, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns sentence, source and target position of cells."""
        sentence = np.searchsorted(self._starts, cells, side="right") - 1
        source, target = np.divmod(cells - self._starts[sentence], self._width[sentence])
        return sentence, source - 1, target - 1

    def symmetrize(self, forward: np.ndarray, reverse: np.ndarray, method: str) -> np.ndarray:
        """Joins links of two directions.

        Args:
            forward (`np.ndarray`): cells of the one direction, ascending, each once, `[num_links]`.
            reverse (`np.ndarray`): cells of the other.
            method (`str`): one of `SYMMETRIZATIONS`.

        Returns:
            `np.ndarray`: cells, ascending.
        """
        if method == "union":
            return distinct(np.concatenate([forward, reverse]))
        in_both = np.intersect1d(forward, reverse, assume_unique=True)
        if method == "intersect":
            return in_both
        joined = _JoinedLinks(self, in_both)
        joined.grow_diag(np.setxor1d(forward, reverse, assume_unique=True))
        if method != "grow-diag":
            for cells in (forward, reverse):
                joined.add_final(cells, both_unlinked=method == "grow-diag-final-and")
        return np.flatnonzero(joined.is_link)


class _JoinedLinks:
    """Links that grow. Sentences do not touch one another, so the k-th candidates of all of them are tried at once,
    which comes to the same as one sentence and one candidate after the other."""

    def __init__(self, grid: LinkGrid, links: np.ndarray) -> None:
        self._grid = grid
        self.is_link = np.zeros(grid.num_cells, bool)
        # One flag a word: a source word's is at the margin's cell left of its row, a target word's above its column.
        self._is_linked = np.zeros(grid.num_cells, bool)
        self._add(links, *self._words(links))

    def grow_diag(self, candidates: np.ndarray) -> None:
        """Adds candidates next to a link, also diagonally, one of whose words has none, until there is no more."""
        steps = self._steps(candidates)
        width = [self._grid._width[self._grid.links(cells)[0]] for cells, *_ in steps]
        num_links = -1
        while num_links != (num_links := int(np.count_nonzero(self.is_link))):
            for (cells, source, target), row in zip(steps, width, strict=True):
                near = np.zeros(len(cells), bool)
                for offset in (1, row - 1, row, row + 1):
                    near |= self.is_link[cells - offset] | self.is_link[cells + offset]
                new = near & ~(self._is_linked[source] & self._is_linked[target])
                self._add(cells[new], source[new], target[new])

    def add_final(self, candidates: np.ndarray, both_unlinked: bool) -> None:
        """Adds candidates one of whose words (or both of them) has no link."""
        for cells, source, target in self._steps(candidates):
            is_linked = self._is_linked[source], self._is_linked[target]
            new = ~(is_linked[0] | is_linked[1]) if both_unlinked else ~(is_linked[0] & is_linked[1])
            self._add(cells[new], source[new], target[new])

    def _add(self, cells: np.ndarray, source: np.ndarray, target: np.ndarray) -> None:
        self.is_link[cells] = True
        self._is_linked[source] = True
        self._is_linked[target] = True

    def _words(self, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the cells that stand for the source and for the target word of links."""
        sentence, source, target = self._grid.links(cells)
        margin = np.full_like(source, -1)
        return self._grid.cells(sentence, source, margin), self._grid.cells(sentence, margin, target)

    def _steps(self, candidates: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Returns the first candidate of every sentence, then the second, ...: cells, source words, target words."""
        sentence = self._grid.links(candidates)[0]
        _, starts, counts = np.unique(sentence, return_index=True, return_counts=True)
        rank = np.arange(len(candidates)) - np.repeat(starts, counts)
        order = np.argsort(rank, kind="stable")
        steps = np.split(candidates[order], np.cumsum(np.bincount(rank))[:-1])
        return [(cells, *self._words(cells)) for cells in steps if len(cells)]


def symmetrize(
    forward: Sequence[Sequence[tuple[int, int]]],
    reverse: Sequence[Sequence[tuple[int, int]]],
    method: str = "grow-diag-final-and",
) -> list[list[tuple[int, int]]]:
    """Joins the links of two directions, of any aligner.

    Starting from the links that both directions have, `grow-diag` adds links of either one that touch a link already
    there, also diagonally, and join a word that has none; candidates are tried in the order of (source, target), again
    and again until none is added. `grow-diag-final` then adds those that join a word without a link (`-and`: two such
    words), first of `forward`, then of `reverse`.

    Args:
        forward (`Sequence[Sequence[tuple[int, int]]]`): links (source index, target index) of each sentence, from 0.
        reverse (`Sequence[Sequence[tuple[int, int]]]`): those of the other direction, source index first as well.
        method (`str`, *optional*, defaults to `"grow-diag-final-and"`): one of `SYMMETRIZATIONS`.

    Returns:
        `list[list[tuple[int, int]]]`: links of each sentence, sorted.

    Raises:
        ValueError: if the method is unknown or the two are not of one length.

    Source: Koehn et al. 2005, in the order of fast_align's `atools`, which is not that of Moses.
    """
    require_choice("symmetrize", method, SYMMETRIZATIONS)
    if len(forward) != len(reverse):
        raise ValueError(
            f"`forward` and `reverse` must be of the same sentences, got {len(forward)} and {len(reverse)}."
        )
    columns = [_columns(links) for links in (forward, reverse)]
    sizes = np.zeros((2, len(forward)), np.int64)
    for sentence, *positions in columns:
        for side in range(2):
            np.maximum.at(sizes[side], sentence, positions[side] + 1)
    grid = LinkGrid(*sizes)
    cells = [distinct(grid.cells(*column)) for column in columns]
    joined = grid.symmetrize(cells[0], cells[1], method)
    return split_links(len(forward), *grid.links(joined))


def distinct(values: np.ndarray) -> np.ndarray:
    """Returns the distinct values, ascending: `np.unique`, which hashes integers, at a fraction of its time."""
    values = np.sort(values)
    return values[np.diff(values, prepend=values[:1] - 1) != 0]


def split_links(
    num_sentences: int, sentence: np.ndarray, source: np.ndarray, target: np.ndarray
) -> list[list[tuple[int, int]]]:
    """Returns the links of each sentence, in their order, from arrays that are sorted by sentence."""
    ends = np.cumsum(np.bincount(sentence, minlength=num_sentences)).tolist()
    pairs = list(zip(source.tolist(), target.tolist(), strict=True))
    return [pairs[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def _columns(links: Sequence[Sequence[tuple[int, int]]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns sentence, source and target position of each link."""
    sentence = np.repeat(np.arange(len(links)), [len(row) for row in links])
    positions = np.array([link for row in links for link in row], np.int64).reshape(-1, 2)
    return sentence, positions[:, 0], positions[:, 1]
