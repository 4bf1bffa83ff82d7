"""n-gram models as ARPA files."""

from __future__ import annotations

import codecs
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, count, islice
from typing import IO

import numpy as np

from .ngrams import BOS, MAX_ORDER, NGrams


# How many bytes may stand before a model.
_PREAMBLE = 100_000
# What says how many n-grams of an order there are.
_SIZE = re.compile(rb"ngram\s+(\d{1,12})\s*=\s*(\d{1,12})")
# Largest number of a file, to base 10: KenLM writes -100 for what has no probability.
_LARGEST = 1000.0


def arpa_lines(vocabulary: Sequence[str], orders: Sequence[NGrams]) -> Iterator[str]:
    """Yields the lines of an ARPA file.

    Args:
        vocabulary (`Sequence[str]`): the words by id.
        orders (`Sequence[NGrams]`): the n-grams of each order, see [`estimate`].
    """
    yield "\\data\\"
    yield from (f"ngram {n}={len(grams.words)}" for n, grams in enumerate(orders, start=1))
    for n, grams in enumerate(orders, start=1):
        yield f"\n\\{n}-grams:"
        logs = ((values / math.log(10)).tolist() for values in (grams.log_probs, grams.backoffs))
        for words, log_prob, backoff in zip(grams.words.tolist(), *logs, strict=True):
            text = " ".join([vocabulary[word] for word in words])
            yield f"{0.0 if text == BOS else log_prob:.7g}\t{text}" + (f"\t{backoff:.7g}" if n < len(orders) else "")
    yield "\n\\end\\"


def read_arpa(file: IO[bytes]) -> tuple[list[str], list[NGrams]]:
    """Reads an ARPA file; of an n-gram some 400 bytes are held meanwhile.

    Args:
        file (`IO[bytes]`): the file, in UTF-8.

    Returns:
        `tuple` of the vocabulary, in the order of the file, and the n-grams of each order, from 1 on.

    Raises:
        ValueError: if it is something else, or damaged; names the line.
    """
    if b"\\data\\" not in file.read(_PREAMBLE):
        raise ValueError(r"it has no line `\data\`")
    file.seek(0)
    numbered = enumerate((line.strip() for line in file), start=1)
    if not any(line.removeprefix(codecs.BOM_UTF8) == b"\\data\\" for _, line in numbered):
        raise ValueError(r"it has no line `\data\`")
    sizes: list[int] = []
    number, line = _next(numbered)
    while match := _SIZE.fullmatch(line):
        if int(match[1]) != len(sizes) + 1 or len(sizes) == MAX_ORDER:
            raise ValueError(
                f"line {number} must be of the {len(sizes) + 1}-grams, up to {MAX_ORDER}, got {_shown(line)}"
            )
        sizes.append(int(match[2]))
        number, line = _next(numbered)
    ids: dict[bytes, int] = {}
    orders = []
    for n, size in enumerate(sizes, start=1):
        _require_line(number, line, f"\\{n}-grams:")
        lines = [line for _, line in islice(numbered, size)]
        if len(lines) < size:
            raise ValueError(f"it must have {size:,} {n}-grams, got {len(lines):,}")
        if n == 1:
            ids.update(zip(dict.fromkeys(line.split()[1] for line in lines if len(line.split()) > 1), count()))
        orders.append(_read_order(lines, n, n == len(sizes), ids, number + 1))
        number, line = _next(numbered)
    _require_line(number, line, "\\end\\")
    if not ids:
        raise ValueError("it must have a word, got none")
    return [word.decode() for word in ids], orders


def _next(numbered: Iterator[tuple[int, bytes]]) -> tuple[int, bytes]:
    """Returns the next line that is not empty, and its number; 0 for the end."""
    return next(((number, line) for number, line in numbered if line), (0, b""))


def _read_order(lines: Sequence[bytes], n: int, is_longest: bool, ids: Mapping[bytes, int], first_line: int) -> NGrams:
    """Reads the lines of all n-grams of an order; if it cannot, finds the one that is damaged."""
    try:
        return _parse(lines, n, is_longest, ids)
    except (KeyError, ValueError) as error:
        while len(lines) > 1:
            middle = len(lines) // 2
            try:
                _parse(lines[:middle], n, is_longest, ids)
            except (KeyError, ValueError):
                lines = lines[:middle]
            else:
                lines, first_line = lines[middle:], first_line + middle
        backoff = "" if is_longest else " and perhaps a back-off weight"
        raise ValueError(
            f"line {first_line} must be a log-probability, at most 0, {n} of the words{backoff}, got "
            f"{_shown(lines[0])}"
        ) from error


def _parse(lines: Sequence[bytes], n: int, is_longest: bool, ids: Mapping[bytes, int]) -> NGrams:
    """Reads the lines of n-grams.

    Raises:
        KeyError: if a word is unknown.
        ValueError: if they are something else.
    """
    lengths = [len(line.split()) for line in lines]
    if not {*lengths} <= {n + 1, n + 2}:
        raise ValueError
    # Where nothing follows, the back-off weight is left out.
    whole = [line + b" 0" if length == n + 1 else line for line, length in zip(lines, lengths, strict=True)]
    fields = b" ".join(whole).split()
    log_probs, *words, backoffs = [fields[column :: n + 2] for column in range(n + 2)]
    if any(b"_" in number for number in chain(log_probs, backoffs)):  # Python's way to write 1_000
        raise ValueError
    numbers = np.array([list(map(float, column)) for column in (log_probs, backoffs)])
    # A NaN is in no range.
    in_range = (np.abs(numbers) <= _LARGEST).all() and (numbers[0] <= 0).all()
    if not in_range or (is_longest and numbers[1].any()):
        raise ValueError
    if n == 1:
        b" ".join(words[0]).decode()
    found = np.array([list(map(ids.__getitem__, column)) for column in words], dtype=np.int64)
    return NGrams(found.T, *numbers * math.log(10))


def _require_line(number: int, line: bytes, expected: str) -> None:
    if line != expected.encode():
        found = f"line {number} is {_shown(line)}" if number else "it ends"
        raise ValueError(f"a line `{expected}` is missing: {found}")


def _shown(line: bytes) -> str:
    return repr(line[:80].decode(errors="replace"))
