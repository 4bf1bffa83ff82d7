"""Random numbers of a sentence that can be repeated, and the positions and tokens that they choose."""

import zlib

import torch

from .canvas import stable_order


class TargetNoise:
    """Uniform random numbers for the targets of one batch.

    In training they come from `generator`, or from torch's global generators, which a Trainer saves and restores. In
    evaluation a sentence's numbers depend on that sentence alone: a validation loss does not change with batch size,
    padding, order or number of processes.

    Args:
        labels (`torch.LongTensor` of shape `(B, T)`): targets; -100 is ignored.
        training (`bool`): whether to draw fresh noise.
        generator (`torch.Generator`, *optional*): generator on the labels' device; used in evaluation too.
    """

    def __init__(self, labels: torch.Tensor, training: bool, generator: torch.Generator | None = None) -> None:
        self.labels = labels
        self.generator = generator
        self._rows: list[bytes] | None = None
        self._num_draws = 0
        if not training and generator is None:
            self._rows = [row[row != -100].numpy().tobytes() for row in labels.detach().cpu()]

    def uniform(self, size: int) -> torch.Tensor:
        """Draws `size` numbers for each sentence.

        Args:
            size (`int`): how many.

        Returns:
            `torch.FloatTensor` of shape `(B, size)`: independent numbers, uniform on [0, 1).
        """
        device = self.labels.device
        if self._rows is None:
            shape = (len(self.labels), size)
            if self.generator is None:  # torch.compile traces no `generator=None`
                return torch.rand(shape, device=device)
            return torch.rand(shape, generator=self.generator, device=device)
        # Each draw has a seed of its own, lest the size of one shift the numbers of the next.
        seeds = [zlib.crc32(row, self._num_draws) for row in self._rows]
        self._num_draws += 1
        # On the CPU, whose generator is the same on every machine, also where the default device is another one.
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        return torch.stack([torch.rand(size, generator=own, device="cpu") for own in generators]).to(device)


def lowest(scores: torch.Tensor, eligible: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Marks the lowest-scored positions of each row; of equal scores the leftmost goes first.

    Args:
        scores (`torch.FloatTensor` of shape `(R, T)`): one finite score for each position.
        eligible (`torch.BoolTensor` of shape `(R, T)`): True at positions that may be marked.
        counts (`torch.LongTensor` of shape `(R,)`): how many to mark; at most the number of eligible positions.

    Returns:
        `torch.BoolTensor` of shape `(R, T)`: True at the marked positions.
    """
    values = scores.masked_fill(~eligible, float("inf"))
    positions = torch.arange(values.shape[1], device=values.device)
    return torch.zeros_like(eligible).scatter(1, stable_order(values), positions < counts.unsqueeze(1))


def random_mask(eligible: torch.Tensor, noise: TargetNoise) -> torch.Tensor:
    """Chooses positions to mask: first how many, uniform on 1 .. n, then which, uniform without replacement.

    Args:
        eligible (`torch.BoolTensor` of shape `(B, T)`): True at the n positions of a row that may be masked.
        noise ([`TargetNoise`]): source of randomness.

    Returns:
        `torch.BoolTensor` of shape `(B, T)`: True at masked positions; none in a row where n is 0.

    Source: Ghazvininejad et al. 2019, section 3.1 (n included, unlike the authors' code, which excludes it).
    """
    num_eligible = eligible.sum(dim=1)
    counts = (num_eligible * noise.uniform(1).squeeze(1)).long() + 1
    return lowest(noise.uniform(eligible.shape[1]), eligible, torch.minimum(counts, num_eligible))


def random_keep(eligible: torch.Tensor, noise: TargetNoise) -> torch.Tensor:
    """Chooses positions to keep: first how many, uniform on 0 .. n, then which, uniform without replacement.

    Args:
        eligible (`torch.BoolTensor` of shape `(B, T)`): True at the n positions of a row that may be kept.
        noise ([`TargetNoise`]): source of randomness.

    Returns:
        `torch.BoolTensor` of shape `(B, T)`: True at kept positions.

    Source: Stern et al. 2019, section 3.1. fairseq draws from 0 .. n - 1 and never shows a complete target.
    """
    num_eligible = eligible.sum(dim=1)
    counts = ((num_eligible + 1) * noise.uniform(1).squeeze(1)).long()
    return lowest(noise.uniform(eligible.shape[1]), eligible, torch.minimum(counts, num_eligible))


def sample(logits: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """Draws a class from each softmax by inverting its distribution function.

    Args:
        logits (`torch.FloatTensor` of shape `(N, V)`): unnormalised scores; -inf is never drawn.
        uniforms (`torch.FloatTensor` of shape `(N,)`): one number in [0, 1) for each row.

    Returns:
        `torch.LongTensor` of shape `(N,)`: the classes.
    """
    cumulative = (logits - logits.amax(dim=1, keepdim=True)).exp_().cumsum(dim=1)
    total = cumulative[:, -1:]
    # The product may round up to the total, behind the last class.
    thresholds = torch.minimum(uniforms.unsqueeze(1) * total, total.nextafter(torch.zeros_like(total)))
    return torch.searchsorted(cumulative, thresholds, right=True).squeeze(1)
