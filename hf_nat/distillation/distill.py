"""Rewrites the targets of a corpus with a teacher: resumable, in any number of processes, always the same bytes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from datasets import Dataset, IterableDataset
from tqdm.auto import tqdm

from ..base.folders import remove_leftovers
from ..base.processes import process_state
from ..base.utils import environment, progress_bar, write_json
from .arguments import DistillArguments
from .checksums import CHECKSUM_DIR, recorded_checksums, remove_checksums
from .manifest import write_manifest
from .rewriting import RealRows, Rewriter
from .shards import Shard, corpus_features, plan_shards, remove_claims, without_datasets_bars
from .streams import write_streams


def write_distilled_corpus(rewriter: Rewriter, splits: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
    """Writes a corpus whose training targets are the teacher's translations; validation and test stay real.

    Every row is kept, in its order: the source, the teacher's output, the real target, the output's mean
    log-probability per token (nats, 4 decimals) and the flags of `hf_nat.distillation.flags`. A blank source gets a
    blank output, and the flags that say so. `args.long_source` decides what becomes of a source that is longer than
    the teacher's positions.

    The work is cut into shards. Each appears whole or not at all, and its bytes depend on the arguments alone, so a
    run that was killed is resumed by the same command and ends with the same files, and so does a run of several
    processes (`accelerate launch` or `torchrun`), on one machine or several: each claims a shard as soon as it is
    free. All processes must see the same `output_dir`. A shard whose bytes are not those that were written, or of
    which nobody recorded what was written, is made again with a warning.

    Args:
        rewriter (`Rewriter`): the teacher and how it decodes. The output folder of its arguments ends up with
            `data/*.parquet`, `manifest.json` (deterministic) and `metrics.json` (times).
        splits (`Mapping[str, Dataset]`): the real corpus, or sources alone; an `IterableDataset` each under
            `args.streaming`, whose rows are counted once it has ended.
        identity (`Mapping[str, Any]`): what the rows depend on; goes into the manifest.

    Source: Kim & Rush 2016 (sequence-level knowledge distillation), as used by Zhou, Gu & Neubig 2020, section 2.2.
    """
    state, args = process_state(), rewriter.args
    output_dir = Path(args.output_dir)
    if state.is_main_process:
        for name in ("data", CHECKSUM_DIR):
            remove_leftovers(output_dir / name)
        remove_claims(output_dir)
    state.wait_for_everyone()
    started = time.perf_counter()
    shards, pending = (_write_streams if args.streaming else _write_ranges)(output_dir, splits, rewriter)
    state.wait_for_everyone()
    if state.is_main_process:
        seconds = time.perf_counter() - started
        checksums = recorded_checksums(output_dir, [shard.path for shard in shards])
        write_manifest(output_dir, identity, shards, checksums, args)
        remove_checksums(output_dir)
        remove_claims(output_dir)
        if pending:
            _write_metrics(output_dir, pending, seconds, state.num_processes)
    state.wait_for_everyone()


def is_written(args: DistillArguments, num_rows: Mapping[str, int]) -> bool:
    """Tells whether every shard of a distilled corpus is there as it was written.

    Args:
        args (`DistillArguments`): the output folder and the size of a shard.
        num_rows (`Mapping[str, int]`): rows of each split.
    """
    output_dir = Path(args.output_dir)
    shards = plan_shards(output_dir, num_rows, args.shard_size, expanded=args.expand)
    checksums = recorded_checksums(output_dir, [shard.path for shard in shards])
    return (output_dir / "manifest.json").is_file() and all(
        shard.is_written(checksums.get(shard.path.name), report=False) for shard in shards
    )


def _write_ranges(
    output_dir: Path, splits: Mapping[str, Dataset], rewriter: Rewriter
) -> tuple[list[Shard], list[Shard]]:
    """Writes the shards of splits whose rows are counted; returns all, and those that were missing.

    The main process shows the progress of all: the shards before the one that it has claimed are claimed as well.
    """
    args = rewriter.args
    num_rows = {split: len(rows) for split, rows in splits.items()}
    shards = plan_shards(output_dir, num_rows, args.shard_size, expanded=args.expand)
    checksums = recorded_checksums(output_dir, [shard.path for shard in shards])
    pending = [shard for shard in shards if not shard.is_written(checksums.get(shard.path.name))]
    # Nobody writes before everybody has listed what is missing: the lists must agree.
    process_state().wait_for_everyone()
    write, position = _writer(rewriter), 0
    with _progress(sum(shard.stop - shard.start for shard in pending)) as bar:
        for shard in pending:
            position += shard.stop - shard.start
            if shard.claim():
                write(shard, splits[shard.split].select(range(shard.start, shard.stop)))
                bar.update(position - bar.n)
    return shards, pending


def _write_streams(
    output_dir: Path, splits: Mapping[str, IterableDataset], rewriter: Rewriter
) -> tuple[list[Shard], list[Shard]]:
    """Writes the shards of streams; returns all, and those that were missing."""
    write = _writer(rewriter)
    with _progress(None) as bar:

        def write_next(shard: Shard, rows: Dataset) -> None:
            write(shard, rows)
            bar.update(len(rows))

        return write_streams(output_dir, splits, rewriter.args.shard_size, write_next)


@contextmanager
def _progress(total: int | None) -> Iterator[tqdm]:
    is_main = process_state().is_main_process
    with progress_bar(total, "Distilling", disable=not is_main) as bar, without_datasets_bars():
        yield bar


def _writer(rewriter: Rewriter) -> Callable[[Shard, Dataset], None]:
    """Returns a function that rewrites the rows of a shard and writes it."""
    args = rewriter.args
    features = corpus_features(args.source_lang, args.target_lang, args.extra_columns)
    real_rows = RealRows(args.target_lang, args.extra_columns)
    rewrites: dict[bool, Callable[..., dict[str, list[Any]]]] = {True: rewriter, False: real_rows}

    def write(shard: Shard, rows: Dataset) -> None:
        """Rewrites the rows, real ones but for those of training, and writes the shard whole or not at all."""
        shard.write(
            rows.map(
                rewrites[shard.split == "train"],
                batched=True,
                batch_size=len(rows),
                with_indices=True,
                input_columns=["translation"],
                remove_columns=rows.column_names,
                features=features,
                fn_kwargs={"start": shard.start},
                keep_in_memory=True,
                load_from_cache_file=False,
                # Given, because the hash of a function that holds a model is another one in every process.
                new_fingerprint=f"distilled-{shard.path.stem}",
            )
        )

    return write


def _write_metrics(output_dir: Path, written: Sequence[Shard], seconds: float, num_processes: int) -> None:
    """Writes what this run, from its start or its resumption on, decoded and how fast."""
    num_sentences = sum(shard.stop - shard.start for shard in written if shard.split == "train")
    metrics = {
        "num_sentences": num_sentences,
        "seconds": round(seconds, 3),
        "sentences_per_second": round(num_sentences / seconds, 3),
        "num_processes": num_processes,
        "environment": environment(),
    }
    write_json(output_dir / "metrics.json", metrics)
