from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Generator, Tensor

from hf_nat.experiments.hidden_markov import HiddenMarkovModels, posteriors, random_hmms, sample, viterbi


NUM_LABELS, NUM_OBSERVATIONS = 3, 4


def generators(*seeds: int) -> list[Generator]:
    return [Generator().manual_seed(seed) for seed in seeds]


@pytest.fixture
def hmms() -> HiddenMarkovModels:
    """Three models that differ in everything, first labels included."""
    drawn = random_hmms(NUM_LABELS, NUM_OBSERVATIONS, 0.6, 0.7, generators(1, 2, 3))
    initial = torch.tensor([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1]], dtype=torch.float64)
    return HiddenMarkovModels(initial, drawn.transition, drawn.emission)


def joint(hmms: HiddenMarkovModels, model: int, observations: list[int]) -> dict[tuple[int, ...], float]:
    """p(x, y) of every y, by the definition."""
    probs = {}
    for labels in itertools.product(range(NUM_LABELS), repeat=len(observations)):
        prob = float(hmms.initial[model, labels[0]])
        for before, after in itertools.pairwise(labels):
            prob *= float(hmms.transition[model, before, after])
        for label, observation in zip(labels, observations, strict=True):
            prob *= float(hmms.emission[model, label, observation])
        probs[labels] = prob
    return probs


@pytest.mark.parametrize("length", [1, 2, 5])
def test_decoders_agree_with_enumeration(hmms: HiddenMarkovModels, length: int) -> None:
    observations = torch.randint(NUM_OBSERVATIONS, (3, 20, length))
    best, probs = viterbi(hmms, observations), posteriors(hmms, observations)
    assert probs.shape == (3, 20, length, NUM_LABELS)
    differing = 0
    for model, row in itertools.product(range(3), range(20)):
        every = joint(hmms, model, observations[model, row].tolist())
        assert tuple(best[model, row].tolist()) == max(every, key=every.__getitem__)
        expected = torch.zeros(length, NUM_LABELS, dtype=torch.float64)
        for labels, prob in every.items():
            for t, label in enumerate(labels):
                expected[t, label] += prob / sum(every.values())
        torch.testing.assert_close(probs[model, row], expected)
        differing += int((best[model, row] != expected.argmax(-1)).any())
    assert length < 5 or differing > 0  # else the two decoders could be one


def test_a_thousand_steps_do_not_underflow() -> None:
    """Rows that are all alike make the steps independent: what a decoder must find is then known."""
    drawn = random_hmms(NUM_LABELS, NUM_OBSERVATIONS, 1.0, 0.5, generators(4, 5))
    prior = drawn.transition[:, 0]
    hmms = HiddenMarkovModels(prior, prior[:, None].expand(-1, NUM_LABELS, -1), drawn.emission)
    observations = torch.randint(NUM_OBSERVATIONS, (2, 3, 1000))
    weights = prior[:, None, None] * hmms.likelihoods(observations)
    expected = weights / weights.sum(-1, keepdim=True)
    torch.testing.assert_close(posteriors(hmms, observations), expected)
    assert torch.equal(viterbi(hmms, observations), expected.argmax(-1))


def test_samples_have_the_probabilities_of_the_model(hmms: HiddenMarkovModels) -> None:
    size = 40_000
    observations, labels = sample(hmms, size, 3, generators(6, 7, 8))
    assert observations.shape == labels.shape == (3, size, 3)
    for model in range(3):
        for t in range(3):
            marginal = hmms.initial[model] @ torch.linalg.matrix_power(hmms.transition[model], t)
            emitted = marginal[:, None] * hmms.emission[model]
            check(labels[model, :, t] * NUM_OBSERVATIONS + observations[model, :, t], emitted)
        pairs = hmms.initial[model][:, None] * hmms.transition[model]
        triples = pairs[:, :, None] * hmms.transition[model]
        places = torch.tensor([NUM_LABELS**2, NUM_LABELS, 1])
        check((labels[model] * places).sum(1), triples)


def check(drawn: Tensor, probs: Tensor) -> None:
    """Every count lies within 5 standard deviations of its expectation."""
    counts, probs = torch.bincount(drawn, minlength=probs.numel()), probs.flatten()
    deviations = (len(drawn) * probs * (1 - probs)).sqrt()
    assert ((counts - len(drawn) * probs).abs() <= 5 * deviations).all()


def test_what_is_impossible_is_never_sampled() -> None:
    cycle = torch.eye(3, dtype=torch.float64).roll(1, 1)
    hmms = HiddenMarkovModels(torch.tensor([[1.0, 0, 0]], dtype=torch.float64), cycle[None], cycle[None])
    observations, labels = sample(hmms, 100, 6, generators(0))
    assert torch.equal(labels, torch.arange(6).remainder(3).expand(1, 100, 6))
    assert torch.equal(observations, (labels + 1).remainder(3))
    assert torch.equal(viterbi(hmms, observations), labels)


def test_a_model_does_not_depend_on_its_company(hmms: HiddenMarkovModels) -> None:
    together = sample(hmms, 50, 4, generators(6, 7, 8))
    for model, seed in enumerate((6, 7, 8)):
        one = slice(model, model + 1)
        alone = HiddenMarkovModels(hmms.initial[one], hmms.transition[one], hmms.emission[one])
        drawn = sample(alone, 50, 4, generators(seed))
        assert all(torch.equal(many[one], few) for many, few in zip(together, drawn, strict=True))
        assert torch.equal(viterbi(alone, drawn[0]), viterbi(hmms, together[0])[one])
    again = random_hmms(NUM_LABELS, NUM_OBSERVATIONS, 0.6, 0.7, generators(2))
    assert torch.equal(again.transition[0], hmms.transition[1])


def test_rows_are_distributions_with_one_entry_of_weight_one() -> None:
    for matrix, end in zip(weights_of(0.1, 0.2), (0.1, 0.2), strict=True):
        probs = matrix.flatten(0, 1)
        torch.testing.assert_close(probs.sum(1), torch.ones(len(probs), dtype=torch.float64))
        highest = probs.max(1, keepdim=True).values
        weights = probs / highest
        others = weights[weights < 1]
        assert len(others) == weights.numel() - len(weights)
        assert others.min() > 0 and 0.95 * end < others.max() <= end
        places = torch.bincount(probs.argmax(1))
        assert len(places) == probs.shape[1] and places.min() > 0  # any entry can be the one


def test_higher_a_and_b_are_higher_uncertainty_and_the_draws_stay() -> None:
    ends = [0.01, 0.05, 0.1, 0.2, 0.5, 1.0]
    drawn = [weights_of(end, end) for end in ends]
    for matrices in zip(*drawn, strict=True):
        entropies = [float(-(matrix * matrix.log()).sum(-1).mean()) for matrix in matrices]
        assert entropies == sorted(entropies)
        assert entropies[0] < 0.5 and entropies[-1] > 0.9 * math.log(matrices[0].shape[-1])
        first, last = (matrix / matrix.amax(-1, keepdim=True) for matrix in (matrices[0], matrices[3]))
        torch.testing.assert_close((first / 0.01)[first < 1], (last / 0.2)[last < 1])


def weights_of(a: float, b: float) -> tuple[Tensor, Tensor]:
    hmms = random_hmms(8, 16, a, b, generators(*range(20)))
    return hmms.transition, hmms.emission
