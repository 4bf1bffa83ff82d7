"""Losses that are counted in target tokens, whatever positions an architecture selects."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable


# Logits held at a time: rows enough for matrix products at full speed, and what fills an accelerator.
_CHUNK_ELEMENTS = {"cpu": 2**22}
_ACCELERATOR_CHUNK_ELEMENTS = 2**27


def at_least_single(values: torch.Tensor) -> torch.Tensor:
    """Returns values in single precision, or as they are in double."""
    return values if values.dtype == torch.float64 else values.float()


def num_items(labels: torch.Tensor, num_items_in_batch: int | torch.Tensor | None = None) -> int | torch.Tensor:
    """Returns the target tokens that a loss is divided by: those of the update if it gives them, else of the batch."""
    return labels.ne(-100).sum().clamp(min=1) if num_items_in_batch is None else num_items_in_batch


def token_weights(
    selected: torch.Tensor, labels: torch.Tensor, num_items_in_batch: int | torch.Tensor | None = None
) -> torch.Tensor:
    """Weighs positions so that each sentence counts as often as it has target tokens, however many are selected.

    A loss per target token is the sum of the weighted losses of the selected positions.

    Args:
        selected (`torch.BoolTensor` of shape `(B, L)`): where it is True.
        labels (`torch.LongTensor` of shape `(B, T)`): targets with EOS; -100 is ignored.
        num_items_in_batch (`int` or `torch.Tensor`, *optional*): target tokens of the whole update, over accumulation
            steps and processes; by default those of this batch.

    Returns:
        `torch.FloatTensor` of shape `(B, L)`: weights of the selected positions, elsewhere 0.
    """
    weights = sentence_weights(labels, num_items_in_batch) / selected.sum(dim=1).clamp(min=1)
    return weights.unsqueeze(1) * selected


def sentence_weights(labels: torch.Tensor, num_items_in_batch: int | torch.Tensor | None = None) -> torch.Tensor:
    """Weighs sentences `(B,)` of labels `(B, T)` by their shares of the target tokens, see [`token_weights`]."""
    return labels.ne(-100).sum(dim=1) / num_items(labels, num_items_in_batch)


def token_share(
    marked: torch.Tensor,
    among: torch.Tensor,
    labels: torch.Tensor,
    num_items_in_batch: int | torch.Tensor | None = None,
) -> torch.Tensor:
    """Computes the mean share of positions that are marked, over sentences that count as [`token_weights`] says.

    Args:
        marked (`torch.BoolTensor` of shape `(B, L)`): True at the positions to count.
        among (`torch.BoolTensor` of shape `(B, L)`): True at all positions that could be marked.
        labels (`torch.LongTensor` of shape `(B, T)`): targets with EOS; -100 is ignored.
        num_items_in_batch (`int` or `torch.Tensor`, *optional*): target tokens of the whole update.

    Returns:
        `torch.FloatTensor` of shape `()`: the share, in [0, 1]; over the batches of an update the shares add up.
    """
    return (token_weights(among, labels, num_items_in_batch) * marked).sum().detach()


def cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, label_smoothing: float = 0.0
) -> torch.Tensor:
    """Computes the weighted sum of label-smoothed cross-entropies, in single precision.

    Args:
        logits (`torch.FloatTensor` of shape `(N, C)`): unnormalised scores of C classes; N may be 0.
        targets (`torch.LongTensor` of shape `(N,)`): gold classes.
        weights (`torch.FloatTensor` of shape `(N,)`): weight of each prediction, see [`token_weights`].
        label_smoothing (`float`, *optional*, defaults to 0.0): mass spread evenly over all C classes, the gold one
            included.

    Returns:
        `torch.FloatTensor` of shape `()`: loss in nats; 0, with a gradient of 0, where N is 0.
    """
    losses = nn.functional.cross_entropy(logits.float(), targets, label_smoothing=label_smoothing, reduction="none")
    return (losses * weights).sum()


def chunk_rows(weight: torch.Tensor) -> int:
    """Returns how many rows of logits of an output projection `(V, D)` should be held at a time."""
    elements = _CHUNK_ELEMENTS.get(weight.device.type, _ACCELERATOR_CHUNK_ELEMENTS)
    return max(1, elements // len(weight))


@torch.no_grad()
def reduce_logits(
    hidden_states: torch.Tensor, weight: torch.Tensor, reduce: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """Projects states to the vocabulary a few rows at a time and keeps of the logits what `reduce` returns.

    Args:
        hidden_states (`torch.FloatTensor` of shape `(N, D)`): states to project; N may be 0.
        weight (`torch.FloatTensor` of shape `(V, D)`): weight of the output projection.
        reduce (`Callable`): from logits `(n, V)` in single precision to n values.

    Returns:
        `torch.Tensor` of shape `(N,)`: the values, without a gradient.
    """
    # One chunk at least: it gives the values their type.
    chunks = hidden_states.split(chunk_rows(weight)) or (hidden_states,)
    return torch.cat([reduce(nn.functional.linear(chunk, weight).float()) for chunk in chunks])


def linear_cross_entropy(
    hidden_states: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor,
    weights: torch.Tensor,
    *,
    bias: torch.Tensor | None = None,
    rows: torch.Tensor | None = None,
    label_smoothing: float = 0.0,
    choose: Callable[[torch.Tensor, int], torch.Tensor] | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Projects states to the vocabulary and computes the weighted sum of the cross-entropies, without keeping logits.

    The logits of a few rows at a time are computed, turned into gradients in place and dropped: memory does not grow
    with N x V, and a CPU works in its cache. The projection is not computed again for the backward pass.

    Args:
        hidden_states (`torch.FloatTensor` of shape `(N, D)`): states to project; N may be 0.
        weight (`torch.FloatTensor` of shape `(V, D)`): weight of the output projection.
        targets (`torch.LongTensor` of shape `(K,)`): gold tokens.
        weights (`torch.FloatTensor` of shape `(K,)`): weight of each target, see [`token_weights`].
        bias (`torch.FloatTensor` of shape `(V,)`, *optional*): bias of the output projection.
        rows (`torch.LongTensor` of shape `(K,)`, *optional*): row of `hidden_states` that each target belongs to, in
            rising order; by default each row has one target. Several targets of a row are a soft target, and equal
            ones add up.
        label_smoothing (`float`, *optional*, defaults to 0.0): mass of a target that is spread evenly over all V
            tokens, the gold one included.
        choose (`Callable`, *optional*): called with a copy of the logits `(n, V)` of each chunk and its first row;
            returns n tokens. For a roll-in on the model's own predictions.

    Returns:
        `tuple` of the loss in nats (`torch.FloatTensor` of shape `()`; 0, with a gradient of 0, where K is 0) and the
        chosen tokens (`torch.LongTensor` of shape `(N,)`, or `None`).
    """
    device = hidden_states.device
    if not hidden_states.is_meta and torch.is_autocast_enabled(device.type):
        dtype = torch.get_autocast_dtype(device.type)
        hidden_states, weight = hidden_states.to(dtype), weight.to(dtype)
        bias = None if bias is None else bias.to(dtype)
    loss, chosen = _LinearCrossEntropy.apply(
        hidden_states, weight, bias, rows, targets, weights.float(), label_smoothing, choose
    )
    return loss, None if choose is None else chosen


def _first_targets(rows: torch.Tensor, first_rows: list[int]) -> list[int]:
    """Returns the first target of each chunk of rows, given the rising row of each target."""
    if rows.is_meta:  # No value says it: as if each row had as many.
        return [len(rows) * row // max(1, first_rows[-1]) for row in first_rows]
    return torch.searchsorted(rows, torch.tensor(first_rows, device=rows.device)).tolist()


class _LinearCrossEntropy(torch.autograd.Function):
    """Makes the gradients in the forward pass, for an upstream gradient of 1."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_states: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        rows: torch.Tensor | None,
        targets: torch.Tensor,
        weights: torch.Tensor,
        label_smoothing: float,
        choose: Callable[[torch.Tensor, int], torch.Tensor] | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the loss and the chosen tokens of `linear_cross_entropy`; no more than a chunk of logits is held."""
        num_rows, num_tokens = len(hidden_states), len(weight)
        size = chunk_rows(weight)
        needs_grad = any(ctx.needs_input_grad)
        # Weights near 1: their products with probabilities must not vanish in half precision.
        scale = weights.max().clamp(min=1e-30) if len(weights) else weights.new_ones(())
        relative = weights / scale
        first_rows = range(0, num_rows, size)
        first_targets = [*first_rows, num_rows]
        if rows is None:
            rows, row_weights = torch.arange(num_rows, device=targets.device), relative
        else:
            row_weights = weights.new_zeros(num_rows).index_add(0, rows, relative)
            first_targets = _first_targets(rows, first_targets)
        loss, chosen = weights.new_zeros(()), targets.new_zeros(num_rows if choose else 0)
        if needs_grad:
            grad_hidden = torch.empty_like(hidden_states)
            grad_weight = torch.zeros_like(weight, dtype=torch.float32)
            grad_bias = None if bias is None else torch.zeros_like(bias, dtype=torch.float32)
        for chunk, first in enumerate(first_rows):
            own = slice(first, min(first + size, num_rows))
            gold = slice(first_targets[chunk], first_targets[chunk + 1])
            gold_rows, gold_tokens, gold_weights = rows[gold] - first, targets[gold], relative[gold]
            states = hidden_states[own]
            logits = nn.functional.linear(states, weight, bias).float()
            if choose is not None:
                chosen[own] = choose(logits.clone(), first)
            # One pass over the chunk, where a logarithm of a sum and an exponential would be five. The most probable
            # token has a probability of 1 / V at least, so that its logarithm is as exact as its logit.
            probabilities = logits.softmax(dim=1)
            log_normalisers = logits.amax(dim=1) - probabilities.amax(dim=1).log()
            loss += (row_weights[own] * (log_normalisers - label_smoothing * logits.mean(dim=1))).sum()
            loss -= (1 - label_smoothing) * (gold_weights * logits[gold_rows, gold_tokens]).sum()
            if not needs_grad:
                continue
            # From probabilities to the gradient of the logits, in place: weight * (probability - target).
            grad = probabilities
            if label_smoothing:
                grad.sub_(label_smoothing / num_tokens)
            grad.mul_(row_weights[own].unsqueeze(1))
            grad.index_put_((gold_rows, gold_tokens), gold_weights * (label_smoothing - 1), accumulate=True)
            if grad_bias is not None:
                grad_bias += grad.sum(dim=0)
            grad = grad.to(weight.dtype)
            grad_hidden[own] = grad @ weight
            if grad.dtype == grad_weight.dtype:
                grad_weight.addmm_(grad.T, states)
            else:
                grad_weight += grad.T @ states
        if needs_grad:
            ctx.save_for_backward(grad_hidden, grad_weight, grad_bias, scale)
            ctx.weight_dtype = weight.dtype
        ctx.mark_non_differentiable(chosen)
        return loss * scale, chosen

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_loss: torch.Tensor, _: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Scales the gradients of states, weight and bias by the one from above, a scalar."""
        grad_hidden, grad_weight, grad_bias, scale = ctx.saved_tensors
        factor = grad_loss * scale
        return (
            (grad_hidden * factor).to(grad_hidden.dtype),
            (grad_weight * factor).to(ctx.weight_dtype),
            None if grad_bias is None else (grad_bias * factor).to(ctx.weight_dtype),
            *[None] * 5,
        )
