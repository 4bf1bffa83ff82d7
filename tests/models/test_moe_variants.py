"""Mixtures of experts with a learned prior and with soft assignment, by brute force on single sentences."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from nat_model_tester import EOS, PAD, TARGETS, TINY, VOCAB_SIZE, pad_rows, tiny_batch
from test_modeling_moe_marian import SPECIAL, K, plain_copy, start_with, tiny_moe
from torch.nn.functional import cross_entropy, log_softmax
from torch.testing import assert_close
from transformers import AutoModelForSeq2SeqLM

from hf_nat.models import MoEMarianConfig, MoEMarianMTModel, marian_config, new_teacher


PRIORS, ASSIGNMENTS = ("uniform", "learned"), ("hard", "soft")
VARIANTS = list(itertools.product(PRIORS, ASSIGNMENTS))
every_variant = pytest.mark.parametrize(("prior", "assignment"), VARIANTS)


def tiny_variant(prior: str, assignment: str, **fields: Any) -> MoEMarianMTModel:
    """A mixture whose learned prior is far from uniform."""
    model = tiny_moe(prior=prior, assignment=assignment, **fields)
    if model.gating_network is not None:
        torch.manual_seed(1)
        for parameter in model.gating_network.parameters():
            torch.nn.init.normal_(parameter)
    return model


def num_tokens(batch: dict[str, torch.Tensor]) -> torch.Tensor:
    return batch["labels"].ne(-100).sum()


def joint_log_probs(model: MoEMarianMTModel) -> torch.Tensor:
    """log p(expert | source) + log p(target | source, expert) `(B, K)` of `tiny_batch`, one unpadded row at a time."""
    batch, num_experts, rows = tiny_batch(), model.config.num_experts, []
    for row, target in enumerate(TARGETS):
        source = batch["input_ids"][row : row + 1, : int(batch["attention_mask"][row].sum())]
        states = model.get_encoder()(source).last_hidden_state
        prior = torch.full((num_experts,), -math.log(num_experts))
        if (gate := model.gating_network) is not None:
            hidden = torch.tanh(states[0].mean(dim=0) @ gate.fc1.weight.T + gate.fc1.bias)
            prior = log_softmax(hidden @ gate.fc2.weight.T + gate.fc2.bias, dim=0)
        scores = []
        for expert in range(num_experts):
            decoder_input_ids = torch.tensor([[VOCAB_SIZE + expert, *target[:-1]]])
            logits = model(encoder_outputs=(states,), decoder_input_ids=decoder_input_ids).logits[0, :, :VOCAB_SIZE]
            scores.append(log_softmax(logits, dim=-1)[range(len(target)), target].sum())
        rows.append(prior + torch.stack(scores))
    return torch.stack(rows)


def objective(model: MoEMarianMTModel) -> torch.Tensor:
    """What a variant minimises, in nats per target token, as a function that autograd differentiates."""
    joint = joint_log_probs(model)
    total = joint.logsumexp(dim=1) if model.config.assignment == "soft" else joint.max(dim=1).values
    if (model.config.prior, model.config.assignment) == ("uniform", "hard"):
        total = total + math.log(model.config.num_experts)
    return -total.sum() / num_tokens(tiny_batch())


@every_variant
def test_loss_and_gradients_are_those_of_the_exact_objective(prior: str, assignment: str) -> None:
    model = tiny_variant(prior, assignment).train()
    expected = objective(model)
    expected.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    loss = model(**tiny_batch()).loss
    assert_close(loss, expected, rtol=1e-4, atol=1e-4)
    loss.backward()
    assert gradients.keys() == {name for name, p in model.named_parameters() if p.grad is not None}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            assert_close(parameter.grad, gradients[name], rtol=1e-3, atol=1e-4, msg=name)
    gates = [gradients[name] for name in gradients if name.startswith("gating_network")]
    assert len(gates) == (4 if prior == "learned" else 0)
    assert all(gradient.any() for gradient in gates)


@every_variant
def test_e_step_is_bayes_rule(prior: str, assignment: str) -> None:
    model = tiny_variant(prior, assignment)
    output, expected = model(**tiny_batch()), joint_log_probs(model).softmax(dim=1)
    assert_close(output.expert_posteriors, expected, rtol=1e-3, atol=1e-4)
    assert not output.expert_posteriors.requires_grad
    assert 1 / K < expected.max(dim=1).values.mean() < 0.999, "a test of one-hot or uniform posteriors proves little"
    winners = expected.argmax(dim=1)
    assert output.experts.tolist() == winners.tolist()
    counts = expected.sum(dim=0) if assignment == "soft" else torch.bincount(winners, minlength=K).float()
    assert_close(output.expert_counts, counts, rtol=1e-3, atol=1e-3)
    logits = model(**tiny_batch(), decoder_input_ids=start_with(output.experts, tiny_batch()["labels"])).logits
    assert_close(output.logits, logits)


def test_learned_prior_changes_the_winner() -> None:
    uniform, learned = tiny_variant("uniform", "hard"), tiny_variant("learned", "hard")
    learned.load_state_dict(uniform.state_dict(), strict=False)
    with torch.no_grad():
        learned.gating_network.fc2.bias.copy_(torch.tensor([-50.0, 0.0, 50.0]))
    outputs = [model(**tiny_batch()) for model in (uniform, learned)]
    assert torch.equal(outputs[0].expert_log_probs, outputs[1].expert_log_probs)
    assert outputs[0].experts.ne(2).any() and outputs[1].experts.eq(2).all()


@every_variant
def test_m_step_has_dropout_and_the_responsibilities_are_constants_without_it(prior: str, assignment: str) -> None:
    model, batch = tiny_variant(prior, assignment, dropout=0.3), tiny_batch()
    posteriors = model(**batch).expert_posteriors
    winners, labels = posteriors.argmax(dim=1), batch["labels"]
    model.train()
    torch.manual_seed(3)
    output = model(**batch)
    assert torch.equal(output.expert_posteriors, posteriors)
    output.loss.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    torch.manual_seed(3)
    encoded = model.get_encoder()(batch["input_ids"], batch["attention_mask"])
    log_prior = torch.full((len(labels), K), -math.log(K))
    if prior == "learned":
        log_prior = model.gating_network(encoded.last_hidden_state, batch["attention_mask"])
    elif assignment == "hard":
        log_prior = torch.zeros(len(labels), K)
    loss = torch.zeros(())
    for experts in [*range(K)] if assignment == "soft" else [winners]:
        logits = model(
            encoder_outputs=encoded,
            attention_mask=batch["attention_mask"],
            decoder_input_ids=start_with(experts, labels),
        ).logits
        nats = cross_entropy(logits.transpose(1, 2), labels, reduction="none").sum(dim=1)
        chosen = experts if torch.is_tensor(experts) else torch.full((len(labels),), experts)
        r = posteriors.gather(1, chosen[:, None])[:, 0] if assignment == "soft" else torch.ones(len(labels))
        loss = loss + (r * (nats - log_prior.gather(1, chosen[:, None])[:, 0]) + torch.xlogy(r, r)).sum()
    loss = loss / num_tokens(batch)
    assert_close(output.loss, loss)
    loss.backward()
    for name, gradient in gradients.items():
        assert_close(gradient, model.get_parameter(name).grad, rtol=1e-3, atol=1e-5, msg=name)


def test_soft_loss_bounds_the_likelihood_of_the_network_with_dropout() -> None:
    """The bound is tight where the responsibilities are the posterior, and only there."""
    model, batch = tiny_variant("uniform", "soft", dropout=0.3).train(), tiny_batch()
    gaps = []
    for seed in range(5):
        torch.manual_seed(seed)
        bound = model(**batch).loss * num_tokens(batch)
        torch.manual_seed(seed)
        encoded = model.get_encoder()(batch["input_ids"], batch["attention_mask"])
        inputs = {"encoder_outputs": encoded, "attention_mask": batch["attention_mask"]}
        losses = []
        for expert in range(K):
            logits = model(**inputs, decoder_input_ids=start_with(expert, batch["labels"])).logits
            losses.append(cross_entropy(logits.transpose(1, 2), batch["labels"], reduction="none").sum(dim=1))
        exact = -(-torch.stack(losses, dim=1) - math.log(K)).logsumexp(dim=1).sum()
        gaps.append((bound - exact).item())
    assert min(gaps) > 1e-3


@every_variant
def test_loss_does_not_depend_on_padding_or_other_rows(prior: str, assignment: str) -> None:
    model = tiny_variant(prior, assignment)
    full = model(**tiny_batch())
    alone = [model(**tiny_batch([row], extra_padding=3), num_items_in_batch=1) for row in range(len(TARGETS))]
    for row, output in enumerate(alone):
        assert_close(output.expert_posteriors[0], full.expert_posteriors[row], rtol=1e-4, atol=1e-5)
    total = torch.stack([output.loss for output in alone]).sum()
    assert_close(total / num_tokens(tiny_batch()), full.loss, rtol=1e-5, atol=1e-5)
    assert_close(sum(output.expert_counts for output in alone), full.expert_counts, rtol=1e-4, atol=1e-4)


def test_padding_and_missing_mask_in_the_gating_network() -> None:
    gate = tiny_variant("learned", "hard").gating_network
    states = torch.randn(2, 5, TINY["d_model"])
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    log_prior = gate(states, mask)
    assert_close(log_prior.exp().sum(dim=1), torch.ones(2))
    assert_close(log_prior[:1], gate(states[:1, :3]))
    assert_close(log_prior[1:], gate(states[1:]))


@every_variant
def test_label_smoothing_bears_on_the_loss_alone(prior: str, assignment: str) -> None:
    batch = tiny_batch()
    models = [tiny_variant(prior, assignment, label_smoothing=smoothing) for smoothing in (0.0, 0.2)]
    sharp, smooth = (model(**batch) for model in models)
    assert torch.equal(smooth.expert_posteriors, sharp.expert_posteriors)
    responsibilities = sharp.expert_posteriors if assignment == "soft" else torch.eye(K)[sharp.experts]
    expected = torch.zeros(())
    for expert in range(K):
        words = models[0](**batch, decoder_input_ids=start_with(expert, batch["labels"])).logits[..., :VOCAB_SIZE]
        for sign, smoothing in ((1, 0.2), (-1, 0.0)):
            losses = cross_entropy(
                words.transpose(1, 2), batch["labels"], label_smoothing=smoothing, reduction="none"
            ).sum(dim=1)
            expected = expected + sign * (responsibilities[:, expert] * losses).sum()
    assert_close(smooth.loss - sharp.loss, expected / num_tokens(batch), rtol=1e-4, atol=1e-5)
    assert abs(smooth.loss - sharp.loss) > 1e-2


@every_variant
def test_one_expert_is_a_plain_marian(prior: str, assignment: str) -> None:
    model, batch = tiny_variant(prior, assignment, num_experts=1), tiny_batch()
    with torch.no_grad():
        model.model.shared.weight[PAD] = model.model.shared.weight[VOCAB_SIZE]
    plain = new_teacher(marian_config("nano", **SPECIAL, **TINY, dropout=0.0)).eval()
    weights = {
        name: w[..., :VOCAB_SIZE] if name == "final_logits_bias" else w[:VOCAB_SIZE] if len(w) == VOCAB_SIZE + 1 else w
        for name, w in model.state_dict().items()
        if not name.startswith("gating_network")
    }
    plain.load_state_dict(weights)
    output, expected = model(**batch), plain(**batch)
    assert_close(output.logits[..., :VOCAB_SIZE], expected.logits)
    assert_close(output.loss, expected.loss)
    assert output.expert_counts.tolist() == [len(TARGETS)]
    assert torch.equal(model.generate(batch["input_ids"])[:, 1:], plain.generate(batch["input_ids"])[:, 1:])


@pytest.mark.parametrize("prior", PRIORS)
def test_soft_assignment_costs_two_passes_per_expert_and_hard_one_and_one(prior: str) -> None:
    for assignment, passes in (("soft", 2 * K), ("hard", K + 1)):
        model, calls = tiny_variant(prior, assignment), []
        model.get_encoder().register_forward_hook(lambda *_, calls=calls: calls.append("encoder"))
        model.get_decoder().register_forward_hook(lambda *_, calls=calls: calls.append("decoder"))
        model(**tiny_batch())
        assert (calls.count("encoder"), calls.count("decoder")) == (2, passes)


@every_variant
def test_bfloat16_and_autocast_are_close_to_single_precision(prior: str, assignment: str) -> None:
    model, batch = tiny_variant(prior, assignment, init_std=0.1), tiny_batch()
    expected = model(**batch)
    with torch.autocast("cpu", torch.bfloat16):
        cast = model(**batch)
    outputs = (cast, model.bfloat16()(**batch))
    for output in outputs:
        assert output.loss.dtype == output.expert_posteriors.dtype == torch.float32
        assert_close(output.loss, expected.loss, rtol=0.03, atol=0.03)
        assert_close(output.expert_posteriors.sum(dim=1), torch.ones(len(TARGETS)))


def test_given_encoder_outputs_and_states_on_request() -> None:
    batch = tiny_batch()
    for assignment in ASSIGNMENTS:
        model = tiny_variant("learned", assignment)
        expected = model(**batch, output_hidden_states=True)
        assert len(expected.encoder_hidden_states) == 2
        assert (expected.decoder_hidden_states is None) == (assignment == "soft")
        encoded = model.get_encoder()(batch["input_ids"], batch["attention_mask"]).to_tuple()
        output = model(encoder_outputs=encoded, attention_mask=batch["attention_mask"], labels=batch["labels"])
        assert_close(output.loss, expected.loss)
        assert torch.equal(model(**batch, return_dict=False)[0], expected.loss)


# Configuration and checkpoints


@pytest.mark.parametrize(("field", "value"), [("prior", "gated"), ("assignment", "medium")])
def test_unknown_variant_is_an_error(field: str, value: str) -> None:
    with pytest.raises(Exception, match=f"'{field}'.*(.|\n)*{value}"):
        MoEMarianConfig(**{field: value})


def test_uniform_prior_has_the_parameters_and_initial_weights_of_marian() -> None:
    model = tiny_moe(assignment="soft")
    torch.manual_seed(0)
    plain = new_teacher(
        marian_config("nano", **SPECIAL, **{**TINY, "vocab_size": VOCAB_SIZE + K, "init_std": 0.3, "dropout": 0.0})
    )
    weights = plain.state_dict()
    assert weights.keys() == model.state_dict().keys()
    assert all(torch.equal(weight, weights[name]) for name, weight in model.state_dict().items())


def test_checkpoint_from_before_there_was_a_choice_loads_unchanged(tmp_path: Path) -> None:
    model, batch = tiny_moe(), tiny_batch()
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config.pop("prior"), config.pop("assignment")) == ("uniform", "hard")
    (tmp_path / "config.json").write_text(json.dumps(config))
    loaded, info = AutoModelForSeq2SeqLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert (loaded.config.prior, loaded.config.assignment) == ("uniform", "hard")
    plain = plain_copy(model)
    output, experts = loaded(**batch), model(**batch).experts
    logits = plain(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        decoder_input_ids=start_with(experts, batch["labels"]),
    ).logits[..., :VOCAB_SIZE]
    assert_close(output.loss, cross_entropy(logits.transpose(1, 2), batch["labels"]))


@pytest.mark.parametrize("assignment", ASSIGNMENTS)
def test_learned_prior_is_saved_and_loaded(assignment: str, tmp_path: Path) -> None:
    model, batch = tiny_variant("learned", assignment), tiny_batch()
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    assert (loaded.config.prior, loaded.config.assignment) == ("learned", assignment)
    assert torch.equal(loaded(**batch).loss, model(**batch).loss)
    assert torch.equal(loaded(**batch).expert_posteriors, model(**batch).expert_posteriors)


# Learning


def two_modes(generator: torch.Generator, size: int) -> dict[str, torch.Tensor]:
    """Up to 3 of the words 5 to 9; the target is all in words 10 to 14 or all in words 15 to 19, by chance."""
    lengths = torch.randint(1, 4, (size,), generator=generator).tolist()
    modes = torch.randint(0, 2, (size,), generator=generator).tolist()
    sources = [(torch.randperm(5, generator=generator)[:length] + 5).tolist() for length in lengths]
    targets = [[word + 5 + 5 * mode for word in source] for source, mode in zip(sources, modes, strict=True)]
    input_ids = pad_rows([[*source, EOS] for source in sources], PAD)
    labels = pad_rows([[*target, EOS] for target in targets], -100)
    return {"input_ids": input_ids, "attention_mask": input_ids.ne(PAD).long(), "labels": labels}


def modes_of(model: MoEMarianMTModel, batch: dict[str, torch.Tensor], expert: int) -> torch.Tensor:
    """The mode of each output of an expert, -1 of one that translates its source in neither."""
    source = {name: batch[name] for name in ("input_ids", "attention_mask")}
    sequences = model.generate(**source, expert=expert, max_length=8)[:, 1:]
    modes = torch.full((len(sequences),), -1)
    for row, (output, words) in enumerate(zip(sequences.tolist(), batch["input_ids"].tolist(), strict=True)):
        end = words.index(EOS)
        for mode in range(2):
            if output[: end + 1] == [*(word + 5 + 5 * mode for word in words[:end]), EOS]:
                modes[row] = mode
    return modes


@pytest.mark.slow
@every_variant
def test_variant_learns_a_task_of_two_modes(prior: str, assignment: str) -> None:
    sizes = {"d_model": 32, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
    model = tiny_moe(num_experts=2, init_std=0.1, prior=prior, assignment=assignment, **sizes).train()
    num_steps, generator = 250, torch.Generator().manual_seed(1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=num_steps)
    for _ in range(num_steps):
        model(**two_modes(generator, 64)).loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    model.eval()
    batch = two_modes(generator, 300)
    output = model(**batch)
    # A target has one of two equally probable modes: no likelihood is above 1 / 2, but that of a winner may near 1.
    entropy = 0.0 if (prior, assignment) == ("uniform", "hard") else math.log(2)
    nats = (output.loss * num_tokens(batch) / 300).item()
    assert nats == pytest.approx(entropy, abs=0.1)
    shares = output.expert_counts / 300
    modes = torch.stack([modes_of(model, batch, expert) for expert in range(2)])
    if prior == "uniform":
        assert modes.sort(dim=0).values.eq(torch.tensor([[0], [1]])).all(dim=0).float().mean() > 0.97
        assert shares.min() > 0.4
    else:  # One expert may take everything: nothing in the likelihood speaks against it.
        assert modes[shares.argmax()].ge(0).float().mean() > 0.97
        states = model.get_encoder()(batch["input_ids"], batch["attention_mask"]).last_hidden_state
        assert_close(model.gating_network(states, batch["attention_mask"]).exp().mean(dim=0), shares, rtol=0, atol=0.1)
