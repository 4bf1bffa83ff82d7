"""Prefix beam search over the frames of a CTC model: frame strings that collapse alike are one hypothesis.

Dimension letters: R rows, F frames, N frames of all rows, W hypotheses of a row, C labels that they grow by, M labels
of a target, V vocabulary.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from heapq import heapify, heappush, heapreplace
from itertools import islice
from operator import attrgetter, itemgetter

import torch

from .ctc import best_alignment
from .shallow_fusion import ShallowFusion


@torch.no_grad()
def prefix_beam_search(
    log_probs: torch.Tensor,
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

    The device is asked once, for the best labels of all frames; the search itself is a loop over dictionaries on the
    host, in double precision.

    Args:
        log_probs (`torch.FloatTensor` of shape `(N, V)`): log-probabilities at the frames, row by row; minus infinity
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

    Source: Hannun et al. 2014 (arXiv:1408.2873).
    """
    max_frames = is_frame.shape[1]
    tokens, likelihoods, scores = [], [], []
    for frames in _frames(log_probs, is_frame, blank, beam_size, vocabulary):
        found = []
        for hypothesis in _search(frames, beam_size, fusion):
            end = 0.0 if fusion is None else fusion.end_gain(hypothesis.prefix, eos_token_id)
            found.append((hypothesis.score + end, hypothesis))
        found.sort(key=itemgetter(0), reverse=True)
        missing = beam_size - len(found)
        prefixes = [hypothesis.prefix for _, hypothesis in found] + [()] * missing
        tokens.append([[*prefix, *[blank] * (max_frames - len(prefix))] for prefix in prefixes])
        likelihoods.append([hypothesis.total for _, hypothesis in found] + [-math.inf] * missing)
        scores.append([score for score, _ in found] + [-math.inf] * missing)
    device = log_probs.device
    return (
        torch.tensor(tokens, device=device),
        torch.tensor(likelihoods, dtype=log_probs.dtype, device=device),
        torch.tensor(scores, dtype=log_probs.dtype, device=device),
    )


@dataclass(slots=True)
class _Frame:
    """What a row's search reads of a frame.

    Attributes:
        blank (`float`): log-probability of the blank.
        labels (`list[tuple[int, float]]`): the C best labels, best first, and their log-probabilities.
        score (`Callable`): log-probability of any label that is among the best ones of a frame.
    """

    blank: float
    labels: list[tuple[int, float]]
    score: Callable[[int], float]


@dataclass(slots=True)
class _Hypothesis:
    """A prefix and its log-probability, in two parts.

    Attributes:
        prefix (`tuple[int, ...]`): its labels.
        after_blank (`float`): log-probability of the frame strings that end with a blank.
        after_label (`float`): that of those that end with a label.
        gain (`float`): what a [`ShallowFusion`] adds.
        total (`float`): log-probability of all of them.
        score (`float`): what it is chosen by.
    """

    prefix: tuple[int, ...]
    after_blank: float
    after_label: float
    gain: float
    total: float
    score: float


def _frames(
    log_probs: torch.Tensor, is_frame: torch.Tensor, blank: int, beam_size: int, vocabulary: torch.Tensor | None
) -> Iterator[list[_Frame]]:
    """Reads what the search of each row needs, in one go for all rows."""
    # One more than can survive: a label that repeats the last one may lose its place to the next.
    num_labels = min(beam_size + 1, log_probs.shape[1] - 1)
    best_scores, best = log_probs.topk(num_labels + 1, dim=1)  # the blank among them
    # A label that a prefix ends with is one of the best ones of an earlier frame.
    known = best.unique()
    columns, scores = known.tolist(), log_probs
    if log_probs.device.type != "cpu":
        columns, scores = list(range(len(known))), log_probs.index_select(1, known).cpu()
    if vocabulary is not None:
        best, known = vocabulary[best], vocabulary[known]
    column, score = dict(zip(known.tolist(), columns, strict=True)), scores.numpy().item
    at_blank = log_probs[:, blank if vocabulary is None else vocabulary.eq(blank).int().argmax()]
    lists = enumerate(zip(at_blank.tolist(), best.tolist(), best_scores.tolist(), strict=True))
    for num_frames in is_frame.sum(dim=1).tolist():
        frames = []
        for number, (blank_score, labels, label_scores) in islice(lists, num_frames):
            pairs = [pair for pair in zip(labels, label_scores, strict=True) if pair[0] != blank]
            frames.append(_Frame(blank_score, pairs[:num_labels], partial(_look_up, score, number, column)))
        yield frames


def _look_up(score: Callable[..., float], frame: int, column: dict[int, int], label: int) -> float:
    """Reads the log-probability of a label."""
    return score(frame, column[label])


def _search(frames: list[_Frame], beam_size: int, fusion: ShallowFusion | None) -> list[_Hypothesis]:
    """Searches a row; hypotheses that exist, best first."""
    beam = [_Hypothesis((), 0.0, -math.inf, 0.0, 0.0, 0.0)]
    for frame in frames:
        by_prefix = {hypothesis.prefix: hypothesis for hypothesis in beam}
        candidates = [_stayed(hypothesis, by_prefix, frame) for hypothesis in beam]
        candidates += _grown(beam, by_prefix, frame, [one.score for one in candidates], beam_size, fusion)
        candidates.sort(key=attrgetter("score"), reverse=True)
        beam = [one for one in candidates[:beam_size] if one.total > -math.inf]
    return beam


def _stayed(hypothesis: _Hypothesis, by_prefix: dict[tuple[int, ...], _Hypothesis], frame: _Frame) -> _Hypothesis:
    """Reads a frame that adds no label; with the strings of a shorter prefix that grows to this one."""
    prefix, after_label = hypothesis.prefix, hypothesis.after_label
    if prefix:
        shorter = by_prefix.get(prefix[:-1])
        if shorter is not None:
            after_label = _log_add(after_label, _arriving(shorter, prefix[-1]))
        after_label += frame.score(prefix[-1])
    after_blank = hypothesis.total + frame.blank
    total = _log_add(after_blank, after_label)
    return _Hypothesis(prefix, after_blank, after_label, hypothesis.gain, total, total + hypothesis.gain)


def _grown(
    beam: list[_Hypothesis],
    by_prefix: dict[tuple[int, ...], _Hypothesis],
    frame: _Frame,
    scores: list[float],
    beam_size: int,
    fusion: ShallowFusion | None,
) -> Iterator[_Hypothesis]:
    """Reads a frame that adds a label to hypotheses, best first; those that cannot survive are left out.

    `scores` are those of the hypotheses that add none.
    """
    heapify(scores)
    largest_gain = 0.0 if fusion is None else fusion.largest_gain
    for label, label_score in frame.labels:
        if len(scores) == beam_size and beam[0].score + label_score + largest_gain <= scores[0]:
            return
        for hypothesis in beam:
            if len(scores) == beam_size and hypothesis.score + label_score + largest_gain <= scores[0]:
                break
            total = _arriving(hypothesis, label) + label_score
            prefix = (*hypothesis.prefix, label)
            if total == -math.inf or prefix in by_prefix:
                continue
            gain = hypothesis.gain + (0.0 if fusion is None else fusion.gain(hypothesis.prefix, label))
            if len(scores) < beam_size:
                heappush(scores, total + gain)
            elif total + gain > scores[0]:
                heapreplace(scores, total + gain)
            else:
                continue
            yield _Hypothesis(prefix, -math.inf, total, gain, total, total + gain)


def _arriving(hypothesis: _Hypothesis, label: int) -> float:
    """Log-probability of the strings that a label may follow: one that repeats the last needs a blank between."""
    return hypothesis.after_blank if hypothesis.prefix[-1:] == (label,) else hypothesis.total


def _log_add(one: float, other: float) -> float:
    """Returns log(exp(one) + exp(other))."""
    if one < other:
        one, other = other, one
    return one if other == -math.inf else one + math.log1p(math.exp(other - one))


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
