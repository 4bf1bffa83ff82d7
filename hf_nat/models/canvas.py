"""Canvases: target rows `y1 .. yn </s>` whose content is known, masked or still to be written.

Dimension letters: B batch, T target, R rows of a decoding state.
"""

import torch


def content_mask(target_mask: torch.Tensor) -> torch.Tensor:
    """Finds the content of right-padded targets: every real position but the last, which holds EOS.

    Args:
        target_mask (`torch.BoolTensor` of shape `(B, T)`): True at real tokens.

    Returns:
        `torch.BoolTensor` of shape `(B, T)`: True at content tokens.
    """
    following = torch.zeros_like(target_mask)
    following[:, :-1] = target_mask[:, 1:]
    return target_mask & following


def mask_canvas(lengths: torch.Tensor, mask_token_id: int, eos_token_id: int, pad_token_id: int) -> torch.Tensor:
    """Builds canvases whose content is all masks.

    Args:
        lengths (`torch.LongTensor` of shape `(R,)`): target lengths in tokens, EOS counted, at least 1.
        mask_token_id (`int`): id written at content positions.
        eos_token_id (`int`): id written at the last position of each row.
        pad_token_id (`int`): id written behind it.

    Returns:
        `torch.LongTensor` of shape `(R, max(lengths))`: the canvases.
    """
    positions = torch.arange(int(lengths.max()), device=lengths.device)
    last = lengths.unsqueeze(1) - 1
    canvas = torch.full((len(lengths), len(positions)), mask_token_id, device=lengths.device)
    return canvas.masked_fill(positions == last, eos_token_id).masked_fill(positions > last, pad_token_id)


def collapse_repeats(
    tokens: torch.Tensor, scores: torch.Tensor, pad_token_id: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Keeps the first of each run of equal neighbours and moves the rest of the row to the left.

    Args:
        tokens (`torch.LongTensor` of shape `(R, T)`): right-padded rows.
        scores (`torch.FloatTensor` of shape `(R, T)`): scores of the tokens.
        pad_token_id (`int`): id of padding.

    Returns:
        `tuple` of `torch.LongTensor` and `torch.FloatTensor`, both of shape `(R, T)`: tokens, and scores that moved
        with them; behind the end padding and 0.
    """
    repeated = torch.zeros_like(tokens, dtype=torch.bool)
    repeated[:, 1:] = tokens[:, 1:] == tokens[:, :-1]
    order = repeated.long().argsort(dim=1, stable=True)
    dropped = repeated.gather(1, order)
    return (
        tokens.gather(1, order).masked_fill(dropped, pad_token_id),
        scores.gather(1, order).masked_fill(dropped, 0.0),
    )
