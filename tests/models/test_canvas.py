from __future__ import annotations

import torch
from nat_model_tester import EOS, MASK, PAD

from hf_nat.models.canvas import (
    cap_counts,
    compact,
    content_mask,
    first_of_runs,
    insert_masks,
    mask_canvas,
    prepend,
    slot_states,
)


def test_mask_canvas_has_masks_then_eos_then_padding() -> None:
    canvas = mask_canvas(torch.tensor([3, 1, 2]), MASK, EOS, PAD)
    assert canvas.tolist() == [[MASK, MASK, EOS], [EOS, PAD, PAD], [MASK, EOS, PAD]]


def test_content_mask_is_all_but_the_last_real_position() -> None:
    target_mask = torch.tensor([[1, 1, 1], [1, 0, 0], [1, 1, 0], [0, 0, 0]]).bool()
    assert content_mask(target_mask).int().tolist() == [[1, 1, 0], [0, 0, 0], [1, 0, 0], [0, 0, 0]]


def test_what_is_first_of_its_run_is_kept_with_its_score() -> None:
    tokens = torch.tensor([[5, 5, 6, 5, 5, 5, EOS], [7, EOS, PAD, PAD, PAD, PAD, PAD]])
    scores = -torch.tensor([[1.0, 2, 3, 4, 5, 6, 0], [7, 0, 0, 0, 0, 0, 0]])
    collapsed, moved = compact(tokens, scores, first_of_runs(tokens), PAD)
    assert collapsed.tolist() == [[5, 6, 5, EOS, PAD, PAD, PAD], [7, EOS, PAD, PAD, PAD, PAD, PAD]]
    assert moved.tolist() == [[-1, -3, -4, 0, 0, 0, 0], [-7, 0, 0, 0, 0, 0, 0]]


def test_compact_keeps_the_order() -> None:
    tokens = torch.tensor([[5, 6, 7, 8, EOS], [5, EOS, PAD, PAD, PAD]])
    keep = torch.tensor([[0, 1, 0, 1, 1], [0, 1, 0, 0, 0]]).bool()
    compacted, moved = compact(tokens, -tokens.float(), keep, PAD)
    assert compacted.tolist() == [[6, 8, EOS, PAD, PAD], [EOS, PAD, PAD, PAD, PAD]]
    assert moved.tolist() == [[-6, -8, -EOS, 0, 0], [-EOS, 0, 0, 0, 0]]


def test_insert_masks_equals_insertion_into_lists() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randint(5, 99, (length,), generator=generator).tolist() + [EOS] for length in (0, 3, 1, 6)]
    tokens = torch.tensor([row + [PAD] * (7 - len(row)) for row in rows])
    counts = torch.randint(0, 4, tokens.shape, generator=generator) * tokens.ne(PAD)
    longer, moved = insert_masks(tokens, -tokens.float(), counts, MASK, PAD)
    expected = [
        [token for t, kept in enumerate(row) for token in [MASK] * int(counts[r, t]) + [kept]]
        for r, row in enumerate(rows)
    ]
    width = max(map(len, expected))
    assert longer.tolist() == [row + [PAD] * (width - len(row)) for row in expected]
    assert torch.equal(moved, -longer.float().masked_fill((longer == MASK) | (longer == PAD), 0))


def test_insert_masks_keeps_the_order_of_long_canvases_in_half_precision() -> None:
    tokens = torch.arange(5, 405).unsqueeze(0)
    longer, _ = insert_masks(tokens, torch.zeros(1, 400).bfloat16(), torch.ones_like(tokens), MASK, PAD)
    assert longer[0, 1::2].tolist() == tokens[0].tolist()
    assert longer[0, ::2].eq(MASK).all()


def test_cap_counts_serves_the_slots_in_order_of_priority() -> None:
    counts = torch.tensor([[2, 3, 1, 4]] * 6)
    priority = torch.tensor([[-3.0, -1, -1, -2]] * 6)
    capped = cap_counts(counts, priority, torch.tensor([0, 2, 4, 7, 9, 20]))
    assert capped.tolist() == [[0, 0, 0, 0], [0, 2, 0, 0], [0, 3, 1, 0], [0, 3, 1, 3], [1, 3, 1, 4], [2, 3, 1, 4]]


def test_slots_lie_between_the_positions_of_a_framed_canvas() -> None:
    framed = prepend(torch.tensor([[7, 8, EOS]]), 1)
    assert framed.tolist() == [[1, 7, 8, EOS]]
    assert slot_states(framed.unsqueeze(2)).tolist() == [[[1, 7], [7, 8], [8, EOS]]]
