"""Distillation of a stream: shards are cut as rows come, and get their number of all once the stream has ended."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from pathlib import Path

from datasets import Dataset, IterableDataset

from ..base.processes import process_state
from .checksums import CHECKSUM_DIR, checksum_path, recorded_checksums
from .shards import Shard


_TOTAL = re.compile(r"-of-\d+(?=\.\w+$)")

Write = Callable[[Shard, Dataset], None]


def write_streams(
    output_dir: Path, streams: Mapping[str, IterableDataset], shard_size: int, write: Write
) -> tuple[list[Shard], list[Shard]]:
    """Writes the shards of streams, from where a killed run stopped; all processes call it.

    Each process reads the whole streams and writes the shards that it can claim; rows of shards that an earlier run
    finished at the beginning are skipped. Memory is that of one shard.

    Args:
        output_dir (`Path`): folder of the corpus.
        streams (`Mapping[str, IterableDataset]`): the splits.
        shard_size (`int`): rows of a shard.
        write (`Callable`): writes a shard that this process has claimed, from its rows.

    Returns:
        `tuple[list[Shard], list[Shard]]`: all shards, and those that were written now, by whatever process.
    """
    state = process_state()
    if state.is_main_process:
        _drop_totals(output_dir)
    state.wait_for_everyone()
    written = _written(output_dir)
    # Nobody writes before everybody has listed what is there.
    state.wait_for_everyone()
    numbered: dict[str, list[Shard]] = {}
    pending = []
    for split, stream in streams.items():
        numbered[split] = []
        for shard, rows in _cut(output_dir, split, stream, shard_size, written):
            numbered[split].append(shard)
            if shard.path.name in written:
                continue
            pending.append(shard)
            if rows is not None and shard.claim():
                write(shard, rows)
    state.wait_for_everyone()
    if state.is_main_process:
        _remove_others(output_dir, numbered)
        for shards in numbered.values():
            for shard in shards:
                _rename(shard.path, _with_total(shard.path, len(shards)))
    state.wait_for_everyone()
    named = {shard: _renamed(shard, len(shards)) for shards in numbered.values() for shard in shards}
    return list(named.values()), [named[shard] for shard in pending]


def _written(output_dir: Path) -> set[str]:
    """Returns the names of the shards that are as they were written."""
    paths = sorted((output_dir / "data").glob("*.parquet"))
    checksums = {_TOTAL.sub("", name): sha256 for name, sha256 in recorded_checksums(output_dir, paths).items()}
    shards = [Shard("", 0, 0, path, is_counted=False) for path in paths]
    return {shard.path.name for shard in shards if shard.is_written(checksums.get(shard.path.name))}


def _cut(
    output_dir: Path, split: str, stream: IterableDataset, shard_size: int, written: set[str]
) -> Iterator[tuple[Shard, Dataset | None]]:
    """Yields the shards of a stream with their rows; without those where the first ones are written."""

    def shard(index: int, num_rows: int) -> Shard:
        start, path = index * shard_size, output_dir / "data" / f"{split}-{index:05d}.parquet"
        return Shard(split, start, start + num_rows, path, is_counted=False)

    first = next(index for index in count() if shard(index, 0).path.name not in written)
    # The last of them may be the end of the stream, and short: it is read again.
    first = max(0, first - 1)
    for index in range(first):
        yield shard(index, shard_size), None
    rows = stream.select_columns("translation").skip(first * shard_size)
    for index, batch in enumerate(rows.iter(batch_size=shard_size), start=first):
        yield shard(index, len(batch["translation"])), Dataset.from_dict(batch, features=rows.features)


def _remove_others(output_dir: Path, numbered: Mapping[str, list[Shard]]) -> None:
    """Removes shards beyond the end of the stream, which only a longer one can have left."""
    known = {shard.path for shards in numbered.values() for shard in shards}
    for path in (output_dir / "data").glob("*.parquet"):
        if path not in known:
            path.unlink()


def _with_total(path: Path, number: int) -> Path:
    return path.with_name(f"{path.stem}-of-{number:05d}.parquet")


def _renamed(shard: Shard, number: int) -> Shard:
    return Shard(shard.split, shard.start, shard.stop, _with_total(shard.path, number), shard.is_counted)


def _drop_totals(output_dir: Path) -> None:
    """Gives shards and checksums the names of a run that goes on; a killed one may have renamed one of the two."""
    for folder in ("data", CHECKSUM_DIR):
        for path in sorted((output_dir / folder).glob("*-of-*")):
            path.replace(path.with_name(_TOTAL.sub("", path.name)))


def _rename(path: Path, new: Path) -> None:
    """Renames a shard and its checksum."""
    if checksum_path(path).is_file():
        checksum_path(path).replace(checksum_path(new))
    path.replace(new)
