from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from itertools import combinations

import pytest
import torch
from nat_model_tester import tiny_batch

from hf_nat.models.noise import TargetNoise, lowest, random_keep, random_mask, sample


def training_noise(num_rows: int, width: int) -> TargetNoise:
    return TargetNoise(torch.full((num_rows, width), 5), training=True)


def test_lowest_marks_the_lowest_and_of_equal_ones_the_leftmost() -> None:
    scores = torch.tensor([[-1.0, -3, -2, -9], [0, 0, 0, 0], [-1, -1, -2, 0]])
    eligible = torch.tensor([[1, 1, 1, 0], [0, 1, 1, 1], [1, 1, 1, 1]]).bool()
    marked = lowest(scores, eligible, torch.tensor([2, 2, 0]))
    assert marked.int().tolist() == [[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize(("choose", "fewest"), [(random_mask, 1), (random_keep, 0)])
def test_random_choice_is_uniform_over_counts_and_subsets(choose: Callable, fewest: int) -> None:
    torch.manual_seed(0)
    num_rows, n = 60_000, 4
    eligible = torch.tensor([[False] + [True] * n + [False]]).expand(num_rows, -1)
    chosen = choose(eligible, training_noise(num_rows, n + 2))
    assert not (chosen & ~eligible).any()
    observed = Counter(tuple(row.nonzero().squeeze(1).tolist()) for row in chosen)
    subsets = [subset for count in range(fewest, n + 1) for subset in combinations(range(1, n + 1), count)]
    assert set(observed) <= set(subsets)
    num_counts = n + 1 - fewest
    expected = [num_rows / num_counts / math.comb(n, len(subset)) for subset in subsets]
    chi_square = sum((observed[s] - e) ** 2 / e for s, e in zip(subsets, expected, strict=True))
    # The 99.99 % quantile for 15 degrees of freedom.
    assert chi_square < 44.3


def test_sample_draws_from_the_softmax() -> None:
    torch.manual_seed(0)
    logits = torch.tensor([[0.0, 2.0, -math.inf, 1.0, -1.0]]).expand(60_000, -1)
    drawn = sample(logits, torch.rand(len(logits))).bincount(minlength=5).float()
    expected = logits[0].softmax(dim=0) * len(logits)
    possible = expected > 0
    assert drawn[~possible].eq(0).all()
    # The 99.99 % quantile for 3 degrees of freedom.
    assert ((drawn - expected) ** 2 / expected)[possible].sum() < 21.1


def test_sample_never_draws_the_impossible_at_the_ends_of_the_interval() -> None:
    logits = torch.tensor([[-math.inf, 1.0, 0.5, -math.inf]])
    for uniform, expected in ((0.0, 1), (1 - 2**-24, 2)):
        assert sample(logits, torch.tensor([uniform])).tolist() == [expected]


def test_random_mask_without_eligible_positions_masks_nothing() -> None:
    assert not random_mask(torch.zeros(3, 4, dtype=torch.bool), training_noise(3, 4)).any()


def test_evaluation_noise_of_a_sentence_depends_on_it_alone() -> None:
    labels = tiny_batch()["labels"]
    expected = TargetNoise(labels, training=False).uniform(5)
    torch.manual_seed(9)
    rows = [2, 0, 3]
    padded = torch.cat([labels, torch.full((4, 2), -100)], dim=1)[rows]
    noise = TargetNoise(padded, training=False)
    first, second = noise.uniform(5), noise.uniform(5)
    assert torch.equal(first, expected[rows])
    assert not torch.equal(first, second)
    assert len({tuple(row.tolist()) for row in expected}) == len(labels)
    # A longer draw, as of a wider batch, starts with the same numbers and shifts no later draw.
    longer = TargetNoise(labels, training=False)
    assert torch.equal(longer.uniform(40)[:, :5], expected)
    assert torch.equal(longer.uniform(5)[rows], second)


def test_generator_decides_in_training_and_in_evaluation() -> None:
    labels = tiny_batch()["labels"]
    draws = [
        TargetNoise(labels, training, torch.Generator().manual_seed(seed)).uniform(3)
        for training, seed in ((True, 1), (False, 1), (True, 2))
    ]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_training_noise_follows_the_global_seed() -> None:
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(training_noise(2, 3).uniform(3))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
