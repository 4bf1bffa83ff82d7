from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from hf_nat.models.modeling_nat import LearnedPositionalEmbedding
from hf_nat.models.source_copy import SourceCopy, uniform_indices


MODES = ["uniform", "uniform_shifted", "interpolate", "soft", "attention"]


def mask(*lengths: int) -> torch.Tensor:
    return (torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)).long()


def copy_module(mode: str) -> SourceCopy:
    module = SourceCopy(mode, 6)
    module.init_temperature()
    return module


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        (5, 5, [0, 1, 2, 3, 4]),
        (5, 8, [0, 1, 1, 2, 2, 3, 3, 4]),
        (8, 5, [0, 2, 4, 5, 7]),
        (4, 7, [0, 0, 1, 2, 2, 2, 3]),
        (2, 5, [0, 0, 0, 1, 1]),
        (1, 4, [0, 0, 0, 0]),
        (5, 2, [0, 4]),
        (5, 1, [0]),
    ],
)
def test_uniform_indices(source: int, target: int, expected: list[int]) -> None:
    # A second, longer row must not change the first.
    indices = uniform_indices(torch.tensor([source, 30]), torch.tensor([target, 30]), 30)
    assert indices[0, :target].tolist() == expected
    assert indices[0, target:].le(source - 1).all()
    assert indices[1].tolist() == list(range(30))


def test_uniform_shifted_reads_row_of_the_next_position() -> None:
    rows = torch.arange(5.0).view(1, 5, 1).expand(1, 5, 6)
    copied = copy_module("uniform_shifted")(rows, mask(5), mask(8), LearnedPositionalEmbedding(10, 6))
    assert copied[0, :, 0].tolist() == [float(round((t + 1) / 8 * 4)) for t in range(8)]


@pytest.mark.parametrize("mode", ["interpolate", "soft"])
def test_weights_fall_with_the_distance(mode: str) -> None:
    embeds, source, target = torch.randn(1, 4, 6), 4, 7
    copied = copy_module(mode)(embeds, mask(source), mask(target), LearnedPositionalEmbedding(10, 6))
    for t in range(target):
        if mode == "interpolate":
            weights = [math.exp(-((j - t * source / target) ** 2) / 0.3) for j in range(source)]
        else:
            weights = [math.exp(-abs(j - t) / 0.5) for j in range(source)]
        expected = sum(w * embeds[0, j] for j, w in enumerate(weights)) / sum(weights)
        assert_close(copied[0, t], expected)


def test_attention_uses_positions_in_queries_and_keys_only() -> None:
    module, positions, embeds = copy_module("attention"), LearnedPositionalEmbedding(10, 6), torch.randn(1, 3, 6)
    queries = module.q_proj(positions.weight[:2])
    keys = module.k_proj(embeds[0] + positions.weight[:3])
    expected = (queries @ keys.T / math.sqrt(6)).softmax(dim=1) @ embeds[0]
    assert_close(module(embeds, mask(3), mask(2), positions)[0], expected)


@pytest.mark.parametrize("mode", MODES)
def test_padding_and_other_rows_change_nothing(mode: str) -> None:
    module, positions = copy_module(mode), LearnedPositionalEmbedding(20, 6)
    embeds = torch.randn(3, 9, 6)
    sources, targets = (4, 1, 9), (6, 3, 1)
    copied = module(embeds, mask(*sources), mask(*targets), positions)
    assert copied.isfinite().all()
    for row, (source, target) in enumerate(zip(sources, targets, strict=True)):
        alone = module(embeds[row : row + 1, :source], mask(source), mask(target), positions)
        assert_close(alone[0], copied[row, :target])


@pytest.mark.parametrize("mode", MODES)
def test_padding_before_the_source_moves_nothing(mode: str) -> None:
    torch.manual_seed(0)
    module, positions, rows = copy_module(mode), LearnedPositionalEmbedding(10, 6), torch.randn(3, 5, 6)
    lengths, targets = (5, 2, 1), mask(7, 3, 4)
    expected = module(rows, mask(*lengths), targets, positions)
    moved = torch.stack([row.roll(5 - length, 0) for row, length in zip(rows, lengths, strict=True)])
    assert torch.allclose(module(moved, mask(*lengths).flip(1), targets, positions), expected, atol=1e-6)
