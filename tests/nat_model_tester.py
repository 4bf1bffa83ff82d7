"""Tiny models and batches of all architectures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import MarianMTModel, PreTrainedModel, PreTrainedTokenizerBase

from hf_nat.models import (
    ARCHITECTURES,
    GlancingConfig,
    LengthNATGenerationMixin,
    NATPreTrainedModel,
    marian_config,
    new_teacher,
)


PAD, BOS, EOS, UNK, MASK = range(5)
VOCAB_SIZE = 24
MODEL_TYPES = sorted(ARCHITECTURES)
# What holds for some architectures only.
LENGTH_MODEL_TYPES = [name for name in MODEL_TYPES if issubclass(ARCHITECTURES[name][1], LengthNATGenerationMixin)]
GLANCING_MODEL_TYPES = [name for name in MODEL_TYPES if issubclass(ARCHITECTURES[name][0], GlancingConfig)]
CANVAS_READERS = [name for name in MODEL_TYPES if name != "flowseq"]  # FlowSeq reads latent variables
PASSES_PER_ROUND = {"levenshtein_transformer": 3}  # else 1

_SIDES = ("encoder", "decoder")
TINY: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "d_model": 16,
    **{f"{side}_layers": 1 for side in _SIDES},
    **{f"{side}_attention_heads": 2 for side in _SIDES},
    **{f"{side}_ffn_dim": 32 for side in _SIDES},
    "max_position_embeddings": 32,
}
# Fields that some architectures have beside.
TINY_EXTRA: dict[str, Any] = {
    "num_length_bins": 16,
    "flow_steps": [1, 1],
    "init_steps": 0,
    "kl_annealing_steps": 1,
}


def tiny_model(model_type: str, seed: int = 0, **fields: Any) -> NATPreTrainedModel:
    """A model in evaluation mode whose weights are large enough for varied outputs."""
    config_class, model_class = ARCHITECTURES[model_type]
    extra = {name: value for name, value in TINY_EXTRA.items() if hasattr(config_class, name)}
    settings = {**TINY, **extra, "init_std": 0.3, "dropout": 0.0, **fields}
    torch.manual_seed(seed)
    return model_class(config_class(**settings)).eval()


def tiny_student(model_type: str, tokenizer: PreTrainedTokenizerBase, **fields: Any) -> NATPreTrainedModel:
    """A `tiny_model` of a tokenizer's vocabulary."""
    special = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "bos", "eos", "mask")}
    return tiny_model(model_type, **{"vocab_size": len(tokenizer), **special, **fields})


def save(folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Path:
    """Makes the folder of a model."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tiny_teacher(**fields: Any) -> MarianMTModel:
    torch.manual_seed(1)
    settings = {**TINY, "init_std": 0.3, "dropout": 0.0, **fields}
    vocab_size = settings.pop("vocab_size")
    config = marian_config(
        "nano", vocab_size=vocab_size, pad_token_id=PAD, eos_token_id=EOS, bos_token_id=BOS, **settings
    )
    return new_teacher(config).eval()


def pad_rows(rows: list[list[int]], value: int, width: int = 0) -> torch.Tensor:
    width = max(width, *(len(row) for row in rows))
    return torch.tensor([row + [value] * (width - len(row)) for row in rows])


SOURCES = [[5, 6, 7, 8, 9, 10, EOS], [11, 12, EOS], [EOS], [13, UNK, 15, 16, EOS]]
TARGETS = [[9, 8, 7, 6, EOS], [10, 10, 11, 12, 13, 14, EOS], [20, EOS], [UNK, 5, 6, EOS]]


def tiny_batch(rows: list[int] | None = None, extra_padding: int = 0) -> dict[str, torch.Tensor]:
    """Sentences of all lengths, an empty source and `<unk>` among them."""
    rows = list(range(len(SOURCES))) if rows is None else rows
    sources, targets = [SOURCES[row] for row in rows], [TARGETS[row] for row in rows]
    input_ids = pad_rows(sources, PAD, extra_padding and max(map(len, sources)) + extra_padding)
    labels = pad_rows(targets, -100, extra_padding and max(map(len, targets)) + extra_padding)
    return {"input_ids": input_ids, "attention_mask": input_ids.ne(PAD).long(), "labels": labels}


def assert_translations(sequences: torch.Tensor, mask_token_id: int = MASK) -> None:
    """Content without special tokens, EOS, padding; no column of padding alone."""
    for row in sequences.tolist():
        end = row.index(EOS)
        assert not set(row[:end]) & {PAD, BOS, EOS, mask_token_id}
        assert set(row[end + 1 :]) <= {PAD}
    assert sequences[:, -1].ne(PAD).any()
