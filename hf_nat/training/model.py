"""From the keys of a run to its model: new in a preset size, from a teacher's blocks, or from a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import (
    CONFIG_MAPPING,
    AutoModelForSeq2SeqLM,
    MarianConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.marian.modeling_marian import MarianSinusoidalPositionalEmbedding

from ..data.pretrained import (
    load_pretrained_config,
    load_pretrained_model,
    require_possible,
    require_vocabulary,
)
from ..models import ARCHITECTURES, TEACHER_CONFIGS, new_teacher, size_config
from ..models.configuration_nat import require_buildable
from ..models.warm_start import copy_blocks
from .arguments import ModelArguments


DEFAULT_SIZE = "base"


def build_model(
    args: ModelArguments, tokenizer: PreTrainedTokenizerBase, *, label_smoothing: float = 0.1
) -> PreTrainedModel:
    """Builds the model of a run.

    Args:
        args (`ModelArguments`): architecture, size, overrides and start.
        tokenizer (`PreTrainedTokenizerBase`): gives the vocabulary size and the special tokens' ids.
        label_smoothing (`float`, *optional*, defaults to 0.1): put in the config of a model that has it there.

    Raises:
        OSError: if there is no checkpoint to start from.
        ValueError: for unknown fields or values, or a checkpoint that is damaged or of another vocabulary.
    """
    if args.init_from:
        changed = model_config(args, {"label_smoothing": label_smoothing})
        model = load_pretrained_model(args.init_from, parameter="init_from", config=changed)
        require_vocabulary(model, tokenizer, "init_from", args.init_from)
        for module in model.modules():
            if isinstance(module, MarianSinusoidalPositionalEmbedding):
                module.weight.requires_grad_(False)  # As in a new model; transformers 5.24 would train them.
        return model
    vocabulary = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "bos", "eos")}
    if decided := sorted(vocabulary.keys() & (args.model_config or {}).keys()):
        raise ValueError(f"`model_config` must leave out `{decided[0]}`: the tokenizer decides it.")
    vocabulary["vocab_size"] = len(tokenizer)
    if (wanted := (args.model_config or {}).get("vocab_size", len(tokenizer))) < len(tokenizer):
        raise ValueError(f"`vocab_size` must be >= the {len(tokenizer)} of the tokenizer, got {wanted}. Leave it out.")
    if args.model_type in ARCHITECTURES:
        vocabulary["mask_token_id"] = tokenizer.mask_token_id
    if args.model_type != "marian":
        vocabulary["label_smoothing"] = label_smoothing
    config: Any = model_config(args, vocabulary)
    if not args.init_from_teacher:
        return new_teacher(config) if args.model_type in TEACHER_CONFIGS else ARCHITECTURES[args.model_type][1](config)
    teacher = load_pretrained_model(args.init_from_teacher, parameter="init_from_teacher")
    require_vocabulary(teacher, tokenizer, "init_from_teacher", args.init_from_teacher)
    if args.model_type in ARCHITECTURES:
        given = {**vocabulary, **(args.model_config or {})}
        return ARCHITECTURES[args.model_type][1].from_teacher(teacher, layer_selection=args.layer_selection, **given)
    at_student = new_teacher(config)
    copy_blocks(at_student, teacher, len(tokenizer), args.layer_selection)
    return at_student


@contextmanager
def _taking_values() -> Iterator[None]:
    """Turns what a configuration's class says of a value that it cannot take into an error of the key."""
    try:
        yield
    except (StrictDataclassError, TypeError, ZeroDivisionError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"`model_config` must hold values that the configuration takes: {reason}.") from error


@_taking_values()
def model_config(args: ModelArguments, vocabulary: Mapping[str, Any] | None = None) -> PreTrainedConfig:
    """Returns the configuration of the model that a run trains, without making its weights.

    Args:
        args (`ModelArguments`): architecture, size, overrides and start.
        vocabulary (`Mapping[str, Any]`, *optional*): size and special tokens of the vocabulary, and what else the
            run decides; by default those of the config class, enough to count the parameters beside the embeddings.

    Raises:
        ValueError: as `build_model`.
    """
    require_possible(args.model_config or {})
    if args.init_from:
        config = load_pretrained_config(args.init_from, parameter="init_from")
        if args.model_type not in (ModelArguments.model_type, config.model_type):
            raise ValueError(
                f"`model_type` must be that of `init_from`, {config.model_type}, got {args.model_type!r}. Leave it "
                "out."
            )
        return _changed(args, config, vocabulary)
    given = {**(vocabulary or {}), **(args.model_config or {})}
    teacher = args.init_from_teacher and load_pretrained_config(args.init_from_teacher, parameter="init_from_teacher")
    if args.model_type in TEACHER_CONFIGS and teacher:
        if teacher.model_type != args.model_type:
            raise ValueError(
                f"`init_from_teacher` must be a {args.model_type} model for an AT student, got a {teacher.model_type}."
            )
        return _changed(args, teacher)
    if args.model_type in TEACHER_CONFIGS:
        special = {"vocab_size": 8000, "pad_token_id": 0, "eos_token_id": 2, "bos_token_id": 1}
        new = TEACHER_CONFIGS[args.model_type](args.size or DEFAULT_SIZE, **{**special, **given})
        require_buildable(new)
        return new
    config_class, _ = ARCHITECTURES[args.model_type]
    known = {field.name for field in fields(config_class)} - {field.name for field in fields(PreTrainedConfig)}
    known |= {"vocab_size", "pad_token_id", "bos_token_id", "eos_token_id"}
    if unknown := sorted(given.keys() - known):
        raise ValueError(f"`model_config` must hold fields of `{config_class.__name__}`, got {unknown[0]!r}.")
    sizes: dict[str, Any] = size_config(args.size or DEFAULT_SIZE)
    if teacher:
        sizes = {name: getattr(teacher, name, value) for name, value in sizes.items()}
    return config_class(**{**sizes, **given})


def _changed(args: ModelArguments, config: PreTrainedConfig, decided: Mapping[str, Any] | None = None) -> Any:
    """A configuration with the changes of `model_config`, and before them what the run decides of its fields."""
    changes, known = args.model_config or {}, config.to_dict()
    decided = {name: value for name, value in (decided or {}).items() if name in known}
    if unknown := sorted(changes.keys() - known.keys()):
        raise ValueError(f"`model_config` must hold fields of `{type(config).__name__}`, got {unknown[0]!r}.")
    if not decided and not changes:
        return config
    changed = type(config)(**{**known, **decided, **changes})
    if isinstance(changed, MarianConfig):
        require_buildable(changed)
    return changed


def model_class(args: ModelArguments) -> type[PreTrainedModel]:
    """Returns the class of the model that a run trains."""
    if args.init_from:
        config_class = type(load_pretrained_config(args.init_from, parameter="init_from"))
    else:
        config_class = CONFIG_MAPPING[args.model_type]
    found: Any = AutoModelForSeq2SeqLM._model_mapping[config_class]
    return found
