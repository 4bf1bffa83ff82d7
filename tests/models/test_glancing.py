"""Glancing training: what every architecture that has it must do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from nat_model_tester import GLANCING_MODEL_TYPES, MASK, tiny_batch, tiny_model
from torch.testing import assert_close
from transformers import AutoModelForSeq2SeqLM

from hf_nat.models import NATPreTrainedModel, VanillaNATConfig
from hf_nat.models.glancing import Glancing, reveal


# Reveals nothing in a tiny batch, or next to never, and yet needs a first pass.
ALMOST_NONE = 1e-9


@pytest.fixture(params=GLANCING_MODEL_TYPES)
def model_type(request: pytest.FixtureRequest) -> str:
    return request.param


def step(model: NATPreTrainedModel, seed: int = 0, **kwargs: Any) -> tuple[Any, list[torch.Tensor]]:
    """Output and gradients of a training batch."""
    torch.manual_seed(seed)
    model.train().zero_grad()
    output = model(**tiny_batch(), **kwargs)
    output.loss.backward()
    return output, [p.grad.clone() for p in model.parameters() if p.grad is not None]


def decoded(model: NATPreTrainedModel) -> list[torch.Tensor]:
    """Collects the states that the decoder returns."""
    states: list[torch.Tensor] = []
    model.get_decoder().register_forward_hook(lambda _, __, output: states.append(output.last_hidden_state))
    return states


@pytest.mark.parametrize(
    ("fields", "ratios"),
    [
        ({"glancing_ratio": 0.5}, [0.5, 0.5, 0.5, 0.5]),
        ({"glancing_ratio": 0.5, "glancing_end_ratio": 0.1, "glancing_steps": 2}, [0.5, 0.3, 0.1, 0.1]),
        ({"glancing_end_ratio": 0.3, "glancing_steps": 3}, [0.0, 0.1, 0.2, 0.3]),
    ],
)
def test_schedule(fields: dict, ratios: list[float]) -> None:
    config = VanillaNATConfig(**fields)
    assert config.is_glancing
    glancing = Glancing(config)
    assert [glancing.next_ratio() for _ in ratios] == pytest.approx(ratios)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"glancing_ratio": 1.5}, r"`glancing_ratio` must be in \[0, 1\], got 1.5"),
        ({"glancing_end_ratio": -1, "glancing_steps": 1}, r"`glancing_end_ratio` must be in \[0, 1\], got -1"),
        ({"glancing_ratio": 0.5, "glancing_end_ratio": 0.3}, "belong together, got 0.3 and None"),
        ({"glancing_ratio": 0.5, "glancing_steps": 3}, "belong together, got None and 3"),
        ({"glancing_end_ratio": 0.3, "glancing_steps": 0}, "`glancing_steps` must be >= 1, got 0"),
    ],
)
def test_bad_schedule_is_an_error(fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VanillaNATConfig(**fields)


def test_reveal_is_exact_and_uniform() -> None:
    eligible = torch.tensor([[True, True, False, True]] * 4000)
    counts = torch.tensor([0.0, 0.99, 2.0, 3.0]).repeat(1000)
    revealed = reveal(eligible, counts, torch.rand(4000, 4, generator=torch.Generator().manual_seed(0)))
    assert revealed.sum(1).tolist() == [0, 0, 2, 3] * 1000
    assert not revealed[:, 2].any()
    assert_close(revealed[2::4].float().mean(0)[[0, 1, 3]], torch.full((3,), 2 / 3), atol=0.05, rtol=0.0)
    assert reveal(torch.ones(1, 100, dtype=torch.bool), torch.tensor([0.29 * 100]), torch.rand(1, 100)).sum() == 29


def test_off_by_default(model_type: str) -> None:
    model = tiny_model(model_type)
    assert model.glancing is None and not [name for name in model.state_dict() if "glancing" in name]
    states = decoded(model)
    output, _ = step(model)
    assert len(states) == 1 and "glanced" not in (output.token_shares or {})


def test_at_ratio_0_equal_to_the_model_without(model_type: str) -> None:
    plain = tiny_model(model_type, dropout=0.3)
    model = tiny_model(model_type, dropout=0.3, glancing_ratio=0.5, glancing_end_ratio=0.0, glancing_steps=2)
    step(model), step(model)
    (expected, gradients), (output, others) = step(plain), step(model)
    assert torch.equal(output.loss, expected.loss)
    assert all(map(torch.equal, gradients, others))


def test_both_passes_have_the_same_dropout_and_the_first_no_gradient(model_type: str) -> None:
    model = tiny_model(model_type, dropout=0.5, glancing_ratio=ALMOST_NONE)
    states = decoded(model)
    output, _ = step(model)
    assert torch.equal(*states)
    assert [state.requires_grad for state in states] == [False, True]
    assert output.token_shares["glanced"] == 0
    step(model, seed=1)
    assert not torch.equal(states[0], states[2])


@pytest.mark.parametrize("autocast", [False, True])
def test_first_pass_leaves_the_gradients_alone(model_type: str, autocast: bool) -> None:
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        expected, gradients = step(tiny_model(model_type))
        output, others = step(tiny_model(model_type, glancing_ratio=ALMOST_NONE))
    assert torch.equal(output.loss, expected.loss)
    # Those of a shared weight are added up in another order.
    assert_close(others, gradients, **({"rtol": 0.02, "atol": 0.02} if autocast else {"rtol": 1e-5, "atol": 1e-6}))


def test_generator_decides_what_is_revealed(model_type: str) -> None:
    model = tiny_model(model_type, glancing_ratio=0.5)
    losses = [step(model, generator=torch.Generator().manual_seed(seed))[0].loss for seed in (1, 1, 2)]
    assert torch.equal(losses[0], losses[1]) and not torch.equal(losses[0], losses[2])


def test_evaluation_and_a_given_canvas_neither_glance_nor_count(model_type: str) -> None:
    model, batch = tiny_model(model_type, glancing_ratio=1.0), tiny_batch()
    plain = tiny_model(model_type)
    assert torch.equal(model(**batch).loss, plain(**batch).loss)
    canvas = torch.full(batch["labels"].shape, MASK)
    canvas[:, -1] = 2
    model.train(), plain.train()
    assert torch.equal(*(m(**batch, decoder_input_ids=canvas).loss for m in (model, plain)))
    assert model.glancing.num_batches == 0


def test_checkpoint_goes_on_as_if_nothing_had_happened(model_type: str, tmp_path: Path) -> None:
    fields = {"dropout": 0.1, "glancing_ratio": 0.9, "glancing_end_ratio": 0.1, "glancing_steps": 4}
    model = tiny_model(model_type, **fields)
    step(model), step(model)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    assert loaded.glancing.num_batches == 2
    (expected, gradients), (output, others) = step(model), step(loaded)
    assert torch.equal(output.loss, expected.loss) and all(map(torch.equal, gradients, others))


def test_checkpoint_may_go_on_with_glancing_or_without(model_type: str, tmp_path: Path, caplog) -> None:
    tiny_model(model_type).save_pretrained(tmp_path / "plain")
    model = tiny_model(model_type, glancing_ratio=0.5)
    step(model)
    model.save_pretrained(tmp_path / "glancing")
    with_it = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "plain", glancing_ratio=0.5)
    assert with_it.glancing.num_batches == 0
    without = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "glancing", glancing_ratio=0.0)
    assert without.glancing is None and not caplog.records
    batch = tiny_batch()
    assert torch.equal(with_it(**batch).loss, without(**batch).loss)
    output, _ = step(with_it)
    assert "glanced" in output.token_shares and with_it.glancing.num_batches == 1


def test_student_of_a_glancing_student_counts_anew(model_type: str) -> None:
    model = tiny_model(model_type, glancing_ratio=0.5)
    step(model)
    assert type(model).from_teacher(model).glancing.num_batches == 0
