"""Order-agnostic cross-entropy against all permutations."""

from __future__ import annotations

import math
from itertools import permutations
from pathlib import Path

import pytest
import torch
from nat_model_tester import EOS, MASK, TARGETS, tiny_batch, tiny_model
from torch.testing import assert_close
from transformers import AutoModelForSeq2SeqLM

from hf_nat.models import NATPreTrainedModel, VanillaNATConfig, order_agnostic
from hf_nat.models.order_agnostic import best_order


pytest.importorskip("scipy")


def log_probs_of(model: NATPreTrainedModel, batch: dict, canvas: torch.Tensor | None = None) -> torch.Tensor:
    return model(**batch, decoder_input_ids=canvas).logits.detach().log_softmax(2)


def best_of_all(log_probs: torch.Tensor, words: list[int]) -> tuple[int, ...]:
    """The order of words with the highest probability at positions `[T, V]`, by enumeration."""
    return max(permutations(words), key=lambda order: sum(float(log_probs[i, word]) for i, word in enumerate(order)))


@pytest.mark.parametrize("seed", range(3))
def test_order_is_the_most_probable_of_all_permutations(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    hidden_states = torch.randn(3, 7, 4, generator=generator, dtype=torch.float64)
    weight = torch.randn(6, 4, generator=generator, dtype=torch.float64)
    labels = torch.tensor([[0, 1, 2, 2, 4, 5, 1], [3, 3, 1, 0, 5, -100, -100], [4, 2, -100, -100, -100, -100, -100]])
    selected = labels.ne(-100)
    selected[0, [1, 4]] = False
    selected[2] = False
    ordered, scores = best_order(hidden_states, weight, labels, selected)
    log_probs = (hidden_states @ weight.T).log_softmax(2)
    for row, own in enumerate(selected):
        places = own.nonzero().squeeze(1).tolist()
        assert torch.equal(ordered[row, ~own], labels[row, ~own]) and scores[row, ~own].eq(0).all()
        expected = best_of_all(log_probs[row, places], labels[row, places].tolist())
        total = sum(float(log_probs[row, place, word]) for place, word in zip(places, expected, strict=True))
        assert sorted(ordered[row, places].tolist()) == sorted(labels[row, places].tolist())
        assert float(scores[row].sum()) == pytest.approx(total, rel=1e-5)
        assert_close(scores[row, places], log_probs[row, places, ordered[row, places]], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("margin", [0.0, 0.02])
def test_loss_is_that_of_the_best_order_without_what_is_improbable(margin: float) -> None:
    model = tiny_model("vanilla_nat", order_agnostic=True, order_agnostic_margin=margin, label_smoothing=0.0)
    batch = tiny_batch()
    log_probs, num_tokens = log_probs_of(model, batch), int(batch["labels"].ne(-100).sum())
    nll, left_out = 0.0, 0
    for row, target in enumerate(TARGETS):
        order = (*best_of_all(log_probs[row], target[:-1]), EOS)
        for position, word in enumerate(order):
            if word == EOS or float(log_probs[row, position, word]) >= (math.log(margin) if margin else -math.inf):
                nll -= float(log_probs[row, position, word])
            else:
                left_out += 1
    assert (left_out > 0) == (margin > 0)
    for output in (model(**batch), model.train()(**batch)):
        assert float(output.loss_components["word"]) == pytest.approx(nll / num_tokens, rel=1e-4)
        assert float(output.token_shares["left_out"]) == pytest.approx(left_out / num_tokens)
    plain = tiny_model("vanilla_nat", label_smoothing=0.0)(**batch)
    assert output.loss_components["word"] < plain.loss_components["word"]


def test_gradient_is_that_of_the_reordered_target() -> None:
    model, batch = tiny_model("vanilla_nat", order_agnostic=True).train(), tiny_batch([0, 3])
    log_probs = log_probs_of(model.eval(), batch)
    gradients = []
    for own in (model.train(), tiny_model("vanilla_nat").train()):
        labels = batch["labels"].clone()
        if own is not model:
            for row, target in enumerate((TARGETS[0], TARGETS[3])):
                labels[row, : len(target) - 1] = torch.tensor(best_of_all(log_probs[row], target[:-1]))
        own(**batch | {"labels": labels}).loss.backward()
        gradients.append([p.grad for p in own.parameters()])
    for mine, other in zip(*gradients, strict=True):
        assert (mine is None) == (other is None)
        if mine is not None:
            assert_close(mine, other)


def test_what_glancing_reveals_stays_in_its_place() -> None:
    model = tiny_model("vanilla_nat", order_agnostic=True, glancing_ratio=0.5).train()
    calls: list[torch.Tensor] = []
    reorder = model._reorder
    model._reorder = lambda states, selected, labels: calls.append(selected) or reorder(states, selected, labels)
    output = model(**tiny_batch())
    output.loss.backward()
    (selected,) = calls
    labels = tiny_batch()["labels"]
    assert (labels.ne(-100) & ~selected).any()
    assert {"glanced", "correct", "left_out"} == output.token_shares.keys()
    ordered = reorder(torch.randn(*labels.shape, 16), selected, labels)[1]
    assert torch.equal(ordered[~selected], labels[~selected])


def test_order_depends_on_no_other_row_and_no_padding() -> None:
    model = tiny_model("vanilla_nat", order_agnostic=True, order_agnostic_margin=0.02)
    losses = [float(model(**tiny_batch([row])).loss_components["word"]) * len(TARGETS[row]) for row in range(4)]
    together = float(model(**tiny_batch(extra_padding=3)).loss_components["word"])
    assert together == pytest.approx(sum(losses) / sum(map(len, TARGETS)), rel=1e-4)


def test_checkpoint_goes_on_with_it(tmp_path: Path) -> None:
    tiny_model("vanilla_nat").save_pretrained(tmp_path)
    model = AutoModelForSeq2SeqLM.from_pretrained(tmp_path, order_agnostic=True, order_agnostic_margin=0.05).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(20):
        output = model(**tiny_batch())
        output.loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(output.loss.item())
    assert losses[-1] < losses[0] - 0.1


def test_empty_target_has_a_loss() -> None:
    model = tiny_model("vanilla_nat", order_agnostic=True).train()
    output = model(torch.tensor([[EOS]]), labels=torch.tensor([[EOS]]))
    output.loss.backward()
    assert output.loss.isfinite()
    canvas = torch.tensor([[MASK, 7, EOS]])
    assert model(
        torch.tensor([[5, EOS]]), labels=torch.tensor([[7, 8, EOS]]), decoder_input_ids=canvas
    ).loss.isfinite()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"order_agnostic": True, "order_agnostic_margin": 1.0}, r"must be in \[0, 1\), got 1.0"),
        ({"order_agnostic_margin": 0.15}, "belongs to `order_agnostic`, got 0.15 without it"),
    ],
)
def test_bad_configuration_is_an_error(fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=f"`order_agnostic_margin` {message}"):
        VanillaNATConfig(**fields)


def test_missing_scipy_is_told_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(order_agnostic.importlib, "import_module", missing)
    with pytest.raises(ImportError, match=r"needs SciPy: pip install scipy"):
        order_agnostic.import_assignment()
