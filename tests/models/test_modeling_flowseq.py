"""What is special to FlowSeq: lengths, phases, likelihoods, candidates, the published sizes."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from nat_model_tester import BOS, EOS, MASK, PAD, assert_translations, tiny_batch, tiny_model, tiny_teacher
from torch.testing import assert_close
from transformers import AutoModelForSeq2SeqLM

from hf_nat.models import FlowSeqConfig, FlowSeqForConditionalGeneration, FlowSeqState
from hf_nat.models.flow_layers import masked_moments, standard_normal
from hf_nat.models.length_flowseq import FlowSeqLengthPredictor
from hf_nat.models.noise import TargetNoise


def flowseq(**fields: object) -> FlowSeqForConditionalGeneration:
    settings = {"flow_steps": [1, 1], "init_steps": 0, "kl_annealing_steps": 1, "length_dropout": 0.0, **fields}
    return tiny_model("flowseq", **settings)


@pytest.fixture
def model() -> FlowSeqForConditionalGeneration:
    """A model whose couplings are not trivial and whose lengths differ."""
    model = flowseq()
    with torch.no_grad():
        for name, parameter in model.prior.named_parameters():
            if name.endswith(("gain", "bias")):
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


# Configuration and size


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"posterior_layers": 0}, "`posterior_layers` must be >= 1, got 0"),
        ({"init_steps": -1}, "`init_steps` must be >= 0, got -1"),
        ({"kl_annealing_steps": 0}, "`kl_annealing_steps` must be >= 1, got 0"),
        ({"posterior_word_dropout": 1.0}, r"`posterior_word_dropout` must be in \[0, 1\), got 1.0"),
        ({"flow_steps": []}, r"`flow_steps` must be numbers >= 1, one for each level, got \[\]"),
        ({"flow_steps": [1, 0]}, r"`flow_steps` must be numbers >= 1, one for each level, got \[1, 0\]"),
        ({"flow_attention_heads": 3}, "`flow_attention_heads` must divide half of `d_model` = 512, got 3"),
        ({"length_range": 3}, "`length_range` must be >= 4 with 3 levels, got 3"),
        ({"max_position_embeddings": 3}, "`max_position_embeddings` must be >= 4 with 3 levels, got 3"),
    ],
)
def test_config_out_of_range_is_an_error(fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FlowSeqConfig(**fields)


def test_config_defaults_follow_the_width() -> None:
    config = FlowSeqConfig(d_model=16, decoder_layers=3, decoder_attention_heads=2, encoder_attention_heads=2)
    assert (config.posterior_layers, config.flow_ffn_dim, config.flow_attention_heads) == (3, 32, 2)
    assert config.flow_steps == [4, 4, 2] and config.length_unit == 4


def num_parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


@pytest.mark.parametrize(("d_model", "millions"), [(256, "73.41"), (512, "258.85")])
def test_published_sizes(d_model: int, millions: str) -> None:
    config = FlowSeqConfig(
        vocab_size=37000,
        d_model=d_model,
        encoder_ffn_dim=1024,
        decoder_ffn_dim=1024,
        decoder_layers=4,
        attention_output_projection=False,
    )
    with torch.device("meta"):
        model = FlowSeqForConditionalGeneration(config)
    assert f"{num_parameters(model) / 1e6:.2f}" == millions
    if d_model == 256:
        assert num_parameters(model.model.encoder.layers) == 4_343_808
        # The published count of the prior includes the length predictor.
        assert num_parameters(model.prior) + num_parameters(model.length_predictor) == 51_852_457


def test_attention_without_output_projection_works(tmp_path: Path) -> None:
    model, batch = flowseq(attention_output_projection=False), tiny_batch()
    assert not any("out_proj" in name for name in model.state_dict())
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    assert torch.equal(loaded(**batch).logits, model(**batch).logits)
    with pytest.raises(ValueError, match="Teacher and student must have the same parameters"):
        FlowSeqForConditionalGeneration.from_teacher(tiny_teacher(), attention_output_projection=False)


# Lengths


def length_predictor(unit_levels: int = 3, longest: int = 1024, smoothing: float = 0.1) -> FlowSeqLengthPredictor:
    config = FlowSeqConfig(
        d_model=8,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        flow_steps=[1] * unit_levels,
        length_range=6,
        max_position_embeddings=longest,
        label_smoothing=smoothing,
    )
    return FlowSeqLengthPredictor(config).eval()


@pytest.mark.parametrize("longest", [17, 1024])
def test_length_class_is_the_nearest_legal_one(longest: int) -> None:
    predictor = length_predictor(longest=longest)
    for source_length in range(1, 14):
        legal = [t for t in range(source_length - 6, source_length + 7) if t > 0 and t % 4 == 0 and t <= longest]
        assert legal
        scores = predictor(torch.randn(1, 14, 8), (torch.arange(14) < source_length).long()[None])
        assert (scores[0].isfinite().nonzero().squeeze(1) + source_length - 6).tolist() == legal
        for target_length in range(1, 40):
            rounded = math.ceil(target_length / 4) * 4
            expected = min(legal, key=lambda t: (abs(t - rounded), t))
            (found,) = predictor.classes(torch.tensor([target_length]), torch.tensor([source_length])).tolist()
            assert found + source_length - 6 == expected


def test_length_reads_the_last_source_token() -> None:
    predictor = length_predictor()
    states, mask = torch.randn(2, 5, 8), torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    expected = predictor.classifier(states[0, 2])
    scores = predictor(states, mask)[0]
    assert_close(scores[scores.isfinite()], expected[scores.isfinite()])


def test_length_loss_is_smoothed_over_the_legal_classes() -> None:
    predictor = length_predictor()
    labels = torch.full((2, 9), 5)
    labels[1, 3:] = -100
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 0, 0, 0, 0]])
    logits = predictor(torch.randn(2, 6, 8), mask).detach()
    expected = 0.0
    # Gold lengths 12 and 4; legal 4, 8, 12 for a source of 6, and 4, 8 for one of 2.
    for row, source_length, gold, legal in ((0, 6, 12, (4, 8, 12)), (1, 2, 4, (4, 8))):
        log_probs = logits[row, [t - source_length + 6 for t in legal]].log_softmax(dim=0)
        expected -= 0.9 * float(log_probs[legal.index(gold)]) + 0.1 * float(log_probs.mean())
    assert float(predictor.loss(logits, labels, mask)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("source_length", "length_beam", "max_length", "expected"),
    [
        (6, 1, 100, [8]),
        (6, 3, 100, [8, 12, 4]),
        (6, 5, 100, [8, 12, 4, 8, 8]),  # no more than three are legal
        (6, 3, 11, [8, 11, 4]),  # 12 is decoded and cut
        (6, 2, 8, [8, 4]),
        (6, 2, 3, [3, 3]),
        (6, 1, 1, [1]),
        (30, 2, 5, [5, 5]),  # all legal lengths are too long
    ],
)
def test_length_candidates(source_length: int, length_beam: int, max_length: int, expected: list[int]) -> None:
    predictor = length_predictor()
    lengths, legal = predictor._lengths(torch.tensor([source_length]))
    logits = torch.full((1, 13), -9.0)
    for length, score in ((8, 3.0), (12, 2.0), (4, 1.0)):
        logits[lengths == length] = score
    logits[~legal] = float("-inf")
    found = predictor.candidates(logits, torch.tensor([source_length]), length_beam, max_length)
    assert found.tolist() == [expected]


def test_target_is_padded_with_eos_to_the_unit() -> None:
    model = flowseq(flow_steps=[1, 1, 1])
    labels = torch.tensor([[5, 6, 7, 8, EOS, -100], [5, 6, 7, EOS, -100, -100], [EOS, -100, -100, -100, -100, -100]])
    states, mask = torch.randn(3, 2, 16), torch.ones(3, 2)
    grids = model.make_grids(labels.ne(-100), states, mask)
    assert [grid.mask.sum(dim=1).tolist() for grid in grids] == [[8, 4, 4], [4, 2, 2], [2, 1, 1]]
    assert model._pad(labels, grids[0].mask).tolist() == [
        [5, 6, 7, 8, EOS, EOS, EOS, EOS],
        [5, 6, 7, EOS, PAD, PAD, PAD, PAD],
        [EOS, EOS, EOS, EOS, PAD, PAD, PAD, PAD],
    ]


def test_sentence_of_more_than_250_tokens() -> None:
    model = flowseq(max_position_embeddings=400)
    source = torch.cat([torch.randint(5, 24, (1, 300)), torch.tensor([[EOS]])], dim=1)
    assert model(input_ids=source, labels=source).loss.isfinite()
    sequences = model.generate(source)
    assert_translations(sequences)
    assert sequences.shape[1] <= 321


# Loss


@torch.no_grad()
def test_loss_is_the_negative_elbo_per_target_token(model: FlowSeqForConditionalGeneration) -> None:
    batch = tiny_batch([0, 1])
    output = model(**batch)
    expected = {"word": 0.0, "kl": 0.0}
    for row in (0, 1):
        alone = tiny_batch([row])
        labels = alone["labels"]
        states = model.get_encoder()(alone["input_ids"]).last_hidden_state
        grids = model.make_grids(labels.ne(-100), states, alone["attention_mask"])
        mean, log_std = model.posterior.moments(model._read_targets(labels, grids, alone["attention_mask"]))
        draws = standard_normal(TargetNoise(labels, training=False), *mean.shape[1:])
        z = mean + log_std.exp() * draws
        log_q = torch.distributions.Normal(mean, log_std.exp()).log_prob(z).sum()
        expected["kl"] += float(log_q - model.prior.log_prob(z, grids))
        hidden = model._decode(z, grids, alone["attention_mask"]).last_hidden_state
        log_probs = model.lm_head(hidden)[0].log_softmax(dim=1)
        for position, token in enumerate(model._pad(labels, grids[0].mask)[0].tolist()):
            expected["word"] -= float(0.9 * log_probs[position, token] + 0.1 * log_probs[position].mean())
    for name, value in expected.items():
        assert float(output.loss_components[name]) == pytest.approx(value / 12, rel=1e-3)


@torch.no_grad()
def test_kl_is_zero_between_equal_distributions_and_that_of_gaussians_else() -> None:
    model = flowseq()
    for name, parameter in model.prior.named_parameters():
        if name.endswith("head.bias"):
            parameter[len(parameter) // 2 :] = 30.0  # scales of 1: the prior is a rotation, and Gaussian
    for head in (model.posterior.mean, model.posterior.log_variance):
        head.initial_gain.zero_()
    labels = tiny_batch()["labels"]
    grids = model.make_grids(labels.ne(-100), torch.randn(4, 2, 16), torch.ones(4, 2))
    torch.manual_seed(0)

    def kl() -> torch.Tensor:
        return model._sample_posterior(torch.randn(4, 8, 16), grids, TargetNoise(labels, training=True))[1]

    assert_close(kl(), torch.zeros(()), rtol=0, atol=1e-2)
    model.posterior.mean.bias.fill_(0.5)
    model.posterior.log_variance.bias.fill_(2 * math.log(0.5))
    num_variables = int(grids[0].mask.sum()) * 16
    expected = num_variables * (math.log(2) + (0.25 + 0.25) / 2 - 0.5)
    assert float(torch.stack([kl() for _ in range(20)]).mean()) == pytest.approx(expected, rel=0.05)


def test_canvas_decodes_the_image_of_no_noise_whatever_it_holds(model: FlowSeqForConditionalGeneration) -> None:
    batch = tiny_batch([0])
    canvases = [torch.tensor([[MASK] * 5]), torch.tensor([[5, 6, 7, 8, EOS]]), torch.tensor([[5] * 5 + [PAD] * 2])]
    first, second, padded = (model(batch["input_ids"], decoder_input_ids=canvas).logits for canvas in canvases)
    assert torch.equal(first, second)
    assert_close(padded[:, :5], first)
    shorter = model(batch["input_ids"], decoder_input_ids=canvases[0][:, :4]).logits
    assert not torch.allclose(shorter, first[:, :4], atol=1e-3)
    output = model(**batch, decoder_input_ids=canvases[0])
    assert torch.equal(output.logits, first) and set(output.loss_components) == {"word", "length"}


def test_posterior_sees_the_target_and_word_dropout_hides_it(model: FlowSeqForConditionalGeneration) -> None:
    batch, mask = tiny_batch([0]), torch.ones(1, 4, dtype=torch.bool)
    states, embeds = model.get_encoder()(batch["input_ids"]).last_hidden_state, torch.ones(1, 4, 16)
    seen: list[torch.Tensor] = []

    def keep(_module: torch.nn.Module, _args: tuple, kwargs: dict) -> None:
        seen.append(kwargs["inputs_embeds"])

    model.posterior.decoder.register_forward_pre_hook(keep, with_kwargs=True)
    model.posterior(embeds, mask, states, batch["attention_mask"])
    assert torch.equal(seen.pop(), embeds)
    model.train()
    torch.manual_seed(0)
    for _ in range(50):
        model.posterior(embeds, mask, states, batch["attention_mask"])
    rows = torch.cat(seen)
    assert (rows == rows[..., :1]).all()  # whole tokens
    assert set(rows.unique().tolist()) == {0.0, 1.25}
    assert 0.1 < float(rows[..., 0].eq(0).float().mean()) < 0.3


# Phases


def test_phases_follow_the_counted_batches() -> None:
    model, batch = flowseq(init_steps=2, kl_annealing_steps=4).train(), tiny_batch()
    state = {"counted": [], "initialised": [], "ratio": []}
    for _ in range(7):
        torch.manual_seed(1)
        before = model.prior.levels[0].layers[0].initial_bias.clone()
        output = model(**batch)
        kl = output.loss_components["kl"]
        weight = min(1.0, (int(model.num_batches) - 2) / 4)
        state["ratio"].append(float(kl) / weight if weight > 0 else float(kl))
        state["counted"].append(int(model.num_batches))
        state["initialised"].append(not torch.equal(before, model.prior.levels[0].layers[0].initial_bias))
    assert state["counted"] == [1, 2, 3, 4, 5, 6, 7]
    assert state["initialised"] == [False, False, True, False, False, False, False]
    assert state["ratio"][:2] == [0, 0]
    assert state["ratio"][2] != 0 and state["ratio"][3:] == pytest.approx([state["ratio"][2]] * 4, rel=1e-4)


@pytest.mark.parametrize("init_steps", [0, 5])
def test_every_parameter_gets_a_gradient_in_both_phases(init_steps: int) -> None:
    model = flowseq(init_steps=init_steps).train()
    model(**tiny_batch()).loss.backward()
    idle = set()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name
            if not parameter.grad.any():
                idle.add(name.split(".")[0])
    assert ("prior" in idle) and ("lm_head" not in idle)  # couplings start from 0, and without a prior nothing moves
    assert bool(model.prior.levels[0].layers[1].head.gain.grad.any()) == (init_steps == 0)
    assert bool(model.posterior.log_variance.weight.grad.any()) == (init_steps == 0)


def test_first_phase_reconstructs_from_the_means() -> None:
    model, batch = flowseq(init_steps=9, posterior_word_dropout=0.0).train(), tiny_batch()
    model(**batch)
    losses = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        losses.append(model(**batch).loss)
    assert torch.equal(*losses)


def test_first_batch_sets_the_scale_of_the_posterior() -> None:
    model, batch = flowseq(posterior_word_dropout=0.0).train(), tiny_batch()
    model(**batch)
    states = model.get_encoder()(batch["input_ids"], batch["attention_mask"]).last_hidden_state
    grids = model.make_grids(batch["labels"].ne(-100), states, batch["attention_mask"])
    mean, log_std = model.posterior.moments(model._read_targets(batch["labels"], grids, batch["attention_mask"]))
    for values in (mean, 2 * log_std):
        centre, deviation = masked_moments(values, grids[0].mask)
        assert_close(centre, torch.zeros(16), rtol=0, atol=1e-4)
        assert_close(deviation, torch.full((16,), 0.05), rtol=0, atol=1e-3)


def test_evaluation_changes_no_state_and_works_before_any_training() -> None:
    model = flowseq(init_steps=3)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert model(**tiny_batch()).loss.isfinite()
    assert_translations(model.generate(tiny_batch()["input_ids"]))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_gradient_checkpointing_counts_a_batch_once() -> None:
    model = flowseq().train()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    model(**tiny_batch()).loss.backward()
    assert int(model.num_batches) == 1


def test_resumed_training_goes_on_exactly(tmp_path: Path) -> None:
    def step(model: FlowSeqForConditionalGeneration, seed: int) -> float:
        torch.manual_seed(seed)
        loss = model.train()(**tiny_batch()).loss
        model.zero_grad()
        loss.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter.sub_(1e-3 * parameter.grad.clamp(-1, 1))
        return float(loss.detach())

    model = flowseq(init_steps=1, kl_annealing_steps=3)
    for seed in range(2):
        step(model, seed)
    model.save_pretrained(tmp_path)
    resumed = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    assert int(resumed.num_batches) == 2 and int(resumed.num_initialized) == 2
    assert [step(resumed, seed) for seed in (2, 3)] == [step(model, seed) for seed in (2, 3)]


# Generation


@torch.no_grad()
def test_generate_is_the_argmax_of_the_decoded_mode(model: FlowSeqForConditionalGeneration) -> None:
    batch = tiny_batch()
    output = model.generate(batch["input_ids"], return_dict_in_generate=True)
    states = model.get_encoder()(batch["input_ids"], batch["attention_mask"]).last_hidden_state
    length_logits = model.length_predictor(states, batch["attention_mask"])
    lengths = model.length_predictor.candidates(length_logits, batch["attention_mask"].sum(dim=1), 1, max_length=32)
    for row, length in enumerate(lengths.flatten().tolist()):
        source = batch["input_ids"][row : row + 1, : int(batch["attention_mask"][row].sum())]
        logits = model(source, decoder_input_ids=torch.full((1, length), MASK)).logits[0]
        logits[:, [PAD, BOS, MASK]] = float("-inf")
        tokens = logits.argmax(dim=1).tolist()[: length - 1] + [EOS]
        tokens = tokens[: tokens.index(EOS) + 1]
        assert output.sequences[row].tolist()[: len(tokens)] == tokens
        assert set(output.sequences[row].tolist()[len(tokens) :]) <= {PAD}


def test_translation_ends_at_the_first_eos(model: FlowSeqForConditionalGeneration) -> None:
    logits = torch.zeros(3, 8, 24)
    for row, tokens in enumerate(([5, EOS, 6, 7, 8, EOS, 9, 9], [EOS] * 8, [5, 6, 7, 8, 9, 10, 11, 12])):
        logits[row, range(8), tokens] = 5.0
    logits[:, :, [PAD, BOS, MASK]] = 9.0  # never written
    model.word_logits = lambda state, encoder_hidden_states: logits  # type: ignore[method-assign]
    state = FlowSeqState(
        input_ids=torch.ones(3, 1),
        attention_mask=torch.ones(3, 1),
        members=(model,),
        encoder_hidden_states=(torch.zeros(3, 1, 16),),
        tokens=torch.tensor([[MASK] * 7 + [EOS], [MASK] * 3 + [EOS] + [PAD] * 4, [MASK] * 7 + [EOS]]),
        scores=torch.zeros(3, 8),
        finished=torch.zeros(3, dtype=torch.bool),
        max_iterations=1,
        sample=torch.zeros(3, dtype=torch.long),
        num_samples=1,
        num_candidates=1,
        temperature=1.0,
    )
    refined = model.refine(state)
    assert refined.tokens.tolist() == [
        [5, EOS] + [PAD] * 6,
        [EOS] + [PAD] * 7,
        [5, 6, 7, 8, 9, 10, 11, EOS],
    ]
    assert float(refined.scores[0, 0]) == pytest.approx(5 - math.log(math.exp(5) + 20), rel=1e-4)
    assert refined.scores.ne(0).sum(dim=1).tolist() == [1, 0, 7]
    assert refined.finished.all()


@torch.no_grad()
def test_candidates_are_lengths_times_samples_in_any_batch(model: FlowSeqForConditionalGeneration) -> None:
    knobs = {"length_beam": 2, "num_samples": 3, "latent_temperature": 0.8}
    states: list[FlowSeqState] = []
    refine = model.refine
    model.refine = lambda state: (states.append(state), refine(state))[1]  # type: ignore[method-assign]
    full = model.generate(tiny_batch()["input_ids"], **knobs, return_dict_in_generate=True)
    assert states[0].sample.tolist() == [0, 1, 2] * 8
    lengths = states[0].tokens.ne(PAD).sum(dim=1).view(4, 2, 3)
    assert (lengths == lengths[:, :, :1]).all() and (lengths[:, 0] != lengths[:, 1]).all()
    assert_translations(full.sequences)
    for rows in ([2], [3, 0]):
        part = model.generate(**tiny_batch(rows, extra_padding=3), **knobs, return_dict_in_generate=True)
        width = part.sequences.shape[1]
        assert torch.equal(part.sequences, full.sequences[rows, :width])
        assert_close(part.sequences_scores, full.sequences_scores[rows], rtol=1e-3, atol=1e-4)


def test_samples_differ_but_for_the_first(model: FlowSeqForConditionalGeneration) -> None:
    states: list[torch.Tensor] = []
    refine = model.refine

    def keep(state: FlowSeqState) -> FlowSeqState:
        states.append(refine(state).scores)
        return refine(state)

    model.refine = keep  # type: ignore[method-assign]
    source = tiny_batch([0])["input_ids"]
    model.generate(source, return_dict_in_generate=True)  # Scores that nobody asks for are not computed.
    model.generate(source, num_samples=3)
    model.generate(source, num_samples=3, latent_temperature=0.0)
    alone, sampled, cold = states
    assert_close(sampled[:1], alone, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(sampled[0], sampled[1], atol=1e-3)
    assert not torch.allclose(sampled[1], sampled[2], atol=1e-3)
    assert_close(cold, alone.expand(3, -1), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_candidate_scores_are_importance_weighted_likelihoods(model: FlowSeqForConditionalGeneration) -> None:
    seen: list[tuple] = []
    scores = type(model)._candidate_scores

    def keep(state: FlowSeqState, output: object) -> torch.Tensor:
        seen.append((state, output, scores(model, state, output)))
        return seen[0][2]

    model._candidate_scores = keep  # type: ignore[method-assign]
    chosen = model.generate(tiny_batch([0, 3])["input_ids"], length_beam=2, num_samples=2)
    state, output, found = seen[0]
    for row in range(8):
        source = state.input_ids[row : row + 1, : int(state.attention_mask[row].sum())]
        length = int(state.tokens[row].ne(PAD).sum())
        content = output.sequences[row][output.sequences[row].ne(PAD)]
        target = torch.cat([content, torch.full((length - len(content),), EOS)])[None]
        states, ones = model.get_encoder()(source).last_hidden_state, torch.ones_like(source)
        grids = model.make_grids(target.ne(PAD), states, ones)
        mean, log_std = model.posterior.moments(model._read_targets(target, grids, ones))
        total = 0.0
        draws = standard_normal(TargetNoise(content[None], training=False), length, 4, 16)
        for k in range(4):
            z = mean + log_std.exp() * draws[:, :, k]
            log_q = torch.distributions.Normal(mean, log_std.exp()).log_prob(z).sum()
            words = model.lm_head(model._decode(z, grids, ones).last_hidden_state).log_softmax(dim=2)
            log_word = words.gather(2, target.unsqueeze(2)).sum()
            total += float((model.prior.log_prob(z, grids)[0] + log_word - log_q).double().exp()) / 4
        length_log_probs = model.length_predictor(states, ones)[0].log_softmax(dim=0)
        expected = (math.log(total) + float(length_log_probs[length - source.shape[1] + 20])) / length
        assert float(found[row]) == pytest.approx(expected, rel=1e-3, abs=1e-3)
    best = found.view(2, 4).argmax(dim=1) + torch.tensor([0, 4])
    assert torch.equal(chosen, output.sequences[best][:, : chosen.shape[1]])


def test_teacher_chooses_among_the_candidates(model: FlowSeqForConditionalGeneration) -> None:
    source, teacher = tiny_batch([0])["input_ids"], tiny_teacher()
    chosen = model.generate(source, length_beam=3, num_samples=2, teacher=teacher)
    assert_translations(chosen)
    with pytest.raises(ValueError, match="got 1. Set `length_beam` or `num_samples`"):
        model.generate(source, teacher=teacher)


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"num_samples": 0}, "`num_samples` must be >= 1, got 0"),
        ({"latent_temperature": -0.5}, "`latent_temperature` must be >= 0, got -0.5"),
        ({"length_beam": 42}, "`length_beam` must be at most the 41 length classes, got 42"),
        ({"max_iterations": 2}, "`max_iterations` must be at most 1"),
    ],
)
def test_generate_knob_out_of_range_is_an_error(
    model: FlowSeqForConditionalGeneration, knobs: dict, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        model.generate(torch.tensor([[5, EOS]]), **knobs)


def test_latent_temperature_is_saved_with_the_model(model: FlowSeqForConditionalGeneration, tmp_path: Path) -> None:
    model.generation_config.latent_temperature = 0.4
    model.generation_config.num_samples = 2
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path).generation_config
    assert (loaded.latent_temperature, loaded.num_samples) == (0.4, 2)
