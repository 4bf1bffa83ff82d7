"""What others have to know about an autoregressive teacher, be it a mixture of experts or not."""

from typing import Any, cast

from transformers import PreTrainedConfig, PreTrainedModel


def text_vocab_size(config: PreTrainedConfig) -> int:
    """Returns the number of tokens that texts are made of: those of the tokenizer, without a mixture's expert tokens.

    Args:
        config (`PreTrainedConfig`): the teacher's configuration.

    Raises:
        ValueError: if expert tokens lie between those of the tokenizer.
    """
    expert_tokens = getattr(config, "expert_token_ids", None) or []
    size = cast(int, config.vocab_size) - len(expert_tokens)
    if sorted(expert_tokens) != list(range(size, config.vocab_size)):
        raise ValueError(
            f"`expert_token_ids` of the teacher must be the last ids of its vocabulary, {size} to "
            f"{config.vocab_size - 1}, got {expert_tokens}. A student has no such tokens, and those behind them would "
            "change their ids."
        )
    return size


def start_token_id(teacher: PreTrainedModel, expert: int | None = None) -> int:
    """Returns the token that a teacher's decoder starts from, as its `generate` chooses it.

    Args:
        teacher (`PreTrainedModel`): an autoregressive model.
        expert (`int`, *optional*): the expert of a mixture; by default the one of its generation config.

    Raises:
        ValueError: if there is no such expert.
    """
    settings = cast(Any, teacher.generation_config)
    if expert is None:
        expert = getattr(settings, "expert", None)
    if expert is not None:
        return cast(Any, teacher).expert_token_id(expert)
    start = getattr(settings, "decoder_start_token_id", None)
    return cast(int, teacher.config.decoder_start_token_id if start is None else start)
