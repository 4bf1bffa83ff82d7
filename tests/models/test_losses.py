from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from hf_nat.models import losses
from hf_nat.models.losses import cross_entropy, linear_cross_entropy, token_weights


def test_token_weights_count_sentences_by_their_tokens() -> None:
    labels = torch.tensor([[5, 6, 7, 2], [5, 2, -100, -100], [2, -100, -100, -100]])
    selected = torch.tensor([[1, 0, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0]]).bool()
    expected = torch.tensor([[2.0, 0, 2, 0], [1, 1, 0, 0], [0, 0, 0, 0]])
    assert_close(token_weights(selected, labels), expected / 7)
    for num_items in (14, torch.tensor(14)):
        assert_close(token_weights(selected, labels, num_items), expected / 14)
    assert_close(token_weights(torch.ones(3, 1).bool(), labels), torch.tensor([[4.0], [2], [1]]) / 7)
    assert token_weights(torch.zeros(1, 1).bool(), torch.tensor([[-100]])).tolist() == [[0]]


def test_cross_entropy_smoothing_is_uniform_over_all_classes() -> None:
    logits, targets, weights, epsilon = torch.randn(5, 7), torch.tensor([0, 3, 6, 3, 1]), torch.rand(5), 0.1
    log_probs = logits.log_softmax(dim=1)
    expected = 0.0
    for row, target in enumerate(targets.tolist()):
        smoothed = [(1 - epsilon) * (v == target) + epsilon / 7 for v in range(7)]
        expected -= float(weights[row]) * sum(p * float(log_probs[row, v]) for v, p in enumerate(smoothed))
    assert float(cross_entropy(logits, targets, weights, epsilon)) == pytest.approx(expected, rel=1e-5)


def test_cross_entropy_is_in_single_precision_and_of_nothing_zero() -> None:
    logits, targets = torch.randn(3, 4).bfloat16(), torch.tensor([0, 1, 2])
    loss = cross_entropy(logits, targets, torch.ones(3), 0.1)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, cross_entropy(logits.float(), targets, torch.ones(3), 0.1))
    nothing = torch.randn(0, 4, requires_grad=True)
    loss = cross_entropy(nothing, torch.zeros(0, dtype=torch.long), torch.zeros(0))
    loss.backward()
    assert loss.item() == 0.0 and nothing.grad is not None


V, D = 11, 6


def case(num_rows: int, num_targets: int, seed: int) -> dict[str, torch.Tensor]:
    """Rows with no, one and several targets, some of them equal."""
    generator = torch.Generator().manual_seed(seed)
    return {
        "hidden_states": torch.randn(num_rows, D, generator=generator, dtype=torch.float64),
        "weight": torch.randn(V, D, generator=generator, dtype=torch.float64),
        "targets": torch.randint(0, 4, (num_targets,), generator=generator),
        "weights": torch.rand(num_targets, generator=generator),
        "bias": torch.randn(V, generator=generator, dtype=torch.float64),
        "rows": torch.randint(0, num_rows, (num_targets,), generator=generator).sort().values,
    }


def gradients(loss: torch.Tensor, case: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    return list(torch.autograd.grad(3 * loss, [case[name] for name in ("hidden_states", "weight", "bias")]))


@pytest.mark.parametrize("chunk_elements", [V, 3 * V, 2**20])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_linear_cross_entropy_equals_a_dense_soft_target(
    monkeypatch, chunk_elements: int, label_smoothing: float
) -> None:
    monkeypatch.setitem(losses._CHUNK_ELEMENTS, "cpu", chunk_elements)
    for seed in range(20):
        inputs = case(num_rows=7, num_targets=9, seed=seed)
        for name in ("hidden_states", "weight", "bias"):
            inputs[name].requires_grad_()
        loss, chosen = linear_cross_entropy(**inputs, label_smoothing=label_smoothing)
        dense = torch.zeros(7, V, dtype=torch.float64)
        for row, target, weight in zip(inputs["rows"], inputs["targets"], inputs["weights"], strict=True):
            dense[row, target] += weight * (1 - label_smoothing)
            dense[row] += weight * label_smoothing / V
        log_probs = nn.functional.linear(inputs["hidden_states"], inputs["weight"], inputs["bias"]).log_softmax(dim=1)
        expected = -(dense * log_probs).sum()
        assert chosen is None
        assert_close(loss.double(), expected, rtol=1e-5, atol=1e-6)
        for ours, theirs in zip(gradients(loss, inputs), gradients(expected, inputs), strict=True):
            assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_linear_cross_entropy_has_one_target_per_row_by_default() -> None:
    inputs = case(num_rows=5, num_targets=5, seed=0)
    rows = inputs.pop("rows")
    assert_close(linear_cross_entropy(**inputs)[0], linear_cross_entropy(**inputs, rows=torch.arange(len(rows)))[0])
    with torch.no_grad():
        assert_close(linear_cross_entropy(**inputs)[0], linear_cross_entropy(**inputs, label_smoothing=0.0)[0])


@pytest.mark.parametrize("num_rows", [0, 3])
def test_linear_cross_entropy_of_no_targets_is_zero_with_a_gradient(num_rows: int) -> None:
    hidden_states = torch.randn(num_rows, D, requires_grad=True)
    weight = torch.randn(V, D, requires_grad=True)
    empty = torch.zeros(0, dtype=torch.long)
    loss, _ = linear_cross_entropy(hidden_states, weight, empty, torch.zeros(0), rows=empty)
    loss.backward()
    assert loss.item() == 0.0
    assert weight.grad.eq(0).all() and hidden_states.grad.eq(0).all()


def test_linear_cross_entropy_chooses_from_its_own_logits(monkeypatch) -> None:
    monkeypatch.setitem(losses._CHUNK_ELEMENTS, "cpu", 2 * V)
    inputs = case(num_rows=5, num_targets=5, seed=0)
    inputs["weight"].requires_grad_()
    first_rows = []

    def choose(logits: torch.Tensor, first_row: int) -> torch.Tensor:
        first_rows.append(first_row)
        return logits.fill_(0).index_fill_(1, torch.tensor([first_row]), 1).argmax(dim=1)

    loss, chosen = linear_cross_entropy(**inputs, choose=choose)
    assert (first_rows, chosen.tolist()) == ([0, 2, 4], [0, 0, 2, 2, 4])
    assert torch.equal(loss, linear_cross_entropy(**inputs)[0])
    (gradient,) = torch.autograd.grad(loss, inputs["weight"])
    assert gradient.abs().sum() > 0 and not chosen.requires_grad


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_linear_cross_entropy_keeps_small_gradients_in_half_precision(dtype: torch.dtype) -> None:
    hidden_states, weight = torch.randn(8, D), torch.randn(V, D)
    targets, weights = torch.randint(0, V, (8,)), torch.full((8,), 1e-7)
    expected = [value.clone().requires_grad_() for value in (hidden_states, weight)]
    linear_cross_entropy(*expected, targets, weights)[0].backward(torch.tensor(1e7))
    half = [value.to(dtype).requires_grad_() for value in (hidden_states, weight)]
    linear_cross_entropy(*half, targets, weights)[0].backward(torch.tensor(1e7))
    for ours, theirs in zip(half, expected, strict=True):
        assert ours.grad.dtype == dtype
        assert_close(ours.grad.float(), theirs.grad, rtol=0.05, atol=0.05)


def test_linear_cross_entropy_follows_autocast() -> None:
    hidden_states, weight = torch.randn(8, D, requires_grad=True), torch.randn(V, D, requires_grad=True)
    targets, weights = torch.randint(0, V, (8,)), torch.ones(8)
    expected = linear_cross_entropy(hidden_states.bfloat16(), weight.bfloat16(), targets, weights)[0]
    with torch.autocast("cpu", torch.bfloat16):
        loss = linear_cross_entropy(hidden_states, weight, targets, weights)[0]
    assert torch.equal(loss, expected)
    loss.backward()
    assert weight.grad.dtype == torch.float32
