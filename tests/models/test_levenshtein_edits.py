from __future__ import annotations

import itertools
import random

import pytest
import torch
from nat_model_tester import EOS, PAD, pad_rows

from hf_nat.models.levenshtein_edits import insertion_counts, kept_tokens


def expert(x: list[int], y: list[int]) -> tuple[list[bool], list[bool]]:
    """Which tokens of x and y the indel path keeps: the full table of distances, then the walk back."""
    distance = [[i + j if i == 0 or j == 0 else 0 for j in range(len(y) + 1)] for i in range(len(x) + 1)]
    for i, j in itertools.product(range(1, len(x) + 1), range(1, len(y) + 1)):
        substitution = distance[i - 1][j - 1] + (0 if x[i - 1] == y[j - 1] else 2)
        distance[i][j] = min(distance[i - 1][j] + 1, distance[i][j - 1] + 1, substitution)
    kept_x, kept_y, i, j = [False] * len(x), [False] * len(y), len(x), len(y)
    while i or j:
        if j and distance[i][j - 1] < distance[i][j]:
            j -= 1
        elif i and distance[i - 1][j] < distance[i][j]:
            i -= 1
        else:
            i, j = i - 1, j - 1
            kept_x[i] = kept_y[j] = True
    return kept_x, kept_y


def operations(x: list[int], y: list[int]) -> str:
    """Spells the path of one pair: K(eep), D(elete), I(nsert)."""
    kept_x, kept_y = (kept[0].tolist() for kept in kept_tokens(torch.tensor([x]), torch.tensor([y]), PAD))
    path, deleted = [], [i for i, kept in enumerate(kept_x) if not kept]
    x_end = 0
    for kept in kept_y:
        while x_end in deleted and kept:
            path.append("D")
            x_end += 1
        path.append("K" if kept else "I")
        x_end += kept
    return "".join(path)


def assert_follows_the_expert(pairs: list[tuple[list[int], list[int]]]) -> None:
    canvas, target = pad_rows([x for x, _ in pairs], PAD), pad_rows([y for _, y in pairs], PAD)
    kept = kept_tokens(canvas, target, PAD)
    assert [part.shape for part in kept] == [canvas.shape, target.shape]
    counts = insertion_counts(kept[1], target.ne(PAD)).tolist()
    rows = zip(pairs, *(part.tolist() for part in kept), counts, strict=True)
    for (x, y), kept_x, kept_y, row_counts in rows:
        expected_x, expected_y = expert(x, y)
        assert kept_x == expected_x + [False] * (len(kept_x) - len(x)), (x, y)
        assert kept_y == expected_y + [False] * (len(kept_y) - len(y)), (x, y)
        assert edited(x, y, kept_x, kept_y, row_counts) == y


def edited(x: list[int], y: list[int], kept_x: list[bool], kept_y: list[bool], counts: list[int]) -> list[int]:
    """Applies the edits to x: deletes, opens the slots before the tokens that stay, fills them from y."""
    stay = [token for token, kept in zip(x, kept_x, strict=False) if kept]
    slots = [count for count, kept in zip(counts, kept_y, strict=True) if kept]
    missing = iter([token for token, kept in zip(y, kept_y, strict=False) if not kept])
    result = []
    for token, count in zip(stay, slots, strict=True):
        result += [next(missing) for _ in range(count)] + [token]
    return result + list(missing)


@pytest.mark.parametrize(("alphabet", "longest"), [(2, 4), (3, 3)])
@pytest.mark.parametrize("end", [[], [EOS]])
def test_all_short_pairs(alphabet: int, longest: int, end: list[int]) -> None:
    words = [list(w) for n in range(longest + 1) for w in itertools.product(range(5, 5 + alphabet), repeat=n)]
    assert_follows_the_expert([(x + end, y + end) for x, y in itertools.product(words, repeat=2)])


@pytest.mark.parametrize(("alphabet", "longest"), [(3, 12), (8, 30), (200, 20)])
def test_random_pairs(alphabet: int, longest: int) -> None:
    draw = random.Random(alphabet)

    def words() -> list[int]:
        return [draw.randrange(5, 5 + alphabet) for _ in range(draw.randint(0, longest))] + [EOS]

    assert_follows_the_expert([(words(), words()) for _ in range(1000)])


@pytest.mark.parametrize(
    ("x", "y", "path"), [("a", "aa", "KKIK"), ("ab", "ba", "KDKIK"), ("aa", "a", "KKDK"), ("", "ab", "KIIK")]
)
def test_ties_are_those_of_the_authors(x: str, y: str, path: str) -> None:
    begin = 1
    assert operations([begin, *map(ord, x), EOS], [begin, *map(ord, y), EOS]) == path


def test_labels_do_not_depend_on_padding_or_other_rows() -> None:
    generator = torch.Generator().manual_seed(0)
    canvas, target = (torch.randint(5, 9, (20, 11), generator=generator) for _ in range(2))
    lengths = torch.randint(0, 12, (2, 20, 1), generator=generator)
    canvas = canvas.masked_fill(torch.arange(11) >= lengths[0], PAD)
    target = target.masked_fill(torch.arange(11) >= lengths[1], PAD)
    full = kept_tokens(canvas, target, PAD)
    wider = torch.nn.functional.pad(canvas, (0, 5), value=PAD), torch.nn.functional.pad(target, (0, 2), value=PAD)
    for kept, padded, width in zip(full, kept_tokens(*wider, PAD), (5, 2), strict=True):
        assert torch.equal(torch.nn.functional.pad(kept, (0, width)), padded)
    for row in range(20):
        x, y = (tokens[row][tokens[row] != PAD].unsqueeze(0) for tokens in (canvas, target))
        alone = kept_tokens(x, y, PAD)
        assert torch.equal(alone[0][0], full[0][row, : x.shape[1]])
        assert torch.equal(alone[1][0], full[1][row, : y.shape[1]])


def test_counts_are_those_of_the_gaps() -> None:
    kept = torch.tensor([[0, 0, 1, 1, 0, 1], [1, 0, 0, 1, 0, 0], [0, 1, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0]]).bool()
    lengths = torch.tensor([6, 4, 2, 3]).unsqueeze(1)
    assert insertion_counts(kept, torch.arange(6) < lengths).tolist() == [
        [0, 0, 2, 0, 0, 1],
        [0, 0, 0, 2, 0, 0],
        [0, 1, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
    ]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_labels_on_a_gpu_are_those_of_the_cpu() -> None:
    canvas, target = torch.randint(5, 9, (2, 50, 40)).unbind()
    expected = kept_tokens(canvas, target, PAD)
    for kept, kept_on_gpu in zip(expected, kept_tokens(canvas.cuda(), target.cuda(), PAD), strict=True):
        assert torch.equal(kept, kept_on_gpu.cpu())
