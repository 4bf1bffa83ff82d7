"""Learned prior of a mixture of experts.

Dimension letters: B batch, S source, D model, K experts.
"""

import torch
from torch import nn

from .configuration_moe_marian import MoEMarianConfig
from .pooling import mean_pool


class GatingNetwork(nn.Module):
    """Predicts the expert of a sentence from the mean of its encoder states: p(expert | source).

    Args:
        config ([`MoEMarianConfig`]): the model's configuration; `dropout` is that of the hidden layer.

    Source: fairseq's `MeanPoolGatingNetwork`, the learned prior of Shen et al. 2019 (sMoElp and hMoElp).
    """

    def __init__(self, config: MoEMarianConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.d_model, config.d_model)
        self.dropout = nn.Dropout(config.dropout)
        self.fc2 = nn.Linear(config.d_model, config.num_experts)

    def forward(self, encoder_hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Computes log p(expert | source).

        Args:
            encoder_hidden_states (`torch.FloatTensor` of shape `(B, S, D)`): final encoder states.
            attention_mask (`torch.LongTensor` of shape `(B, S)`, *optional*): 1 at source tokens; by default all are.

        Returns:
            `torch.FloatTensor` of shape `(B, K)`: nats, in single precision.
        """
        if attention_mask is None:
            attention_mask = encoder_hidden_states.new_ones(encoder_hidden_states.shape[:2])
        hidden = torch.tanh(self.fc1(mean_pool(encoder_hidden_states, attention_mask)))
        return self.fc2(self.dropout(hidden)).float().log_softmax(dim=-1)
