"""A tokenised parallel corpus as integers in a scratch file, cut into chunks of similar work."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np

from ..base.utils import progress_bar
from .scratch import Scratch, StoredArray


CHUNK_CELLS = 2**19  # pairs of a source and a target word in a chunk: some 25 MB of work space


@dataclass(frozen=True)
class Side:
    """One language of a chunk.

    Args:
        tokens (`np.ndarray`): word ids from 1, sentence after sentence, `int32` of shape `[num_tokens]`.
        lengths (`np.ndarray`): words of each sentence, `int32` of shape `[num_sentences]`.
    """

    tokens: np.ndarray
    lengths: np.ndarray

    @property
    def starts(self) -> np.ndarray:
        """Place of each sentence's first word in `tokens`, `int64` of shape `[num_sentences]`."""
        return np.cumsum(self.lengths, dtype=np.int64) - self.lengths

    def positions(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the sentence of each word and its position there from 0, `int64` of shape `[num_tokens]` both."""
        sentence = np.repeat(np.arange(len(self.lengths)), self.lengths)
        return sentence, np.arange(len(sentence)) - self.starts[sentence]


class _Vocabulary(dict):
    """Numbers words from 1 as they come; 0 is left for NULL."""

    def __missing__(self, word: str) -> int:
        self[word] = number = len(self) + 1
        return number


class EncodedCorpus:
    """Sentence pairs as word ids, on disk but for the two vocabularies.

    Args:
        sources (`Iterable[Sequence[str]]`): tokens of each source sentence, read once.
        targets (`Iterable[Sequence[str]]`): tokens of each target sentence.
        progress (`bool`, *optional*, defaults to `False`): show a progress bar.

    Raises:
        ValueError: if one side has more sentences than the other; the sentence is named.
    """

    def __init__(
        self, sources: Iterable[Sequence[str]], targets: Iterable[Sequence[str]], progress: bool = False
    ) -> None:
        self.scratch = Scratch()
        self.num_sentences = 0
        self.shapes: Counter[tuple[int, int]] = Counter()  # (source words, target words) -> sentence pairs
        self._chunks: list[tuple[StoredArray, ...]] = []
        vocabularies = (_Vocabulary(), _Vocabulary())
        tokens, lengths, num_cells = (array("i"), array("i")), (array("i"), array("i")), 0
        with progress_bar(None, "Reading", disable=not progress) as bar:
            for pair in zip_longest(sources, targets):
                if pair[0] is None or pair[1] is None:
                    ends, goes_on = ("sources", "targets") if pair[0] is None else ("targets", "sources")
                    raise ValueError(
                        f"`sources` and `targets` must have one length, but `{ends}` ends after {self.num_sentences} "
                        f"sentences and `{goes_on}` goes on."
                    )
                for side, words in enumerate(pair):
                    vocabulary = vocabularies[side]
                    tokens[side].extend([vocabulary[word] for word in words])
                    lengths[side].append(len(words))
                shape = len(pair[0]), len(pair[1])
                self.shapes[shape] += 1
                self.num_sentences += 1
                num_cells += (shape[0] + 1) * (shape[1] + 1)
                if num_cells >= CHUNK_CELLS:
                    self._store(tokens, lengths)
                    tokens, lengths, num_cells = (array("i"), array("i")), (array("i"), array("i")), 0
                    bar.update(self.num_sentences - bar.n)
        if num_cells:
            self._store(tokens, lengths)
        self.num_types = tuple(len(vocabulary) for vocabulary in vocabularies)

    def _store(self, tokens: Sequence[array], lengths: Sequence[array]) -> None:
        arrays = (tokens[0], lengths[0], tokens[1], lengths[1])
        self._chunks.append(tuple(self.scratch.write(np.frombuffer(values, np.int32)) for values in arrays))

    def num_words(self, reverse: bool) -> int:
        """Counts the words that choose a partner: the target words, or with `reverse` the source words."""
        return sum(shape[0 if reverse else 1] * count for shape, count in self.shapes.items() if min(shape))

    @property
    def num_chunks(self) -> int:
        """How many chunks there are; their sentences follow one another in the order of the corpus."""
        return len(self._chunks)

    def chunk(self, index: int) -> tuple[Side, Side]:
        """Reads source and target of a chunk."""
        source, source_lengths, target, target_lengths = map(self.scratch.read, self._chunks[index])
        return Side(source, source_lengths), Side(target, target_lengths)
