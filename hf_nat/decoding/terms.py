"""Lists of terms: what stands in a source, and what its translation must say for it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from transformers import PreTrainedTokenizerBase

from ..base.languages import is_unspaced
from ..data.encoding import encode
from ..data.text_files import read_lines


_PIECE = re.compile(r"\w+|[^\w\s]")
# SentencePiece's mark of a word's beginning, and its pieces of one byte.
_WORD_MARK, _BYTE = "▁", re.compile("<0x[0-9A-F]{2}>")


@dataclass(frozen=True)
class TermList:
    """Finds the terms of a list in sentences, as they are written, and what must stand for them.

    A term is found where its words and marks stand whole and side by side, whatever the blanks between them. Of those
    that overlap the leftmost counts, of several at one place the longest.

    Args:
        targets (`dict[tuple[str, ...], str]`): words and marks of each source term, and its target term.
        longest (`int`): most words and marks of a source term.
    """

    targets: dict[tuple[str, ...], str]
    longest: int

    @classmethod
    def from_pairs(cls, pairs: Iterable[tuple[str, str]], name: str = "terms") -> Self:
        """Builds a list.

        Args:
            pairs (`Iterable[tuple[str, str]]`): source and target terms.
            name (`str`, *optional*, defaults to `"terms"`): what errors call it.

        Raises:
            ValueError: if a term is empty, or a source term has two targets.
        """
        targets: dict[tuple[str, ...], str] = {}
        for number, (source, target) in enumerate(pairs, start=1):
            pieces, target = tuple(term_pieces(source)), " ".join(target.split())
            if not pieces or not target:
                raise ValueError(
                    f"`{name}` must have a source and a target term in each row, got none in row {number}."
                )
            if targets.setdefault(pieces, target) != target:
                raise ValueError(
                    f"`{name}` must give a source term one target, got {targets[pieces]!r} and {target!r} for "
                    f"{source!r} in row {number}."
                )
        return cls(targets, max(map(len, targets), default=0))

    @classmethod
    def read(cls, path: str) -> Self:
        """Reads a file with a source term, a tab and a target term on each line, empty ones left out.

        Args:
            path (`str`): UTF-8 text file, plain or packed by gzip.

        Raises:
            OSError: if there is no such file.
            ValueError: if a line has no tab or several, or as `from_pairs` and `read_lines`.
        """
        pairs = []
        for number, line in enumerate(read_lines(path), start=1):
            fields = line.split("\t")
            if line.strip() and len(fields) != 2:
                raise ValueError(
                    f"`{path}` must have a source term, a tab and a target term on each line, got {len(fields)} "
                    f"fields on line {number}."
                )
            pairs += [(fields[0], fields[1])] if line.strip() else []
        return cls.from_pairs(pairs, path)

    def __call__(self, sentence: str) -> list[str]:
        """Returns the target terms of a source sentence, in the order of their source terms."""
        pieces, found, start = term_pieces(sentence), [], 0
        while start < len(pieces):
            for end in range(min(start + self.longest, len(pieces)), start, -1):
                target = self.targets.get(tuple(pieces[start:end]))
                if target is not None:
                    found.append(target)
                    start = end
                    break
            else:
                start += 1
        return found


def term_pieces(text: str) -> list[str]:
    """Returns the words and the marks, one by one, that terms are compared by."""
    return _PIECE.findall(text)


def term_tokens(tokenizer: PreTrainedTokenizerBase, terms: Sequence[str]) -> list[list[int]]:
    """Returns the tokens of target terms, without EOS.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): the tokenizer.
        terms (`Sequence[str]`): target terms.

    Raises:
        ValueError: if the tokenizer does not know a piece of one, or nothing of it can be seen, or they are one text.
    """
    if isinstance(terms, str) or not all(isinstance(term, str) for term in terms):
        raise ValueError(f"Target terms must be several texts, got {terms!r:.60}. Write [text] for one.")
    tokens = [ids[:-1] for ids in encode(tokenizer, [""] * len(terms), terms)["labels"]]
    for term, ids in zip(terms, tokens, strict=True):
        if not ids or tokenizer.unk_token_id in ids:
            raise ValueError(
                f"A target term must be text that the model's tokenizer knows, got {term!r}. Leave it out."
            )
    return tokens


def continuation_tokens(tokenizer: PreTrainedTokenizerBase, vocab_size: int) -> torch.Tensor | None:
    """Tells the tokens that would go on with a word that stands before them, such as `e` behind `▁Hund`.

    These are pieces that begin with a letter or digit instead of SentencePiece's mark of a new word, those of one
    byte, and what is no text, which lets the next piece stand beside the word. Letters of scripts that put no blanks
    between words go on with none.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): the tokenizer.
        vocab_size (`int`): tokens V of the model, maybe more than the tokenizer has.

    Returns:
        `torch.BoolTensor` of shape `(V,)`, or `None` if no piece has the mark, so that pieces do not tell.
    """
    number = min(len(tokenizer), vocab_size)
    pieces = [piece or "" for piece in tokenizer.convert_ids_to_tokens(list(range(number)))]
    if not any(piece.startswith(_WORD_MARK) for piece in pieces):
        return None
    goes_on = torch.ones(vocab_size, dtype=torch.bool)
    goes_on[:number] = torch.tensor([_goes_on(piece) for piece in pieces])
    goes_on[[token for token in tokenizer.all_special_ids if token < vocab_size]] = True
    return goes_on


def _goes_on(piece: str) -> bool:
    if not piece or _BYTE.fullmatch(piece):
        return True
    is_letter = re.match(r"\w", piece) or unicodedata.category(piece[0]).startswith("M")  # or a mark on one
    return bool(is_letter) and not is_unspaced(piece[0])
