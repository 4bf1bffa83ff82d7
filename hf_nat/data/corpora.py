"""One loader for parallel text in every form we meet; the result always has the `translation` feature."""

from __future__ import annotations

import glob
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import (
    Dataset,
    DatasetBuilder,
    DownloadManager,
    IterableDataset,
    get_dataset_config_names,
    get_dataset_split_names,
    load_dataset,
    load_dataset_builder,
)
from datasets.exceptions import DatasetGenerationError
from transformers.utils import logging

from ..base.bounds import require_choice
from ..base.folders import DEEPEST
from ..base.languages import require_two_languages
from .columns import Languages, Pair, empty_split, parquet_columns, read_schema, to_translation
from .locations import (
    TEXT_TABLES,
    find_file,
    find_files,
    is_table,
    local_or_hub,
    source_files,
    text_patterns,
    unknown_split,
)
from .readers import load_sources, load_tables, load_text
from .text_files import regular_files, scratch_folder


logger = logging.get_logger(__name__)


def load_corpus(
    corpus: str | Path | Sequence[str | Path],
    split: str = "train",
    *,
    source_lang: str,
    target_lang: str | None,
    config_name: str | None = None,
    revision: str | None = None,
    streaming: bool = False,
    source_column: str | None = None,
    target_column: str | None = None,
) -> Dataset | IterableDataset:
    """Loads a parallel corpus with rows `{"translation": {source_lang: ..., target_lang: ...}}`.

    Other columns come along as far as all files have them in types that one can hold. Lines of text files end at
    `"\\n"` only; one `"\\r"` before it is removed. Every line is one sentence and none is left out, not even an empty
    one. Text, jsonl, CSV and TSV files are cached by their content; pipes are read once.

    Args:
        corpus (`str`, `Path` or sequence of two of them): one of
            - a Hub dataset id, or a local folder in Hub layout;
            - a `.parquet`, `.jsonl`, `.csv` or `.tsv` file or glob, the last three also with `.gz`, `{split}` in it
              standing for the split; CSV and TSV have the names of the columns in their first line and quotes as the
              csv module has it;
            - a pattern of text files (plain or `.gz`) with `{lang}` and, where the splits are separate files,
              `{split}`: `"multi30k/{split}.{lang}.gz"`;
            - two text files, `[source, target]` or `"source,target"`.
            What exists is taken as it is, whatever its name; only other names are patterns or lists. Sources alone may
            also be one text file, or a glob of several.
        split (`str`, *optional*, defaults to `"train"`): split to load. Files whose name does not tell the split
            (no `{split}`) serve for every split.
        source_lang (`str`): key of the source language.
        target_lang (`str`, *optional*): key of the target language; `None` reads the sources alone.
        config_name (`str`, *optional*): configuration of a Hub dataset or local folder, e.g. `"de-en"`; empty is none.
        revision (`str`, *optional*): revision of a Hub dataset.
        streaming (`bool`, *optional*, defaults to `False`): return an `IterableDataset` that reads as it goes; rows
            after the first are then checked as they are read.
        source_column (`str`, *optional*): column of the source sentences, by default the `translation`, else the
            columns named as the languages, else `source` and `target`; of sources alone `text` and `sentence` too.
        target_column (`str`, *optional*): column of the target sentences, with `source_column`.

    Returns:
        `Dataset` or `IterableDataset`: the split, with the feature `Translation([source_lang, target_lang])`, or
        with that of one language for sources alone.

    Raises:
        FileNotFoundError: if a file or folder is missing; a name that looks like a path is not asked of the Hub.
        OSError: if the Hub does not give a dataset.
        ValueError: on an unknown split, language or column, an empty split, unequal line counts, invalid UTF-8,
            damaged files. The message names the file and the line (from 1) or the row (from 0).
    """
    require_two_languages(source_lang, target_lang)
    if target_lang is None:
        return _load_sources(str(corpus), split, source_lang, source_column, config_name or None, revision, streaming)
    languages = (source_lang, target_lang)
    columns = _named_columns(source_column, target_column)
    if texts := text_patterns(corpus, split, languages):
        _refuse_of_repositories(texts, config_name, revision)
        if columns is not None:
            raise ValueError(f"`source_column` must be left out for text files, which have no columns, got {texts}.")
        return load_text([find_file(text, split) for text in texts], languages, streaming)
    return _load_rows(_Wanted(str(corpus), split, languages, columns, streaming), config_name or None, revision)


def _load_sources(
    source: str,
    split: str,
    language: str,
    column: str | None,
    config_name: str | None,
    revision: str | None,
    streaming: bool,
) -> Dataset | IterableDataset:
    """Loads sources alone; see `load_corpus`."""
    files = source_files(source, split, language)
    if files is None:
        columns = None if column is None else (column,)
        return _load_rows(_Wanted(source, split, (language,), columns, streaming), config_name, revision)
    _refuse_of_repositories(files, config_name, revision)
    if column is not None:
        raise ValueError(f"`source_column` must be left out for text files, which have no columns, got {files}.")
    return load_sources(files, language, streaming)


def _load_rows(wanted: _Wanted, config_name: str | None, revision: str | None) -> Dataset | IterableDataset:
    """Loads rows that have columns."""
    try:
        if is_table(wanted.corpus) and not os.path.isdir(wanted.corpus):
            _refuse_of_repositories(wanted.corpus, config_name, revision)
            return _load_files(find_files(wanted.corpus, wanted.split), wanted)
        return _load_repository(wanted, config_name, revision)
    except DatasetGenerationError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno is not None:
            raise error.__cause__ from None  # The cache cannot be written: no fault of the rows.
        reason = " ".join(str(error.__cause__ or error).split())
        raise ValueError(f"Rows must have columns of one type in {wanted.name}: {reason:.300}") from error
    except ValueError as error:
        # How `datasets` says that a split has no rows.
        raise empty_split(wanted.name) if "corresponds to no data" in str(error) else error from None


def _refuse_of_repositories(corpus: str | list[str], config_name: str | None, revision: str | None) -> None:
    """Raises for what plain files, or what is here, cannot have."""
    if config_name:
        raise ValueError(
            f"`config_name` must be left out for plain files, got {config_name!r} for {corpus!r}. Only a folder or a "
            "dataset on the Hub has configurations."
        )
    if revision is not None:
        raise ValueError(
            f"A revision must be left out for a corpus that is here, got {revision!r} for {corpus!r}. It is a branch, "
            "tag or commit on the Hub."
        )


@dataclass(frozen=True)
class _Wanted:
    """What is asked of a corpus with columns."""

    corpus: str
    split: str
    languages: Languages
    columns: Pair
    streaming: bool

    @property
    def name(self) -> str:
        """The rows, in messages."""
        return f"split {self.split!r} of `{self.corpus}`"

    def checked(self, dataset: Dataset | IterableDataset) -> Dataset | IterableDataset:
        """Gives rows that `datasets` read their `translation`."""
        return to_translation(dataset, self.languages, self.columns, self.name)

    def tables(self, files: Sequence[str]) -> Dataset | IterableDataset:
        """Reads text files with columns."""
        dataset = load_tables(files, self.languages, self.columns, self.streaming)
        return to_translation(dataset, self.languages, None, self.name)


def _named_columns(source_column: str | None, target_column: str | None) -> Pair:
    if source_column is None and target_column is None:
        return None
    if source_column is None or target_column is None or source_column == target_column:
        raise ValueError(
            "`source_column` and `target_column` must be given together and differ, got "
            f"{source_column!r} and {target_column!r}."
        )
    return source_column, target_column


def _load_files(files: list[str], wanted: _Wanted) -> Dataset | IterableDataset:
    if not files[0].endswith(".parquet"):
        return wanted.tables(files)
    files = regular_files(files)
    options = {"streaming": wanted.streaming, **parquet_columns(files)}
    return wanted.checked(
        load_dataset("parquet", data_files=[glob.escape(file) for file in files], split="train", **options)
    )


def _load_repository(wanted: _Wanted, config_name: str | None, revision: str | None) -> Dataset | IterableDataset:
    corpus = wanted.corpus
    if os.path.exists(corpus) and not os.path.isdir(corpus):
        raise ValueError(
            f"`corpus` must be a .parquet, .jsonl, .csv or .tsv file where it is one file, got `{corpus}`. For "
            "parallel text give two files, or a pattern with {lang}."
        )
    for file in _files_below(corpus):
        if file.endswith(".parquet"):
            read_schema(file)
    with local_or_hub(corpus, "corpus"):
        folder = _without_brackets(corpus)
        with _naming_card(corpus):
            configs = get_dataset_config_names(folder, revision=revision)
        if config_name is not None or (len(configs) > 1 and "default" not in configs):
            require_choice("config_name", config_name, sorted(configs), where=f"for `{corpus}`")
        if os.path.isdir(folder):
            _refuse_of_repositories(corpus, None, revision)
            # Loaded by its files, whose times enter the cache key. `load_dataset(folder)` knows a folder by the last
            # part of its path and serves the cache of another one, or of the same before it was rewritten.
            with _naming_card(corpus):
                builder = load_dataset_builder(folder, config_name)
            return _load_parts(builder, wanted)
        _require_split(wanted, get_dataset_split_names(corpus, config_name, revision=revision))
        return _load_from_hub(wanted, config_name, revision)


def folder_files(folder: str, split: str, config_name: str | None = None) -> list[str]:
    """Returns the files of a folder in Hub layout that a split is read from, in the order of their names.

    Raises:
        ValueError: if the card cannot be read, or the folder has no such split.
    """
    with _naming_card(folder):
        found = load_dataset_builder(_without_brackets(folder), config_name).config.data_files
    splits = _split_names(split)
    if unknown := splits - set(found):
        raise unknown_split(min(unknown), folder, list(found))
    return sorted(file for name in splits for file in found[name])


@contextmanager
def _naming_card(corpus: str) -> Iterator[None]:
    """Guards the lines in which `datasets` reads a card: it checks little of it, and fails anywhere."""
    try:
        yield
    except (OSError, ValueError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"`corpus` cannot be read from `{corpus}`: {type(error).__name__}: {reason:.200}") from error


def _load_from_hub(wanted: _Wanted, config_name: str | None, revision: str | None) -> Dataset | IterableDataset:
    builder = load_dataset_builder(wanted.corpus, config_name, revision=revision)
    if wanted.streaming and builder.name in ("json", "parquet"):
        return _load_parts(builder, wanted)
    options: dict[str, Any] = {"split": wanted.split, "revision": revision, "streaming": wanted.streaming}
    try:
        return wanted.checked(load_dataset(wanted.corpus, config_name, **options))
    except DatasetGenerationError:
        logger.info(f"The files of {wanted.name} differ in columns or types: each is looked at.")
        return _load_parts(builder, wanted)


def _load_parts(builder: DatasetBuilder, wanted: _Wanted) -> Dataset | IterableDataset:
    """Loads a split by its files, which may differ in what they hold beside the sentences.

    Those of the Hub are downloaded; parquet files of a stream are only asked for their columns.
    """
    all_files: dict[str, list[str]] = {name: list(files) for name, files in builder.config.data_files.items()}
    _require_split(wanted, list(all_files))
    # Other splits may well have other columns.
    data_files = {name: all_files[name] for name in sorted(_split_names(wanted.split))}
    files = [file for part in data_files.values() for file in part]
    is_text = list(data_files) == [wanted.split] and all(file.endswith(TEXT_TABLES) for file in files)
    if any("://" in file for file in files) and (is_text or not wanted.streaming):
        data_files = {name: DownloadManager().download(part) for name, part in data_files.items()}
        files = [file for part in data_files.values() for file in part]
    if is_text:
        return wanted.tables(files)
    options = parquet_columns(files) if builder.name == "parquet" else {}
    escaped = {name: [glob.escape(file) for file in part] for name, part in data_files.items()}
    return wanted.checked(
        load_dataset(builder.name, data_files=escaped, split=wanted.split, streaming=wanted.streaming, **options)
    )


def _files_below(folder: str) -> list[str]:
    """Lists the files of a folder, none where there is no such.

    Raises:
        PermissionError: if a part may not be read, which `datasets` would pass over as if it were not there.
        ValueError: if a file is none, or folders lie too deep in each other.
    """

    def stop(error: OSError) -> None:
        raise error

    files: list[str] = []
    seen: set[tuple[int, int]] = set()
    for parent, folders, names in os.walk(folder, onerror=stop, followlinks=True) if os.path.isdir(folder) else ():
        status = os.stat(parent)
        if (status.st_dev, status.st_ino) in seen:  # A link leads in a circle.
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        if parent.count(os.sep) - folder.count(os.sep) > DEEPEST:
            raise ValueError(
                f"Folders of a corpus must lie at most {DEEPEST} deep in each other, got `{folder}` with more."
            )
        folders[:] = [name for name in folders if not name.startswith(".")]
        files += [os.path.join(parent, name) for name in names if not name.startswith(".")]
    for file in files:
        if os.path.exists(file) and not os.path.isfile(file):
            raise ValueError(f"A corpus must be made of plain files, got `{file}`, a pipe, socket or device.")
    return sorted(files)


def _without_brackets(corpus: str) -> str:
    """Returns a folder of links to the files of one whose name `datasets` takes for a pattern; others as they are."""
    if not os.path.isdir(corpus) or glob.escape(corpus) == corpus:
        return corpus
    folder = Path(tempfile.mkdtemp(dir=scratch_folder()))
    for path in Path(corpus).rglob("*"):
        if path.is_file():
            link = folder / path.relative_to(corpus)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path.resolve())
    return str(folder)


def _split_names(split: str) -> set[str]:
    """Returns the splits that make one, which may also be a slice or a sum: `train[:1000]+validation`."""
    return set(re.sub(r"\[[^]]*\]", "", split).split("+"))


def _require_split(wanted: _Wanted, splits: list[str]) -> None:
    unknown = _split_names(wanted.split) - set(splits)
    if unknown:
        raise unknown_split(min(unknown), wanted.corpus, splits)
