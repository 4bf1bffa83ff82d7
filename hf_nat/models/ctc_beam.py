"""Prefix beam search over the frames of a CTC model: frame strings that collapse alike are one hypothesis.

Dimension letters: R rows, F frames, N frames of all rows, W hypotheses of a row, C labels that they grow by, M labels
of a target, V vocabulary.
"""

from dataclasses import dataclass

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
    fusion: ShallowFusion | None = None,
    eos_token_id: int = -1,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Finds the most probable targets, each over those of its alignments that the beam has followed.

    With `fusion` a target Y has the score log P(Y) + weight * log P_LM(Y) + length_bonus * |Y|. Of the labels that a
    target may grow by, it is asked for the `beam_size` + 1 most probable ones.

    Args:
        log_probs (`torch.FloatTensor` of shape `(N, V)`): log-probabilities at the frames, row by row; minus infinity
            for what is never written.
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
    num_rows, max_frames = is_frame.shape
    index = (is_frame.flatten().cumsum(dim=0) - 1).clamp(min=0).view(num_rows, max_frames)
    # One more than can survive: a label that repeats the last one may lose its place to the next.
    num_labels = min(beam_size + 1, log_probs.shape[1] - 1)
    beam = _Beam(
        tokens=torch.full((num_rows, beam_size, max_frames), blank, device=is_frame.device),
        lengths=torch.zeros(num_rows, beam_size, dtype=torch.long, device=is_frame.device),
        after_blank=log_probs.new_full((num_rows, beam_size), float("-inf")),
        after_label=log_probs.new_full((num_rows, beam_size), float("-inf")),
        gains=log_probs.new_zeros(num_rows, beam_size),
    )
    beam.after_blank[:, 0] = 0.0
    for frame in range(max_frames):
        scores = log_probs[index[:, frame]]
        stayed, extensions, labels = _advance(beam, scores, blank, num_labels)
        candidates = torch.cat([stayed.total, extensions.flatten(1)], dim=1)
        gains = beam.gains.unsqueeze(2).expand(extensions.shape)
        if fusion is not None:
            wanted = torch.where(extensions.isfinite(), labels.unsqueeze(1), -1)
            gains = gains + fusion(beam.tokens, beam.lengths, wanted)
        gains = torch.cat([beam.gains, gains.flatten(1)], dim=1)
        chosen = (candidates + gains).topk(beam_size, dim=1).indices
        is_new, number = chosen >= beam_size, (chosen - beam_size).clamp(min=0)
        origin = torch.where(is_new, number // num_labels, chosen)
        kept = stayed.select(origin)
        position = kept.lengths.clamp(max=max_frames - 1).unsqueeze(2)
        label = labels.gather(1, number % num_labels).unsqueeze(2)
        label = torch.where(is_new.unsqueeze(2), label, kept.tokens.gather(2, position))
        after = _Beam(
            tokens=kept.tokens.scatter(2, position, label),
            lengths=kept.lengths + is_new,
            after_blank=kept.after_blank.masked_fill(is_new, float("-inf")),
            after_label=torch.where(is_new, candidates.gather(1, chosen), kept.after_label),
            gains=gains.gather(1, chosen),
        )
        beam = after.where(is_frame[:, frame], beam)
    scores = beam.total + beam.gains
    if fusion is not None:
        scores = scores + fusion.end(beam.tokens, beam.lengths, scores.isfinite(), eos_token_id)
    scores, order = scores.sort(dim=1, descending=True, stable=True)
    beam = beam.select(order)
    return beam.tokens, beam.total, scores


@dataclass
class _Beam:
    """Hypotheses: `tokens [R, W, F]`, of which `lengths [R, W]` count, and log-probabilities `[R, W]` in two parts.

    `after_blank` is that of the frame strings that end with a blank, `after_label` of those that end with a label;
    `gains [R, W]` is what a [`ShallowFusion`] adds to them.
    """

    tokens: torch.Tensor
    lengths: torch.Tensor
    after_blank: torch.Tensor
    after_label: torch.Tensor
    gains: torch.Tensor

    @property
    def total(self) -> torch.Tensor:
        """Log-probabilities `[R, W]`."""
        return torch.logaddexp(self.after_blank, self.after_label)

    def select(self, order: torch.Tensor) -> "_Beam":
        """Picks hypotheses `[R, W]`."""
        tokens = self.tokens.gather(1, order.unsqueeze(2).expand_as(self.tokens))
        others = (self.lengths, self.after_blank, self.after_label, self.gains)
        return _Beam(tokens, *(values.gather(1, order) for values in others))

    def where(self, rows: torch.Tensor, other: "_Beam") -> "_Beam":
        """Takes these hypotheses in the rows `[R]`, in the others those of `other`."""
        rows = rows.unsqueeze(1)
        return _Beam(
            torch.where(rows.unsqueeze(2), self.tokens, other.tokens),
            torch.where(rows, self.lengths, other.lengths),
            torch.where(rows, self.after_blank, other.after_blank),
            torch.where(rows, self.after_label, other.after_label),
            torch.where(rows, self.gains, other.gains),
        )


def _advance(
    beam: _Beam, scores: torch.Tensor, blank: int, num_labels: int
) -> tuple[_Beam, torch.Tensor, torch.Tensor]:
    """Reads a frame with log-probabilities `[R, V]`.

    Returns:
        `tuple` of the hypotheses that stay as they are, the log-probabilities `[R, W, C]` of those that grow, and by
        what: the C best labels `[R, C]`.
    """
    num_rows = len(scores)
    ends = (beam.lengths - 1).clamp(min=0).unsqueeze(2)
    last = beam.tokens.gather(2, ends).squeeze(2)
    shorter = beam.tokens.scatter(2, ends, blank)
    # [R, W, W]: the first hypothesis is the second without its last label.
    is_prefix = (beam.tokens.unsqueeze(2) == shorter.unsqueeze(1)).all(dim=3)
    is_prefix &= ((beam.lengths > 0) & beam.total.isfinite()).unsqueeze(1)

    def growing(by: torch.Tensor) -> torch.Tensor:
        """Log-probabilities `[R, W, C]` of hypotheses that grow by labels `[R, C]`, the label's own left out."""
        # A label that repeats the last one needs a blank between.
        return torch.where(
            last.unsqueeze(2) == by.unsqueeze(1), beam.after_blank.unsqueeze(2), beam.total.unsqueeze(2)
        )

    # What a prefix in the beam grows to, if that is in the beam too, is not a new hypothesis.
    grown = growing(last).masked_fill(~is_prefix, float("-inf")).logsumexp(dim=1)
    after_label = torch.logaddexp(beam.after_label, grown) + scores.gather(1, last)
    stayed = _Beam(
        tokens=beam.tokens,
        lengths=beam.lengths,
        after_blank=beam.total + scores[:, blank : blank + 1],
        after_label=after_label.masked_fill(beam.lengths == 0, float("-inf")),
        gains=beam.gains,
    )
    words = scores.index_fill(1, torch.tensor([blank], device=scores.device), float("-inf"))
    label_scores, labels = words.topk(num_labels, dim=1)
    extensions = growing(labels) + label_scores.unsqueeze(1)
    exists = (is_prefix.unsqueeze(3) & (last.view(num_rows, 1, -1, 1) == labels.view(num_rows, 1, 1, -1))).any(dim=2)
    return stayed, extensions.masked_fill(exists, float("-inf")), labels


def label_peaks(
    log_probs: torch.Tensor,
    targets: torch.Tensor,
    num_labels: torch.Tensor,
    num_frames: torch.Tensor,
    rows: torch.Tensor,
    blank: int,
) -> torch.Tensor:
    """Scores each label of a target by its most probable frame in the best alignment.

    Args:
        log_probs (`torch.FloatTensor` of shape `(B, F, V)`): log-probabilities at the frames of B rows.
        targets (`torch.LongTensor` of shape `(R, M)`): targets, with any token behind them.
        num_labels (`torch.LongTensor` of shape `(R,)`): labels of each target.
        num_frames (`torch.LongTensor` of shape `(R,)`): frames of each target.
        rows (`torch.LongTensor` of shape `(R,)`): row of the frames that each target belongs to.
        blank (`int`): id of the blank.

    Returns:
        `torch.FloatTensor` of shape `(R, M)`: log-probabilities in nats; 0 behind the labels.
    """
    frames = torch.arange(log_probs.shape[1], device=targets.device)
    at_frames = log_probs[rows.view(-1, 1, 1), frames.view(1, -1, 1), targets.unsqueeze(1)]
    states = best_alignment(at_frames - log_probs[rows, :, blank].unsqueeze(2), targets, num_labels, num_frames)
    labels = torch.arange(targets.shape[1], device=targets.device)
    aligned = states.unsqueeze(2) == 2 * labels + 1
    return (
        at_frames.masked_fill(~aligned, float("-inf")).amax(dim=1).masked_fill(labels >= num_labels.unsqueeze(1), 0.0)
    )
