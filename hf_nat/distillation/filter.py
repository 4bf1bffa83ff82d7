"""Leaves suspicious rows of a distilled corpus out: a step of its own that says what went and why."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset

from ..base.folders import atomic_contents
from ..base.utils import progress_bar, sha256_file, write_json
from ..data.several import TARGETS
from .checksums import recorded_checksums
from .duplicates import ranks, text_keys
from .filter_arguments import FilterArguments
from .filter_columns import MeasuredCorpus, typed, with_column
from .filter_report import DROPPED_FILE, REPORT_FILE, FilterReport
from .filter_rules import RANK_COLUMNS, RULES, any_of, rejected, values_of, worst_cut
from .manifest import read_manifest, shard_entries
from .shards import EXTRA_COLUMNS, Shard, split_of, without_datasets_bars


def filter_corpus(args: FilterArguments) -> None:
    """Writes a distilled corpus without the training rows that a rule rejects; validation and test stay as they are.

    Each rule has a column, which the new corpus keeps, and a threshold; see `RULES`. The rows that stay keep their
    order and all columns, `id` included. Each shard of the new corpus holds what is left of the shard of its name. The
    bytes depend on the corpus, the arguments and the backward teacher alone. Memory is that of one shard, and a few
    bytes a row for shares of the worst and for ranks. The rows appear in the folder once all are written; columns that
    a killed run measured are not measured again.

    Args:
        args (`FilterArguments`): corpus, rule and output folder. The folder ends up with `data/*.parquet`,
            `dropped.jsonl` (the rows that went, each with its reasons), `filter.json` (how many by each reason, the
            value at which a rule cut, examples) and, last, `manifest.json`: that of the corpus with the new counts,
            and a last entry in `filters` that holds the corpus's checksum, the rule, and the rows that went by each
            reason; a row may go for several.

    Raises:
        OSError: if there is no such backward teacher.
        ValueError: if the corpus has no manifest, is not what its manifest says or has lists of targets, a column
            cannot be measured, or no training row is left.
    """
    manifest = require_single_targets(args)
    corpus = MeasuredCorpus(args, manifest)
    corpus.measure()
    cuts = {
        name: worst_cut(corpus.values(RULES[name].column), value) if RULES[name].kind == "worst" else value
        for name, value in args.thresholds.items()
    }
    found = _rank_rows(args, corpus, cuts)
    order = ["data", DROPPED_FILE, REPORT_FILE, "manifest.json"]
    with atomic_contents(args.output_dir, order) as folder, without_datasets_bars():
        _write(args, corpus, manifest, cuts, found, folder)
    corpus.remove()


def require_single_targets(args: FilterArguments) -> dict[str, Any]:
    """Returns the manifest of the corpus; ValueError where its rows have lists of targets, which are not measured."""
    manifest = read_manifest(Path(args.corpus))
    if TARGETS in manifest.get("columns", []):
        raise ValueError(
            f"`corpus` must have one target a row, got {args.corpus!r} with lists of them in the column `{TARGETS}`. "
            "Distil with `--expand true`, which makes a row of each."
        )
    return manifest


def _rank_rows(args: FilterArguments, corpus: MeasuredCorpus, cuts: Mapping[str, float]) -> dict[str, np.ndarray]:
    """Returns the ranks of all training rows that other rules leave, for each rank that is asked for: `[rows]`.

    Sources first: the rows that `max_per_source` rejects are not ranked by their targets.
    """
    names = [column for column in RANK_COLUMNS if column in args.measured]
    if not names:
        return {}
    others = {name: cut for name, cut in cuts.items() if RULES[name].column not in RANK_COLUMNS}
    needed = ["translation", "teacher_score", "flags", *dict.fromkeys(RULES[name].column for name in others)]
    kept, scores, keys = [], [], {column: [np.empty(0, np.uint64)] for column in names}
    for name in corpus.training:
        rows = corpus.read(name, list(dict.fromkeys(needed)))
        pairs = rows["translation"].to_pylist()
        kept.append(~any_of(rejected(rows, args.flags, others), len(rows)))
        scores.append(values_of(rows, "teacher_score"))
        for column in names:
            lang = corpus.languages[RANK_COLUMNS[column]]
            keys[column].append(text_keys(pair[lang] for pair in pairs))
    is_ranked, all_scores, found = np.concatenate(kept), np.concatenate(scores), {}
    for column in names:
        found[column] = ranks(np.concatenate(keys[column]), all_scores, is_ranked)
        limit = cuts.get("max_per_source") if column == "source_rank" else None
        if limit is not None:
            is_ranked = is_ranked & (found[column] < limit)
    return found


def _write(
    args: FilterArguments,
    corpus: MeasuredCorpus,
    manifest: Mapping[str, Any],
    cuts: Mapping[str, float],
    found: Mapping[str, np.ndarray],
    folder: Path,
) -> None:
    """Writes all files of the new corpus into a folder."""
    shards, counts = [], dict.fromkeys(manifest["counts"], 0)
    num_rows, num_read = manifest["counts"]["train"], 0
    with (
        (folder / DROPPED_FILE).open("w", encoding="utf-8") as file,
        progress_bar(sum(manifest["counts"].values()), "Filtering") as bar,
    ):
        report = FilterReport(args.reasons, file, args.measured)
        for name in manifest["shards"]:
            rows, split = corpus.read(name), split_of(name)
            bar.update(len(rows))
            rows = _with_ranks(rows, found, num_read if split == "train" else None)
            if split == "train":
                num_read += len(rows)
                masks = rejected(rows, args.flags, cuts)
                report.add(rows, masks)
                rows = rows.filter(~any_of(masks, len(rows)))
            shard = Shard(split, counts[split], counts[split] + len(rows), folder / name)
            shard.write(Dataset(rows))
            shards.append(shard)
            counts[split] = shard.stop
    if not counts["train"]:
        raise ValueError(
            f"A filtered corpus must keep at least 1 training row, got 0 of {num_rows}: {report.counts}. Use a weaker "
            "rule."
        )
    applied = {
        "corpus_manifest_sha256": sha256_file(Path(args.corpus) / "manifest.json"),
        "rule": args.rule,
        **corpus.identity,
        "corpus": args.corpus,
        "num_rows": num_rows,
        "num_dropped": num_rows - counts["train"],
        "reasons": report.counts,
    }
    write_json(folder / REPORT_FILE, applied | {"reasons": report.summary(cuts)})
    wanted = {*manifest.get("columns", []), *args.measured}
    columns = {"columns": [column for column in EXTRA_COLUMNS if column in wanted]} if wanted else {}
    checksums = recorded_checksums(folder, [shard.path for shard in shards])
    entries = {"counts": counts, **columns, **shard_entries(folder, shards, checksums)}
    filters = [*manifest.get("filters", []), applied]
    write_json(folder / "manifest.json", {**manifest, **entries, "filters": filters})


def _with_ranks(rows: pa.Table, found: Mapping[str, np.ndarray], start: int | None) -> pa.Table:
    """Returns rows with the columns of ranks; `start` is the number of the first one in training, None elsewhere."""
    for column, values in found.items():
        own = None if start is None else values[start : start + len(rows)]
        rows = with_column(rows, column, typed(column, own, len(rows)))
    return rows
