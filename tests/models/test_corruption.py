from __future__ import annotations

from collections import Counter

import pytest
import torch

from hf_nat.models.corruption import corrupt, random_tokens


EOS, PAD = 2, 0


def scan(tokens: list[int], content: list[bool], uniforms: list[float], words: list[int], rate: float) -> list[int]:
    """The scan as it is told, one position after the other."""
    tokens = list(tokens)
    for i, u in enumerate(uniforms):
        if not content[i] or u >= rate:
            continue
        has_next = i + 1 < len(tokens) and content[i + 1]
        if u < rate / 3:
            tokens[i] = words[i]
        elif has_next and u < rate * 2 / 3:
            tokens[i + 1] = tokens[i]
        elif has_next:
            tokens[i], tokens[i + 1] = tokens[i + 1], tokens[i]
    return tokens


def targets(lengths: torch.Tensor, width: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Random content, EOS, padding; and where the content is."""
    positions, lengths = torch.arange(width), lengths.unsqueeze(1)
    tokens = torch.randint(5, 12, (len(lengths), width), generator=generator)
    tokens = tokens.masked_fill(positions == lengths, EOS).masked_fill(positions > lengths, PAD)
    return tokens, positions < lengths


@pytest.mark.parametrize("rate", [0.0, 0.33, 0.9, 1.0])
def test_corrupt_is_the_scan(rate: float) -> None:
    generator = torch.Generator().manual_seed(7)
    tokens, content = targets(torch.randint(0, 13, (500,), generator=generator), 12, generator)
    uniforms = torch.rand(tokens.shape, generator=generator)
    words = torch.randint(20, 30, tokens.shape, generator=generator)
    corrupted = corrupt(tokens, content, uniforms, words, rate)
    arguments = zip(*(tensor.tolist() for tensor in (tokens, content, uniforms, words)), strict=True)
    assert corrupted.tolist() == [scan(*row, rate) for row in arguments]
    assert torch.equal(corrupted, tokens) == (rate == 0)
    # EOS and padding stay, and there is no other EOS.
    assert torch.equal(corrupted[~content], tokens[~content])
    assert not corrupted[content].eq(EOS).any()


@pytest.mark.parametrize(
    ("uniforms", "expected"),
    [
        ([0.0, 0.9, 0.9, 0.9], [90, 6, 7, 8]),
        ([0.9, 0.15, 0.9, 0.9], [5, 6, 6, 8]),
        ([0.9, 0.25, 0.9, 0.9], [5, 7, 6, 8]),
        # A swapped token moves on, and is replaced or repeated where it arrives.
        ([0.25, 0.25, 0.25, 0.9], [6, 7, 8, 5]),
        ([0.25, 0.0, 0.9, 0.9], [6, 91, 7, 8]),
        ([0.25, 0.15, 0.9, 0.9], [6, 5, 5, 8]),
        # Before EOS there is nothing to repeat over or swap with.
        ([0.9, 0.9, 0.9, 0.15], [5, 6, 7, 8]),
        ([0.9, 0.9, 0.9, 0.25], [5, 6, 7, 8]),
        ([0.9, 0.9, 0.9, 0.0], [5, 6, 7, 93]),
    ],
)
def test_corrupt_operations_at_rate_03(uniforms: list[float], expected: list[int]) -> None:
    tokens, content = torch.tensor([[5, 6, 7, 8, EOS]]), torch.tensor([[True] * 4 + [False]])
    words = torch.tensor([[90, 91, 92, 93, 94]])
    corrupted = corrupt(tokens, content, torch.tensor([[*uniforms, 0.0]]), words, 0.3)
    assert corrupted.tolist() == [[*expected, EOS]]


def test_corrupt_frequencies_at_four_tokens() -> None:
    num_rows = 50_000
    generator = torch.Generator().manual_seed(3)
    tokens, content = torch.tensor([[5, 6, 7, 8, EOS]]).expand(num_rows, -1), torch.ones(num_rows, 5).bool()
    content[:, 4] = False
    words = torch.full(tokens.shape, 99)
    corrupted = corrupt(tokens, content, torch.rand(tokens.shape, generator=generator), words, 0.33)
    changed = corrupted[:, :4].ne(tokens[:, :4]).float().mean().item()
    inverted = (corrupted[:, :-1] == corrupted[:, 1:] + 1).any(dim=1).float().mean().item()
    # Executed vectors of the specification; five standard deviations are 0.006 and 0.009.
    assert changed == pytest.approx(0.32, abs=0.01)
    assert inverted == pytest.approx(0.23, abs=0.015)


def test_corrupt_of_one_column_and_of_no_content() -> None:
    tokens = torch.tensor([[EOS], [EOS]])
    assert torch.equal(corrupt(tokens, tokens.ne(EOS), torch.zeros(2, 1), tokens + 5, 1.0), tokens)


def test_corrupt_leaves_its_input_as_it_is() -> None:
    tokens, content = torch.tensor([[5, 6, 7, EOS]]), torch.tensor([[True, True, True, False]])
    corrupt(tokens, content, torch.tensor([[0.9, 0.0, 0.9, 0.0]]), tokens + 9, 1.0)
    assert tokens.tolist() == [[5, 6, 7, EOS]]


def test_random_tokens_are_uniform_over_all_but_the_excluded() -> None:
    generator = torch.Generator().manual_seed(11)
    draws = 36_000
    tokens = random_tokens(torch.rand(draws, generator=generator), 12, [4, 0, 2])
    counts = Counter(tokens.tolist())
    assert set(counts) == {1, 3, 5, 6, 7, 8, 9, 10, 11}
    # Chi-square with 8 degrees of freedom: 26.1 at p = 0.001.
    assert sum((count - draws / 9) ** 2 / (draws / 9) for count in counts.values()) < 26.1
    ends = torch.tensor([0.0, torch.tensor(1.0).nextafter(torch.tensor(0.0)).item()])
    assert random_tokens(ends, 12, [0, 11, 10]).tolist() == [1, 9]
    assert random_tokens(ends, 2**20, []).tolist() == [0, 2**20 - 1]
