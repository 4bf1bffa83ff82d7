"""What every architecture must do; an entry of ARCHITECTURES is enough to be tested here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from nat_model_tester import (
    BOS,
    CANVAS_READERS,
    EOS,
    GLANCING_MODEL_TYPES,
    MASK,
    MODEL_TYPES,
    PAD,
    PASSES_PER_ROUND,
    TINY,
    VOCAB_SIZE,
    assert_translations,
    tiny_batch,
    tiny_model,
    tiny_teacher,
)
from torch.testing import assert_close
from transformers import AutoConfig, AutoModelForSeq2SeqLM, Seq2SeqTrainer, Seq2SeqTrainingArguments

from hf_nat.models import ARCHITECTURES, NATPreTrainedModel


@pytest.fixture(params=MODEL_TYPES)
def model_type(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def model(model_type: str) -> NATPreTrainedModel:
    return tiny_model(model_type)


def canvas() -> torch.Tensor:
    return torch.tensor([[MASK, 8, MASK, EOS], [10, MASK, EOS, PAD], [MASK, EOS, PAD, PAD], [MASK, 5, 6, EOS]])


# Configuration, saving, loading


def test_config_marian_fields_alone_suffice(model_type: str) -> None:
    config_class, model_class = ARCHITECTURES[model_type]
    config = config_class(**TINY, pad_token_id=PAD, bos_token_id=BOS, eos_token_id=EOS, mask_token_id=MASK)
    with torch.device("meta"):
        assert model_class(config).config is config
        assert model_class(config_class()).config.model_type == model_type


def test_config_round_trip(model: NATPreTrainedModel, tmp_path: Path) -> None:
    model.config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert type(loaded) is type(model.config)
    assert loaded.to_dict() == {**model.config.to_dict(), "_name_or_path": loaded._name_or_path}


@pytest.mark.parametrize("positions", ["learned", "sinusoidal"])
def test_save_and_load_gives_identical_model(model_type: str, positions: str, tmp_path: Path) -> None:
    model = tiny_model(model_type, position_embedding_type=positions)
    model.generation_config.collapse_repeats = True
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    assert type(loaded) is type(model)
    assert loaded.generation_config.collapse_repeats
    assert loaded.generation_config.max_length == TINY["max_position_embeddings"]
    assert (
        loaded.lm_head.weight is loaded.model.encoder.embed_tokens.weight is loaded.model.decoder.embed_tokens.weight
    )
    batch = tiny_batch()
    assert torch.equal(loaded(**batch).logits, model(**batch).logits)
    assert torch.equal(loaded.generate(batch["input_ids"]), model.generate(batch["input_ids"]))


def test_load_takes_the_generation_config_given(model: NATPreTrainedModel, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    model.generation_config.max_length = 7
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path, generation_config=model.generation_config)
    assert loaded.generation_config.max_length == 7
    (tmp_path / "generation_config.json").unlink()
    assert AutoModelForSeq2SeqLM.from_pretrained(tmp_path).generation_config.max_length == 32


# Loss


def test_loss_reaches_every_parameter(model: NATPreTrainedModel) -> None:
    model.train()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(2):  # FlowSeq's couplings begin as constants: what lies before them learns from the second step on
        optimizer.zero_grad()
        model(**tiny_batch()).loss.backward()
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        optimizer.step()
    # A key bias shifts all attention scores of a query alike: its gradient is 0 by construction.
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and not name.endswith("k_proj.bias"):
            assert not torch.equal(parameter, before[name]), name


@pytest.mark.parametrize("training", [False, True])
def test_loss_is_the_sum_of_its_components(model: NATPreTrainedModel, training: bool) -> None:
    output = model.train(training)(**tiny_batch())
    assert_close(torch.stack(list(output.loss_components.values())).sum(), output.loss.detach())
    assert not any(component.requires_grad for component in output.loss_components.values())


def test_loss_of_batch_is_the_sum_over_micro_batches(model: NATPreTrainedModel) -> None:
    batch = tiny_batch()
    num_items = int(batch["labels"].ne(-100).sum())
    parts = [model(**tiny_batch(rows), num_items_in_batch=num_items).loss for rows in ([3, 0], [1], [2])]
    assert_close(torch.stack(parts).sum(), model(**batch).loss)


def test_loss_in_evaluation_does_not_depend_on_padding_order_or_seed(model: NATPreTrainedModel) -> None:
    expected = model(**tiny_batch()).loss
    torch.manual_seed(5)
    assert_close(model(**tiny_batch([2, 0, 3, 1], extra_padding=4)).loss, expected)


def test_loss_in_training_repeats_with_the_seed(model: NATPreTrainedModel) -> None:
    model.train()
    losses = []
    for seed in (3, 3):
        torch.manual_seed(seed)
        losses.append(model(**tiny_batch()).loss)
    assert torch.equal(*losses)


@pytest.mark.parametrize("training", [False, True])
def test_logits_are_left_out_as_asked_and_the_loss_stays(model: NATPreTrainedModel, training: bool) -> None:
    model.train(training)
    outputs = []
    for skip_logits in (True, False, None):
        torch.manual_seed(3)
        outputs.append(model(**tiny_batch(), skip_logits=skip_logits))
    assert [output.logits is None for output in outputs] == [True, False, training]
    assert torch.equal(outputs[0].loss, outputs[1].loss) and torch.equal(outputs[0].loss, outputs[2].loss)


def test_loss_of_empty_targets_is_finite(model: NATPreTrainedModel) -> None:
    model.train()
    output = model(input_ids=torch.tensor([[EOS], [EOS]]), labels=torch.tensor([[EOS], [EOS]]))
    output.loss.backward()
    assert output.loss.isfinite()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)


def test_forward_without_target_is_an_error(model: NATPreTrainedModel) -> None:
    with pytest.raises(ValueError, match="`labels` and `decoder_input_ids` must be given, got none"):
        model(input_ids=torch.tensor([[5, EOS]]))


def test_forward_overlong_source_is_an_error(model: NATPreTrainedModel) -> None:
    with pytest.raises(ValueError, match="`max_position_embeddings` = 32 tokens, got 33"):
        model(input_ids=torch.full((1, 33), 5), labels=torch.tensor([[5, EOS]]))


# Network


def test_logits_do_not_depend_on_padding_or_other_rows(model: NATPreTrainedModel) -> None:
    batch, target = tiny_batch(), canvas()
    full = model(input_ids=batch["input_ids"], decoder_input_ids=target)
    for row in range(len(target)):
        source_length, length = int(batch["attention_mask"][row].sum()), int(target[row].ne(PAD).sum())
        alone = model(
            input_ids=batch["input_ids"][row : row + 1, :source_length],
            decoder_input_ids=target[row : row + 1, :length],
        )
        assert_close(alone.logits[0], full.logits[row, :length], rtol=1e-4, atol=1e-4)
        assert_close(alone.encoder_last_hidden_state[0], full.encoder_last_hidden_state[row, :source_length])


@pytest.mark.parametrize("model_type", CANVAS_READERS)
def test_decoder_sees_the_right_side(model: NATPreTrainedModel) -> None:
    source = torch.tensor([[5, 6, 7, EOS]])
    first, second = (model(input_ids=source, decoder_input_ids=torch.tensor([[8, 9, w, EOS]])) for w in (10, 11))
    assert not torch.allclose(first.logits[0, 0], second.logits[0, 0], atol=1e-3)


def test_decoder_attention_mask_is_padding_of_the_canvas(model: NATPreTrainedModel) -> None:
    source, padded = tiny_batch()["input_ids"], canvas()
    words = padded.masked_fill(padded.eq(PAD), 7)
    output = model(source, decoder_input_ids=words, decoder_attention_mask=padded.ne(PAD).long())
    assert torch.equal(output.logits, model(source, decoder_input_ids=padded).logits)
    with pytest.raises(ValueError, match="`decoder_attention_mask` belongs to `decoder_input_ids`, got none"):
        model(**tiny_batch(), decoder_attention_mask=padded.ne(PAD))


def test_encoder_outputs_replace_the_encoder(model: NATPreTrainedModel) -> None:
    batch = tiny_batch()
    encoder_outputs = model.get_encoder()(batch["input_ids"], batch["attention_mask"])
    expected = model(**batch).logits
    assert torch.equal(model(**batch, encoder_outputs=encoder_outputs).logits, expected)
    assert torch.equal(model(**batch, encoder_outputs=encoder_outputs.to_tuple()).logits, expected)


def test_loss_is_the_same_with_padding_on_either_side_and_a_mask_of_any_type(model: NATPreTrainedModel) -> None:
    batch = tiny_batch()
    mask = batch["attention_mask"]
    expected = model(**batch).loss
    for other in (mask.bool(), mask.float()):
        assert torch.equal(model(**batch | {"attention_mask": other}).loss, expected)
    lengths = mask.sum(dim=1).tolist()
    shifted = {
        name: torch.stack([row.roll(len(row) - n) for row, n in zip(batch[name], lengths, strict=True)])
        for name in ("input_ids", "attention_mask")
    }
    assert (shifted["attention_mask"][:, -1] == 1).all() and not torch.equal(shifted["attention_mask"], mask)
    assert_close(model(**batch | shifted).loss, expected)


@pytest.mark.parametrize("rows", [[], None])
def test_generate_without_a_token_to_read_is_an_error(model: NATPreTrainedModel, rows: list[int] | None) -> None:
    batch = tiny_batch()
    inputs = {name: batch[name][:0] if rows == [] else batch[name] for name in ("input_ids", "attention_mask")}
    if rows is None:
        inputs["attention_mask"] = inputs["attention_mask"] * torch.arange(len(batch["labels"])).ne(0).unsqueeze(1)
    with pytest.raises(ValueError, match="A batch must have a source, and each source a token"):
        model.generate(**inputs)


def test_what_hooks_do_to_the_input_embedding_reaches_the_encoder(model: NATPreTrainedModel) -> None:
    """As the noise of `neftune_noise_alpha` does."""
    batch = tiny_batch()
    expected = model(**batch).loss
    model.get_input_embeddings().register_forward_hook(lambda module, inputs, output: output + 1)
    assert not torch.equal(model(**batch).loss, expected)


def test_inputs_embeds_match_input_ids(model: NATPreTrainedModel) -> None:
    batch = tiny_batch()
    expected = model(**batch).logits
    embeds = model.get_input_embeddings()(batch.pop("input_ids"))
    assert torch.equal(model(**batch, inputs_embeds=embeds).logits, expected)


def test_eager_attention_equals_sdpa(model: NATPreTrainedModel) -> None:
    batch = tiny_batch()
    unpadded = {"input_ids": torch.tensor([[5, 6, EOS]]), "labels": torch.tensor([[7, 8, EOS]])}
    assert model.config._attn_implementation == "sdpa"
    expected = [model(**inputs).logits for inputs in (batch, unpadded)]
    model.set_attn_implementation("eager")
    output = model(**batch, output_attentions=True, output_hidden_states=True)
    assert_close(output.logits, expected[0], rtol=1e-4, atol=1e-4)
    assert_close(model(**unpadded).logits, expected[1], rtol=1e-4, atol=1e-4)
    (shape, *_) = [states.shape for states in output.decoder_hidden_states]
    assert shape[::2] == (4, 16) and len(output.decoder_hidden_states) == 2
    assert output.decoder_attentions[0].shape == (4, 2, shape[1], shape[1])
    assert output.cross_attentions[0].shape == (4, 2, shape[1], 7)


def test_gradient_checkpointing_gives_the_same_gradients(model: NATPreTrainedModel) -> None:
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
            assert model.model.decoder.layers[0].gradient_checkpointing
        model.train().zero_grad()
        torch.manual_seed(0)
        model(**tiny_batch()).loss.backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*gradients, strict=True))


def test_bfloat16_is_close_to_float32(model_type: str) -> None:
    batch, model = tiny_batch(), tiny_model(model_type, init_std=0.1)
    expected = model(**batch)
    model.bfloat16()
    output = model(**batch)
    assert output.logits.dtype == torch.bfloat16
    assert_close(output.loss, expected.loss, rtol=0.05, atol=0.05)
    assert_close(output.logits.float(), expected.logits, rtol=0.1, atol=0.1)
    generated = model.generate(batch["input_ids"], return_dict_in_generate=True)
    assert_translations(generated.sequences)
    assert generated.token_scores.dtype == torch.float32


def test_resize_token_embeddings_keeps_the_tie(model: NATPreTrainedModel) -> None:
    model.resize_token_embeddings(VOCAB_SIZE + 3, mean_resizing=False)
    assert model.config.vocab_size == VOCAB_SIZE + 3
    assert model.lm_head.weight is model.model.shared.weight is model.model.decoder.embed_tokens.weight
    assert model(**tiny_batch()).logits.shape[-1] == VOCAB_SIZE + 3


def test_set_input_embeddings_replaces_them_on_both_sides(model: NATPreTrainedModel) -> None:
    embeddings = torch.nn.Embedding(VOCAB_SIZE, TINY["d_model"])
    model.set_input_embeddings(embeddings)
    assert model.get_input_embeddings() is embeddings
    assert model.get_encoder().embed_tokens is embeddings
    assert model.get_decoder().embed_tokens is embeddings


# Generation


def test_generate_is_legal_deterministic_and_ignores_labels(model: NATPreTrainedModel) -> None:
    batch = tiny_batch()
    output = model.generate(**batch, return_dict_in_generate=True)
    assert_translations(output.sequences)
    assert torch.equal(model.generate(batch["input_ids"]), output.sequences)
    assert torch.equal(model.generate(**batch, num_beams=1, do_sample=False, synced_gpus=False), output.sequences)
    content = output.sequences.ne(PAD) & output.sequences.ne(EOS)
    assert (output.token_scores[~content] == 0).all() and (output.token_scores[content] < 0).all()
    assert_close(output.sequences_scores, output.token_scores.sum(1) / content.sum(1).clamp(min=1))


def test_generate_batch_of_one_equals_row_in_any_order(model: NATPreTrainedModel) -> None:
    batch = tiny_batch()
    full = model.generate(batch["input_ids"], return_dict_in_generate=True)
    for rows in ([0], [1], [2], [3], [3, 1], [2, 3, 0, 1]):
        part = model.generate(**tiny_batch(rows, extra_padding=3), return_dict_in_generate=True)
        width = part.sequences.shape[1]
        assert torch.equal(part.sequences, full.sequences[rows, :width])
        assert full.sequences[rows, width:].eq(PAD).all()
        assert torch.equal(part.iterations, full.iterations[rows])
        assert_close(part.sequences_scores, full.sequences_scores[rows], rtol=1e-4, atol=1e-5)


def test_generate_counts_the_decoder_rounds(model: NATPreTrainedModel) -> None:
    calls: list[int] = []
    model.get_decoder().register_forward_hook(lambda *_: calls.append(1))
    limit = model.iteration_limit or 4
    output = model.generate(tiny_batch()["input_ids"], max_iterations=limit, return_dict_in_generate=True)
    rounds, passes = int(output.iterations.max()), PASSES_PER_ROUND.get(model.config.model_type, 1)
    assert rounds <= len(calls) <= rounds * passes and rounds <= limit
    assert output.iterations.min() >= 1


def test_generate_synced_runs_all_rounds_and_gives_the_same(model: NATPreTrainedModel) -> None:
    input_ids = tiny_batch()["input_ids"]
    limit = model.iteration_limit or 4
    early = model.generate(input_ids, max_iterations=limit)
    synced = model.generate(input_ids, max_iterations=limit, synced_gpus=True, return_dict_in_generate=True)
    assert torch.equal(synced.sequences, early)
    assert synced.iterations.tolist() == [limit] * len(input_ids)


def test_refine_leaves_its_input_as_it_is(model: NATPreTrainedModel) -> None:
    batch = tiny_batch()
    settings = model._resolve_settings(None, {})
    encoded = model.get_encoder()(batch["input_ids"], batch["attention_mask"]).last_hidden_state
    state = model.init_state(batch["input_ids"], batch["attention_mask"], (model,), (encoded,), settings)
    before = {name: value.clone() for name, value in vars(state).items() if isinstance(value, torch.Tensor)}
    assert not torch.equal(model.refine(state).tokens, state.tokens)
    for name, value in before.items():
        assert torch.equal(getattr(state, name), value), name


def test_generate_history_goes_from_canvas_to_translation(model: NATPreTrainedModel) -> None:
    batch = tiny_batch()
    output = model.generate(batch["input_ids"], return_history=True)
    assert torch.equal(output.sequences, model.generate(batch["input_ids"]))
    for row, history in enumerate(output.history):
        assert len(history) >= output.iterations[row] + 1
        assert torch.equal(history[-1], output.sequences[row, : len(history[-1])])
        assert all(canvas[-1] == EOS and canvas.ne(PAD).all() for canvas in history)


def test_generate_chooses_from_a_short_list_alone(model: NATPreTrainedModel) -> None:
    input_ids, forbidden = tiny_batch()["input_ids"], set(model._forbidden_token_ids())
    everything = [token for token in range(VOCAB_SIZE) if token not in forbidden]
    limit = model.iteration_limit or 4
    knobs = {"max_iterations": limit, "return_dict_in_generate": True}
    alone = model.generate(input_ids, **knobs)
    sources: list[torch.Tensor] = []

    def listed(tokens: list[int]) -> Callable[[torch.Tensor], torch.Tensor]:
        return lambda given: (sources.append(given), torch.tensor(tokens))[1]

    whole = model.generate(input_ids, short_list=listed(everything), **knobs)
    assert torch.equal(whole.sequences, alone.sequences) and torch.equal(sources[0], input_ids)
    assert_close(whole.token_scores, alone.token_scores, rtol=1e-4, atol=1e-5)
    needed = set(model._special_token_ids()) - forbidden
    few = sorted({*needed, *everything[-3:]})
    assert few != everything
    found = model.generate(input_ids, short_list=listed(few), **knobs).sequences
    assert_translations(found)
    assert set(found.unique().tolist()) <= {*few, EOS, PAD}


def test_generate_refuses_a_short_list_that_does_not_fit(model: NATPreTrainedModel) -> None:
    input_ids, forbidden = tiny_batch()["input_ids"], model._forbidden_token_ids()
    tokens = [token for token in range(VOCAB_SIZE) if token not in forbidden]
    needed = [token for token in model._special_token_ids() if token not in forbidden]
    wrong: list[tuple[object, str]] = [
        (tokens, "must return a `torch.LongTensor` of shape"),
        (torch.tensor([tokens]), "must return a `torch.LongTensor` of shape"),
        (torch.tensor(tokens, dtype=torch.float), "must return a `torch.LongTensor` of shape"),
        (torch.tensor([], dtype=torch.long), "at least one token, in rising order"),
        (torch.tensor(tokens[::-1]), "in rising order"),
        (torch.tensor([tokens[0], *tokens]), "in rising order"),
        (torch.tensor([-1, *tokens]), "in rising order"),
        (torch.tensor([*tokens, VOCAB_SIZE]), "in rising order"),
        (torch.tensor(sorted([*tokens, forbidden[0]])), "no token that is never written"),
        *((torch.tensor([t for t in tokens if t != token]), "cannot do without") for token in needed),
    ]
    for found, message in wrong:
        with pytest.raises(ValueError, match=message):
            model.generate(input_ids, short_list=lambda sources, found=found: found)
    with pytest.raises(ValueError, match="`short_list` must be a function of the sources, got a list"):
        model.generate(input_ids, short_list=tokens)


@pytest.mark.parametrize(
    ("model_type", "knobs"),
    [
        ("ctc_nat", {"ctc_beam_size": 3, "ctc_length_bonus": 2.0}),
        ("da_transformer", {"graph_decoding": "viterbi", "num_candidates": 2}),
        ("da_transformer", {"graph_decoding": "beam"}),
    ],
    ids=str,
)
def test_searches_choose_the_words_of_a_short_list(model_type: str, knobs: dict[str, object]) -> None:
    model, input_ids = tiny_model(model_type), tiny_batch()["input_ids"]
    tokens = [t for t in range(VOCAB_SIZE) if t not in model._forbidden_token_ids()]
    needed = [t for t in tokens if t in model._special_token_ids()]
    alone = model.generate(input_ids, **knobs)
    assert torch.equal(model.generate(input_ids, short_list=lambda sources: torch.tensor(tokens), **knobs), alone)
    few = sorted({*needed, *tokens[-3:]})
    found = model.generate(input_ids, short_list=lambda sources: torch.tensor(few), **knobs)
    assert set(found.unique().tolist()) <= {*tokens[-3:], EOS, PAD} and not torch.equal(found, alone)


def test_ensemble_averages_its_members(model_type: str) -> None:
    first, second, input_ids = tiny_model(model_type), tiny_model(model_type), tiny_batch()["input_ids"]
    alone = first.generate(input_ids, return_dict_in_generate=True)
    twice = first.generate(input_ids, ensemble=[first], return_dict_in_generate=True)
    assert torch.equal(twice.sequences, alone.sequences)
    assert_close(twice.token_scores, alone.token_scores, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        for parameter in second.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    outputs = [
        a.generate(input_ids, ensemble=[b], return_dict_in_generate=True)
        for a, b in ((first, second), (second, first))
    ]
    assert torch.equal(outputs[0].sequences, outputs[1].sequences)
    assert not torch.equal(outputs[0].token_scores, alone.token_scores)
    assert_translations(outputs[0].sequences)


def test_ensemble_of_different_vocabularies_is_an_error(model_type: str) -> None:
    with pytest.raises(ValueError, match=r"must agree in .*'vocab_size': 24.*got .*'vocab_size': 25"):
        tiny_model(model_type).generate(tiny_batch()["input_ids"], ensemble=[tiny_model(model_type, vocab_size=25)])


@pytest.mark.parametrize("cap", [{"max_length": 4}, {"max_new_tokens": 4}, {"max_length": 1}])
def test_generate_respects_the_length_cap(model: NATPreTrainedModel, cap: dict[str, int]) -> None:
    sequences = model.generate(tiny_batch()["input_ids"], **cap)
    assert_translations(sequences)
    assert sequences.shape[1] <= next(iter(cap.values()))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"length_bean": 2}, r"got \['length_bean'\]"),
        ({"num_beams": 5}, "`num_beams` must be 1 for a non-autoregressive model, got 5"),
        ({"do_sample": True}, "`do_sample` must be False for a non-autoregressive model, got True"),
        ({"max_iterations": 0}, "`max_iterations` must be >= 1, got 0"),
        ({"max_length": 0}, "`max_length` must be >= 1, got 0"),
        ({"inputs": torch.tensor([[5, EOS]])}, "Exactly one of `inputs` and `input_ids` must be given, got 2"),
        ({"attention_mask": torch.tensor([[0, 1, 1]])}, "must be right-padded"),
    ],
)
def test_generate_bad_argument_is_an_error(model: NATPreTrainedModel, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model.generate(input_ids=torch.tensor([[5, 6, EOS]]), **arguments)


# Warm start and training


def test_from_teacher_starts_from_its_weights(model_type: str) -> None:
    teacher = tiny_teacher()
    student = ARCHITECTURES[model_type][1].from_teacher(teacher, vocab_size=VOCAB_SIZE + 2, mask_token_id=VOCAB_SIZE)
    assert student.config.position_embedding_type == "sinusoidal"
    assert student.config.mask_token_id == VOCAB_SIZE
    weights = student.state_dict()
    for name, weight in teacher.state_dict().items():
        if name.startswith("model."):
            assert torch.equal(weights[name][: len(weight)], weight), name
    source = torch.tensor([[5, 6, 7, EOS]])
    expected = teacher.get_encoder()(source).last_hidden_state
    assert_close(student.eval().get_encoder()(source).last_hidden_state, expected)
    assert_translations(student.generate(source, max_length=8), mask_token_id=VOCAB_SIZE)


def test_from_teacher_adds_a_mask_token_by_default(model_type: str) -> None:
    student = ARCHITECTURES[model_type][1].from_teacher(tiny_teacher(), dropout=0.25)
    assert (student.config.mask_token_id, student.config.vocab_size) == (VOCAB_SIZE, VOCAB_SIZE + 1)
    assert student.config.dropout == 0.25
    again = ARCHITECTURES[model_type][1].from_teacher(student)
    assert again.config.mask_token_id == VOCAB_SIZE
    assert torch.equal(again.model.shared.weight, student.model.shared.weight)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"d_modle": 8}, r"got \['d_modle'\]"),
        ({"vocab_size": VOCAB_SIZE - 1, "mask_token_id": 4}, f"at least the teacher's {VOCAB_SIZE}, got 23"),
        ({"encoder_ffn_dim": 8}, r"`model.encoder.layers.0.fc1.weight`.*got \(32, 16\) and \(8, 16\)"),
    ],
)
def test_from_teacher_mismatch_is_an_error(model_type: str, overrides: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ARCHITECTURES[model_type][1].from_teacher(tiny_teacher(), **overrides)


@pytest.mark.parametrize(
    ("model_type", "fields"),
    [
        *((name, {}) for name in MODEL_TYPES),
        *(
            (name, {"glancing_ratio": 0.5, "glancing_end_ratio": 0.1, "glancing_steps": 6})
            for name in GLANCING_MODEL_TYPES
        ),
    ],
)
def test_stock_trainer_trains_evaluates_and_generates(model_type: str, fields: dict, tmp_path: Path) -> None:
    model = tiny_model(model_type, **fields)
    batch = tiny_batch()
    lengths = batch["labels"].ne(-100).sum(1), batch["attention_mask"].sum(1)
    rows = [
        {"input_ids": source[:s].tolist(), "labels": target[:t].tolist()}
        for source, target, t, s in zip(batch["input_ids"], batch["labels"], *lengths, strict=True)
    ]

    def collate(examples: list[dict]) -> dict[str, torch.Tensor]:
        pad = torch.nn.utils.rnn.pad_sequence
        input_ids = pad([torch.tensor(e["input_ids"]) for e in examples], batch_first=True, padding_value=PAD)
        labels = pad([torch.tensor(e["labels"]) for e in examples], batch_first=True, padding_value=-100)
        return {"input_ids": input_ids, "attention_mask": input_ids.ne(PAD).long(), "labels": labels}

    arguments = Seq2SeqTrainingArguments(
        output_dir=str(tmp_path),
        max_steps=3,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        per_device_eval_batch_size=3,
        predict_with_generate=True,
        use_cpu=True,
        report_to=[],
        learning_rate=1e-3,
        logging_steps=1,
        disable_tqdm=True,
    )
    trainer = Seq2SeqTrainer(model, arguments, data_collator=collate, train_dataset=rows, eval_dataset=rows)
    training_loss = trainer.train().training_loss
    if fields:  # Three updates of two batches.
        assert model.glancing.num_batches == 6
    metrics = trainer.evaluate(max_length=9)
    predictions = torch.from_numpy(trainer.predict(rows).predictions)  # padded to `max_length` by the Trainer
    assert_translations(predictions[:, predictions.ne(PAD).any(dim=0)])
    trainer.args.predict_with_generate = False
    assert trainer.evaluate()["eval_loss"] == pytest.approx(metrics["eval_loss"])
    if model.config.model_type != "flowseq":  # whose first KL divergences are in the hundreds
        # Per target token, whatever the accumulation: near the log of the classes of its heads, not a multiple of it.
        assert 1 < training_loss < 16 and 1 < metrics["eval_loss"] < 16
    trainer.save_model()
    assert (tmp_path / f"modeling_{model.config.model_type}.py").exists()


# What generation leaves to its caller


def test_outputs_of_generate_are_tensors_that_training_may_use(model: NATPreTrainedModel) -> None:
    source = tiny_batch()["input_ids"]
    output = model.generate(source, return_history=True)
    tensors = [value for value in output.values() if isinstance(value, torch.Tensor)]
    tensors += [model.generate(source), *(canvas for canvases in output.history for canvas in canvases)]
    assert not any(tensor.is_inference() for tensor in tensors)
    assert torch.equal(model.generate(source), output.sequences)
    with torch.inference_mode():
        assert torch.equal(model.generate(source), output.sequences)
