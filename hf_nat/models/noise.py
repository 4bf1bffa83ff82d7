"""Corruption of targets, from noise that can be repeated."""

import zlib

import torch


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
        self._row_generators: list[torch.Generator] | None = None
        if not training and generator is None:
            self._row_generators = [
                torch.Generator().manual_seed(zlib.crc32(row[row != -100].numpy().tobytes()))
                for row in labels.detach().cpu()
            ]

    def uniform(self, size: int) -> torch.Tensor:
        """Draws `size` numbers for each sentence.

        Args:
            size (`int`): how many.

        Returns:
            `torch.FloatTensor` of shape `(B, size)`: independent numbers, uniform on [0, 1).
        """
        device = self.labels.device
        if self._row_generators is None:
            return torch.rand(len(self.labels), size, generator=self.generator, device=device)
        return torch.stack([torch.rand(size, generator=generator) for generator in self._row_generators]).to(device)


def lowest(scores: torch.Tensor, eligible: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Marks the lowest-scored positions of each row; of equal scores the leftmost goes first.

    Args:
        scores (`torch.FloatTensor` of shape `(R, T)`): one finite score for each position.
        eligible (`torch.BoolTensor` of shape `(R, T)`): True at positions that may be marked.
        counts (`torch.LongTensor` of shape `(R,)`): how many to mark; at most the number of eligible positions.

    Returns:
        `torch.BoolTensor` of shape `(R, T)`: True at the marked positions.
    """
    ranks = scores.masked_fill(~eligible, float("inf")).argsort(dim=1, stable=True).argsort(dim=1)
    return ranks < counts.unsqueeze(1)


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
