"""What a distilled corpus was made from, and what it holds: published with it."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pyarrow.parquet as pq
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..base.utils import check_record, read_record, sha256_file, write_json
from ..data.pretrained import hub_commit
from .arguments import DistillArguments
from .flags import FLAGS
from .shards import Shard, split_of


_NO_DECODING_SETTINGS = ("transformers_version", "_from_model_config")


def teacher_identity(teacher: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """Returns what the outputs of a loaded teacher depend on; names and paths are not part of it."""
    generation_config = cast(Any, teacher.generation_config).to_diff_dict()
    return {
        "teacher_sha256": _weights_sha256(teacher),
        "teacher_generation_config": {k: v for k, v in generation_config.items() if k not in _NO_DECODING_SETTINGS},
        "tokenizer_sha256": _tokenizer_sha256(tokenizer),
    }


def check_manifest(manifest: Any, path: str | Path) -> None:
    """Raises unless a value is the manifest of a distilled corpus.

    Args:
        manifest: what the file holds.
        path (`str` or `Path`): the file, for the error.

    Raises:
        ValueError: naming the key that is wrong.
    """
    text_or_none = (str, type(None))
    kinds = dict.fromkeys(("teacher", "corpus", "strategy", "source_lang", "target_lang"), str)
    check_record(manifest, {**kinds, **dict.fromkeys(("config_name", "license"), text_or_none)}, f"`{path}`")
    check_record(manifest, dict.fromkeys(("decoding", "counts"), dict), f"`{path}`")
    counts, shards = manifest["counts"], manifest.get("shards", {})
    check_record(counts, dict.fromkeys(("train", *counts), int), f"`counts` of `{path}`")
    if least := [split for split, count in counts.items() if count < 0]:
        raise ValueError(f"`counts` of `{path}` must be >= 0, got {counts[least[0]]} for {least[0]!r}.")
    check_record(shards, dict.fromkeys(shards, str), f"`shards` of `{path}`")
    for name, kind in (("columns", str), ("filters", dict), ("mix", dict)):
        entries = manifest.get(name, [])
        if not isinstance(entries, list) or not all(isinstance(entry, kind) for entry in entries):
            raise ValueError(f"`{name}` of `{path}` must be a list of {kind.__name__}, got {entries!r:.60}.")
    if "flag_counts" in manifest:
        check_record(manifest, {"flag_counts": dict}, f"`{path}`")
    for name in shards:
        if not re.fullmatch(r"data/[^/]+\.parquet", name):
            raise ValueError(f"`shards` of `{path}` must be files as data/NAME.parquet, got {name!r}.")
        if split_of(name) not in counts:
            raise ValueError(f"`counts` of `{path}` must have every split of its `shards`, got none for {name!r}.")


def read_manifest(corpus: Path) -> dict[str, Any]:
    """Reads the manifest of a distilled corpus.

    Raises:
        ValueError: if there is none, or it is damaged.
    """
    path = corpus / "manifest.json"
    if not path.is_file():
        raise ValueError(
            f"`corpus` must be a folder with a manifest.json, got {str(corpus)!r} without one. Run `hf-nat distill` "
            "to its end."
        )
    manifest = read_record(path, {"shards": dict})
    check_manifest(manifest, path)
    return manifest


def is_sound(folder: Path) -> bool:
    """Tells whether every shard of a corpus folder has the checksum that its manifest records."""
    try:
        shards = read_manifest(folder)["shards"]
    except ValueError:
        return False
    return all(
        (folder / name).is_file() and sha256_file(folder / name) == checksum for name, checksum in shards.items()
    )


def write_manifest(
    output_dir: Path,
    identity: Mapping[str, Any],
    shards: Sequence[Shard],
    checksums: Mapping[str, str],
    args: DistillArguments,
) -> None:
    """Writes manifest.json: the identity, the names, the count of each flag and the checksum of each shard.

    `splits` has the corpus' name of each split, in which `id` counts. The revision of a teacher from the Hub is the
    commit that was loaded. The checksums are those recorded when the shards were written, so that later damage shows.
    """
    counts: Counter[str] = Counter()
    sources: Counter[str] = Counter()
    for shard in shards:
        counts[shard.split] += pq.read_metadata(shard.path).num_rows
        sources[shard.split] += shard.stop - shard.start
    # A source may have become several rows.
    num_sources = {} if counts == sources else {"num_sources": dict(sources)}
    further = args.ensemble or args.union or []
    judges = {name: getattr(args, name) for name in ("backward_teacher", "quality") if getattr(args, name)}
    manifest = {
        **identity,
        **num_sources,
        "counts": dict(counts),
        **({"judge_names": judges} if judges else {}),
        **({"teachers": [args.teacher, *further]} if further else {}),
        **({"columns": list(args.extra_columns)} if args.extra_columns else {}),
        "teacher": args.teacher,
        "teacher_revision": hub_commit(args.teacher, args.teacher_revision),
        "corpus": args.place_name,
        **({"corpus_is_local": True} if Path(args.place_name).exists() else {}),
        **({"source_alone": True} if args.source else {}),
        "config_name": args.config_name,
        **{name: column for name in ("source_column", "target_column") if (column := getattr(args, name))},
        "splits": args.splits,
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
    if tokenizer.is_fast:
        state = json.loads(tokenizer.backend_tokenizer.to_str()) | {"padding": None, "truncation": None}
    else:
        with tempfile.TemporaryDirectory() as folder:  # Such as Marian's, whose rules are SentencePiece's files.
            files = [file for file in tokenizer.save_vocabulary(folder) if file]
            state = {Path(file).name: sha256_file(file) for file in files}
        state["vocabulary"] = tokenizer.get_vocab()
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()
