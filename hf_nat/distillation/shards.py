"""The files of a distilled corpus: each holds a fixed range of rows and appears whole or not at all."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import (
    Dataset,
    Features,
    List,
    Translation,
    Value,
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
)
from transformers.utils import logging

from ..base.files import atomic_path
from ..base.utils import sha256_file
from .checksums import record_checksum


logger = logging.get_logger(__name__)

# Beside `data`, hidden, and there only while a run goes on: an empty file for each shard that a process works on.
CLAIMS_DIR = ".claims"


@dataclass(frozen=True)
class Shard:
    """A range of rows of one split, and its file.

    Args:
        split (`str`): split of the written corpus.
        start (`int`): first row, counted in the split.
        stop (`int`): row after the last.
        path (`Path`): its parquet file, named as the Hub names them.
        is_counted (`bool`, *optional*, defaults to `True`): the file has just these rows; else a row may be several in
            it, or the range end with the corpus.
    """

    split: str
    start: int
    stop: int
    path: Path
    is_counted: bool = True

    def is_written(self, checksum: str | None, *, report: bool = True) -> bool:
        """Tells whether the file is there as it was written; a damaged or foreign one is not.

        Args:
            checksum (`str`, *optional*): SHA-256 that was recorded when the file was written; without one nobody knows
                whose file it is.
            report (`bool`, *optional*, defaults to `True`): log what is wrong with the file.
        """
        fault = self._fault(checksum)
        if fault and report:
            logger.warning(f"{self.path} {fault}")
        return fault == ""

    def _fault(self, checksum: str | None) -> str | None:
        """Says what is wrong with the file: nothing, or None if there is no file."""
        if not self.path.is_file():
            return None
        try:
            num_rows = pq.read_metadata(self.path).num_rows
        except (pa.ArrowInvalid, OSError) as error:
            return f"is damaged and will be written again ({error})."
        if num_rows != self.stop - self.start and self.is_counted:
            return f"has {num_rows} rows instead of {self.stop - self.start}: written again."
        if checksum is None:
            return "has no recorded checksum and may be of another run: written again."
        if (found := sha256_file(self.path)) != checksum:
            return f"is damaged or of another run (SHA-256 {found}, written was {checksum}): written again."
        return ""

    def claim(self) -> bool:
        """Takes the shard for this process; returns False if another process of the run has it."""
        claims = self.path.parents[1] / CLAIMS_DIR
        claims.mkdir(parents=True, exist_ok=True)
        try:
            (claims / self.path.stem).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def write(self, rows: Dataset) -> None:
        """Writes the file and records its checksum; a process killed meanwhile leaves none."""
        with atomic_path(self.path) as temporary:
            rows.to_parquet(temporary)
            # Before the file itself: a kill in between must not leave a file without a checksum.
            record_checksum(self.path, sha256_file(temporary))


def plan_shards(
    output_dir: Path, num_rows: Mapping[str, int], shard_size: int, *, expanded: bool = False
) -> list[Shard]:
    """Cuts every split into shards of `shard_size` rows, whatever number of processes will write them.

    Args:
        output_dir (`Path`): folder of the corpus.
        num_rows (`Mapping[str, int]`): rows of each split.
        shard_size (`int`): rows of a shard.
        expanded (`bool`, *optional*, defaults to `False`): a row of the training split may be several in its file.
    """
    shards = []
    for split, total in num_rows.items():
        num_shards = -(-total // shard_size)
        for index in range(num_shards):
            name = f"{split}-{index:05d}-of-{num_shards:05d}.parquet"
            start, path = index * shard_size, output_dir / "data" / name
            stop = min(start + shard_size, total)
            shards.append(Shard(split, start, stop, path, not (expanded and split == "train")))
    return shards


def remove_claims(output_dir: Path) -> None:
    """Removes all claims: those of a killed run before anyone works, those of this run at its end."""
    shutil.rmtree(output_dir / CLAIMS_DIR, ignore_errors=True)


# Columns that some strategies or a filter add.
EXTRA_COLUMNS = {
    "candidate": Value("int32"),
    "quality": Value("float32"),
    "teacher": Value("int32"),
    "targets": List(Value("string")),
    "target_scores": List(Value("float32")),
    "rank": Value("int32"),
    "corpus": Value("string"),
    "clean_source": Value("string"),
    "source_noise": List(Value("string")),
    # Those of `hf-nat filter`.
    "length_ratio": Value("float32"),
    "copy_rate": Value("float32"),
    "number_differences": Value("int32"),
    "url_differences": Value("int32"),
    "language_posterior": Value("float32"),
    "backward_score": Value("float32"),
    "source_rank": Value("int32"),
    "target_rank": Value("int32"),
}
_OWN_COLUMNS = {
    "id": Value("int64"),
    "real_target": Value("string"),
    "teacher_score": Value("float32"),
    "flags": List(Value("string")),
    **EXTRA_COLUMNS,
}
# All of a row beside its pair.
CORPUS_COLUMNS = tuple(_OWN_COLUMNS)


def empty_values(column: str, number: int) -> list[Any]:
    """Returns what so many rows hold in a column that says nothing of them: empty lists, or nulls."""
    return [[] if isinstance(_OWN_COLUMNS.get(column), List) else None for _ in range(number)]


def split_of(name: str) -> str:
    """Returns the split of a shard by its name."""
    return re.sub(r"-\d+-of-\d+$", "", Path(name).stem)


def corpus_features(source_lang: str, target_lang: str, extra: Sequence[str] = ()) -> Features:
    """The columns of a distilled corpus.

    `id` is the row's number in its split of the original corpus. The training split has the teacher's output as its
    target; validation and test have the real one, and no score.

    Args:
        source_lang (`str`): key of the source language.
        target_lang (`str`): key of the target language.
        extra (`Sequence[str]`, *optional*): columns that the strategy adds: `candidate` and `quality` of the output
            that a judge chose, the number of the `teacher` that wrote it among several, `targets` and `target_scores`
            of several outputs, or the `rank` of one of them; the name of the `corpus` of a row of several;
            what a row with a noisy source was made from; and what a filter measures.
    """
    return Features(
        {
            "id": _OWN_COLUMNS["id"],
            "translation": Translation([source_lang, target_lang]),
            **{name: _OWN_COLUMNS[name] for name in ("real_target", "teacher_score", "flags", *extra)},
        }
    )


def require_column_types(schema: pa.Schema, name: str) -> None:
    """Raises ValueError unless the columns that distilled corpora have are of their types; others do not count.

    Args:
        schema (`pa.Schema`): the columns of some rows.
        name (`str`): what the rows are, for the message.
    """
    features = {column: feature for column, feature in _OWN_COLUMNS.items() if column in schema.names}
    for field in Features(features).arrow_schema:
        if not _can_hold(field.type, found := schema.field(field.name).type):
            raise ValueError(
                f"`{field.name}` must be a column of {field.type} in a distilled corpus, got {found} in {name}. "
                "Rename or drop it."
            )


def _can_hold(wanted: pa.DataType, found: pa.DataType) -> bool:
    """Tells whether values of a type are what a column is for, whatever their number of bits."""
    if pa.types.is_null(found):
        return True
    if pa.types.is_list(wanted):
        is_list = pa.types.is_list(found) or pa.types.is_large_list(found)
        return is_list and _can_hold(wanted.value_type, found.value_type)
    if pa.types.is_floating(wanted):
        return pa.types.is_floating(found) or pa.types.is_integer(found)
    if pa.types.is_integer(wanted):
        return pa.types.is_integer(found)
    return pa.types.is_string(found) or pa.types.is_large_string(found)


@contextmanager
def without_datasets_bars() -> Iterator[None]:
    """Silences the bars that `map` and `to_parquet` would print for every shard."""
    were_disabled = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not were_disabled:
            enable_progress_bars()
