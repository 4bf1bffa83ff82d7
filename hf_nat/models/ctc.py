"""Connectionist temporal classification (CTC): all ways to write a target into a longer row of frames.

A frame holds a label or the blank. Frames collapse to a target: equal neighbours are merged, then blanks dropped.

Dimension letters: B batch, F frames, M labels of a target without EOS, D model, V vocabulary; 2 M + 1 states of a
target: blank, y1, blank, ..., yM, blank.
"""

from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from transformers.utils.generic import maybe_autocast

from .canvas import compact, first_of_runs
from .losses import at_least_single, linear_cross_entropy
from .selection import selected_positions, take


def is_feasible(labels: torch.Tensor, num_labels: torch.Tensor, num_frames: torch.Tensor) -> torch.Tensor:
    """Tells which targets fit into their frames: a label repeated at once needs a blank between.

    Args:
        labels (`torch.LongTensor` of shape `(B, M)`): targets; what lies behind `num_labels` is ignored.
        num_labels (`torch.LongTensor` of shape `(B,)`): labels of each target.
        num_frames (`torch.LongTensor` of shape `(B,)`): frames of each row.

    Returns:
        `torch.BoolTensor` of shape `(B,)`: True where at least one alignment exists.
    """
    positions = torch.arange(1, max(1, labels.shape[1]), device=labels.device)
    repeats = (labels[:, 1:] == labels[:, :-1]) & (positions < num_labels.unsqueeze(1))
    return num_labels + repeats.sum(dim=1) <= num_frames


@torch.compiler.disable
def ctc_log_likelihood(
    scores: torch.Tensor, labels: torch.Tensor, num_labels: torch.Tensor, num_frames: torch.Tensor
) -> torch.Tensor:
    """Adds up the alignments of each target with its frames.

    Args:
        scores (`torch.FloatTensor` of shape `(B, F, M)`): logit of each label of the target, less that of the blank.
        labels (`torch.LongTensor` of shape `(B, M)`): targets; what lies behind `num_labels` is ignored.
        num_labels (`torch.LongTensor` of shape `(B,)`): labels of each target, 0 allowed.
        num_frames (`torch.LongTensor` of shape `(B,)`): frames of each row, at least 1.

    Returns:
        `torch.FloatTensor` of shape `(B,)`: logarithm of the sum over alignments of exp(sum of their scores), in nats,
        at least in single precision. The log-likelihood of a target is this plus the log-probability of blanks alone.
        Minus infinity, with a gradient of 0, for a target that does not fit.

    Source: Graves et al. 2006, section 4.1, for scores that need no normalisation.
    """
    return _CTCLogLikelihood.apply(scores, labels, num_labels, num_frames)


class _CTCLogLikelihood(torch.autograd.Function):
    """Forward and backward variables in one sweep: those of the reversed rows are the backward variables."""

    @staticmethod
    def forward(
        ctx: Any, scores: torch.Tensor, labels: torch.Tensor, num_labels: torch.Tensor, num_frames: torch.Tensor
    ) -> torch.Tensor:
        """Returns the log-likelihoods `[B]` of `ctc_log_likelihood`; keeps posteriors `[B, F, M]`."""
        dtype = scores.dtype
        scores = at_least_single(scores)
        needs_grad = ctx.needs_input_grad[0]
        ends = 2 * num_labels
        emissions, skips = _lattice(scores, labels)
        if needs_grad:
            frames, states = _reversed(num_frames, scores.shape[1]), _reversed(ends + 1, emissions.shape[2])
            backwards = _reorder(emissions, frames, states)
            # A skip over the blank between two labels, read from the right, arrives at the left one.
            skips = torch.cat([skips, skips.gather(1, _reversed(ends + 3, emissions.shape[2]))])
            alphas = _sweep(torch.cat([emissions, backwards]), skips)
            alphas, betas = alphas[:, : len(scores)], alphas[:, len(scores) :]
        else:
            alphas = _sweep(emissions, skips)
        finals = _finals(alphas, num_frames, ends)
        log_likelihood = finals.logsumexp(dim=1)
        if needs_grad:
            # At each frame and state both variables hold the frame's own emission.
            betas = _reorder(betas.transpose(0, 1), frames, states)
            joint = alphas.transpose(0, 1) + betas - emissions - log_likelihood.view(-1, 1, 1)
            is_frame = torch.arange(scores.shape[1], device=scores.device) < num_frames.unsqueeze(1)
            is_label = torch.arange(scores.shape[2], device=scores.device) < num_labels.unsqueeze(1)
            valid = is_frame.unsqueeze(2) & is_label.unsqueeze(1) & log_likelihood.isfinite().view(-1, 1, 1)
            ctx.save_for_backward(joint[:, :, 1::2].exp().masked_fill(~valid, 0.0))
            ctx.dtype = dtype
        return log_likelihood

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """The gradient of a score is the posterior of its label at its frame, times the one from above `[B]`."""
        (posteriors,) = ctx.saved_tensors
        return (posteriors * grad.view(-1, 1, 1)).to(ctx.dtype), None, None, None


def _lattice(scores: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores `[B, F, 2 M + 1]` of the states, 0 for blanks, and where a label may follow the one before: 0, else -inf.

    The latter is `[B, 2 M + 1]`, at the later label.
    """
    num_rows, num_frames, width = scores.shape
    emissions = scores.new_zeros(num_rows, num_frames, 2 * width + 1)
    emissions[:, :, 1::2] = scores
    skips = scores.new_full((num_rows, 2 * width + 1), float("-inf"))
    skips[:, 3::2].masked_fill_(labels[:, 1:] != labels[:, :-1], 0.0)
    return emissions, skips


def _reversed(lengths: torch.Tensor, width: int) -> torch.Tensor:
    """Indices `[B, width]` that reverse the first `lengths` items, kept within the width."""
    return (lengths.unsqueeze(1) - 1 - torch.arange(width, device=lengths.device)).clamp(min=0, max=width - 1)


def _reorder(values: torch.Tensor, frames: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
    """Picks frames `[B, F]` and states `[B, S]` of values `[B, F, S]`."""
    values = values.gather(1, frames.unsqueeze(2).expand_as(values))
    return values.gather(2, states.unsqueeze(1).expand_as(values))


def _sweep(emissions: torch.Tensor, skips: torch.Tensor) -> torch.Tensor:
    """Forward variables `[F, B, S]`: the paths from the first frame that end at each frame and state."""
    num_rows, num_frames, width = emissions.shape
    # Two states before the first one, which no path reaches.
    alphas = emissions.new_full((num_frames, num_rows, width + 2), float("-inf"))
    alphas[0, :, 2:4] = emissions[:, 0, :2]
    for frame in range(1, num_frames):
        stay, step, skip = alphas[frame - 1, :, 2:], alphas[frame - 1, :, 1:-1], alphas[frame - 1, :, :-2]
        arriving = torch.logaddexp(torch.logaddexp(stay, step), skip + skips)
        torch.add(arriving, emissions[:, frame], out=alphas[frame, :, 2:])
    return alphas[:, :, 2:]


def _finals(variables: torch.Tensor, num_frames: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    """Variables `[F, B, S]` of the two states in which a path may end, at the last frame of each row: `[B, 2]`."""
    last = variables[num_frames - 1, torch.arange(len(num_frames), device=num_frames.device)]
    before = last.gather(1, (ends - 1).clamp(min=0).unsqueeze(1)).masked_fill(ends.eq(0).unsqueeze(1), float("-inf"))
    return torch.cat([before, last.gather(1, ends.unsqueeze(1))], dim=1)


@torch.compiler.disable
@torch.no_grad()
def best_alignment(
    scores: torch.Tensor, labels: torch.Tensor, num_labels: torch.Tensor, num_frames: torch.Tensor
) -> torch.Tensor:
    """Finds the most probable alignment of each target with its frames (Viterbi).

    Args:
        scores (`torch.FloatTensor` of shape `(B, F, M)`): see [`ctc_log_likelihood`], as for the other arguments.
        labels (`torch.LongTensor` of shape `(B, M)`): targets.
        num_labels (`torch.LongTensor` of shape `(B,)`): labels of each target.
        num_frames (`torch.LongTensor` of shape `(B,)`): frames of each row.

    Returns:
        `torch.LongTensor` of shape `(B, F)`: state of each frame, from 0: blank k is state 2 k, label k is 2 k + 1;
        -1 behind the frames, and everywhere if the target does not fit. Of equally probable alignments, one whose
        frames lie at later states.
    """
    scores = at_least_single(scores)
    emissions, skips = _lattice(scores, labels)
    num_rows, max_frames, width = emissions.shape
    best = emissions.new_full((max_frames, num_rows, width + 2), float("-inf"))
    best[0, :, 2:4] = emissions[:, 0, :2]
    origins = torch.zeros(max_frames, num_rows, width, dtype=torch.int8, device=scores.device)
    for frame in range(1, max_frames):
        before = best[frame - 1]
        arriving, origins[frame] = torch.stack([before[:, 2:], before[:, 1:-1], before[:, :-2] + skips]).max(dim=0)
        best[frame, :, 2:] = arriving + emissions[:, frame]
    ends = 2 * num_labels
    finals = _finals(best[:, :, 2:], num_frames, ends)
    state = torch.where(finals[:, 0] > finals[:, 1], ends - 1, ends)
    states = torch.full((num_rows, max_frames), -1, device=scores.device)
    fits = finals.amax(dim=1).isfinite()
    for frame in range(max_frames - 1, -1, -1):
        aligned = fits & (frame < num_frames)
        states[:, frame] = torch.where(aligned, state, -1)
        state = torch.where(aligned, state - origins[frame].gather(1, state.unsqueeze(1)).squeeze(1), state)
    return states


def label_scores(hidden_states: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, blank: int) -> torch.Tensor:
    """Scores the labels of each target at all frames, relative to the blank.

    Args:
        hidden_states (`torch.FloatTensor` of shape `(B, F, D)`): states of the frames.
        weight (`torch.FloatTensor` of shape `(V, D)`): weight of the output projection.
        labels (`torch.LongTensor` of shape `(B, M)`): targets, with any token behind them.
        blank (`int`): id of the blank.

    Returns:
        `torch.FloatTensor` of shape `(B, F, M)`: logit of each label less that of the blank, at least in single
        precision.
    """
    outputs = nn.functional.embedding(nn.functional.pad(labels, (1, 0), value=blank), weight)
    with maybe_autocast(hidden_states.device.type, enabled=False):
        outputs = at_least_single(outputs)
        return at_least_single(hidden_states) @ (outputs[:, 1:] - outputs[:, :1]).transpose(1, 2)


def linear_ctc_loss(
    hidden_states: torch.Tensor,
    weight: torch.Tensor,
    is_frame: torch.Tensor,
    labels: torch.Tensor,
    num_labels: torch.Tensor,
    weights: torch.Tensor,
    blank: int,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """Projects states to the vocabulary and computes the weighted sum of the CTC losses, without keeping logits.

    All alignments take each frame once. What they share, the probability of blanks alone, comes from
    [`linear_cross_entropy`]; how much more probable the target is needs the logits of its own labels only.

    Args:
        hidden_states (`torch.FloatTensor` of shape `(B, F, D)`): states of the frames.
        weight (`torch.FloatTensor` of shape `(V, D)`): weight of the output projection.
        is_frame (`torch.BoolTensor` of shape `(B, F)`): True at the frames, which come first in a row.
        labels (`torch.LongTensor` of shape `(B, M)`): targets without EOS, with any token behind them.
        num_labels (`torch.LongTensor` of shape `(B,)`): labels of each target.
        weights (`torch.FloatTensor` of shape `(B,)`): weight of each sentence; those that do not fit are left out.
        blank (`int`): id of the blank.
        label_smoothing (`float`, *optional*, defaults to 0.0): weight of the cross-entropy to the uniform
            distribution, summed over the frames, beside the negative log-likelihood, which keeps the rest.

    Returns:
        `torch.FloatTensor` of shape `()`: loss in nats.

    Source: Graves et al. 2006; label smoothing as in Gu and Kong 2021.
    """
    num_frames = is_frame.sum(dim=1)
    weights = weights * is_feasible(labels, num_labels, num_frames)
    positions = selected_positions(is_frame)
    all_blank, _ = linear_cross_entropy(
        take(hidden_states, positions),
        weight,
        labels.new_full(positions.shape, blank),
        take(weights.unsqueeze(1).expand(is_frame.shape), positions),
        label_smoothing=label_smoothing,
    )
    scores = label_scores(hidden_states, weight, labels, blank)
    gains = ctc_log_likelihood(scores, labels, num_labels, num_frames)
    return all_blank - (1 - label_smoothing) * (weights * gains.masked_fill(weights.eq(0), 0.0)).sum()


def collapse(
    frames: torch.Tensor, scores: torch.Tensor, is_frame: torch.Tensor, blank: int, pad_token_id: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Merges equal neighbours, then drops blanks.

    Args:
        frames (`torch.LongTensor` of shape `(B, F)`): label or blank of each frame.
        scores (`torch.FloatTensor` of shape `(B, F)`): its log-probability in nats.
        is_frame (`torch.BoolTensor` of shape `(B, F)`): True at the frames, which come first in a row.
        blank (`int`): id of the blank.
        pad_token_id (`int`): id of padding.

    Returns:
        `tuple` of `torch.LongTensor` and `torch.FloatTensor`, both of shape `(B, F)`: tokens, and of each the highest
        score of the frames that it was merged from; behind them padding and 0.
    """
    starts = first_of_runs(frames)
    runs = starts.cumsum(dim=1) - 1
    visible = scores.masked_fill(~is_frame, float("-inf"))
    highest = torch.full_like(scores, float("-inf")).scatter_reduce(1, runs, visible, "amax")
    return compact(frames, highest.gather(1, runs), starts & is_frame & frames.ne(blank), pad_token_id)
