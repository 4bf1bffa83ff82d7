"""Batches by token budget, the same list of batches on every process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler


class TokenBatchSampler(Sampler[list[int]]):
    """Batches of rows of about the same length whose padded size stays within a token budget.

    The rows are sorted by length, cut into batches once, and every epoch shuffles the rows of equal length and the
    order of the batches from `(seed, epoch)` alone: all processes see the same list (accelerate deals whole batches
    to them in turn and leaves out a last incomplete round), and a resumed run sees what the first would have seen.

    Args:
        lengths (`Sequence[int]` of length N): tokens of each row, the longer of source and target.
        max_tokens (`int`): largest padded size of a batch, rows x longest row.
        seed (`int`, *optional*, defaults to 0): seed of the shuffling.

    Raises:
        ValueError: if a row alone is longer than `max_tokens`, or there are no rows.
    """

    # What accelerate's BatchSamplerShard reads: batches differ in size, an incomplete last round is dropped.
    batch_size = None
    drop_last = True

    def __init__(self, lengths: Sequence[int] | np.ndarray, max_tokens: int, seed: int = 0):
        self.lengths = np.asarray(lengths, dtype=np.int64)
        if len(self.lengths) == 0:
            raise ValueError("`lengths` must have at least one row, got none. Check the corpus and its length limits.")
        longest = int(self.lengths.argmax())
        if self.lengths[longest] > max_tokens:
            raise ValueError(
                f"`max_tokens` must be >= the longest row, got {max_tokens} for row {longest} of "
                f"{self.lengths[longest]} tokens. Raise `max_tokens` or lower the length limits."
            )
        self.seed = seed
        self.epoch = 0
        self._starts = self._cut(np.sort(self.lengths), max_tokens)

    @staticmethod
    def _cut(sorted_lengths: np.ndarray, max_tokens: int) -> list[int]:
        """First positions of all batches but the first, over rows in order of length."""
        starts, start = [], 0
        for position, length in enumerate(sorted_lengths.tolist()):
            if (position - start + 1) * length > max_tokens:
                starts.append(position)
                start = position
        return starts

    def set_epoch(self, epoch: int) -> None:
        """Chooses the shuffling of epoch `epoch` for the next iteration."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self._starts) + 1

    def __iter__(self) -> Iterator[list[int]]:
        rng = np.random.default_rng([self.seed, self.epoch])
        rows = rng.permutation(len(self.lengths))
        rows = rows[np.argsort(self.lengths[rows], kind="stable")]
        batches = np.split(rows, self._starts)
        for index in rng.permutation(len(batches)):
            yield batches[index].tolist()
