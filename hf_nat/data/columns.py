"""The columns of a corpus: which of them make the pairs, and what of the others can come along."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from itertools import islice
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from datasets import Dataset, Features, IterableDataset, Translation
from transformers.utils import logging

from ..base.bounds import require_choice


logger = logging.get_logger(__name__)

# The columns of source and target sentences, or of sources alone, that someone named, or none.
Pair = tuple[str, ...] | None
# Key of the source and of the target language; where sources are read alone, of the source.
Languages = tuple[str, ...]
_DEFAULT_COLUMNS: dict[int, list[tuple[str, ...]]] = {
    2: [("source", "target")],
    1: [("source",), ("text",), ("sentence",)],
}
_BATCH_SIZE = 10_000


def choose_pair(names: Collection[str], languages: Languages, columns: Pair, where: str) -> Pair:
    """Returns the columns that source and target sentences come from, `None` where `translation` holds both.

    Args:
        names (`Collection[str]`): the columns there are.
        languages (`tuple[str, ...]`): keys of source and target language, or of the source alone.
        columns (`tuple[str, ...]`, *optional*): the columns asked for. By default `translation`, else those with the
            names of the languages, else `source` and `target`; for the source alone `text` and `sentence` too.
        where (`str`): what has the columns, for the message.

    Raises:
        ValueError: if there are no such columns; those that there are, are listed.
    """
    if columns is not None:
        for option, name in zip(("source_column", "target_column"), columns, strict=False):
            require_choice(option, name, sorted(names), where=f"in {where}")
        return columns
    if "translation" in names:
        return None
    for pair in (languages, *_DEFAULT_COLUMNS[len(languages)]):
        if set(pair) <= set(names):
            return pair
    options = "the column with the sentences as `source_column`"
    if len(languages) == 2:
        options = "the two columns with the sentences as `source_column` and `target_column`"
    named = " and ".join(f"`{language}`" for language in languages)
    raise ValueError(
        f"A corpus must have a `translation` column, or {named}, got {sorted(names)} in {where}. Or give {options}."
    )


def to_translation(
    dataset: Dataset | IterableDataset, languages: Languages, columns: Pair, name: str
) -> Dataset | IterableDataset:
    """Gives `dataset` the column `translation` with the feature `Translation(languages)`, each sentence checked.

    Args:
        dataset (`Dataset` or `IterableDataset`): rows with a `translation`, or with two columns of text.
        languages (`tuple[str, ...]`): see `choose_pair`.
        columns (`tuple[str, ...]`, *optional*): see `choose_pair`.
        name (`str`): what the rows are, for messages.

    Raises:
        ValueError: if there is no row, no such column, or a sentence is missing, is no text, or lacks a language.
    """
    first = next(iter(dataset), None)
    if first is None:
        raise empty_split(name)
    names = dataset.column_names or list(first)
    pair = choose_pair(names, languages, columns, name)
    require_text(_translation(first, pair, languages), languages, f"{name}, row 0")
    feature = (dataset.features or {}).get("translation")
    has_feature = pair is None and isinstance(feature, Translation) and set(feature.languages) == set(languages)
    if has_feature and isinstance(dataset, Dataset):
        _require_no_null(dataset, languages, name)
        return dataset
    used = ["translation"] if pair is None else [*pair, *({"translation"} & set(names))]
    kept = {column: feature for column, feature in (dataset.features or {}).items() if column not in used}
    return dataset.map(
        _select_languages,
        batched=True,
        with_indices=True,
        input_columns=list(pair or ["translation"]),
        remove_columns=list(dict.fromkeys(used)),
        features=dataset.features and Features({**kept, "translation": Translation(list(languages))}),
        fn_kwargs={"languages": languages, "name": name, "are_columns": pair is not None},
    )


def _translation(row: Mapping[str, Any], pair: Pair, languages: Languages) -> Any:
    """Returns what a row has for the two languages, unchecked."""
    if pair is None:
        return row.get("translation")
    return {lang: row.get(column) for lang, column in zip(languages, pair, strict=True)}


def take_translation(row: Mapping[str, Any], pair: Pair, languages: Languages, where: str) -> dict[str, Any]:
    """Returns the row with a checked `translation` in place of what it was made of."""
    used = {"translation", *(pair or ())}
    others = {name: value for name, value in row.items() if name not in used}
    return {**others, "translation": require_text(_translation(row, pair, languages), languages, where)}


def _select_languages(
    *batch: Any, languages: Languages, name: str, are_columns: bool
) -> dict[str, list[dict[str, str]]]:
    """Makes the translations of a batch: its one or two columns, then the numbers of its rows."""
    *columns, rows = batch
    values = columns[0]
    if are_columns:
        values = [dict(zip(languages, pair, strict=True)) for pair in zip(*columns, strict=True)]
    return {
        "translation": [
            require_text(value, languages, f"{name}, row {row}") for row, value in zip(rows, values, strict=True)
        ]
    }


def _require_no_null(dataset: Dataset, languages: Languages, name: str) -> None:
    """Raises on the first row of `dataset` where a sentence is null."""
    start = 0
    for table in dataset.select_columns("translation").with_format("arrow").iter(batch_size=_BATCH_SIZE):
        for lang in languages:
            row = pc.index(pc.is_null(pc.struct_field(table["translation"], lang)), True).as_py()
            if row >= 0:
                require_text(table["translation"][row].as_py(), languages, f"{name}, row {start + row}")
        start += table.num_rows


def require_text(translation: object, languages: Languages, where: str) -> dict[str, str]:
    """Returns the sentences of `languages` alone, or raises naming `where`."""
    if not isinstance(translation, Mapping):
        raise ValueError(f"`translation` must hold one sentence per language, got {translation!r:.80} in {where}.")
    for lang in languages:
        if lang not in translation:
            raise ValueError(f"`translation` must have the language {lang!r}, got {sorted(translation)} in {where}.")
        text = translation[lang]
        if not isinstance(text, str):
            raise ValueError(f"`translation` must be text in {lang!r}, got {text!r:.80} in {where}.")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"`translation` must be Unicode text in {lang!r}, got half a surrogate pair, "
                f"\\u{ord(text[error.start]):04x}, in {where}."
            ) from None
    return {lang: translation[lang] for lang in languages}


def empty_split(name: str) -> ValueError:
    """Makes the error of a split without rows."""
    return ValueError(f"A split must hold at least one sentence, but there is none in {name}.")


def row_features(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Finds a feature for each column of `rows` that has one for all of them; a note tells which columns have none."""
    types: dict[str, pa.DataType | None] = {}
    remaining = iter(rows)
    while batch := list(islice(remaining, _BATCH_SIZE)):
        for name in dict.fromkeys(key for row in batch for key in row):
            values = [row.get(name) for row in batch]
            if types.setdefault(name, pa.null()) is not None:
                types[name] = _common_type([types[name], _type_of(values)])
    return _features(types)


def _type_of(values: Sequence[Any]) -> pa.DataType | None:
    try:
        return pa.array(values).type
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return None


def _common_type(types: Iterable[pa.DataType | None]) -> pa.DataType | None:
    """Returns the type that can hold all, `None` if there is none."""
    types = list(types)
    if None in types:
        return None
    try:
        schemas = [pa.schema([("column", kind)]) for kind in types]
        return pa.unify_schemas(schemas, promote_options="permissive").field("column").type
    except pa.ArrowException:
        return None


def _features(types: Mapping[str, pa.DataType | None], metadata: dict[bytes, bytes] | None = None) -> dict[str, Any]:
    """Returns the features of the columns that `datasets` has one for, and notes the others."""
    features: dict[str, Any] = {}
    for name, kind in types.items():
        try:
            if kind is None:
                raise ValueError("its values have no common type")
            features |= Features.from_arrow_schema(pa.schema([(name, kind)], metadata=metadata))
        except (ValueError, NotImplementedError) as error:
            logger.warning(f"The column `{name}` of the corpus is left out: {error}.")
    return features


def parquet_columns(files: Sequence[str]) -> dict[str, Any]:
    """Returns the options `columns` and `features` of `load_dataset` by which parquet files of one corpus load.

    None are needed where all files have the same columns. Else those come along that all files have, in types that
    one can hold; the others are left out with a note.

    Raises:
        ValueError: if a file is damaged, or `translation` differs too much.
    """
    with ThreadPoolExecutor() as pool:
        schemas = list(pool.map(read_schema, files))
    if not schemas:
        return {}
    first, everywhere = schemas[0], set.intersection(*(set(schema.names) for schema in schemas))
    types = {
        name: _common_type({schema.field(name).type for schema in schemas}) if name in everywhere else None
        for name in dict.fromkeys(name for schema in schemas for name in schema.names)
    }
    features = _features(types, first.metadata)
    if len(features) == len(types) and all(schema.equals(first) for schema in schemas):
        return {}
    if "translation" in types and "translation" not in features:
        raise ValueError(f"`translation` must be of one type in all files of a corpus, got {len(files)} that differ.")
    return {"columns": list(features), "features": Features(features)}


def read_schema(file: str) -> pa.Schema:
    """Returns the schema of a parquet file, here or behind a URL; raises ValueError if it is damaged."""
    try:
        with fsspec.open(file) if "://" in file else nullcontext(file) as source:
            schema = pq.read_schema(source)
    except pa.ArrowInvalid as error:
        raise ValueError(f"`{file}` must be a parquet file, but it is damaged: {error}") from error
    if len(set(schema.names)) < len(schema.names):
        twice = next(name for name in schema.names if schema.names.count(name) > 1)
        raise ValueError(f"`{file}` must have columns of different names, got {twice!r} twice. Rename one.")
    return schema
