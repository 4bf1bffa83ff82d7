"""The score that an autoregressive model gives to what it wrote."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..data.encoding import is_blank
from ..models.teacher import start_token_id
from .sources import encode_sources, max_source_length, token_batches


# Most logits that scoring computes at a time: 128 MB in single precision, and a few times that on the way.
_MAX_LOGITS = 2**25


def mean_log_probs(
    model: PreTrainedModel,
    inputs: dict[str, Tensor],
    decoded: Tensor,
    eos_token_id: int,
    num_given: int,
    max_batch_tokens: int,
) -> list[float]:
    """Mean log-probability in nats of the tokens of each row of `decoded` [B, num_given + T], EOS counted.

    The `num_given` first tokens, the decoder's start token and a forced one, are not the model's and do not count.
    One forward pass over the outputs: `generate` itself would only tell beam scores together with the logits of every
    step and beam, which do not fit in memory for a large batch and vocabulary. For the same reason rows of similar
    length are scored together, and no more than `max_batch_tokens` tokens and `_MAX_LOGITS` logits at a time.
    """
    is_eos = decoded[:, num_given:] == eos_token_id
    num_scored = ((is_eos.cumsum(dim=1) == 0).sum(dim=1) + is_eos.any(dim=1)).cpu()
    max_tokens = min(max_batch_tokens, _MAX_LOGITS // model.config.vocab_size)
    scores = torch.zeros(len(decoded))
    for batch in token_batches(num_scored.tolist(), max(max_tokens, 1)):
        rows, lengths = decoded[batch, : num_given + int(num_scored[batch].max())], num_scored[batch]
        own = {name: tensor[batch] for name, tensor in inputs.items()}
        logits = model(**own, decoder_input_ids=rows[:, :-1]).logits[:, num_given - 1 :]  # [b, t, V]
        targets = rows[:, num_given:]
        losses = nn.functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="none")
        log_probs = -losses.view_as(targets)  # [b, t]
        is_scored = torch.arange(targets.shape[1]) < lengths[:, None]
        # Not a product: a model may forbid padding by a bias of minus infinity.
        scores[batch] = log_probs.cpu().masked_fill(~is_scored, 0.0).sum(dim=1) / lengths
    return scores.tolist()


@torch.inference_mode()
def score_pairs(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    sources: Sequence[str],
    targets: Sequence[str],
    *,
    max_batch_tokens: int = 4096,
    source_prefix: str | None = None,
) -> list[float]:
    """Returns the score of given translations: the mean log-probability per token in nats, EOS counted.

    Every target ends in EOS, and the tokens that the model is made to begin with do not count, as in the scores of
    `translate`. Either side is cut to the model's positions.

    Args:
        model (`PreTrainedModel`): an autoregressive seq2seq model, in eval mode, set to its languages.
        tokenizer (`PreTrainedTokenizerBase`): its tokenizer.
        sources (`Sequence[str]`): source sentences.
        targets (`Sequence[str]`): their translations.
        max_batch_tokens (`int`, *optional*, defaults to 4096): tokens of a batch on its longer side, padding counted.
        source_prefix (`str`, *optional*): text put before every source.
    """
    settings: Any = model.generation_config
    forced = getattr(settings, "forced_bos_token_id", None)
    given = [start_token_id(model), *([] if forced is None else [forced])]
    limit = max_source_length(model)
    encoded = encode_sources(tokenizer, [f"{source_prefix or ''}{source}" for source in sources], limit)
    decoded = [[*given, *ids] for ids in _contents(tokenizer, targets)]
    if limit is not None:
        decoded = [ids if len(ids) <= limit else [*ids[: limit - 1], tokenizer.eos_token_id] for ids in decoded]
    lengths = [max(map(len, pair)) for pair in zip(encoded, decoded, strict=True)]
    scores = [0.0] * len(lengths)
    for batch in token_batches(lengths, max_batch_tokens):
        inputs = padded_batch([encoded[i] for i in batch], tokenizer.pad_token_id, model.device)
        sequences = padded_batch([decoded[i] for i in batch], tokenizer.pad_token_id, model.device)["input_ids"]
        own = mean_log_probs(model, inputs, sequences, tokenizer.eos_token_id, len(given), max_batch_tokens)
        for i, score in zip(batch, own, strict=True):
            scores[i] = score
    return scores


def padded_batch(rows: Sequence[list[int]], pad_token_id: int, device: torch.device) -> dict[str, Tensor]:
    """Returns `input_ids` and `attention_mask` [B, S] of token ids of different lengths."""
    mask = pad_sequence([torch.ones(len(ids), dtype=torch.long) for ids in rows], batch_first=True)
    ids = pad_sequence([torch.tensor(ids) for ids in rows], batch_first=True, padding_value=pad_token_id)
    return {"input_ids": ids.to(device), "attention_mask": mask.to(device)}


def _contents(tokenizer: PreTrainedTokenizerBase, targets: Sequence[str]) -> list[list[int]]:
    """Encodes targets with EOS and without what else the tokenizer adds."""
    if not targets:
        return []
    options: dict[str, Any] = {"add_special_tokens": False, "split_special_tokens": True, "verbose": False}
    encoded = tokenizer(text_target=["" if is_blank(text) else text.strip() for text in targets], **options)
    return [[*ids, tokenizer.eos_token_id] for ids in encoded["input_ids"]]
