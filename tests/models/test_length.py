from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from hf_nat.models import LengthNATConfig
from hf_nat.models.length import LengthPredictor


def predictor(kind: str = "offset", num_length_bins: int = 8, **fields) -> LengthPredictor:
    return LengthPredictor(
        LengthNATConfig(d_model=8, length_prediction=kind, num_length_bins=num_length_bins, **fields)
    )


def test_logits_are_of_the_mean_over_real_tokens() -> None:
    module, states = predictor(), torch.randn(2, 5, 8)
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    logits = module(states, mask)
    assert_close(logits[0], module.classifier(states[0, :3].mean(dim=0)))
    assert_close(logits[1], module.classifier(states[1].mean(dim=0)))


def test_mean_of_a_long_bfloat16_source_is_exact() -> None:
    module = predictor().bfloat16()
    states = torch.ones(1, 1000, 8, dtype=torch.bfloat16)
    logits = module(states, torch.ones(1, 1000, dtype=torch.long))
    assert_close(logits[0], module.classifier(torch.ones(8, dtype=torch.bfloat16)))


@pytest.mark.parametrize(
    ("kind", "source", "target", "expected"),
    [
        ("offset", 10, 10, 4),
        ("offset", 10, 7, 1),
        ("offset", 10, 13, 7),
        ("offset", 10, 14, 7),
        ("offset", 10, 6, 0),
        ("offset", 10, 2, 0),
        ("absolute", 10, 5, 5),
        ("absolute", 10, 7, 7),
        ("absolute", 10, 30, 7),
    ],
)
def test_classes_are_clamped_to_the_outermost(kind: str, source: int, target: int, expected: int) -> None:
    assert predictor(kind).classes(torch.tensor([target]), torch.tensor([source])).tolist() == [expected]


@pytest.mark.parametrize("kind", ["offset", "absolute"])
def test_candidates_invert_classes(kind: str) -> None:
    module = predictor(kind)
    sources = torch.tensor([4, 9])
    for target in (2, 5, 6, 7):
        classes = module.classes(torch.tensor([target, target]), sources)
        logits = torch.nn.functional.one_hot(classes, 8).float()
        lengths = module.candidates(logits, sources, 1, max_length=30)
        legal = (target, target if kind == "absolute" else max(target, 5))
        assert lengths.squeeze(1).tolist() == list(legal)


def test_candidates_are_the_best_legal_lengths_in_order() -> None:
    # Source of 5 tokens: classes 0 .. 7 are lengths 1 .. 8, of which 2 .. 6 are legal here.
    logits = torch.tensor([[9.0, 1, 5, 3, 5, 2, 8, 7]])
    assert predictor().candidates(logits, torch.tensor([5]), 4, max_length=6).tolist() == [[3, 5, 4, 6]]


def test_candidates_of_an_empty_source_may_be_empty() -> None:
    logits = torch.tensor([[0.0, 0, 0, 0, 5, 0, 0, 0]])
    assert predictor().candidates(logits, torch.tensor([1]), 1, max_length=9).tolist() == [[1]]


def test_candidates_stay_legal_where_too_few_classes_are() -> None:
    logits = torch.randn(3, 8)
    lengths = predictor().candidates(logits, torch.tensor([1, 5, 300]), 6, max_length=4)
    assert lengths.min() >= 1 and lengths.max() <= 4
    assert (lengths[1:] >= 2).all()
    assert set(lengths[0].tolist()) >= {1, 2, 3, 4}
    assert lengths[2].tolist() == [4] * 6
    assert predictor().candidates(logits, torch.tensor([5, 5, 5]), 1, max_length=1).tolist() == [[1]] * 3


def test_loss_is_the_weighted_cross_entropy_of_the_gold_class() -> None:
    logits = torch.randn(2, 8)
    labels = torch.tensor([[5, 6, 2, -100], [5, 5, 5, 2]])
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    losses = -logits.log_softmax(dim=1)[[0, 1], [5, 5]] * 0.3
    assert_close(predictor(length_loss_weight=0.3).loss(logits, labels, mask), (3 * losses[0] + 4 * losses[1]) / 7)
    assert_close(
        predictor(length_loss_weight=0.3).loss(logits, labels, mask, 14), (3 * losses[0] + 4 * losses[1]) / 14
    )
