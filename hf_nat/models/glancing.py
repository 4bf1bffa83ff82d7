"""Glancing: in training a first pass shows how much of the target a model must be told to learn the rest.

Dimension letters: B batch, T positions of a canvas.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from transformers import initialization as init

from .configuration_nat import GlancingConfig
from .noise import lowest
from .selection import counter_value


class Glancing(nn.Module):
    """Schedule of glancing training, counted in a buffer: a checkpoint goes on as if nothing had happened.

    In each training batch the decoder runs twice, with the same dropout. What the first pass, without gradient, gets
    wrong decides how many target tokens take the place of masks; the second learns the others.

    Args:
        config ([`GlancingConfig`]): the model's configuration.

    Source: Qian et al. 2021 (arXiv:2008.07905), section 3.
    """

    num_batches: torch.Tensor

    def __init__(self, config: GlancingConfig) -> None:
        super().__init__()
        self.first = config.glancing_ratio
        self.last = self.first if config.glancing_end_ratio is None else config.glancing_end_ratio
        self.num_steps = config.glancing_steps or 1
        self.register_buffer("num_batches", torch.zeros((), dtype=torch.long))

    def reset(self) -> None:
        """Sets the count to 0."""
        init.zeros_(self.num_batches)

    def next_ratio(self) -> float:
        """Counts a training batch and returns its glancing ratio, in [0, 1]; 0 asks for no first pass."""
        progress = min(1.0, counter_value(self.num_batches) / self.num_steps)
        self.num_batches += 1
        return self.first + (self.last - self.first) * progress


@contextmanager
def first_pass(device: torch.device) -> Iterator[None]:
    """Runs a pass without gradient and lets the next one draw the same dropout.

    All other random numbers must be drawn before it.

    Args:
        device (`torch.device`): device of the model.
    """
    has_own_numbers = device.type not in ("cpu", "meta")
    devices, device_type = ([device], device.type) if has_own_numbers else ([], "cuda")
    with torch.no_grad(), torch.random.fork_rng(devices, device_type=device_type):
        yield
    # Weights that autocast has cast without a gradient would be used again with one.
    torch.clear_autocast_cache()


def reveal(eligible: torch.Tensor, counts: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """Chooses positions to reveal, uniformly without replacement.

    Args:
        eligible (`torch.BoolTensor` of shape `(B, T)`): True at positions that may be revealed.
        counts (`torch.FloatTensor` of shape `(B,)`): how many, at most the eligible ones; fractions are cut off.
        uniforms (`torch.FloatTensor` of shape `(B, T)`): independent numbers in [0, 1).

    Returns:
        `torch.BoolTensor` of shape `(B, T)`: True at the revealed positions.
    """
    # A ratio such as 0.29 times 100 lies just below its whole number.
    return lowest(uniforms, eligible, (counts.double() + 1e-9).long())
