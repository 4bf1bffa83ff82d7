"""Layers of invertible maps: what the flow of FlowSeq is made of beside its couplings.

Dimension letters: B batch, S source, T target, D model, F features of a layer.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import initialization as init
from transformers.utils.generic import maybe_autocast

from .configuration_flowseq import FlowSeqConfig
from .modeling_nat import bidirectional_mask
from .noise import TargetNoise


@dataclass(frozen=True)
class Grid:
    """What the layers at one time scale share: T positions, of which some are padding.

    Args:
        mask (`torch.BoolTensor` of shape `(B, T)`): True at positions that are no padding.
        attention_mask (`torch.Tensor`, *optional*): `mask` in the form that attention to these positions takes.
        encoder_hidden_states (`torch.FloatTensor` of shape `(B, S, D)`): final encoder states.
        encoder_attention_mask (`torch.Tensor`, *optional*): mask of attention to the encoder states.
    """

    mask: torch.Tensor
    attention_mask: Any
    encoder_hidden_states: torch.Tensor
    encoder_attention_mask: Any


def make_grids(
    config: FlowSeqConfig, mask: torch.Tensor, encoder_hidden_states: torch.Tensor, attention_mask: torch.Tensor
) -> list[Grid]:
    """Builds the grids of all levels; each has half as many positions as the one before.

    Args:
        config ([`FlowSeqConfig`]): the model's configuration.
        mask (`torch.BoolTensor` of shape `(B, T)`): True at target positions; T and the number of them in each row are
            multiples of `config.length_unit`.
        encoder_hidden_states (`torch.FloatTensor` of shape `(B, S, D)`): final encoder states.
        attention_mask (`torch.LongTensor` of shape `(B, S)`): 1 at source tokens.

    Returns:
        `list[Grid]`: one for each level.
    """
    grids = []
    for level in range(config.num_levels):
        level_mask = mask[:, :: 2**level]
        queries = encoder_hidden_states.new_empty(*level_mask.shape, 1)
        self_attention_mask = bidirectional_mask(config, queries, level_mask)
        cross_attention_mask = bidirectional_mask(config, queries, attention_mask, encoder_hidden_states)
        grids.append(Grid(level_mask, self_attention_mask, encoder_hidden_states, cross_attention_mask))
    return grids


def sinusoids(length: int, width: int, like: torch.Tensor) -> torch.Tensor:
    """Computes sinusoidal positions 1, 2, ..; there is no table that a long sentence could exceed.

    Args:
        length (`int`): number of positions (T).
        width (`int`): number of features (F).
        like (`torch.FloatTensor`): tensor whose device and dtype the result takes.

    Returns:
        `torch.FloatTensor` of shape `(T, F)`: sines, then cosines.
    """
    positions = torch.arange(1, length + 1, device=like.device, dtype=torch.float32).unsqueeze(1)
    frequencies = 10000 ** (-torch.arange(0, width, 2, device=like.device) / width)
    angles = positions * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)[:, :width].to(like.dtype)


def masked_moments(values: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Computes mean and standard deviation of each feature over the positions of all processes.

    Args:
        values (`torch.FloatTensor` of shape `(B, T, F)`): features.
        mask (`torch.BoolTensor` of shape `(B, T)`): True at positions that are no padding.

    Returns:
        `tuple` of two `torch.FloatTensor` of shape `(F,)`: means, and standard deviations (1 where a feature does not
        vary).
    """

    def total(values: torch.Tensor) -> torch.Tensor:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(values)
        return values

    padding = ~mask.unsqueeze(2)
    count = total(mask.sum().float())
    mean = total(values.float().masked_fill(padding, 0.0).sum(dim=(0, 1))) / count
    std = (total((values.float() - mean).masked_fill(padding, 0.0).square().sum(dim=(0, 1))) / count).sqrt()
    return mean, std.masked_fill(std < 1e-6, 1.0)


def standard_normal(noise: TargetNoise, *shape: int) -> torch.Tensor:
    """Draws standard Gaussian numbers for each sentence.

    Args:
        noise ([`TargetNoise`]): source of randomness.
        *shape (`int`): how many for each sentence. In evaluation the first numbers do not depend on how many follow:
            positions go first.

    Returns:
        `torch.FloatTensor` of shape `(B, *shape)`: the numbers.
    """
    uniforms = noise.uniform(math.prod(shape)).clamp(min=2**-25)  # 0 would become -infinity
    return (math.sqrt(2) * torch.erfinv(2 * uniforms - 1)).unflatten(1, shape)


def gaussian_log_prob(noise: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Computes the log-density of standard Gaussian noise.

    Args:
        noise (`torch.FloatTensor` of shape `(B, T, F)`): noise.
        mask (`torch.BoolTensor` of shape `(B, T)`): True at positions that are no padding.

    Returns:
        `torch.FloatTensor` of shape `(B,)`: log-densities in nats, summed over these positions.
    """
    log_probs = -0.5 * (noise.square() + math.log(2 * math.pi)).sum(dim=2)
    return (log_probs * mask).sum(dim=1)


class WeightNormLinear(nn.Module):
    """Linear layer of unit rows times a learned gain, which starts at 0: its first outputs are 0.

    Args:
        in_features (`int`): number of input features.
        out_features (`int`): number of output features.

    Source: Salimans and Kingma 2016, as the last layer of a coupling in FlowSeq.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.gain = nn.Parameter(torch.empty(out_features))
        self.bias = nn.Parameter(torch.empty(out_features))

    def reset_parameters(self) -> None:
        """Draws new directions and sets gain and bias to 0."""
        init.normal_(self.weight, std=0.05)
        init.zeros_(self.gain)
        init.zeros_(self.bias)

    def project(self, values: torch.Tensor) -> torch.Tensor:
        """Projects `values [..., in_features]` to the directions, without gain and bias: `[..., out_features]`."""
        return nn.functional.linear(values, nn.functional.normalize(self.weight, dim=1))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Maps `values [..., in_features]` to `[..., out_features]`."""
        return self.project(values) * self.gain + self.bias


class ActNorm(nn.Module):
    """Affine map of each feature whose first batch has mean 0 and standard deviation 1.

    What the first batch decides is kept in buffers, beside the learned parameters: it survives an optimizer or a
    sharding that keeps parameters of its own.

    Args:
        num_features (`int`): number of features (F).

    Source: Kingma and Dhariwal 2018 (Glow), section 3.1. Differs from FlowSeq's code: padding is no part of the
        statistics.
    """

    initial_log_scale: torch.Tensor
    initial_bias: torch.Tensor

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.empty(num_features))
        self.bias = nn.Parameter(torch.empty(num_features))
        self.register_buffer("initial_log_scale", torch.zeros(num_features))
        self.register_buffer("initial_bias", torch.zeros(num_features))

    def reset_parameters(self) -> None:
        """Makes it the identity."""
        for tensor in (self.log_scale, self.bias, self.initial_log_scale, self.initial_bias):
            init.zeros_(tensor)

    def _affine(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns log-scale and bias `[F]`."""
        return (self.initial_log_scale + self.log_scale).float(), (self.initial_bias + self.bias).float()

    @torch.no_grad()
    def initialize(self, z: torch.Tensor, mask: torch.Tensor) -> None:
        """Normalises a batch `z [B, T, F]` over the positions of `mask [B, T]`."""
        mean, std = masked_moments(z, mask)
        self.initial_log_scale.copy_(-std.log() - self.log_scale)
        self.initial_bias.copy_(-mean / std - self.bias)

    def forward(self, z: torch.Tensor, grids: Sequence[Grid]) -> tuple[torch.Tensor, torch.Tensor]:
        """See [`PriorFlow.forward`]."""
        log_scale, bias = self._affine()
        return z * log_scale.exp() + bias, log_scale.sum() * grids[0].mask.sum(dim=1)

    def inverse(self, z: torch.Tensor, grids: Sequence[Grid]) -> torch.Tensor:
        """See [`PriorFlow.inverse`]."""
        log_scale, bias = self._affine()
        return (z - bias) * (-log_scale).exp()


class InvertibleLinear(nn.Module):
    """Multiplies each head's features by one square matrix, the same for all heads.

    A head has 32 features, or as many as the greatest common divisor of 32 and F. The inverse is computed when it is
    needed, so that it is never out of date, until `freeze`.

    Args:
        num_features (`int`): number of features (F).
        strided (`bool`): whether the features of a head are spread over all (type B) or stand side by side (type A).

    Source: Ma et al. 2019 (FlowSeq), section 3.3.2; the 32 features are the authors' code's.
    """

    def __init__(self, num_features: int, strided: bool) -> None:
        super().__init__()
        width = math.gcd(num_features, 32)
        self.num_heads = num_features // width
        self.strided = strided
        self.weight = nn.Parameter(torch.empty(width, width))
        self.frozen_inverse: torch.Tensor | None
        self.register_buffer("frozen_inverse", None, persistent=False)

    def reset_parameters(self) -> None:
        """Draws a rotation."""
        init.orthogonal_(self.weight)

    def _multiply(self, z: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
        with maybe_autocast(z.device.type, enabled=False):
            if self.strided:
                return (matrix @ z.unflatten(2, (-1, self.num_heads))).flatten(2)
            return (z.unflatten(2, (self.num_heads, -1)) @ matrix.T).flatten(2)

    def forward(self, z: torch.Tensor, grids: Sequence[Grid]) -> tuple[torch.Tensor, torch.Tensor]:
        """See [`PriorFlow.forward`]."""
        weight = self.weight.float()
        log_det = torch.linalg.slogdet(weight).logabsdet * self.num_heads
        return self._multiply(z, weight), log_det * grids[0].mask.sum(dim=1)

    def inverse(self, z: torch.Tensor, grids: Sequence[Grid]) -> torch.Tensor:
        """See [`PriorFlow.inverse`]."""
        inverse = self.frozen_inverse
        return self._multiply(z, torch.linalg.inv(self.weight.float()) if inverse is None else inverse)

    @torch.no_grad()
    def freeze(self) -> None:
        """Computes the inverse once and for all: a graph cannot."""
        self.frozen_inverse = torch.linalg.inv(self.weight.float())
