"""What the host has to know of a tensor's values: which positions a mask selects, how far a counter is.

Only the selected positions are projected to the vocabulary, the largest product by far, so that their number decides
shapes. The `meta` device has shapes and no values: there a mask selects all positions, the most that it can.

Dimension letters: B batch, L positions, N selected positions.
"""

import torch


def selected_positions(selected: torch.Tensor) -> torch.Tensor:
    """Lists the positions where a mask is True.

    Args:
        selected (`torch.BoolTensor` of any shape): True at N positions.

    Returns:
        `torch.LongTensor` of shape `(N,)`: their places in the flattened mask, in rising order; on `meta` all places.
    """
    if selected.is_meta:
        return torch.arange(selected.numel(), device=selected.device)
    return selected.flatten().nonzero().squeeze(1)


def take(values: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Picks positions of a batch.

    Args:
        values (`torch.Tensor` of shape `(B, L, ...)`): one value, or vector, for each position.
        positions (`torch.LongTensor` of shape `(N,)`): result of [`selected_positions`] for a mask `(B, L)`.

    Returns:
        `torch.Tensor` of shape `(N, ...)`: what they hold.
    """
    return values.flatten(0, 1).index_select(0, positions)


def counter_value(counter: torch.Tensor) -> int:
    """Returns the number that a buffer of shape `()` holds; on `meta` 0, its first one."""
    return 0 if counter.is_meta else int(counter)
