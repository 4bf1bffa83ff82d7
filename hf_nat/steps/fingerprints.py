"""What a step reads, as a few characters: a local input by its content, one on the Hub by its commit."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from huggingface_hub import HfApi

from ..base.utils import read_json, sha256_files
from ..data.locations import local_or_hub
from ..data.pretrained import hub_commit, load_pretrained_config
from ..data.tokenizer import TOKENIZER_FILES, tokenizer_files


# The files of a checkpoint that decide what it writes.
_MODEL_FILES = ("config.json", "generation_config.json", "*.safetensors", "*.bin", "onnx/*", *TOKENIZER_FILES)
# A mark that goes once a key is set: with it transformers reads only its own keys.
_FROM_CONFIG = "_from_model_config"
_NO_WEIGHTS = ("training_args.bin", "optimizer.bin", "scheduler.bin")


def corpus_fingerprint(rows: Dataset, source_lang: str, target_lang: str, columns: Sequence[str] = ()) -> str:
    """Returns the commit, part and ends of a split that was downloaded from the Hub, else the SHA-256 of its pairs.

    Args:
        rows (`Dataset`): corpus with the `translation` feature, or sources alone.
        source_lang (`str`): key of the source language.
        target_lang (`str`): key of the target language.
        columns (`Sequence[str]`, *optional*): further columns that count, where the corpus has them.
    """
    feature = rows.features["translation"]
    # A plain column of objects has the keys itself, one without rows has none.
    keys = getattr(feature, "languages", feature if isinstance(feature, dict) else ())
    languages = [lang for lang in (source_lang, target_lang) if lang in keys]
    for url in rows.info.download_checksums or {}:
        if commit := re.match(r"hf://datasets/(.+@[0-9a-f]{40})/", url):
            # Which rows of it: a part of the dataset or a slice may have been chosen, and other columns as the text.
            ends = [rows[i]["translation"] for i in (0, -1)] if len(rows) else []
            place = f"{commit[1]}:{rows.info.config_name}:{rows.split}:{len(rows)}"
            texts = json.dumps([[pair[lang] for lang in languages] for pair in ends])
            return f"{place}:{hashlib.sha256(texts.encode()).hexdigest()[:16]}"
    digest = hashlib.sha256()
    present = [name for name in columns if name in rows.column_names]
    for batch in rows.select_columns(["translation", *present]).iter(batch_size=10_000):
        pairs = [[pair[lang] for lang in languages] for pair in batch["translation"]]
        values = [pairs, *(batch[name] for name in present)] if present else pairs
        digest.update(json.dumps(values, default=str).encode())  # Such as a date.
    return digest.hexdigest()


def dataset_commit(dataset: str, revision: str | None = None) -> str:
    """Returns the commit that a dataset of the Hub has now, of its main branch or of `revision`.

    Raises:
        OSError: if the Hub does not give it.
    """
    with local_or_hub(dataset, "corpus"):
        return str(HfApi().dataset_info(dataset, revision=revision).sha)


def model_fingerprint(
    model: str | Path,
    revision: str | None = None,
    *,
    but_for: Collection[str] = (),
    parameter: str = "model",
    trust_remote_code: bool = False,
) -> dict[str, Any]:
    """Returns what a checkpoint's outputs depend on: the SHA-256 of each of its files, or its commit on the Hub.

    Args:
        model (`str` or `Path`): folder or Hub id.
        revision (`str`, *optional*): branch, tag or commit on the Hub.
        but_for (`Collection[str]`, *optional*): keys of `generation_config.json` that do not count; the others are
            returned as they are.
        parameter (`str`, *optional*, defaults to `"model"`): name of the option that gave the model, for errors.
        trust_remote_code (`bool`, *optional*, defaults to `False`): its Python files are executed, and count.
    """
    folder = Path(model)
    if not folder.is_dir():
        load_pretrained_config(model, parameter=parameter, revision=revision, trust_remote_code=trust_remote_code)
        return {"commit": hub_commit(model, revision)}
    patterns = (*_MODEL_FILES, *(("*.py",) if trust_remote_code else ()))
    files: dict[str, Any] = {**sha256_files(folder, patterns, but_for=_NO_WEIGHTS)}
    if but_for and "generation_config.json" in files:
        settings = read_json(folder / "generation_config.json")
        kept = {key: value for key, value in settings.items() if key not in (*but_for, _FROM_CONFIG)}
        return files | {"generation_config.json": kept}
    return files


def optional_model(model: str | None, **options: Any) -> dict[str, Any] | None:
    """Returns `model_fingerprint`, None where there is no model."""
    return None if model is None else model_fingerprint(model, **options)


def tokenizer_fingerprint(tokenizer: str | Path) -> dict[str, Any]:
    """Returns what the tokens of a checkpoint depend on: the SHA-256 of its tokenizer's files, or its Hub commit."""
    if not Path(tokenizer).is_dir():
        return model_fingerprint(tokenizer, parameter="tokenizer")
    return tokenizer_files(tokenizer)
