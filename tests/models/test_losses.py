from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from hf_nat.models.losses import cross_entropy, sentence_means, token_weighted


def test_cross_entropy_smoothing_is_uniform_over_all_classes() -> None:
    logits, targets, epsilon = torch.randn(5, 7), torch.tensor([0, 3, 6, 3, 1]), 0.1
    log_probs = logits.log_softmax(dim=1)
    for row, target in enumerate(targets.tolist()):
        smoothed = [(1 - epsilon) * (v == target) + epsilon / 7 for v in range(7)]
        expected = -sum(p * float(log_probs[row, v]) for v, p in enumerate(smoothed))
        assert float(cross_entropy(logits, targets, epsilon)[row]) == pytest.approx(expected, rel=1e-5)
        assert float(cross_entropy(logits, targets)[row]) == pytest.approx(-float(log_probs[row, target]), rel=1e-5)


def test_cross_entropy_is_in_single_precision() -> None:
    logits = torch.randn(3, 4).bfloat16()
    targets = torch.tensor([0, 1, 2])
    losses = cross_entropy(logits, targets, 0.1)
    assert losses.dtype == torch.float32
    assert torch.equal(losses, cross_entropy(logits.float(), targets, 0.1))


def test_sentence_means_average_the_selected_positions() -> None:
    selected = torch.tensor([[1, 0, 1], [0, 0, 0], [0, 1, 0]]).bool()
    losses = torch.tensor([1.0, 4.0, 7.0], requires_grad=True)
    means = sentence_means(losses, selected)
    assert means.tolist() == [2.5, 0.0, 7.0]
    (means * torch.tensor([2.0, 5.0, 3.0])).sum().backward()
    assert losses.grad.tolist() == [1.0, 1.0, 3.0]


def test_sentence_means_of_no_selection_have_a_zero_gradient() -> None:
    logits = torch.randn(2, 3, 5, requires_grad=True)
    selected = torch.zeros(2, 3, dtype=torch.bool)
    losses = cross_entropy(logits[selected], torch.zeros(0, dtype=torch.long), 0.1)
    means = sentence_means(losses, selected)
    means.sum().backward()
    assert means.tolist() == [0.0, 0.0]
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_token_weighted_counts_sentences_by_their_tokens() -> None:
    labels = torch.tensor([[5, 6, 2], [2, -100, -100]])
    losses = {"word": torch.tensor([1.0, 3.0]), "length": torch.tensor([2.0, 2.0])}
    assert {k: float(v) for k, v in token_weighted(losses, labels).items()} == {"word": 1.5, "length": 2.0}
    for num_items in (12, torch.tensor(12)):
        assert_close(token_weighted(losses, labels, num_items)["word"], torch.tensor(0.5))


def test_token_weighted_of_no_labels_is_zero() -> None:
    assert float(token_weighted({"word": torch.tensor([0.0])}, torch.tensor([[-100]]))["word"]) == 0.0
