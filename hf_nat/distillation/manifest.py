"""What a distilled corpus was made from: written before the first shard, checked on resume, published at the end."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..utils import check_settings, read_json, write_json
from .arguments import DistillArguments
from .checksums import CHECKSUM_DIR
from .flags import FLAGS
from .shards import Shard
from .strategies import decoding_parameters


RUN_FILE = "run.json"
_NO_DECODING_SETTINGS = ("transformers_version", "_from_model_config")


def corpus_identity(
    teacher: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    splits: Mapping[str, Dataset],
    args: DistillArguments,
) -> dict[str, Any]:
    """Collects everything that the rows of a distilled corpus depend on; names and paths are not part of it."""
    generation_config = teacher.generation_config.to_diff_dict()
    return {
        "teacher_sha256": _weights_sha256(teacher),
        "teacher_generation_config": {k: v for k, v in generation_config.items() if k not in _NO_DECODING_SETTINGS},
        "tokenizer_sha256": _tokenizer_sha256(tokenizer),
        "corpus_sha256": {split: _text_sha256(rows, args) for split, rows in splits.items()},
        "counts": {split: len(rows) for split, rows in splits.items()},
        "source_lang": args.source_lang,
        "target_lang": args.target_lang,
        "strategy": args.strategy,
        "decoding": decoding_parameters(args),
        "long_source": args.long_source,
        "max_batch_tokens": args.max_batch_tokens,
        "shard_size": args.shard_size,
        "seed": args.seed,
    }


def claim_folder(output_dir: Path, identity: Mapping[str, Any]) -> None:
    """Writes the identity into a new folder, or removes what a killed run left unfinished in an old one.

    Raises:
        ValueError: if the folder has shards of unknown origin.
    """
    if not (output_dir / RUN_FILE).is_file():
        strangers = sorted((output_dir / "data").glob("*.parquet"))
        if strangers:
            raise ValueError(
                f"`output_dir` must be new or hold a {RUN_FILE}, got {str(output_dir)!r} with {strangers[0].name} and "
                "none. Use another folder."
            )
        write_json(output_dir / RUN_FILE, identity)
    for folder in ("data", CHECKSUM_DIR):
        for leftover in (output_dir / folder).glob(".*.tmp"):
            leftover.unlink()


def check_identity(output_dir: Path, identity: Mapping[str, Any]) -> None:
    """Refuses to go on in a folder whose shards were made from something else.

    Raises:
        ValueError: naming the first field that differs, with both values.
    """
    # Folders that were begun before there was a choice hold cut sources.
    check_settings(output_dir, {"long_source": "truncate"} | read_json(output_dir / RUN_FILE), identity)


def write_manifest(
    output_dir: Path,
    identity: Mapping[str, Any],
    shards: Sequence[Shard],
    checksums: Mapping[str, str],
    teacher: PreTrainedModel,
    args: DistillArguments,
) -> None:
    """Writes manifest.json: the identity, the names, the count of each flag and the checksum of each shard.

    The revision of a teacher from the Hub is the commit that was loaded. The checksums are those recorded when the
    shards were written, so that later damage shows.
    """
    manifest = {
        **identity,
        "teacher": args.teacher,
        "teacher_revision": getattr(teacher.config, "_commit_hash", None),
        "corpus": args.corpus,
        "config_name": args.config_name,
        "license": args.license,
        **shard_entries(output_dir, shards, checksums),
    }
    write_json(output_dir / "manifest.json", manifest)


def shard_entries(output_dir: Path, shards: Sequence[Shard], checksums: Mapping[str, str]) -> dict[str, Any]:
    """Returns what a manifest says of the shards: the count of each flag, and the checksum of each by its path."""
    flags: Counter[str] = Counter()
    for shard in shards:
        for row in pq.read_table(shard.path, columns=["flags"])["flags"].to_pylist():
            flags.update(row)
    return {
        "flag_counts": {flag: flags[flag] for flag in FLAGS},
        "shards": {shard.path.relative_to(output_dir).as_posix(): checksums[shard.path.name] for shard in shards},
    }


def _weights_sha256(model: PreTrainedModel) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _tokenizer_sha256(tokenizer: PreTrainedTokenizerBase) -> str:
    """Hashes vocabulary and rules, but not the padding that a call may leave behind."""
    state: dict[str, Any] = {"vocabulary": tokenizer.get_vocab()}
    if tokenizer.is_fast:
        state = json.loads(tokenizer.backend_tokenizer.to_str()) | {"padding": None, "truncation": None}
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def _text_sha256(rows: Dataset, args: DistillArguments) -> str:
    digest = hashlib.sha256()
    for batch in rows.select_columns("translation").iter(batch_size=10_000):
        pairs = [(pair[args.source_lang], pair[args.target_lang]) for pair in batch["translation"]]
        digest.update(json.dumps(pairs).encode())
    return digest.hexdigest()
