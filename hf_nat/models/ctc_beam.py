"""Prefix beam search over the frames of a CTC model: frame strings that collapse alike are one hypothesis.

Dimension letters: R rows, F frames, N frames of all rows, W hypotheses of a row, M labels of a target, V vocabulary.
"""

import math
from functools import cache

import numpy as np
import torch

from .ctc import best_alignment
from .ctc_search import compiled_search, search
from .shallow_fusion import ShallowFusion
from .word_choice import CACHED_ELEMENTS


# Log-probabilities that are computed at once on a device, to bound its memory.
_DEVICE_ELEMENTS = 2**26


@torch.no_grad()
def prefix_beam_search(
    logits: torch.Tensor,
    is_frame: torch.Tensor,
    blank: int,
    beam_size: int,
    *,
    vocabulary: torch.Tensor | None = None,
    fusion: ShallowFusion | None = None,
    eos_token_id: int = -1,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Finds the most probable targets, each over those of its alignments that the beam has followed.

    With `fusion` a target Y has the score log P(Y) + weight * log P_LM(Y) + length_bonus * |Y|. Of the labels that a
    target may grow by, it is asked for the `beam_size` + 1 most probable ones.

    The search runs on the host, in double precision. It is compiled where numba is installed, but for a language
    model without an `automaton`.

    Args:
        logits (`torch.FloatTensor` of shape `(N, V)`): unnormalised scores at the frames, row by row; minus infinity
            for what is never written.
        vocabulary (`torch.LongTensor` of shape `(V,)`, *optional*): the label of each column, by default its number.
        is_frame (`torch.BoolTensor` of shape `(R, F)`): True at the frames, which come first in a row.
        blank (`int`): id of the blank.
        beam_size (`int`): hypotheses that are kept (W).
        fusion ([`ShallowFusion`], *optional*): takes part, also in the choice of the hypotheses.
        eos_token_id (`int`, *optional*): id of EOS, for the language model.

    Returns:
        `tuple` of targets, best first and blanks behind them (`torch.LongTensor` of shape `(R, W, F)`), their
        log-likelihoods in nats (`torch.FloatTensor` of shape `(R, W)`; minus infinity where targets run out), and the
        scores that they are sorted by, of the same shape.

    Raises:
        ValueError: if the blank is not in the vocabulary.

    Source: Hannun et al. 2014 (arXiv:1408.2873).
    """
    fusion = fusion or ShallowFusion(None, 0.0)
    tokens = torch.arange(logits.shape[1], device=logits.device) if vocabulary is None else vocabulary
    blank_column = tokens.eq(blank).nonzero().flatten()
    if len(blank_column) != 1:
        raise ValueError(f"`vocabulary` must hold the blank {blank} once, got it {len(blank_column)} times.")
    # An automaton is asked as machine code, a function of the user's from Python.
    run = compiled_search() if isinstance(fusion.states, tuple) else None
    model = tuple(fusion.states) if run else cache(fusion.states.advance)
    on_host, dtype = logits.device.type == "cpu", torch.promote_types(logits.dtype, torch.float32)
    rows, max_frames = is_frame.shape
    ends = [0, *is_frame.sum(dim=1).cumsum(dim=0).tolist()]
    targets = np.full((rows, beam_size, max_frames), blank)
    likelihoods = np.full((rows, beam_size), -math.inf)
    scores = likelihoods.copy()
    # Some rows at a time, whose log-probabilities stay in the cache of the host.
    limit = CACHED_ELEMENTS if on_host else _DEVICE_ELEMENTS
    size = max(1, limit // max(1, max_frames * logits.shape[1]))
    for first in range(0, rows, size):
        start, behind = ends[first], min(first + size, rows)
        log_probs, labels = logits[start : ends[behind]].log_softmax(dim=1, dtype=dtype), tokens
        if run is None or not on_host:
            # All that can be written: the labels that are among the best ones of a frame.
            best = log_probs.topk(min(beam_size + 2, log_probs.shape[1]), dim=1).indices
            known = torch.cat([best.flatten(), blank_column]).unique()
            log_probs, labels = log_probs.index_select(1, known), tokens[known]
        frames, columns = log_probs.numpy(force=True), labels.numpy(force=True)
        for row in range(first, behind):
            (run or search)(
                frames[ends[row] - start : ends[row + 1] - start],
                columns,
                int((columns == blank).argmax()),
                eos_token_id,
                beam_size,
                fusion.states.start,
                model,
                fusion.weight,
                fusion.length_bonus,
                targets[row],
                likelihoods[row],
                scores[row],
            )
    return (
        torch.from_numpy(targets).to(logits.device),
        torch.from_numpy(likelihoods).to(logits.device, dtype),
        torch.from_numpy(scores).to(logits.device, dtype),
    )


def rows_of(is_frame: torch.Tensor) -> torch.Tensor:
    """Numbers the frames of all rows: which of `(N, ...)` is each of `is_frame` `(R, F)`; any where there is none."""
    return (is_frame.flatten().cumsum(dim=0) - 1).clamp(min=0).view(is_frame.shape)


def label_peaks(
    log_probs: torch.Tensor,
    is_frame: torch.Tensor,
    index: torch.Tensor,
    targets: torch.Tensor,
    num_labels: torch.Tensor,
    blank: int,
) -> torch.Tensor:
    """Scores each label of a target by its most probable frame in the best alignment.

    Args:
        log_probs (`torch.FloatTensor` of shape `(N, V)`): log-probabilities at the frames.
        is_frame (`torch.BoolTensor` of shape `(R, F)`): True at the frames of each target, which come first.
        index (`torch.LongTensor` of shape `(R, F)`): where in `log_probs` they are, see [`rows_of`].
        targets (`torch.LongTensor` of shape `(R, M)`): targets, with any token behind them.
        num_labels (`torch.LongTensor` of shape `(R,)`): labels of each target.
        blank (`int`): id of the blank.

    Returns:
        `torch.FloatTensor` of shape `(R, M)`: log-probabilities in nats; 0 behind the labels.
    """
    at_frames = log_probs[index.unsqueeze(2), targets.unsqueeze(1)]
    at_blanks = log_probs[:, blank][index].unsqueeze(2)
    states = best_alignment(at_frames - at_blanks, targets, num_labels, is_frame.sum(dim=1))
    labels = torch.arange(targets.shape[1], device=targets.device)
    aligned = states.unsqueeze(2) == 2 * labels + 1
    return (
        at_frames.masked_fill(~aligned, float("-inf")).amax(dim=1).masked_fill(labels >= num_labels.unsqueeze(1), 0.0)
    )
