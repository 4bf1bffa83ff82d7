"""What others have to know about an autoregressive teacher, be it a mixture of experts or not.

Dimension letters: B batch, K candidates of a sentence, S source, T target.
"""

from typing import Any, cast

import torch
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput


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


def teacher_scores(
    teacher: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor, sequences: torch.Tensor, pad_token_id: int
) -> torch.Tensor:
    """Scores candidates as their teacher does.

    Args:
        teacher (`PreTrainedModel`): an autoregressive model.
        input_ids (`torch.LongTensor` of shape `(B, S)`): source tokens.
        attention_mask (`torch.LongTensor` of shape `(B, S)`): 1 at source tokens.
        sequences (`torch.LongTensor` of shape `(B * K, T)`): candidates, those of a sentence side by side.
        pad_token_id (`int`): id of padding in them.

    Returns:
        `torch.FloatTensor` of shape `(B * K,)`: mean log-probabilities per token, EOS counted, in nats.
    """
    num_candidates = len(sequences) // len(input_ids)
    encoded = teacher.get_encoder()(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
    start = sequences.new_full((len(sequences), 1), start_token_id(teacher))
    logits = teacher(
        encoder_outputs=BaseModelOutput(encoded.repeat_interleave(num_candidates, dim=0)),
        attention_mask=attention_mask.repeat_interleave(num_candidates, dim=0),
        decoder_input_ids=torch.cat([start, sequences[:, :-1]], dim=1),
        use_cache=False,
    ).logits.float()
    is_token = sequences.ne(pad_token_id)
    targets = sequences.masked_fill(~is_token, 0)
    log_probs = logits.gather(2, targets.unsqueeze(2)).squeeze(2) - logits.logsumexp(dim=2)
    return log_probs.masked_fill(~is_token, 0.0).sum(dim=1) / is_token.sum(dim=1)
