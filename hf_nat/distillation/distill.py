"""Rewrites the targets of a corpus with a teacher: resumable, in any number of processes, always the same bytes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset

from ..base.processes import process_state
from ..base.utils import environment, progress_bar, write_json
from .arguments import DistillArguments
from .checksums import recorded_checksums, remove_checksums
from .manifest import remove_leftovers, write_manifest
from .rewriting import RealRows, Rewriter
from .shards import Shard, corpus_features, plan_shards, remove_claims, without_datasets_bars


def write_distilled_corpus(rewriter: Rewriter, splits: Mapping[str, Dataset], identity: Mapping[str, Any]) -> None:
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
        splits (`Mapping[str, Dataset]`): the real corpus.
        identity (`Mapping[str, Any]`): what the rows depend on; goes into the manifest.

    Source: Kim & Rush 2016 (sequence-level knowledge distillation), as used by Zhou, Gu & Neubig 2020, section 2.2.
    """
    state, args = process_state(), rewriter.args
    output_dir = Path(args.output_dir)
    if state.is_main_process:
        remove_leftovers(output_dir)
        remove_claims(output_dir)
    state.wait_for_everyone()
    shards = plan_shards(output_dir, {split: len(rows) for split, rows in splits.items()}, args.shard_size)
    checksums = recorded_checksums(output_dir, [shard.path for shard in shards])
    pending = [shard for shard in shards if not shard.is_written(checksums.get(shard.path.name))]
    # Nobody writes before everybody has listed what is missing: the lists must agree.
    state.wait_for_everyone()

    started = time.perf_counter()
    _write_shards(pending, splits, rewriter)
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
    shards = plan_shards(output_dir, num_rows, args.shard_size)
    checksums = recorded_checksums(output_dir, [shard.path for shard in shards])
    return (output_dir / "manifest.json").is_file() and all(
        shard.is_written(checksums.get(shard.path.name), report=False) for shard in shards
    )


def _write_shards(shards: Sequence[Shard], splits: Mapping[str, Dataset], rewriter: Rewriter) -> None:
    """Writes the shards that this process can claim.

    The main process shows the progress of all: the shards before the one that it has claimed are claimed as well.
    """
    args = rewriter.args
    features = corpus_features(args.source_lang, args.target_lang)
    rewrites: dict[bool, Callable[..., dict[str, list[Any]]]] = {True: rewriter, False: RealRows(args.target_lang)}
    total, position = sum(shard.stop - shard.start for shard in shards), 0
    with (
        progress_bar(total, "Distilling", disable=not process_state().is_main_process) as bar,
        without_datasets_bars(),
    ):
        for shard in shards:
            position += shard.stop - shard.start
            if not shard.claim():
                continue
            rows = splits[shard.split].select(range(shard.start, shard.stop))
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
            bar.update(position - bar.n)


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
