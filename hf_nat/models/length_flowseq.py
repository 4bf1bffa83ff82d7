"""Prediction of the target length in FlowSeq: only lengths that the flow can squeeze are classes.

Dimension letters: B batch, S source, T target, D model, K candidates of a sentence, M length classes.
"""

import torch
from torch import nn

from .canvas import stable_order
from .configuration_flowseq import FlowSeqConfig


class FlowSeqLengthPredictor(nn.Module):
    """Classifies the difference of target and source length from the last encoder state.

    Lengths count EOS on both sides, the target's its padding too. Class c stands for the target length S + c - R with
    R = `length_range`; it is legal if that is a positive multiple of `length_unit` for which the model has positions.

    Args:
        config ([`FlowSeqConfig`]): the model's configuration.

    Source: Ma et al. 2019, section 3.4 and the authors' code.
    """

    def __init__(self, config: FlowSeqConfig) -> None:
        super().__init__()
        self.unit = config.length_unit
        self.length_range = config.length_range
        self.longest = config.max_position_embeddings
        self.label_smoothing = config.label_smoothing
        self.num_bins = 2 * config.length_range + 1
        self.classifier = nn.Sequential(
            nn.Linear(config.d_model, config.d_model),
            nn.ELU(),
            nn.Dropout(config.length_dropout),
            nn.Linear(config.d_model, config.d_model),
            nn.ELU(),
            nn.Dropout(config.length_dropout),
            nn.Linear(config.d_model, self.num_bins),
        )

    def _lengths(self, source_lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the target length of each class and whether it is legal: two `[B, M]`."""
        offsets = torch.arange(-self.length_range, self.length_range + 1, device=source_lengths.device)
        lengths = source_lengths.unsqueeze(1) + offsets
        return lengths, (lengths % self.unit == 0) & (lengths > 0) & (lengths <= self.longest)

    def forward(self, encoder_hidden_states: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Scores the length classes.

        Args:
            encoder_hidden_states (`torch.FloatTensor` of shape `(B, S, D)`): final encoder states.
            attention_mask (`torch.LongTensor` of shape `(B, S)`): 1 at source tokens.

        Returns:
            `torch.FloatTensor` of shape `(B, M)`: unnormalised scores, -inf for illegal classes.
        """
        source_lengths = attention_mask.sum(dim=1)
        rows = torch.arange(source_lengths.shape[0], device=source_lengths.device)
        last = attention_mask.cumsum(dim=1).argmax(dim=1)  # wherever the padding is
        scores = self.classifier(encoder_hidden_states[rows, last])
        return scores.masked_fill(~self._lengths(source_lengths)[1], float("-inf"))

    def classes(self, target_lengths: torch.Tensor, source_lengths: torch.Tensor) -> torch.Tensor:
        """Returns the legal class nearest to each target length, once that is rounded up to a multiple of the unit.

        Args:
            target_lengths (`torch.LongTensor` of shape `(B,)`): target lengths in tokens, at least 1.
            source_lengths (`torch.LongTensor` of shape `(B,)`): source lengths in tokens.

        Returns:
            `torch.LongTensor` of shape `(B,)`: classes in [0, M).
        """
        lengths, legal = self._lengths(source_lengths)
        rounded = (target_lengths + self.unit - 1) // self.unit * self.unit
        distances = (lengths - rounded.unsqueeze(1)).abs()
        return distances.masked_fill(~legal, torch.iinfo(distances.dtype).max).argmin(dim=1)

    def loss(self, length_logits: torch.Tensor, labels: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Computes the cross-entropy of the gold length, smoothed over the legal classes.

        Args:
            length_logits (`torch.FloatTensor` of shape `(B, M)`): scores of the classes, -inf for illegal ones.
            labels (`torch.LongTensor` of shape `(B, T)`): targets with EOS; -100 is ignored.
            attention_mask (`torch.LongTensor` of shape `(B, S)`): 1 at source tokens.

        Returns:
            `torch.FloatTensor` of shape `()`: loss in nats, summed over the sentences.
        """
        source_lengths = attention_mask.sum(dim=1)
        classes = self.classes(labels.ne(-100).sum(dim=1), source_lengths)
        legal = self._lengths(source_lengths)[1]
        losses = -length_logits.float().log_softmax(dim=1)
        gold = losses.gather(1, classes.unsqueeze(1)).squeeze(1)
        mean = losses.masked_fill(~legal, 0.0).sum(dim=1) / legal.sum(dim=1)
        return ((1 - self.label_smoothing) * gold + self.label_smoothing * mean).sum()

    def candidates(
        self, length_logits: torch.Tensor, source_lengths: torch.Tensor, length_beam: int, max_length: int
    ) -> torch.Tensor:
        """Returns the most probable target lengths, best first; of equal ones the shorter goes first.

        A length that exceeds `max_length` by less than the unit is cut to it. Where fewer than K lengths fit, the
        first is repeated.

        Args:
            length_logits (`torch.FloatTensor` of shape `(B, M)`): scores of the classes, -inf for illegal ones.
            source_lengths (`torch.LongTensor` of shape `(B,)`): source lengths in tokens.
            length_beam (`int`): number of candidates (K), at most M.
            max_length (`int`): longest target, in tokens.

        Returns:
            `torch.LongTensor` of shape `(B, K)`: lengths in tokens, with EOS and padding of the target.
        """
        lengths, _ = self._lengths(source_lengths)
        scores = length_logits.float().masked_fill(lengths >= max_length + self.unit, float("-inf"))
        order = stable_order(scores, descending=True)
        best, best_scores = lengths.gather(1, order), scores.gather(1, order)
        best = torch.where(best_scores.isfinite(), best, best[:, :1])
        # Where no length fits, all classes are too long.
        return best[:, :length_beam].clamp(max=max_length)
