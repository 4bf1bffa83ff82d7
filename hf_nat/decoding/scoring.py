"""The score that an autoregressive model gives to what it wrote."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from .sources import token_batches


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
