"""The prior of FlowSeq: an invertible map between latent variables and Gaussian noise, given the source.

A layer maps in the direction from latent variables to noise and returns the logarithm of the determinant of its
Jacobian; `inverse` maps back. The map itself is computed in single precision, the networks inside the couplings in the
model's own.

Dimension letters: B batch, T target, D model, F features of a layer.
"""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, Literal

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.integrations import is_deepspeed_zero3_enabled
from transformers.models.marian.modeling_marian import MarianAttention, MarianDecoderLayer

from .configuration_flowseq import FlowSeqConfig
from .flow_layers import ActNorm, Grid, InvertibleLinear, WeightNormLinear, gaussian_log_prob, sinusoids


# A coupling starts with the scale sigmoid(2) = 0.88.
_SCALE_OFFSET = 2.0
_SPLITS: dict[str, Callable[[torch.Tensor], tuple[torch.Tensor, ...]]] = {
    "halves": lambda z: z.chunk(2, dim=2),
    "parity": lambda z: (z[:, :, 0::2], z[:, :, 1::2]),
    "steps": lambda z: z.unflatten(1, (-1, 2)).unbind(dim=2),
}
_JOINS: dict[str, Callable[[list[torch.Tensor]], torch.Tensor]] = {
    "halves": lambda parts: torch.cat(parts, dim=2),
    "parity": lambda parts: torch.stack(parts, dim=3).flatten(2),
    "steps": lambda parts: torch.stack(parts, dim=2).flatten(1, 2),
}


class PositionalAttention(nn.Module):
    """Attention from target positions to what stands there.

    Args:
        config ([`FlowSeqConfig`]): the model's configuration.
        width (`int`): number of features (F).
        num_heads (`int`): number of heads; they divide F.

    Source: Gu et al. 2018, section 3.1, as in FlowSeq.
    """

    def __init__(self, config: FlowSeqConfig, width: int, num_heads: int) -> None:
        super().__init__()
        self.attention = MarianAttention(width, num_heads, config=config)  # type: ignore[arg-type]
        self.layer_norm = nn.LayerNorm(width)

    def forward(self, states: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
        """Attends to states from their positions.

        Args:
            states (`torch.FloatTensor` of shape `(B, T, F)`): what stands at the positions.
            attention_mask (`torch.Tensor`, *optional*): see [`Grid`].

        Returns:
            `torch.FloatTensor` of shape `(B, T, F)`: new states.
        """
        queries = sinusoids(states.shape[1], states.shape[2], like=states).expand_as(states)
        attended, _ = self.attention(queries, key_value_states=states, attention_mask=attention_mask)
        return self.layer_norm(queries + attended)


class Coupling(nn.Module):
    """Maps one part of the variables affinely, with shift and scale computed from the other part and the source.

    Args:
        config ([`FlowSeqConfig`]): the model's configuration.
        split (`str`): the two parts: `halves` of the features, features of even and odd index (`parity`), or even and
            odd time `steps`.
        down (`bool`): whether the second part decides about the first, and not the first about the second.
        attend_positions (`bool`, *optional*, defaults to `False`): whether the network starts with attention from the
            positions, where otherwise they are added.

    Source: Ma et al. 2019, section 3.3.2: one Transformer decoder layer for each coupling.
    """

    def __init__(
        self,
        config: FlowSeqConfig,
        split: Literal["halves", "parity", "steps"],
        down: bool,
        attend_positions: bool = False,
    ) -> None:
        super().__init__()
        self.split = split
        self.down = down
        self.width = config.d_model if split == "steps" else config.d_model // 2
        num_heads: Any = config.flow_attention_heads
        self.positional_attention = PositionalAttention(config, self.width, num_heads) if attend_positions else None
        self.source_proj = None
        if self.width != config.d_model:
            self.source_proj = nn.Linear(config.d_model, self.width, bias=False)
        self.layer = _coupling_layer(config, self.width)
        self.head = WeightNormLinear(self.width, 2 * self.width)

    def _grid(self, grids: Sequence[Grid]) -> Grid:
        """Returns the grid of one part."""
        return grids[1] if self.split == "steps" else grids[0]

    def _parts(self, z: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Splits into the part that stays and the one that changes."""
        first, second = _SPLITS[self.split](z)
        return (second, first) if self.down else (first, second)

    def _join(self, fixed: torch.Tensor, changed: torch.Tensor) -> torch.Tensor:
        return _JOINS[self.split]([changed, fixed] if self.down else [fixed, changed])

    def _shift_and_log_scale(self, fixed: torch.Tensor, grid: Grid) -> tuple[torch.Tensor, torch.Tensor]:
        source = grid.encoder_hidden_states
        hidden_states = fixed.to(source.dtype)
        if self.positional_attention is None:
            hidden_states = hidden_states + sinusoids(fixed.shape[1], self.width, like=hidden_states)
        else:
            hidden_states = self.positional_attention(hidden_states, grid.attention_mask)
        if self.source_proj is not None:
            source = self.source_proj(source)
        hidden_states = self.layer(
            hidden_states,
            grid.attention_mask,
            source,  # positional for gradient checkpointing
            encoder_attention_mask=grid.encoder_attention_mask,
        )
        shift, scale_logits = self.head(hidden_states).float().chunk(2, dim=2)
        return shift, nn.functional.logsigmoid(scale_logits + _SCALE_OFFSET)

    def forward(self, z: torch.Tensor, grids: Sequence[Grid]) -> tuple[torch.Tensor, torch.Tensor]:
        """See [`PriorFlow.forward`]."""
        grid = self._grid(grids)
        fixed, changed = self._parts(z)
        shift, log_scale = self._shift_and_log_scale(fixed, grid)
        log_det = (log_scale.sum(dim=2) * grid.mask).sum(dim=1)
        return self._join(fixed, changed * log_scale.exp() + shift), log_det

    def inverse(self, z: torch.Tensor, grids: Sequence[Grid]) -> torch.Tensor:
        """See [`PriorFlow.inverse`]."""
        fixed, changed = self._parts(z)
        shift, log_scale = self._shift_and_log_scale(fixed, self._grid(grids))
        return self._join(fixed, (changed - shift) * (-log_scale).exp())


def _coupling_layer(config: FlowSeqConfig, width: int) -> MarianDecoderLayer:
    """Builds a Transformer decoder layer whose positions all see each other, without dropout."""
    layer_config: Any = SimpleNamespace(
        d_model=width,
        decoder_attention_heads=config.flow_attention_heads,
        decoder_ffn_dim=config.flow_ffn_dim,
        activation_function=config.activation_function,
        dropout=0.0,
        attention_dropout=0.0,
        activation_dropout=0.0,
    )
    layer = MarianDecoderLayer(layer_config, layer_idx=0)
    layer.self_attn.is_causal = False
    layer.self_attn.config = layer.encoder_attn.config = config  # type: ignore[assignment]
    return layer


def recompute(function: Callable[..., Any], *args: Any) -> Any:
    """Calls a function without random numbers; training computes again, in backward, what it would have to keep.

    A flow has some hundred layers, whose intermediate values would take ten times the memory of a vanilla NAT. Under
    DeepSpeed's ZeRO-3 they are kept: parameters that come and go look like others the second time.
    """
    if torch.is_grad_enabled() and not is_deepspeed_zero3_enabled():
        return checkpoint(function, *args, use_reentrant=False, preserve_rng_state=False)
    return function(*args)


def _chain(layers: Sequence[nn.Module], z: torch.Tensor, grids: Sequence[Grid]) -> tuple[torch.Tensor, torch.Tensor]:
    """Applies layers in turn; see [`PriorFlow.forward`]."""
    total = z.new_zeros(len(z))
    for layer in layers:
        z, log_det = layer(z, grids)
        total = total + log_det
    return z, total


class FlowLevel(nn.Module):
    """The invertible layers of one level.

    Args:
        config ([`FlowSeqConfig`]): the model's configuration.
        num_steps (`int`): number of Glow steps.
        is_last (`bool`): whether no other level follows; only a level before another couples time steps, and ends
            with a coupling of the half that stays to the half that leaves.

    Source: Ma et al. 2019, section 3.3 and figure 3; the order within a step is that of the authors' code.
    """

    layers: Any

    def __init__(self, config: FlowSeqConfig, num_steps: int, is_last: bool) -> None:
        super().__init__()
        width = config.d_model
        layers: list[nn.Module] = [ActNorm(width)]
        layers += [Coupling(config, "halves", down=False, attend_positions=True), Coupling(config, "halves", True)]
        for _ in range(num_steps):
            for strided in (False, True):
                layers += [ActNorm(width), InvertibleLinear(width, strided)]
                layers += [Coupling(config, "halves", False), Coupling(config, "halves", True)]
                layers += [ActNorm(width), Coupling(config, "parity", False), Coupling(config, "parity", True)]
                if not is_last:
                    layers += [ActNorm(width), Coupling(config, "steps", False), Coupling(config, "steps", True)]
        if not is_last:
            layers.append(Coupling(config, "halves", down=False))
        self.layers = nn.ModuleList(layers)

    @torch.no_grad()
    def initialize(self, z: torch.Tensor, grids: Sequence[Grid]) -> torch.Tensor:
        """Normalises the input of each [`ActNorm`] in turn and returns the output of the level."""
        for layer in self.layers:
            if isinstance(layer, ActNorm):
                layer.initialize(z, grids[0].mask)
            z, _ = layer(z, grids)
        return z

    def forward(self, z: torch.Tensor, grids: Sequence[Grid]) -> tuple[torch.Tensor, torch.Tensor]:
        """See [`PriorFlow.forward`]."""
        total = z.new_zeros(len(z))
        for layers in self._segments():
            z, log_det = recompute(_chain, layers, z, grids)
            total = total + log_det
        return z, total

    def _segments(self) -> list[list[nn.Module]]:
        """Cuts the layers before every [`ActNorm`]."""
        segments: list[list[nn.Module]] = []
        for layer in self.layers:
            if isinstance(layer, ActNorm):
                segments.append([])
            segments[-1].append(layer)
        return segments

    def inverse(self, z: torch.Tensor, grids: Sequence[Grid]) -> torch.Tensor:
        """See [`PriorFlow.inverse`]."""
        for layer in reversed(self.layers):
            z = layer.inverse(z, grids)
        return z


class PriorFlow(nn.Module):
    """Distribution of the latent variables of a target, given its length and the source.

    After each level but the last, half of the features leave as noise, and the other halves of two neighbouring
    positions become one position of the next level.

    Args:
        config ([`FlowSeqConfig`]): the model's configuration; `flow_steps` has one entry for each level.

    Source: Ma et al. 2019 (arXiv:1909.02480), section 3.3.
    """

    levels: Any

    def __init__(self, config: FlowSeqConfig) -> None:
        super().__init__()
        num_steps: Any = config.flow_steps
        self.levels = nn.ModuleList(
            FlowLevel(config, steps, is_last=level == config.num_levels) for level, steps in enumerate(num_steps, 1)
        )

    def _descend(
        self, z: torch.Tensor, apply: Callable[[int, torch.Tensor], torch.Tensor]
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Applies the levels in turn; returns the last one's output and the halves that left before."""
        left = []
        for level in range(len(self.levels) - 1):
            z, leaving = apply(level, z).chunk(2, dim=2)
            left.append(leaving)
            z = z.reshape(z.shape[0], -1, 2 * z.shape[2])
        return apply(len(self.levels) - 1, z), left

    def initialize(self, z: torch.Tensor, grids: Sequence[Grid]) -> None:
        """Sets every [`ActNorm`] by the statistics of a batch.

        Args:
            z (`torch.FloatTensor` of shape `(B, T, D)`): latent variables.
            grids (`Sequence[Grid]`): see [`make_grids`].
        """
        self._descend(z.detach().float(), lambda level, z: self.levels[level].initialize(z, grids[level:]))

    def forward(self, z: torch.Tensor, grids: Sequence[Grid]) -> tuple[torch.Tensor, torch.Tensor]:
        """Maps latent variables to noise.

        Args:
            z (`torch.FloatTensor` of shape `(B, T, D)`): latent variables.
            grids (`Sequence[Grid]`): see [`make_grids`].

        Returns:
            `tuple` of `torch.FloatTensor` of shapes `(B, T, D)` and `(B,)`: noise, which means nothing at padding, and
            the logarithm of the determinant of the Jacobian.
        """
        log_dets = []

        def apply(level: int, z: torch.Tensor) -> torch.Tensor:
            z, log_det = self.levels[level](z, grids[level:])
            log_dets.append(log_det)
            return z

        noise, left = self._descend(z.float(), apply)
        for leaving in reversed(left):
            noise = torch.cat([noise.reshape(leaving.shape), leaving], dim=2)
        return noise, torch.stack(log_dets).sum(dim=0)

    def inverse(self, noise: torch.Tensor, grids: Sequence[Grid]) -> torch.Tensor:
        """Maps noise to latent variables.

        Args:
            noise (`torch.FloatTensor` of shape `(B, T, D)`): noise.
            grids (`Sequence[Grid]`): see [`make_grids`].

        Returns:
            `torch.FloatTensor` of shape `(B, T, D)`: latent variables, which mean nothing at padding.
        """
        z, left = self._descend(noise.float(), lambda _, noise: noise)
        z = self.levels[-1].inverse(z, grids[len(left) :])
        for level in reversed(range(len(left))):
            z = torch.cat([z.reshape(left[level].shape), left[level]], dim=2)
            z = self.levels[level].inverse(z, grids[level:])
        return z

    def log_prob(self, z: torch.Tensor, grids: Sequence[Grid]) -> torch.Tensor:
        """Computes the log-density of latent variables.

        Args:
            z (`torch.FloatTensor` of shape `(B, T, D)`): latent variables.
            grids (`Sequence[Grid]`): see [`make_grids`].

        Returns:
            `torch.FloatTensor` of shape `(B,)`: log-densities in nats, summed over the positions.
        """
        noise, log_det = self(z, grids)
        return gaussian_log_prob(noise, grids[0].mask) + log_det
