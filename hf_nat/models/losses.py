"""Losses that are counted in target tokens, whatever positions an architecture selects."""

import torch
from torch import nn


def cross_entropy(logits: torch.Tensor, targets: torch.Tensor, label_smoothing: float = 0.0) -> torch.Tensor:
    """Computes the label-smoothed cross-entropy of each prediction, in single precision.

    Args:
        logits (`torch.FloatTensor` of shape `(N, V)`): unnormalised scores; N may be 0.
        targets (`torch.LongTensor` of shape `(N,)`): gold classes.
        label_smoothing (`float`, *optional*, defaults to 0.0): mass spread evenly over all V classes, the gold one
            included.

    Returns:
        `torch.FloatTensor` of shape `(N,)`: losses in nats.
    """
    return nn.functional.cross_entropy(logits.float(), targets, label_smoothing=label_smoothing, reduction="none")


def sentence_means(losses: torch.Tensor, selected: torch.Tensor) -> torch.Tensor:
    """Averages the losses of the selected positions within each sentence.

    Args:
        losses (`torch.FloatTensor` of shape `(N,)`): losses of the selected positions, in row-major order.
        selected (`torch.BoolTensor` of shape `(B, L)`): True at the N selected positions.

    Returns:
        `torch.FloatTensor` of shape `(B,)`: mean losses; 0, with a gradient of 0, where nothing is selected.
    """
    grid = losses.new_zeros(selected.shape).masked_scatter(selected, losses)
    return grid.sum(dim=1) / selected.sum(dim=1).clamp(min=1)


def token_weighted(
    sentence_losses: dict[str, torch.Tensor],
    labels: torch.Tensor,
    num_items_in_batch: int | torch.Tensor | None = None,
) -> dict[str, torch.Tensor]:
    """Averages sentence losses, each counted as often as its sentence has target tokens.

    Args:
        sentence_losses (`dict[str, torch.FloatTensor]`): named losses, one of shape `(B,)` for each sentence.
        labels (`torch.LongTensor` of shape `(B, T)`): targets with EOS; -100 is ignored.
        num_items_in_batch (`int` or `torch.Tensor`, *optional*): target tokens of the whole update, over accumulation
            steps and processes; by default those of this batch.

    Returns:
        `dict[str, torch.FloatTensor]`: the named losses per target token, of shape `()`.
    """
    num_tokens = labels.ne(-100).sum(dim=1)
    total = num_tokens.sum().clamp(min=1) if num_items_in_batch is None else num_items_in_batch
    return {name: (losses * num_tokens).sum() / total for name, losses in sentence_losses.items()}
