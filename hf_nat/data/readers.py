"""Rows out of text, jsonl, CSV and TSV files, for `Dataset.from_generator`."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from datasets import Dataset, Features, IterableDataset
from datasets.exceptions import DatasetGenerationError

from ..base.utils import sha256_file
from .columns import Languages, Pair, choose_pair, empty_split, row_features, take_translation
from .locations import JSON_LINES
from .several import pair_features
from .text_files import read_lines, regular_files


Read = Callable[..., Iterator[dict[str, Any]]]

# A field may be as long as a line, not only 128 KB.
csv.field_size_limit(2**24)


def load_sources(paths: Sequence[str], language: str, streaming: bool) -> Dataset | IterableDataset:
    """Makes the rows of text files, one after the other, of which each line is a source."""
    languages = (language,)
    return _from_generator(read_sources, paths, streaming, pair_features(*languages), languages=languages)


def load_text(paths: Sequence[str], languages: Languages, streaming: bool) -> Dataset | IterableDataset:
    """Makes the rows of two parallel text files."""
    return _from_generator(read_text, paths, streaming, pair_features(*languages), languages=languages)


def load_tables(
    paths: Sequence[str], languages: Languages, columns: Pair, streaming: bool
) -> Dataset | IterableDataset:
    """Makes the rows of jsonl, CSV and TSV files.

    Columns other than the sentences come along where one type holds all of their values.
    """
    options: dict[str, Any] = {"languages": languages, "columns": columns}
    if streaming:
        return _from_generator(read_table, paths, True, None, **options)
    try:
        return _from_generator(read_table, paths, False, None, **options, uniform=True)
    except _MixedColumnsError:
        rows = read_table(*_places(paths), **options)
        others = row_features({name: row[name] for name in row if name != "translation"} for row in rows)
        features = Features({**others, **pair_features(*languages)})
        return _from_generator(read_table, paths, False, features, **options, keep=tuple(features))


class _MixedColumnsError(Exception):
    """Rows do not fit the columns and types that the first ones have."""


def _places(paths: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns the files to read, and what to call them."""
    # Tuples: `datasets` takes every list that a generator is given for a list of shards.
    return tuple(regular_files(paths)), tuple(map(os.path.abspath, paths))


def _from_generator(
    generator: Read, paths: Sequence[str], streaming: bool, features: Features | None, **options: Any
) -> Dataset | IterableDataset:
    files, names = _places(paths)
    kwargs: dict[str, Any] = {"paths": files, "names": names, **options}
    if streaming:
        return IterableDataset.from_generator(generator, features=features, gen_kwargs=kwargs)
    # The checksums only enter the cache key: an edited file is never served from the cache of its old content.
    kwargs["checksums"] = tuple(sha256_file(file) for file in files)
    try:
        return Dataset.from_generator(generator, features=features, gen_kwargs=kwargs)
    except DatasetGenerationError as error:
        cause = error.__cause__ or error
        # Arrow's errors on values are ValueError or TypeError of their own kinds, ours are plain.
        if features is None and type(cause) is not ValueError and not isinstance(cause, OSError):
            raise _MixedColumnsError from cause
        raise cause from None


def read_sources(
    paths: tuple[str, ...], names: tuple[str, ...], languages: Languages, checksums: tuple[str, ...] = ()
) -> Iterator[dict[str, Any]]:
    """Yields the lines of text files, which errors call `names`, as rows of one language."""
    is_empty = True
    for path, name in zip(paths, names, strict=True):
        for line in read_lines(path, name):
            is_empty = False
            yield {"translation": {languages[0]: line}}
    if is_empty:
        raise empty_split(", ".join(f"`{name}`" for name in names))


def read_text(
    paths: tuple[str, ...], names: tuple[str, ...], languages: Languages, checksums: tuple[str, ...] = ()
) -> Iterator[dict[str, Any]]:
    """Yields the rows of two parallel text files, which errors call `names`."""
    number = 0
    sides = [read_lines(*place) for place in zip(paths, names, strict=True)]
    for number, pair in enumerate(zip_longest(*sides), start=1):
        if None in pair:
            longer = 0 if pair[1] is None else 1
            counts = [number - 1, number - 1]
            counts[longer] = number + sum(1 for _ in sides[longer])
            raise ValueError(
                f"Parallel files must have equal line counts, got {counts[0]} lines in `{names[0]}` and {counts[1]} "
                f"in `{names[1]}`: line {number} of `{names[longer]}` has no partner."
            )
        yield {"translation": dict(zip(languages, pair, strict=True))}
    if number == 0:
        raise empty_split(f"`{names[0]}` and `{names[1]}`")


def read_table(
    paths: tuple[str, ...],
    names: tuple[str, ...],
    languages: Languages,
    columns: Pair,
    uniform: bool = False,
    keep: tuple[str, ...] | None = None,
    checksums: tuple[str, ...] = (),
) -> Iterator[dict[str, Any]]:
    """Yields the rows of jsonl, CSV and TSV files, with a checked `translation`.

    Args:
        paths (`tuple[str, ...]`): the files.
        names (`tuple[str, ...]`): what errors call them; the suffix tells the form.
        languages (`tuple[str, str]`): keys of source and target language.
        columns (`tuple[str, str]`, *optional*): columns of the sentences, see `choose_pair`.
        uniform (`bool`, *optional*): raise `_MixedColumnsError` where a row has other columns than the first.
        keep (`tuple[str, ...]`, *optional*): columns that every row gets, and no others.
        checksums (`tuple[str, ...]`, *optional*): not used here.
    """
    first: dict[str, Any] | None = None
    pair: Pair = None
    for path, name in zip(paths, names, strict=True):
        for number, row in (_json_rows if name.endswith(JSON_LINES) else _csv_rows)(path, name):
            where = f"`{name}` line {number}"
            if first is None:
                pair = choose_pair(row, languages, columns, where)
            taken = take_translation(row, pair, languages, where)
            first = first or taken
            if uniform and taken.keys() != first.keys():
                raise _MixedColumnsError
            yield taken if keep is None else {column: taken.get(column) for column in keep}
    if first is None:
        raise empty_split(", ".join(f"`{name}`" for name in names))


def _json_rows(path: str, name: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yields the objects of a jsonl file with their lines, from 1; blank lines are no rows."""
    for number, line in enumerate(read_lines(path, name), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"`{name}` line {number} must be one JSON object: {error}.") from error
        if not isinstance(row, dict):
            raise ValueError(f"`{name}` line {number} must be one JSON object, got {line!r:.80}.")
        yield number, row


def _csv_rows(path: str, name: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yields the rows of a CSV or TSV file by the names in its first line, with the line at which each ends."""
    dialect = "excel" if name.removesuffix(".gz").endswith(".csv") else "excel-tab"
    # `read_lines` takes the ends away, which a quoted field may hold.
    rows = csv.reader((f"{line}\n" for line in read_lines(path, name)), dialect, strict=True)
    try:
        header = next(rows, [])
        if len(set(header)) < len(header):
            raise ValueError(f"`{name}` line 1 must name each column once, got {header}.")
        for fields in filter(None, rows):  # Blank lines are no rows, as `csv.DictReader` has it.
            if len(fields) != len(header):
                raise ValueError(
                    f"`{name}` line {rows.line_num} must have {len(header)} fields as the first line has, got "
                    f"{len(fields)}. A field with the delimiter in it must be in quotes."
                )
            yield rows.line_num, dict(zip(header, fields, strict=True))
    except csv.Error as error:
        raise ValueError(
            f"`{name}` line {rows.line_num} must be quoted as the csv module has it: {error}. Write a quote inside a "
            "quoted field twice."
        ) from error
