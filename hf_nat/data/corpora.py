"""One loader for parallel text in every form we meet; the result always has the `translation` feature."""

from __future__ import annotations

import glob
import gzip
import json
import re
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import zip_longest
from pathlib import Path
from typing import IO, Any, cast

import pyarrow.compute as pc
import pyarrow.parquet as pq
from datasets import (
    Dataset,
    Features,
    IterableDataset,
    Translation,
    get_dataset_config_names,
    get_dataset_split_names,
    load_dataset,
    load_dataset_builder,
)
from datasets.exceptions import DatasetGenerationError
from pyarrow import ArrowInvalid

from ..utils import sha256_file


_JSON_LINES = (".jsonl", ".jsonl.gz")
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


def load_corpus(
    corpus: str | Path | Sequence[str | Path],
    split: str = "train",
    *,
    source_lang: str,
    target_lang: str,
    config_name: str | None = None,
    revision: str | None = None,
    streaming: bool = False,
) -> Dataset | IterableDataset:
    """Loads a parallel corpus with rows `{"translation": {source_lang: ..., target_lang: ...}}`, other columns kept.

    Lines of text files end at `"\\n"` only; one `"\\r"` before it is removed. Every line is one sentence and none is
    left out, not even an empty one. Text and jsonl files are cached by their content.

    Args:
        corpus (`str`, `Path` or sequence of two of them): one of
            - a Hub dataset id, or a local folder in Hub layout;
            - a `.parquet`, `.jsonl` or `.jsonl.gz` file or glob, `{split}` in it standing for the split;
            - a pattern of text files (plain or `.gz`) with `{lang}` and, where the splits are separate files,
              `{split}`: `"multi30k/{split}.{lang}.gz"`;
            - two text files, `[source, target]` or `"source,target"`.
        split (`str`, *optional*, defaults to `"train"`): split to load. Files whose name does not tell the split
            (no `{split}`) serve for every split.
        source_lang (`str`): key of the source language.
        target_lang (`str`): key of the target language.
        config_name (`str`, *optional*): configuration of a Hub dataset or local folder, e.g. `"de-en"`; empty is none.
        revision (`str`, *optional*): revision of a Hub dataset.
        streaming (`bool`, *optional*, defaults to `False`): return an `IterableDataset` that reads as it goes; rows
            after the first are then checked as they are read.

    Returns:
        `Dataset` or `IterableDataset`: the split, with the feature `Translation([source_lang, target_lang])`.

    Raises:
        FileNotFoundError: if a file or folder is missing.
        ValueError: on an unknown split or language, an empty split, unequal line counts, invalid UTF-8, damaged
            files. The message names the file and the line (from 1) or the row (from 0).
    """
    languages = (source_lang, target_lang)
    if source_lang == target_lang:
        raise ValueError(f"`source_lang` and `target_lang` must differ, got {source_lang!r} for both.")
    if isinstance(corpus, str) and "," in corpus and not Path(corpus).exists():
        corpus = corpus.split(",")
    if not isinstance(corpus, str | Path):
        if len(corpus) != 2:
            raise ValueError(f"`corpus` must name two text files, [source, target], got {list(corpus)}.")
        return _load_text([str(path) for path in corpus], split, languages, streaming)
    pattern = str(corpus)
    if "{lang}" in pattern:
        return _load_text([pattern.replace("{lang}", lang) for lang in languages], split, languages, streaming)
    name = f"split {split!r} of `{pattern}`"
    try:
        if pattern.endswith((".parquet", *_JSON_LINES)):
            dataset = _load_files(pattern, split, languages, streaming)
        else:
            dataset = _load_repository(pattern, split, config_name or None, revision, streaming)
    except ValueError as error:
        # How `datasets` says that a split has no rows.
        raise _empty_split(name) if "corresponds to no data" in str(error) else error from None
    return _to_translation(dataset, languages, name)


def _load_text(
    patterns: list[str], split: str, languages: tuple[str, str], streaming: bool
) -> Dataset | IterableDataset:
    paths = [_require_file(pattern, split) for pattern in patterns]
    features = Features({"translation": Translation(languages=list(languages))})
    return _from_generator(_read_text, paths, languages, features, streaming)


def _load_files(pattern: str, split: str, languages: tuple[str, str], streaming: bool) -> Dataset | IterableDataset:
    files = sorted(glob.glob(pattern.replace("{split}", glob.escape(split)), recursive=True))
    if not files:
        _require_file(pattern, split)
    if pattern.endswith(_JSON_LINES):
        return _from_generator(_read_json_lines, [Path(file) for file in files], languages, None, streaming)
    _require_sound_parquet(files)
    return load_dataset("parquet", data_files=files, split="train", streaming=streaming)


def _load_repository(
    corpus: str, split: str, config_name: str | None, revision: str | None, streaming: bool
) -> Dataset | IterableDataset:
    if Path(corpus).is_file():
        raise ValueError(
            f"`corpus` must be a .parquet or .jsonl file where it is one file, got `{corpus}`. For parallel text give "
            "two files, or a pattern with {lang}."
        )
    if not Path(corpus).is_dir() and not _HUB_ID.fullmatch(corpus):
        raise FileNotFoundError(f"`corpus` must be a Hub id, a folder or files, but there is no `{corpus}`.")
    _require_sound_parquet(sorted(glob.glob(f"{glob.escape(corpus)}/**/*.parquet", recursive=True)))
    configs = get_dataset_config_names(corpus, revision=revision)
    if config_name is None and len(configs) > 1 and "default" not in configs:
        raise ValueError(f"`config_name` must be one of {sorted(configs)} for `{corpus}`, got None.")
    if config_name is not None and config_name not in configs:
        raise ValueError(f"`config_name` must be one of {sorted(configs)} for `{corpus}`, got {config_name!r}.")
    if Path(corpus).is_dir():
        # Loaded by its files, whose times enter the cache key. `load_dataset(folder)` knows a folder by the last part
        # of its path and serves the cache of another one, or of the same before it was rewritten.
        builder = load_dataset_builder(corpus, config_name)
        source, data_files = builder.name, {name: list(files) for name, files in builder.config.data_files.items()}
        splits: list[str] = list(data_files)
    else:
        source, data_files = corpus, None
        splits = get_dataset_split_names(corpus, config_name, revision=revision)
    # A split may also be a slice or a sum in the notation of `datasets`: "train[:1000]+validation".
    unknown = set(re.sub(r"\[[^]]*\]", "", split).split("+")) - set(splits)
    if unknown:
        raise _unknown_split(min(unknown), corpus, splits)
    return load_dataset(
        source,
        None if data_files else config_name,
        data_files=data_files,
        split=split,
        revision=revision,
        streaming=streaming,
    )


def _require_file(pattern: str, split: str) -> Path:
    """Returns the file that `pattern` names, or raises with the splits that it finds instead."""
    path = Path(pattern.replace("{split}", split))
    if path.is_file():
        return path
    if "{split}" in pattern:
        before, after = (re.escape(part).replace(r"\*", ".*") for part in pattern.split("{split}", 1))
        matches = (re.fullmatch(f"{before}(.+){after}", name) for name in glob.glob(pattern.replace("{split}", "*")))
        splits = {match.group(1) for match in matches if match}
        if splits:
            raise _unknown_split(split, pattern, splits)
    raise FileNotFoundError(f"`corpus` must name existing files, but there is no `{path}`.")


def _require_sound_parquet(files: list[str]) -> None:
    for file in files:
        try:
            pq.read_metadata(file)
        except ArrowInvalid as error:
            raise ValueError(f"`{file}` must be a parquet file, but it is damaged: {error}") from error


def _empty_split(name: str) -> ValueError:
    return ValueError(f"A split must hold at least one sentence, but there is none in {name}.")


def _unknown_split(split: str, corpus: str, splits: Sequence[str] | set[str]) -> ValueError:
    return ValueError(f"`split` must be one of {sorted(splits)} for `{corpus}`, got {split!r}.")


def _from_generator(
    generator: Callable[..., Iterator[dict[str, Any]]],
    paths: list[Path],
    languages: tuple[str, str],
    features: Features | None,
    streaming: bool,
) -> Dataset | IterableDataset:
    # Tuples: `datasets` takes every list here for a list of shards.
    kwargs: dict[str, Any] = {"paths": tuple(str(path.resolve()) for path in paths), "languages": languages}
    if streaming:
        return IterableDataset.from_generator(generator, features=features, gen_kwargs=kwargs)
    # The checksums only enter the cache key: an edited file is never served from the cache of its old content.
    kwargs["checksums"] = tuple(sha256_file(path) for path in paths)
    try:
        return Dataset.from_generator(generator, features=features, gen_kwargs=kwargs)
    except DatasetGenerationError as error:
        raise (error.__cause__ or error) from None


def _read_text(
    paths: tuple[str, ...], languages: tuple[str, str], checksums: tuple[str, ...] = ()
) -> Iterator[dict[str, Any]]:
    """Yields the rows of two parallel text files."""
    number = 0
    sides = [read_lines(path) for path in paths]
    for number, pair in enumerate(zip_longest(*sides), start=1):
        if None in pair:
            longer = 0 if pair[1] is None else 1
            counts = [number - 1, number - 1]
            counts[longer] = number + sum(1 for _ in sides[longer])
            raise ValueError(
                f"Parallel files must have equal line counts, got {counts[0]} lines in `{paths[0]}` and {counts[1]} "
                f"in `{paths[1]}`: line {number} of `{paths[longer]}` has no partner."
            )
        yield {"translation": dict(zip(languages, pair, strict=True))}
    if number == 0:
        raise _empty_split(f"`{paths[0]}` and `{paths[1]}`")


def _read_json_lines(
    paths: tuple[str, ...], languages: tuple[str, str], checksums: tuple[str, ...] = ()
) -> Iterator[dict[str, Any]]:
    """Yields the objects of jsonl files, `translation` cut down to `languages`."""
    empty = True
    for path in paths:
        for number, line in enumerate(read_lines(path), start=1):
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"`{path}` line {number} must be one JSON object: {error}.") from error
            if not isinstance(row, dict):
                raise ValueError(f"`{path}` line {number} must be one JSON object, got {line!r:.80}.")
            yield {**row, "translation": _require_text(row.get("translation"), languages, f"`{path}` line {number}")}
            empty = False
    if empty:
        raise _empty_split(", ".join(f"`{path}`" for path in paths))


def read_lines(path: str) -> Iterator[str]:
    """Yields the lines of a UTF-8 text file without their ends.

    Lines end at `"\\n"` only; one `"\\r"` before it and a byte order mark are removed.

    Args:
        path (`str`): a plain or `.gz` file; `"-"` is standard input.

    Raises:
        ValueError: if a line is not UTF-8 or the gzip file is damaged; file and line (from 1) are named.
    """
    number = 0
    try:
        with _open_bytes(path) as file:
            for number, line in enumerate(cast(Iterator[bytes], file), start=1):
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                yield text.removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"`{path}` line {number} must be UTF-8, got byte 0x{error.object[error.start]:02x} at column "
            f"{error.start + 1} ({error.reason}). Convert the file, for instance with iconv."
        ) from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"`{path}` is a damaged gzip file after line {number}: {error}") from error


def _open_bytes(path: str) -> AbstractContextManager[IO[bytes]]:
    if path == "-":
        return nullcontext(sys.stdin.buffer)
    return cast(IO[bytes], gzip.open(path, "rb")) if path.endswith(".gz") else open(path, "rb")


def _to_translation(
    dataset: Dataset | IterableDataset, languages: tuple[str, str], name: str
) -> Dataset | IterableDataset:
    """Checks the `translation` column of `dataset` and gives it the feature `Translation(languages)`."""
    first = next(iter(dataset), None)
    if first is None:
        raise _empty_split(name)
    if "translation" not in first:
        raise ValueError(f"A corpus must have a `translation` column, got {sorted(first)} in {name}.")
    _require_text(first["translation"], languages, f"{name}, row 0")
    feature = (dataset.features or {}).get("translation")
    if isinstance(dataset, Dataset) and isinstance(feature, Translation) and set(feature.languages) == set(languages):
        _require_no_null(dataset, languages, name)
        return dataset
    features = dataset.features and Features({**dataset.features, "translation": Translation(list(languages))})
    return dataset.map(
        _select_languages,
        batched=True,
        with_indices=True,
        input_columns=["translation"],
        features=features,
        fn_kwargs={"languages": languages, "name": name},
    )


def _require_no_null(dataset: Dataset, languages: tuple[str, str], name: str) -> None:
    """Raises on the first row of `dataset` where a sentence is null."""
    start = 0
    for table in dataset.select_columns("translation").with_format("arrow").iter(batch_size=10_000):
        for lang in languages:
            row = pc.index(pc.is_null(pc.struct_field(table["translation"], lang)), True).as_py()
            if row >= 0:
                _require_text(table["translation"][row].as_py(), languages, f"{name}, row {start + row}")
        start += table.num_rows


def _select_languages(
    translations: list[object], rows: list[int], languages: tuple[str, str], name: str
) -> dict[str, list[dict[str, str]]]:
    return {
        "translation": [
            _require_text(translation, languages, f"{name}, row {row}")
            for row, translation in zip(rows, translations, strict=True)
        ]
    }


def _require_text(translation: object, languages: tuple[str, str], where: str) -> dict[str, str]:
    """Returns the sentences of `languages` alone, or raises naming `where`."""
    if not isinstance(translation, dict):
        raise ValueError(f"`translation` must hold one sentence per language, got {translation!r:.80} in {where}.")
    for lang in languages:
        if lang not in translation:
            raise ValueError(f"`translation` must have the language {lang!r}, got {sorted(translation)} in {where}.")
        if not isinstance(translation[lang], str):
            raise ValueError(f"`translation` must be text in {lang!r}, got {translation[lang]!r:.80} in {where}.")
    return {lang: translation[lang] for lang in languages}
