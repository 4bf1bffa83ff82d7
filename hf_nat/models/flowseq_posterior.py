"""The posterior of FlowSeq: a Gaussian over the latent variables of a target, given target and source.

Dimension letters: B batch, S source, T target, D model.
"""

import copy
from typing import Any

import torch
from torch import nn
from transformers import initialization as init
from transformers.models.marian.modeling_marian import MarianAttention

from .configuration_flowseq import FlowSeqConfig
from .flow_layers import WeightNormLinear, masked_moments
from .modeling_nat import NATDecoder


# Standard deviation of a head's outputs on the first batch.
_INITIAL_STD = 0.05


class PosteriorHead(WeightNormLinear):
    """Linear layer of unit rows whose gain and bias start from the statistics of the first batch.

    What the first batch decides is kept in buffers, beside the learned parameters, as in [`ActNorm`].

    Args:
        in_features (`int`): number of input features.
        out_features (`int`): number of output features.

    Source: Salimans and Kingma 2016, section 3; the standard deviation of 0.05 is FlowSeq's.
    """

    initial_gain: torch.Tensor
    initial_bias: torch.Tensor

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        self.register_buffer("initial_gain", torch.ones(out_features))
        self.register_buffer("initial_bias", torch.zeros(out_features))

    def reset_parameters(self) -> None:
        """Draws new directions; until a batch decides otherwise the gain is 1 and the bias 0."""
        super().reset_parameters()
        init.ones_(self.initial_gain)
        init.zeros_(self.initial_bias)

    @torch.no_grad()
    def initialize(self, values: torch.Tensor, mask: torch.Tensor) -> None:
        """Gives the outputs for `values [B, T, D]` mean 0 and a small deviation at the positions of `mask [B, T]`."""
        mean, std = masked_moments(self.project(values), mask)
        gain = _INITIAL_STD / std
        self.initial_gain.copy_(gain - self.gain)
        self.initial_bias.copy_(-mean * gain - self.bias)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Maps `values [..., in_features]` to `[..., out_features]`."""
        return self.project(values) * (self.gain + self.initial_gain) + (self.bias + self.initial_bias)


class FlowSeqPosterior(nn.Module):
    """Bidirectional Transformer decoder over the target, with heads for the moments of the latent variables.

    Args:
        config ([`FlowSeqConfig`]): the model's configuration.

    Source: Ma et al. 2019, section 3.2.
    """

    def __init__(self, config: FlowSeqConfig) -> None:
        super().__init__()
        stack_config: Any = copy.copy(config)
        stack_config.decoder_layers = config.posterior_layers
        self.decoder = NATDecoder(stack_config)
        del self.decoder.embed_tokens  # it reads embeddings
        # One configuration for all, so that `set_attn_implementation` reaches the posterior too.
        for module in self.decoder.modules():
            if isinstance(module, NATDecoder | MarianAttention):
                module.config = config
        self.mean = PosteriorHead(config.d_model, config.d_model)
        self.log_variance = PosteriorHead(config.d_model, config.d_model)
        self.word_dropout = config.posterior_word_dropout

    def forward(
        self,
        inputs_embeds: torch.Tensor,
        mask: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        attention_mask: torch.Tensor,
    ) -> torch.Tensor:
        """Reads a target.

        Args:
            inputs_embeds (`torch.FloatTensor` of shape `(B, T, D)`): target embeddings before scaling.
            mask (`torch.BoolTensor` of shape `(B, T)`): True at target tokens.
            encoder_hidden_states (`torch.FloatTensor` of shape `(B, S, D)`): final encoder states.
            attention_mask (`torch.LongTensor` of shape `(B, S)`): 1 at source tokens.

        Returns:
            `torch.FloatTensor` of shape `(B, T, D)`: states for `mean` and `log_variance`.
        """
        if self.training:
            kept = torch.rand(mask.shape, device=mask.device) >= self.word_dropout
            inputs_embeds = inputs_embeds * (kept / (1 - self.word_dropout)).to(inputs_embeds.dtype).unsqueeze(2)
        return self.decoder(
            inputs_embeds=inputs_embeds,
            attention_mask=mask,
            encoder_hidden_states=encoder_hidden_states,
            encoder_attention_mask=attention_mask,
        ).last_hidden_state

    def moments(self, hidden_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns means and logarithms of the standard deviations, in single precision.

        Args:
            hidden_states (`torch.FloatTensor` of shape `(B, T, D)`): result of `forward`.

        Returns:
            `tuple` of two `torch.FloatTensor` of shape `(B, T, D)`: the moments.
        """
        return self.mean(hidden_states).float(), 0.5 * self.log_variance(hidden_states).float()
