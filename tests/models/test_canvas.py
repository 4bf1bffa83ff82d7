from __future__ import annotations

import torch
from nat_model_tester import EOS, MASK, PAD

from hf_nat.models.canvas import collapse_repeats, content_mask, mask_canvas


def test_mask_canvas_has_masks_then_eos_then_padding() -> None:
    canvas = mask_canvas(torch.tensor([3, 1, 2]), MASK, EOS, PAD)
    assert canvas.tolist() == [[MASK, MASK, EOS], [EOS, PAD, PAD], [MASK, EOS, PAD]]


def test_content_mask_is_all_but_the_last_real_position() -> None:
    target_mask = torch.tensor([[1, 1, 1], [1, 0, 0], [1, 1, 0], [0, 0, 0]]).bool()
    assert content_mask(target_mask).int().tolist() == [[1, 1, 0], [0, 0, 0], [1, 0, 0], [0, 0, 0]]


def test_collapse_repeats_keeps_the_first_of_each_run_with_its_score() -> None:
    tokens = torch.tensor([[5, 5, 6, 5, 5, 5, EOS], [7, EOS, PAD, PAD, PAD, PAD, PAD]])
    scores = -torch.tensor([[1.0, 2, 3, 4, 5, 6, 0], [7, 0, 0, 0, 0, 0, 0]])
    collapsed, moved = collapse_repeats(tokens, scores, PAD)
    assert collapsed.tolist() == [[5, 6, 5, EOS, PAD, PAD, PAD], [7, EOS, PAD, PAD, PAD, PAD, PAD]]
    assert moved.tolist() == [[-1, -3, -4, 0, 0, 0, 0], [-7, 0, 0, 0, 0, 0, 0]]
