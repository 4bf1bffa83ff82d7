from __future__ import annotations

from collections import Counter
from itertools import combinations

import pytest
import torch
from nat_model_tester import tiny_batch

from hf_nat.models.noise import TargetNoise, lowest, random_mask


def training_noise(num_rows: int, width: int) -> TargetNoise:
    return TargetNoise(torch.full((num_rows, width), 5), training=True)


def test_lowest_marks_the_lowest_and_of_equal_ones_the_leftmost() -> None:
    scores = torch.tensor([[-1.0, -3, -2, -9], [0, 0, 0, 0], [-1, -1, -2, 0]])
    eligible = torch.tensor([[1, 1, 1, 0], [0, 1, 1, 1], [1, 1, 1, 1]]).bool()
    marked = lowest(scores, eligible, torch.tensor([2, 2, 0]))
    assert marked.int().tolist() == [[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]


def test_random_mask_is_uniform_over_counts_and_subsets() -> None:
    num_rows, n = 60_000, 4
    eligible = torch.tensor([[False] + [True] * n + [False]]).expand(num_rows, -1)
    masked = random_mask(eligible, training_noise(num_rows, n + 2))
    assert not (masked & ~eligible).any()
    subsets = Counter(tuple(row.nonzero().squeeze(1).tolist()) for row in masked)
    for count in range(1, n + 1):
        choices = list(combinations(range(1, n + 1), count))
        for choice in choices:
            # Five standard deviations of the largest share, 1 / 4.
            assert subsets[choice] / num_rows == pytest.approx(1 / n / len(choices), abs=0.009), choice
    assert () not in subsets


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
    # A longer draw, as of a wider batch, starts with the same numbers.
    assert torch.equal(TargetNoise(labels, training=False).uniform(40)[:, :5], expected)


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
