"""n-gram models as ARPA files."""

from __future__ import annotations

import math
import re
from collections.abc import Container, Iterator, Sequence
from itertools import count, islice
from typing import IO

import numpy as np

from .ngrams import BOS, NGrams


# How many bytes may stand before a model.
_PREAMBLE = 100_000
# What says how many n-grams of an order there are.
_SIZE = re.compile(rb"ngram\s+(\d+)\s*=\s*(\d+)")


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
    """Reads an ARPA file, all of it in memory.

    Args:
        file (`IO[bytes]`): the file, in UTF-8.

    Returns:
        `tuple` of the vocabulary, in the order of the file, and the n-grams of each order, from 1 on.

    Raises:
        ValueError: if it is something else, or damaged; names the line.
    """
    text = file.read(_PREAMBLE)
    if b"\\data\\" in text:
        text += file.read()
    numbered = enumerate(map(bytes.strip, text.split(b"\n")), start=1)
    if not any(line == b"\\data\\" for _, line in numbered):
        raise ValueError(r"it has no line `\data\`")
    sizes: list[int] = []
    number, line = _next(numbered)
    while match := _SIZE.fullmatch(line):
        if int(match[1]) != len(sizes) + 1:
            raise ValueError(f"line {number} must be of the {len(sizes) + 1}-grams, got {_shown(line)}")
        sizes.append(int(match[2]))
        number, line = _next(numbered)
    ids: dict[bytes, int] = {}
    orders = []
    for n, size in enumerate(sizes, start=1):
        _require_line(number, line, f"\\{n}-grams:")
        grams = [line for _, line in islice(numbered, size)]
        if len(grams) < size:
            raise ValueError(f"it must have {size:,} {n}-grams, got {len(grams):,}")
        orders.append(_read_order(grams, n, ids, number + 1))
        number, line = _next(numbered)
    _require_line(number, line, "\\end\\")
    if not ids:
        raise ValueError("it must have a word, got none")
    return [word.decode() for word in ids], orders


def _next(numbered: Iterator[tuple[int, bytes]]) -> tuple[int, bytes]:
    """Returns the next line that is not empty, and its number; 0 for the end."""
    return next(((number, line) for number, line in numbered if line), (0, b""))


def _read_order(lines: Sequence[bytes], n: int, ids: dict[bytes, int], first_line: int) -> NGrams:
    """Reads n-grams; 1-grams give the words their ids."""
    lengths = [len(line.split()) for line in lines]
    # Where nothing follows, the back-off weight is left out.
    lines = [line + b" 0" if length == n + 1 else line for line, length in zip(lines, lengths, strict=True)]
    fields = b" ".join(lines).split()
    columns = [fields[column :: n + 2] for column in range(n + 2)]
    if n == 1:
        ids.update(zip(dict.fromkeys(columns[1]), count()))
    try:
        if not {*lengths} <= {n + 1, n + 2}:
            raise ValueError
        logs = np.array([list(map(float, columns[place])) for place in (0, -1)]) * math.log(10)
        words = np.array([list(map(ids.__getitem__, column)) for column in columns[1:-1]], dtype=np.int64)
        if not np.isfinite(logs).all():
            raise ValueError
    except (KeyError, ValueError):
        number = next(number for number, line in enumerate(lines) if not _is_gram(line.split(), n, ids))
        raise ValueError(
            f"line {first_line + number} must be a log-probability, {n} of the words and perhaps a back-off weight, "
            f"got {_shown(lines[number])}"
        ) from None
    return NGrams(words.T, logs[0], logs[1])


def _is_gram(fields: Sequence[bytes], n: int, ids: Container[bytes]) -> bool:
    """Tells whether the fields of a line are an n-gram."""
    try:
        numbers = [float(field) for field in (fields[0], fields[-1])]
    except (IndexError, ValueError):
        return False
    return len(fields) == n + 2 and all(map(math.isfinite, numbers)) and all(word in ids for word in fields[1:-1])


def _require_line(number: int, line: bytes, expected: str) -> None:
    if line != expected.encode():
        found = f"line {number} is {_shown(line)}" if number else "it ends"
        raise ValueError(f"a line `{expected}` is missing: {found}")


def _shown(line: bytes) -> str:
    return repr(line[:80].decode(errors="replace"))
