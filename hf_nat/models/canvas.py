"""Canvases: target rows `y1 .. yn </s>` whose content is known, masked or still to be written.

Dimension letters: B batch, T target, R rows of a decoding state.
"""

from typing import Any

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


def source_positions(attention_mask: torch.Tensor) -> torch.Tensor:
    """Counts the positions of a source from its first token, so that padding before it moves nothing.

    Args:
        attention_mask (`torch.LongTensor` of shape `(B, S)`): 1 at tokens.

    Returns:
        `torch.LongTensor` of shape `(B, S)`: positions, 0 at what comes before the first token.
    """
    first = attention_mask.ne(0).int().argmax(dim=1, keepdim=True)
    return (torch.arange(attention_mask.shape[1], device=attention_mask.device) - first).clamp(min=0)


def require_right_padding(attention_mask: torch.Tensor) -> None:
    """Raises an error if there is padding before a token, which other models take for a part of the source.

    Args:
        attention_mask (`torch.LongTensor` of shape `(B, S)`): 1 at tokens.

    Raises:
        ValueError: if there is no row, or one has a 0 before a 1 or no 1.
    """
    if not attention_mask.numel() or (attention_mask.dim() == 2 and not attention_mask.any(dim=1).all()):
        shape = tuple(attention_mask.shape)
        raise ValueError(
            f"A batch must have a source, and each source a token, got the shape {shape} with an empty one."
        )
    if attention_mask.dim() == 2 and bool((attention_mask[:, 1:] > attention_mask[:, :-1]).any()):
        raise ValueError("`attention_mask` must be right-padded, got padding before a token. Pad on the right.")


def largest(lengths: torch.Tensor) -> int:
    """Returns the largest of some lengths `(R,)`, at least 0; `torch.export` traces it as a size."""
    width: Any = lengths.max().item()
    torch._check(width >= 0)
    return width


def stable_order(values: torch.Tensor, descending: bool = False) -> torch.Tensor:
    """Sorts each row, equal values as they stand; ONNX can write it too.

    Args:
        values (`torch.Tensor` of shape `(R, T)`): what is sorted.
        descending (`bool`, *optional*, defaults to `False`): the largest first.

    Returns:
        `torch.LongTensor` of shape `(R, T)`: the places of the values, in their order.
    """
    if torch.compiler.is_exporting():  # There every sort is stable, and the word for it unknown.
        return values.sort(dim=1, descending=descending).indices
    return values.argsort(dim=1, descending=descending, stable=True)


def mask_canvas(
    lengths: torch.Tensor, mask_token_id: int, eos_token_id: int, pad_token_id: int, width: int | None = None
) -> torch.Tensor:
    """Builds canvases whose content is all masks.

    Args:
        lengths (`torch.LongTensor` of shape `(R,)`): target lengths in tokens, EOS counted, at least 1.
        mask_token_id (`int`): id written at content positions.
        eos_token_id (`int`): id written at the last position of each row.
        pad_token_id (`int`): id written behind it.
        width (`int`, *optional*): width of the canvases (T), by default the longest length, which the host has to ask
            the device for.

    Returns:
        `torch.LongTensor` of shape `(R, T)`: the canvases.
    """
    if width is None:
        width = largest(lengths)
        torch._check(width > 0)
    positions = torch.arange(width, device=lengths.device)
    last = lengths.unsqueeze(1) - 1
    canvas = torch.full((lengths.shape[0], width), mask_token_id, device=lengths.device)
    return canvas.masked_fill(positions == last, eos_token_id).masked_fill(positions > last, pad_token_id)


def compact(
    tokens: torch.Tensor, scores: torch.Tensor, keep: torch.Tensor, pad_token_id: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Moves the kept tokens of each row to the left, in their order.

    Args:
        tokens (`torch.LongTensor` of shape `(R, T)`): rows.
        scores (`torch.FloatTensor` of shape `(R, T)`): scores of the tokens.
        keep (`torch.BoolTensor` of shape `(R, T)`): True at tokens to keep.
        pad_token_id (`int`): id of padding.

    Returns:
        `tuple` of `torch.LongTensor` and `torch.FloatTensor`, both of shape `(R, T)`: tokens, and scores that moved
        with them; behind the end padding and 0.
    """
    width = tokens.shape[1]
    # What is dropped goes to a column of its own, which is cut off.
    positions = (keep.cumsum(dim=1) - 1).masked_fill(~keep, width)
    shape = (tokens.shape[0], width + 1)
    return (
        tokens.new_full(shape, pad_token_id).scatter(1, positions, tokens)[:, :width],
        scores.new_zeros(shape).scatter(1, positions, scores)[:, :width],
    )


def end_canvas(
    tokens: torch.Tensor, scores: torch.Tensor, max_length: int, eos_token_id: int, pad_token_id: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Writes EOS behind the content of each row, which is cut where that would be too late.

    Args:
        tokens (`torch.LongTensor` of shape `(R, T)`): rows of content and padding, of which each has some.
        scores (`torch.FloatTensor` of shape `(R, T)`): scores of the tokens.
        max_length (`int`): longest row, in tokens, EOS counted, at least 1.
        eos_token_id (`int`): id of EOS.
        pad_token_id (`int`): id of padding.

    Returns:
        `tuple` of `torch.LongTensor` and `torch.FloatTensor`, both of shape `(R, T')`: tokens and scores, of EOS and
        behind it 0.
    """
    lengths = tokens.ne(pad_token_id).sum(dim=1, keepdim=True).clamp(max=max_length - 1)
    width = largest(lengths) + 1
    is_content = torch.arange(width, device=tokens.device) < lengths
    tokens = tokens[:, :width].masked_fill(~is_content, pad_token_id).scatter(1, lengths, eos_token_id)
    return tokens, scores[:, :width].masked_fill(~is_content, 0.0)


def first_of_runs(tokens: torch.Tensor) -> torch.Tensor:
    """Returns True at the first token of each run of equal neighbours of rows `[R, T]`."""
    is_first = torch.ones_like(tokens, dtype=torch.bool)
    is_first[:, 1:] = tokens[:, 1:] != tokens[:, :-1]
    return is_first


def insert_masks(
    tokens: torch.Tensor, scores: torch.Tensor, counts: torch.Tensor, mask_token_id: int, pad_token_id: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Inserts masks before tokens; the slot before token t is slot t.

    Args:
        tokens (`torch.LongTensor` of shape `(R, T)`): canvases.
        scores (`torch.FloatTensor` of shape `(R, T)`): scores of the tokens.
        counts (`torch.LongTensor` of shape `(R, T)`): how many masks go into each slot; 0 at padding.
        mask_token_id (`int`): id of the mask token.
        pad_token_id (`int`): id of padding.

    Returns:
        `tuple` of `torch.LongTensor` and `torch.FloatTensor`, both of shape `(R, T')`: the longer canvases, and scores
        that moved with their tokens; those of the masks are 0.
    """
    is_token = tokens.ne(pad_token_id)
    positions = counts.cumsum(dim=1) + torch.arange(tokens.shape[1], device=tokens.device)
    lengths = is_token.sum(dim=1) + counts.sum(dim=1)
    width = largest(lengths)
    behind = torch.arange(width, device=tokens.device) >= lengths.unsqueeze(1)
    # Padding goes to a column of its own, which is cut off.
    positions = positions.masked_fill(~is_token, width)
    shape = (tokens.shape[0], width + 1)
    longer = tokens.new_full(shape, mask_token_id).scatter(1, positions, tokens)[:, :width]
    moved = scores.new_zeros(shape).scatter(1, positions, scores)[:, :width]
    return longer.masked_fill(behind, pad_token_id), moved.masked_fill(behind, 0.0)


def cap_counts(counts: torch.Tensor, priority: torch.Tensor, allowance: torch.Tensor) -> torch.Tensor:
    """Cuts the insertions of each row down to what it may still grow; slots of high priority are served first.

    Args:
        counts (`torch.LongTensor` of shape `(R, T)`): insertions asked for in each slot.
        priority (`torch.FloatTensor` of shape `(R, T)`): priority of the slots; of equal ones the leftmost goes first.
        allowance (`torch.LongTensor` of shape `(R,)`): most insertions of a row, at least 0.

    Returns:
        `torch.LongTensor` of shape `(R, T)`: insertions granted.
    """
    order = stable_order(priority, descending=True)
    asked = counts.gather(1, order)
    left = allowance.unsqueeze(1) - (asked.cumsum(dim=1) - asked)
    return torch.zeros_like(counts).scatter(1, order, torch.minimum(asked, left.clamp(min=0)))


def prepend(tokens: torch.Tensor, token_id: int) -> torch.Tensor:
    """Returns rows `(R, 1 + T)`: `token_id`, then `tokens` `(R, T)`."""
    return torch.cat([tokens.new_full((tokens.shape[0], 1), token_id), tokens], dim=1)


def resize(tokens: torch.Tensor, width: int, fill: float) -> torch.Tensor:
    """Returns rows `(R, width)`: the first columns of `tokens` `(R, T)`, then `fill`."""
    behind = tokens.new_full((tokens.shape[0], width), fill)
    return torch.cat([tokens, behind], dim=1)[:, :width]


def slot_states(hidden_states: torch.Tensor) -> torch.Tensor:
    """Returns the states `(R, T, 2 D)` of the slots between the `1 + T` positions of `hidden_states`."""
    return torch.cat([hidden_states[:, :-1], hidden_states[:, 1:]], dim=2)
