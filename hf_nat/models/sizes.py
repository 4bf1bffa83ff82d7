"""Model sizes: one table for teachers and students."""

from collections.abc import Callable
from typing import Any

from transformers import GenerationConfig, MarianConfig, MarianMTModel

from .configuration_moe_marian import MoEMarianConfig
from .modeling_moe_marian import MoEMarianMTModel


TEACHER_MAX_LENGTH = 201


def _size(d_model: int, ffn_dim: int, num_layers: int, num_heads: int, dropout: float) -> dict[str, int | float]:
    """Spells one size in Marian's field names; encoder and decoder are alike.

    Below a width of 512, initial weights are larger than the usual N(0, 0.02), so that a layer's output has the same
    variance as there: a CMLM of width 64 learns nothing from 0.02.
    """
    sides = ("encoder", "decoder")
    return {
        "d_model": d_model,
        **{f"{side}_ffn_dim": ffn_dim for side in sides},
        **{f"{side}_layers": num_layers for side in sides},
        **{f"{side}_attention_heads": num_heads for side in sides},
        "dropout": dropout,
        "init_std": round(0.02 * max(512 / d_model, 1) ** 0.5, 3),
    }


# `tiny` to `big` are Table 5 of the paper; `nano` and `mini` are for a CPU.
SIZES: dict[str, dict[str, int | float]] = {
    "nano": _size(d_model=64, ffn_dim=256, num_layers=2, num_heads=4, dropout=0.1),
    "mini": _size(d_model=128, ffn_dim=512, num_layers=3, num_heads=4, dropout=0.1),
    "tiny": _size(d_model=256, ffn_dim=1024, num_layers=3, num_heads=4, dropout=0.1),
    "small": _size(d_model=512, ffn_dim=1024, num_layers=3, num_heads=8, dropout=0.1),
    "base": _size(d_model=512, ffn_dim=2048, num_layers=6, num_heads=8, dropout=0.3),
    "big": _size(d_model=1024, ffn_dim=4096, num_layers=6, num_heads=16, dropout=0.3),
}


def size_config(size: str) -> dict[str, int | float]:
    """Returns the configuration fields of a named size, for a teacher or a student.

    Args:
        size (`str`): a key of `SIZES`.

    Returns:
        `dict`: `d_model`, layers, heads and FFN widths of both sides, `dropout` and `init_std`, in Marian's names.

    Raises:
        ValueError: if the size is unknown.

    Source: Zhou et al. 2020, Table 5 (`tiny`, `small`, `base`, `big`).
    """
    if size not in SIZES:
        raise ValueError(f"`size` must be one of {', '.join(SIZES)}, got {size!r}.")
    return dict(SIZES[size])


def marian_config(
    size: str, *, vocab_size: int, pad_token_id: int, eos_token_id: int, bos_token_id: int | None, **overrides: Any
) -> MarianConfig:
    """Returns the configuration of the paper's autoregressive Transformer in a named size.

    Post-norm, ReLU, sinusoidal positions, one embedding shared by encoder, decoder and output; the decoder starts
    from `pad_token_id`, as Marian's does.

    Args:
        size (`str`): a key of `SIZES`.
        vocab_size (`int`): number of tokens of the joint vocabulary.
        pad_token_id (`int`): id of the padding and decoder start token.
        eos_token_id (`int`): id of the end-of-sentence token.
        bos_token_id (`int`, *optional*): id of the begin-of-sentence token; the model does not use it.
        **overrides: fields of `MarianConfig` that replace the preset's.

    Returns:
        `MarianConfig`: the configuration.

    Raises:
        ValueError: if the size or an overriding field is unknown.

    Source: Zhou et al. 2020, appendix A.1 and Table 5. Differs: weights start from N(0, `init_std`).
    """
    special = {"pad_token_id": pad_token_id, "eos_token_id": eos_token_id, "bos_token_id": bos_token_id}
    fields = {"vocab_size": vocab_size, "decoder_start_token_id": pad_token_id, **special}
    return MarianConfig(**_teacher_fields(MarianConfig, size, fields, overrides))


def moe_marian_config(
    size: str,
    *,
    vocab_size: int,
    pad_token_id: int,
    eos_token_id: int,
    bos_token_id: int | None,
    num_experts: int = 3,
    **overrides: Any,
) -> MoEMarianConfig:
    """Returns the configuration of a mixture of experts: [`marian_config`] and `num_experts` tokens more.

    Args:
        size (`str`): a key of `SIZES`.
        vocab_size (`int`): number of tokens of the joint vocabulary, the experts' tokens not counted: they follow.
        pad_token_id (`int`): id of the padding token.
        eos_token_id (`int`): id of the end-of-sentence token.
        bos_token_id (`int`, *optional*): id of the begin-of-sentence token; the model does not use it.
        num_experts (`int`, *optional*, defaults to 3): number of experts (K).
        **overrides: fields of [`MoEMarianConfig`] that replace the preset's.

    Returns:
        [`MoEMarianConfig`]: the configuration; its `vocab_size` is the one given + `num_experts`.

    Raises:
        ValueError: if the size or an overriding field is unknown, or a field is out of range.

    Source: Zhou et al. 2020, section 5.2, where 3 experts are best for a vanilla NAT student.
    """
    special = {"pad_token_id": pad_token_id, "eos_token_id": eos_token_id, "bos_token_id": bos_token_id}
    fields = {"vocab_size": vocab_size + num_experts, "num_experts": num_experts, **special}
    return MoEMarianConfig(**_teacher_fields(MoEMarianConfig, size, fields, overrides))


def _teacher_fields(
    config_class: type[MarianConfig], size: str, fields: dict[str, Any], overrides: dict[str, Any]
) -> dict[str, Any]:
    """Fields of a teacher in a named size; `overrides` replace the others and must be known."""
    unknown = sorted(set(overrides) - set(config_class().to_dict()))
    if unknown:
        raise ValueError(f"`overrides` must be fields of `{config_class.__name__}`, got {unknown}.")
    shared = {"forced_eos_token_id": None, "activation_function": "relu", "scale_embedding": True}
    return {**shared, **size_config(size), **fields, **overrides}


# model_type -> configuration in a named size: the autoregressive teachers that can be trained.
TEACHER_CONFIGS: dict[str, Callable[..., MarianConfig]] = {
    MarianConfig.model_type: marian_config,
    MoEMarianConfig.model_type: moe_marian_config,
}


def new_teacher(config: MarianConfig) -> MarianMTModel:
    """Builds an untrained teacher whose generation defaults are explicit.

    transformers stops generation at 20 tokens where a checkpoint says nothing else, and drops `max_length` from a
    model configuration; hence a `generation_config.json` of its own.

    Args:
        config (`MarianConfig`): configuration, see [`marian_config`] and [`moe_marian_config`].

    Returns:
        `MarianMTModel`: the model, a [`MoEMarianMTModel`] where the configuration says so; it generates greedily, at
        most 200 tokens or the number of its positions, with expert 0.

    Source: Zhou et al. 2020, appendix A.1; the 200 tokens are fairseq's default.
    """
    model = MoEMarianMTModel(config) if isinstance(config, MoEMarianConfig) else MarianMTModel(config)
    model.generation_config = GenerationConfig(
        max_length=min(TEACHER_MAX_LENGTH, config.max_position_embeddings),
        num_beams=1,
        do_sample=False,
        pad_token_id=config.pad_token_id,
        bos_token_id=config.bos_token_id,
        eos_token_id=config.eos_token_id,
        decoder_start_token_id=config.decoder_start_token_id,
    )
    return model
