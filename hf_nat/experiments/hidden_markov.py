"""Hidden Markov models, many at once: drawn at random, sampled, and decoded exactly.

Letters of the shapes: G models, N sequences, T time steps, K labels (hidden states), V observations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor


__all__ = ["HiddenMarkovModels", "posteriors", "random_hmms", "sample", "viterbi"]


@dataclass(frozen=True)
class HiddenMarkovModels:
    """Probabilities of G models, float64.

    Args:
        initial (`Tensor` of shape `[G, K]`): p(y_1).
        transition (`Tensor` of shape `[G, K, K]`): p(y_t | y_{t-1}), a row for each y_{t-1}.
        emission (`Tensor` of shape `[G, K, V]`): p(x_t | y_t), a row for each y_t.
    """

    initial: Tensor
    transition: Tensor
    emission: Tensor

    def likelihoods(self, observations: Tensor) -> Tensor:
        """Returns p(x_t | y_t) of observations `[G, N, T]` for each label: `[G, N, T, K]`."""
        models = torch.arange(len(observations))[:, None, None]
        return self.emission.mT[models, observations]


def random_hmms(
    num_labels: int, num_observations: int, a: float, b: float, generators: Sequence[Generator]
) -> HiddenMarkovModels:
    """Draws models that are the more uncertain the larger `a` and `b` are.

    Every row has one entry of weight 1 at a random place and weights from U(0, a] (transitions) or U(0, b] (emissions)
    elsewhere, and is then normalised. The first label is uniform. One generator always makes the same draws: other
    values of `a` and `b` only scale them.

    Args:
        num_labels (`int`): K.
        num_observations (`int`): V.
        a (`float`): upper end of the transition weights.
        b (`float`): upper end of the emission weights.
        generators (`Sequence[Generator]`): one for each model.

    Source: Zhou, Gu & Neubig 2020, appendix D.2, which draws the parameters "uniformly within (0, a] and (0, b]" and
        finds more uncertainty with higher a and b. Were all weights drawn so, normalising would cancel a and b. The
        entry of weight 1 is our reading; the literal one is its limit for large a and b.
    """

    def rows(width: int, end: float, generator: Generator) -> Tensor:
        weights = end * (1 - torch.rand(num_labels, width, generator=generator, dtype=torch.float64))
        weights.scatter_(1, torch.randint(width, (num_labels, 1), generator=generator), 1.0)
        return weights / weights.sum(1, keepdim=True)

    drawn = [(rows(num_labels, a, generator), rows(num_observations, b, generator)) for generator in generators]
    transition, emission = (torch.stack(rows) for rows in zip(*drawn, strict=True))
    initial = torch.full((len(drawn), num_labels), 1 / num_labels, dtype=torch.float64)
    return HiddenMarkovModels(initial, transition, emission)


def sample(
    hmms: HiddenMarkovModels, num_sequences: int, length: int, generators: Sequence[Generator]
) -> tuple[Tensor, Tensor]:
    """Samples sequences from p(x, y).

    Args:
        hmms (`HiddenMarkovModels`): G models.
        num_sequences (`int`): N.
        length (`int`): T.
        generators (`Sequence[Generator]`): one for each model.

    Returns:
        Observations and labels, each `[G, N, T]`.
    """
    uniforms = torch.stack(
        [torch.rand(length, 2, num_sequences, generator=generator, dtype=torch.float64) for generator in generators]
    )
    models = torch.arange(len(generators))[:, None]
    labels: list[Tensor] = []
    observations: list[Tensor] = []
    for t in range(length):
        probs = hmms.transition[models, labels[-1]] if labels else hmms.initial[:, None]
        labels.append(_draw(probs, uniforms[:, t, 0]))
        observations.append(_draw(hmms.emission[models, labels[-1]], uniforms[:, t, 1]))
    return torch.stack(observations, 2), torch.stack(labels, 2)


def _draw(probs: Tensor, uniforms: Tensor) -> Tensor:
    """Picks the category into whose part of [0, 1) each uniform number falls."""
    return (uniforms[..., None] >= probs.cumsum(-1)[..., :-1]).sum(-1)


def viterbi(hmms: HiddenMarkovModels, observations: Tensor) -> Tensor:
    """Finds the most probable label sequence, the Bayes decision for sequence accuracy.

    Args:
        hmms (`HiddenMarkovModels`): G models.
        observations (`Tensor` of shape `[G, N, T]`): sequences of positive probability.

    Returns:
        `Tensor` of shape `[G, N, T]`: argmax over y of p(y | x).

    Source: Viterbi 1967; Zhou, Gu & Neubig 2020, appendix D.1 (h*_seq).
    """
    emissions = hmms.likelihoods(observations).log()
    transition = hmms.transition.log()[:, None]
    scores = hmms.initial.log()[:, None] + emissions[:, :, 0]
    pointers = []
    for t in range(1, observations.shape[2]):
        scores, best = (scores[..., None] + transition).max(dim=-2)
        scores = scores + emissions[:, :, t]
        pointers.append(best)
    labels = [scores.argmax(-1)]
    for best in reversed(pointers):
        labels.append(best.gather(-1, labels[-1][..., None])[..., 0])
    return torch.stack(labels[::-1], 2)


def posteriors(hmms: HiddenMarkovModels, observations: Tensor) -> Tensor:
    """Computes the probability of each label at each step; its argmax is the Bayes decision for token accuracy.

    Args:
        hmms (`HiddenMarkovModels`): G models.
        observations (`Tensor` of shape `[G, N, T]`): sequences of positive probability.

    Returns:
        `Tensor` of shape `[G, N, T, K]`: p(y_t | x), by the scaled forward-backward algorithm.

    Source: Rabiner 1989, sections III.A and V.A; Zhou, Gu & Neubig 2020, appendix D.1 (h*_tok).
    """
    emissions = hmms.likelihoods(observations)
    length = observations.shape[2]
    forward = [_normalized(hmms.initial[:, None] * emissions[:, :, 0])]
    for t in range(1, length):
        forward.append(_normalized(forward[-1] @ hmms.transition * emissions[:, :, t]))
    backward = [torch.ones_like(forward[-1])]
    for t in range(length - 1, 0, -1):
        backward.append(_normalized(emissions[:, :, t] * backward[-1] @ hmms.transition.mT))
    return _normalized(torch.stack(forward, 2) * torch.stack(backward[::-1], 2))


def _normalized(weights: Tensor) -> Tensor:
    return weights / weights.sum(-1, keepdim=True)
