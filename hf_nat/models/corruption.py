"""Corruption of targets that a denoising autoencoder learns to undo.

Dimension letters: B batch, T target, V vocabulary.
"""

from collections.abc import Sequence

import torch

from .canvas import content_mask


def random_tokens(uniforms: torch.Tensor, vocab_size: int, excluded: Sequence[int]) -> torch.Tensor:
    """Turns uniform numbers into uniform tokens.

    Args:
        uniforms (`torch.FloatTensor` of any shape): numbers in [0, 1).
        vocab_size (`int`): number of tokens (V).
        excluded (`Sequence[int]`): ids that are never drawn.

    Returns:
        `torch.LongTensor` of the same shape: ids in [0, V).
    """
    excluded = sorted(set(excluded))
    tokens = (uniforms * (vocab_size - len(excluded))).long()
    for token_id in excluded:
        tokens += tokens >= token_id
    return tokens


def corrupt(
    tokens: torch.Tensor, content: torch.Tensor, uniforms: torch.Tensor, replacements: torch.Tensor, rate: float
) -> torch.Tensor:
    """Replaces, repeats and swaps tokens, from left to right.

    With a third of `rate` each, a position is replaced, repeated (it overwrites the next one) or swapped with the next
    one. A token that was moved to the right may be moved again. The last content position can only be replaced, and
    nothing but content changes.

    Args:
        tokens (`torch.LongTensor` of shape `(B, T)`): targets.
        content (`torch.BoolTensor` of shape `(B, T)`): True at the positions that may change, one run in each row.
        uniforms (`torch.FloatTensor` of shape `(B, T)`): numbers in [0, 1) that decide what happens.
        replacements (`torch.LongTensor` of shape `(B, T)`): what is written where a token is replaced.
        rate (`float`): share of the positions that are replaced, repeated or swapped, in [0, 1].

    Returns:
        `torch.LongTensor` of shape `(B, T)`: corrupted targets.

    Source: the operations are those of Lee et al. 2018, the scan is that of fairseq. Differs from fairseq:
        EOS is never overwritten, and a swap swaps instead of copying the next token over this one.
    """
    has_next = content_mask(content)
    replaced = content & (uniforms < rate / 3)
    swapped = has_next & (uniforms >= rate * 2 / 3) & (uniforms < rate)
    moves_on = has_next & (uniforms >= rate / 3) & (uniforms < rate)
    # The scan arrives at a position with the token that the positions just before it have passed on.
    positions = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
    receives = torch.zeros_like(moves_on)
    receives[:, 1:] = moves_on[:, :-1]
    origins = positions.masked_fill(receives, 0).cummax(dim=1).values
    arrived = tokens.gather(1, origins)
    following = tokens.roll(-1, dims=1)
    return torch.where(replaced, replacements, torch.where(swapped, following, arrived))
