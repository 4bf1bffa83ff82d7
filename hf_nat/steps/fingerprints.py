"""What a step reads, as a few characters: a local input by its content, one on the Hub by its commit."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset

from ..base.utils import read_json, sha256_file
from ..data.pretrained import hub_commit, load_pretrained_config


# The files of a checkpoint that decide what it writes.
_MODEL_FILES = (
    *("config.json", "generation_config.json", "*.safetensors", "*.bin"),
    *("tokenizer*.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.*", "merges.txt", "*.spm", "*.model"),
)
# A mark that goes once a key is set: with it transformers reads only its own keys.
_FROM_CONFIG = "_from_model_config"
_NO_WEIGHTS = ("training_args.bin", "optimizer.bin", "scheduler.bin")


def corpus_fingerprint(rows: Dataset, source_lang: str, target_lang: str, columns: Sequence[str] = ()) -> str:
    """Returns the commit of a split that was downloaded from the Hub, else the SHA-256 of its sentence pairs.

    Args:
        rows (`Dataset`): corpus with the `translation` feature.
        source_lang (`str`): key of the source language.
        target_lang (`str`): key of the target language.
        columns (`Sequence[str]`, *optional*): further columns that count, where the corpus has them.
    """
    for url in rows.info.download_checksums or {}:
        if commit := re.match(r"hf://datasets/(.+@[0-9a-f]{40})/", url):
            # Which rows of it: a split may be a slice, and the first rows may have been chosen.
            return f"{commit[1]}:{rows.split}:{len(rows)}"
    digest = hashlib.sha256()
    present = [name for name in columns if name in rows.column_names]
    for batch in rows.select_columns(["translation", *present]).iter(batch_size=10_000):
        pairs = [(pair[source_lang], pair[target_lang]) for pair in batch["translation"]]
        digest.update(json.dumps([pairs, *(batch[name] for name in present)] if present else pairs).encode())
    return digest.hexdigest()


def model_fingerprint(
    model: str | Path,
    revision: str | None = None,
    *,
    but_for: str | None = None,
    parameter: str = "model",
    trust_remote_code: bool = False,
) -> dict[str, Any]:
    """Returns what a checkpoint's outputs depend on: the SHA-256 of each of its files, or its commit on the Hub.

    Args:
        model (`str` or `Path`): folder or Hub id.
        revision (`str`, *optional*): branch, tag or commit on the Hub.
        but_for (`str`, *optional*): key of `generation_config.json` that does not count.
        parameter (`str`, *optional*, defaults to `"model"`): name of the option that gave the model, for errors.
        trust_remote_code (`bool`, *optional*, defaults to `False`): its Python files are executed, and count.
    """
    folder = Path(model)
    if not folder.is_dir():
        load_pretrained_config(model, parameter=parameter, revision=revision, trust_remote_code=trust_remote_code)
        return {"commit": hub_commit(model, revision)}
    patterns = (*_MODEL_FILES, *(("*.py",) if trust_remote_code else ()))
    paths = {path for pattern in patterns for path in folder.glob(pattern) if path.name not in _NO_WEIGHTS}
    files = {path.name: sha256_file(path) for path in sorted(paths)}
    if but_for is not None and "generation_config.json" in files:
        settings = read_json(folder / "generation_config.json")
        kept = {key: value for key, value in settings.items() if key not in (but_for, _FROM_CONFIG)}
        files["generation_config.json"] = hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()
    return files


def optional_model(model: str | None, **options: Any) -> dict[str, Any] | None:
    """Returns `model_fingerprint`, None where there is no model."""
    return None if model is None else model_fingerprint(model, **options)
