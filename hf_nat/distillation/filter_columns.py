"""A corpus with the columns that a filter measures, shard by shard; a killed run goes on with those it has."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..base.files import atomic_path
from ..base.languages import find_language
from ..base.utils import progress_bar, sha256_file
from ..data import is_blank, tokenize
from ..decoding import score_pairs
from ..metrics.language_posterior import LanguagePosterior
from .filter_arguments import FilterArguments
from .filter_rules import RANK_COLUMNS, values_of
from .manifest import teacher_identity
from .pair_measures import copy_rates, find_numbers, find_urls, length_ratios, num_differences
from .shards import EXTRA_COLUMNS, require_column_types, split_of


# Beside `data`, hidden, and there only while a run goes on.
_COLUMNS_DIR = ".columns"
# What is counted on one side only.
_FINDERS = {"number_differences": find_numbers, "url_differences": find_urls}


class MeasuredCorpus:
    """The shards of a distilled corpus, with the columns that a filter asks for.

    Args:
        args (`FilterArguments`): corpus, columns and what they depend on.
        manifest (`Mapping`): that of the corpus.

    Raises:
        OSError: if there is no such backward teacher.
        ValueError: if a shard is not what the manifest says, or nothing gives the scores of a backward teacher.
    """

    def __init__(self, args: FilterArguments, manifest: Mapping[str, Any]) -> None:
        self.args, self.folder, self.shards = args, Path(args.corpus), manifest["shards"]
        self.languages = (manifest["source_lang"], manifest["target_lang"])
        self.training = [name for name in self.shards if split_of(name) == "train"]
        self.columns = [name for name in args.measured if name not in RANK_COLUMNS]
        if "backward_score" in self.columns and not args.backward_teacher:
            self._require_scores()
            self.columns.remove("backward_score")
        self._backward = args.load_backward() if args.backward_teacher else None
        self.identity: dict[str, Any] = {}
        if self._backward is not None:
            self.identity["backward_teacher"] = {"name": args.backward_teacher, **teacher_identity(*self._backward)}
        parts = [sha256_file(self.folder / "manifest.json"), self.columns, args.measuring, self.identity]
        key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
        self._measured = Path(args.output_dir) / _COLUMNS_DIR / key

    def measure(self) -> None:
        """Writes the columns of each training shard into a file of its own, but for those that a killed run wrote."""
        for other in self._measured.parent.glob("*"):
            if other != self._measured:
                shutil.rmtree(other)
        missing = [name for name in self.training if self.columns and not self._file(name).is_file()]
        posterior = self._posterior() if missing and "language_posterior" in self.columns else None
        with progress_bar(len(missing), "Measuring shards") as bar:
            for name in missing:
                found = self._measure(self.read(name, ["translation"]), posterior)
                with atomic_path(self._file(name)) as temporary:
                    pq.write_table(pa.table({column: typed(column, found[column]) for column in found}), temporary)
                bar.update(1)

    def read(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Reads the rows of a shard, with the measured columns, which are null outside train.

        Args:
            name (`str`): its path in the corpus.
            columns (`Sequence[str]`, *optional*): those to read, by default all.

        Raises:
            ValueError: if the file is not what the manifest says, or a column is of another type.
        """
        path = self.folder / name
        _require_sound(path, self.shards[name])
        require_column_types(pq.read_schema(path), f"`{path}`")
        own = self.columns if columns is None else [name for name in columns if name in self.columns]
        rows = pq.read_table(path, columns=columns and [column for column in columns if column not in own])
        if not own:
            return rows
        found = pq.read_table(self._file(name)) if name in self.training else None
        for column in own:
            rows = with_column(rows, column, typed(column, None, len(rows)) if found is None else found[column])
        return rows

    def values(self, column: str) -> np.ndarray:
        """Returns a column of all training rows: `[rows]`, float32; nan where there is none."""
        return np.concatenate([values_of(self.read(name, ["id", column]), column) for name in self.training])

    def remove(self) -> None:
        """Removes the files of `measure`."""
        shutil.rmtree(self._measured.parent, ignore_errors=True)

    def _file(self, name: str) -> Path:
        return self._measured / Path(name).name

    def _require_scores(self) -> None:
        for name in self.training:
            _require_sound(self.folder / name, self.shards[name])
            if "backward_score" not in pq.read_schema(self.folder / name).names:
                raise ValueError(
                    f"`backward_teacher` must be given for a corpus without the column backward_score, got none for "
                    f"`{self.args.corpus}`. Name a model of the other direction."
                )

    def _measure(self, rows: pa.Table, posterior: LanguagePosterior | None) -> dict[str, np.ndarray]:
        pairs = rows["translation"].to_pylist()
        sources, targets = sides = [[pair[lang] for pair in pairs] for lang in self.languages]
        found: dict[str, np.ndarray] = {
            column: num_differences(sources, targets, find)
            for column, find in _FINDERS.items()
            if column in self.columns
        }
        if "copy_rate" in self.columns:
            # Both sides by one rule, else a copy does not look like its source: a language without spaces has one
            # for words of others too.
            lang = min(self.languages, key=lambda code: find_language(code).is_spaced)
            found["copy_rate"] = copy_rates(*(list(tokenize(side, self.args.tokens, lang)) for side in sides))
        if {"length_ratio", "language_posterior"}.intersection(self.columns):
            tokens = [
                list(tokenize(side, self.args.tokens, lang, is_target=number == 1))
                for number, (side, lang) in enumerate(zip(sides, self.languages, strict=True))
            ]
            found["length_ratio"] = length_ratios(*tokens)
            if posterior is not None:
                own = [posterior(side)[:, number] for number, side in enumerate(tokens)]
                found["language_posterior"] = np.minimum(*own)
        if self._backward is not None:
            found["backward_score"] = self._backward_scores(sources, targets)
        return {column: found[column] for column in self.columns}

    def _backward_scores(self, sources: Sequence[str], targets: Sequence[str]) -> np.ndarray:
        assert self._backward is not None
        options: dict[str, Any] = {
            "max_batch_tokens": self.args.max_batch_tokens,
            "source_prefix": self.args.backward_prefix,
        }
        shown = [row for row, pair in enumerate(zip(sources, targets, strict=True)) if not any(map(is_blank, pair))]
        scores = np.full(len(sources), np.nan)
        scores[shown] = score_pairs(
            *self._backward, [targets[row] for row in shown], [sources[row] for row in shown], **options
        )
        return scores

    def _posterior(self) -> LanguagePosterior:
        """Counts the words of the training sources, and of the real targets, or the others where there is none."""
        sides = {
            lang: tokenize(self._texts(lang, number), self.args.tokens, lang, is_target=number == 1)
            for number, lang in enumerate(self.languages)
        }
        return LanguagePosterior.from_corpora(sides)

    def _texts(self, lang: str, number: int) -> Iterator[str]:
        for name in self.training:
            rows = self.read(name, ["translation", "real_target"])
            for pair, real in zip(rows["translation"].to_pylist(), rows["real_target"].to_pylist(), strict=True):
                yield pair[lang] if number == 0 or real is None else real


def typed(column: str, values: np.ndarray | None, num_rows: int = 0) -> pa.Array:
    """Returns numbers as a column of a corpus has them, null for nan and for a rank below 0; all null without any."""
    kind = EXTRA_COLUMNS[column].pa_type
    if values is None:
        return pa.nulls(num_rows, kind)
    is_missing = values < 0 if column in RANK_COLUMNS else np.isnan(values)
    return pa.array(values, mask=is_missing).cast(kind, safe=False)


def with_column(rows: pa.Table, column: str, values: pa.Array | pa.ChunkedArray) -> pa.Table:
    """Returns rows with a column, instead of one of its name that they may have."""
    if column in rows.column_names:
        return rows.set_column(rows.column_names.index(column), column, values)
    return rows.append_column(column, values)


def _require_sound(path: Path, checksum: str) -> None:
    found = sha256_file(path) if path.is_file() else "no file"
    if found != checksum:
        raise ValueError(
            f"`{path}` must have the SHA-256 that manifest.json records, {checksum}, got {found}. Make the corpus "
            "again."
        )
