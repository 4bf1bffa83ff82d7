"""n-gram models as ARPA files."""

from __future__ import annotations

import codecs
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import count, islice
from typing import IO

import numpy as np
import pyarrow as pa
from pyarrow import csv

from .ngrams import BOS, MAX_ORDER, NGrams


# How many bytes may stand before a model.
_PREAMBLE = 100_000
# What says how many n-grams of an order there are.
_SIZE = re.compile(rb"ngram\s+(\d{1,12})\s*=\s*(\d{1,12})")
# Bytes that Arrow reads at a time; a line must be shorter.
_BLOCK = 2**24
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
    """Reads an ARPA file; of an n-gram some 200 bytes are held meanwhile.

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
    if not lines:
        return NGrams(np.empty((0, n), dtype=np.int64), np.empty(0), np.empty(0))
    try:  # Most files have one form.
        return _parse(b"\n".join(lines).replace(b"\t", b" "), n, not is_longest, ids)
    except (KeyError, ValueError):
        pass
    try:
        return _parse_any(lines, n, is_longest, ids)
    except (KeyError, ValueError) as error:
        while len(lines) > 1:
            middle = len(lines) // 2
            try:
                _parse_any(lines[:middle], n, is_longest, ids)
            except (KeyError, ValueError):
                lines = lines[:middle]
            else:
                lines, first_line = lines[middle:], first_line + middle
        backoff = "" if is_longest else " and perhaps a back-off weight"
        raise ValueError(
            f"line {first_line} must be a log-probability, at most 0, {n} of the words{backoff}, got "
            f"{_shown(lines[0])}"
        ) from error


def _parse_any(lines: Sequence[bytes], n: int, is_longest: bool, ids: Mapping[bytes, int]) -> NGrams:
    """Reads lines of n-grams, with any blanks, with or without a back-off weight; raises as `_parse` does."""
    fields = (line.split() for line in lines)
    # Where nothing follows, the back-off weight is left out.
    found = _parse(b"\n".join([b" ".join(row if len(row) != n + 1 else (*row, b"0")) for row in fields]), n, True, ids)
    if is_longest and found.backoffs.any():
        raise ValueError
    return found


def _parse(text: bytes, n: int, has_backoff: bool, ids: Mapping[bytes, int]) -> NGrams:
    """Reads lines of n-grams with one blank between any two fields.

    Raises:
        KeyError: if a word is unknown.
        ValueError: if they are something else.
    """
    if b"\r" in text or text.startswith(codecs.BOM_UTF8):  # Arrow ends a row there, or drops it.
        raise ValueError
    types = [pa.float64(), *[pa.dictionary(pa.int32(), pa.binary())] * n, *[pa.float64()] * has_backoff]
    names = [str(column) for column in range(len(types))]
    log_probs, *words = csv.read_csv(
        io.BytesIO(text),
        csv.ReadOptions(column_names=names, use_threads=False, block_size=_BLOCK),
        csv.ParseOptions(delimiter=" ", quote_char=False, ignore_empty_lines=False),
        csv.ConvertOptions(column_types=dict(zip(names, types, strict=True)), null_values=[]),
    ).columns
    numbers = np.array([log_probs, words.pop() if has_backoff else np.zeros(len(log_probs))])
    # An empty last line is no row. A NaN is in no range.
    is_whole = len(log_probs) == text.count(b"\n") + 1
    if not (is_whole and (np.abs(numbers) <= _LARGEST).all() and (numbers[0] <= 0).all()):
        raise ValueError
    if n == 1:
        b" ".join(words[0].to_pylist()).decode()
    found = np.empty((len(log_probs), n), dtype=np.int64)
    for column, kept in zip(words, found.T, strict=True):
        coded = column.combine_chunks()
        kept[:] = np.array([ids[word] for word in coded.dictionary.to_pylist()])[coded.indices]
    return NGrams(found, *numbers * math.log(10))


def _require_line(number: int, line: bytes, expected: str) -> None:
    if line != expected.encode():
        found = f"line {number} is {_shown(line)}" if number else "it ends"
        raise ValueError(f"a line `{expected}` is missing: {found}")


def _shown(line: bytes) -> str:
    return repr(line[:80].decode(errors="replace"))
