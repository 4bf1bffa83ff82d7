"""Prediction of the target length from the encoder."""

import torch
from torch import nn

from .canvas import stable_order
from .configuration_nat import LengthNATConfig
from .losses import cross_entropy, sentence_weights
from .pooling import mean_pool


class LengthPredictor(nn.Module):
    """Classifies the target length from the mean of the encoder states.

    Lengths count EOS on both sides. A length outside the range of the classes is trained as the outermost class, which
    thereby means "at least" or "at most".

    Args:
        config ([`LengthNATConfig`]): the model's configuration.

    Source: Zhou et al. 2020, appendix A.2; mean pooling without bias and the offset classes are fairseq's.
    """

    def __init__(self, config: LengthNATConfig) -> None:
        super().__init__()
        self.num_bins = config.num_length_bins
        self.loss_weight = config.length_loss_weight
        self.is_offset = config.length_prediction == "offset"
        self.classifier = nn.Linear(config.d_model, config.num_length_bins, bias=False)

    def forward(self, encoder_hidden_states: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Scores the length classes.

        Args:
            encoder_hidden_states (`torch.FloatTensor` of shape `(B, S, D)`): final encoder states.
            attention_mask (`torch.LongTensor` of shape `(B, S)`): 1 at source tokens.

        Returns:
            `torch.FloatTensor` of shape `(B, M)`: unnormalised scores.
        """
        return self.classifier(mean_pool(encoder_hidden_states, attention_mask))

    def shortest(self, source_lengths: torch.Tensor) -> torch.Tensor:
        """Returns the target length of class 0 for each sentence, in tokens; it may be negative.

        Args:
            source_lengths (`torch.LongTensor` of shape `(B,)`): source lengths in tokens.

        Returns:
            `torch.LongTensor` of shape `(B,)`: the lengths.
        """
        return source_lengths - self.num_bins // 2 if self.is_offset else torch.zeros_like(source_lengths)

    def classes(self, target_lengths: torch.Tensor, source_lengths: torch.Tensor) -> torch.Tensor:
        """Returns the class of each target length.

        Args:
            target_lengths (`torch.LongTensor` of shape `(B,)`): target lengths in tokens.
            source_lengths (`torch.LongTensor` of shape `(B,)`): source lengths in tokens.

        Returns:
            `torch.LongTensor` of shape `(B,)`: classes in [0, M).
        """
        return (target_lengths - self.shortest(source_lengths)).clamp(0, self.num_bins - 1)

    def loss(
        self,
        length_logits: torch.Tensor,
        labels: torch.Tensor,
        attention_mask: torch.Tensor,
        num_items_in_batch: int | torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Computes the weighted cross-entropy of the gold length, without label smoothing.

        Args:
            length_logits (`torch.FloatTensor` of shape `(B, M)`): scores of the classes.
            labels (`torch.LongTensor` of shape `(B, T)`): targets with EOS; -100 is ignored.
            attention_mask (`torch.LongTensor` of shape `(B, S)`): 1 at source tokens.
            num_items_in_batch (`int` or `torch.Tensor`, *optional*): target tokens of the whole update.

        Returns:
            `torch.FloatTensor` of shape `()`: loss in nats per target token, times `length_loss_weight`.
        """
        is_target = labels.ne(-100)
        classes = self.classes(is_target.sum(dim=1), attention_mask.sum(dim=1))
        return self.loss_weight * cross_entropy(length_logits, classes, sentence_weights(labels, num_items_in_batch))

    def candidates(
        self, length_logits: torch.Tensor, source_lengths: torch.Tensor, length_beam: int, max_length: int
    ) -> torch.Tensor:
        """Returns the most probable legal target lengths, best first; of equal ones the shorter goes first.

        A legal length holds EOS, one more token where the source has content, and at most `max_length` tokens.
        Candidates differ from each other as long as enough legal classes exist.

        Args:
            length_logits (`torch.FloatTensor` of shape `(B, M)`): scores of the classes.
            source_lengths (`torch.LongTensor` of shape `(B,)`): source lengths in tokens.
            length_beam (`int`): number of candidates (K), at most M.
            max_length (`int`): longest target, in tokens.

        Returns:
            `torch.LongTensor` of shape `(B, K)`: lengths in tokens, EOS counted.
        """
        bins = torch.arange(self.num_bins, device=length_logits.device)
        lengths = self.shortest(source_lengths).unsqueeze(1) + bins
        minimum = (1 + (source_lengths > 1).long()).clamp(max=max_length).unsqueeze(1)
        illegal = (lengths < minimum) | (lengths > max_length)
        scores = length_logits.float().masked_fill(illegal, float("-inf"))
        if length_beam == 1:  # Of equal ones `argmax` takes the first too, and sorts nothing.
            order = scores.argmax(dim=1, keepdim=True)
        else:
            order = stable_order(scores, descending=True)[:, :length_beam]
        best = lengths.gather(1, order)
        return torch.maximum(best, minimum).clamp(max=max_length)
