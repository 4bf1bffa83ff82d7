"""Pooling of encoder states over the source.

Dimension letters: B batch, S source, D model.
"""

import torch


def mean_pool(hidden_states: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """Returns the mean of the states of each sentence, padding left out, computed in single precision.

    Args:
        hidden_states (`torch.FloatTensor` of shape `(B, S, D)`): encoder states.
        attention_mask (`torch.LongTensor` of shape `(B, S)`): 1 at source tokens.

    Returns:
        `torch.FloatTensor` of shape `(B, D)`: the means, in the precision of the states.
    """
    weights = attention_mask.float() / attention_mask.sum(dim=1, keepdim=True)
    mean = (hidden_states.float() * weights.unsqueeze(-1)).sum(dim=1)
    return mean.to(hidden_states.dtype)
