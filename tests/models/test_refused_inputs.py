"""What every NAT model refuses: padding on the left in decoding, canvases of embeddings, knobs without bounds."""

from __future__ import annotations

import pytest
import torch

from hf_nat import ARCHITECTURES


@pytest.fixture(params=sorted(ARCHITECTURES))
def model(request):
    config_class, model_class = ARCHITECTURES[request.param]
    sizes = {"d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "max_position_embeddings": 32}
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "mask_token_id": 4}
    torch.manual_seed(0)
    return model_class(config_class(vocab_size=20, **special, **sizes, **heads)).eval()


SOURCE = torch.tensor([[0, 0, 5, 6, 2], [7, 8, 9, 5, 2]])
LABELS = torch.tensor([[7, 2, -100], [8, 9, 2]])


@pytest.mark.parametrize("give_mask", [False, True])
def test_padding_on_the_left_is_no_other_loss(model, give_mask):
    losses = []
    for source in (SOURCE, torch.tensor([[5, 6, 2, 0, 0], [7, 8, 9, 5, 2]])):
        torch.manual_seed(0)
        mask = {"attention_mask": source.ne(0).long()} if give_mask else {}
        losses.append(model(input_ids=source, labels=LABELS, **mask).loss)
    assert torch.allclose(losses[0], losses[1], rtol=1e-5)


@pytest.mark.parametrize("give_mask", [False, True])
def test_padding_on_the_left_is_no_translation(model, give_mask):
    mask = {"attention_mask": SOURCE.ne(0).long()} if give_mask else {}
    with pytest.raises(ValueError, match="`attention_mask` must be right-padded"):
        model.generate(SOURCE, **mask)


def test_padding_on_the_right_is_as_before(model):
    source = torch.tensor([[5, 6, 2, 0, 0], [7, 8, 9, 5, 2]])
    for mask in (source.ne(0), source.ne(0).long()):
        assert model(input_ids=source, attention_mask=mask, labels=LABELS).loss.isfinite()


def test_a_canvas_of_embeddings_is_a_clear_error(model):
    embeds = torch.zeros(2, 3, 16)
    with pytest.raises(ValueError, match=f"`decoder_inputs_embeds` must be left out for {type(model).__name__}"):
        model(input_ids=SOURCE.flip(0), attention_mask=torch.ones_like(SOURCE), decoder_inputs_embeds=embeds)


def test_knobs_are_of_their_kind(model):
    wrong = {
        bool: ("x", 1, 0.5),
        int: ("x", 2.5, True, [1]),
        float: ("x", float("nan"), float("inf"), True),
        str: (1,),
    }
    lengths = {"max_length": 1, "max_new_tokens": 1, "num_return_sequences": 1}
    for knob, default in (model.generation_defaults | lengths).items():
        for value in wrong[type(default)]:
            with pytest.raises(ValueError, match=f"`{knob}` must be (a|True)"):
                model.generate(SOURCE[1:], **{knob: value})


def test_knobs_that_change_nothing_are_told(model):
    idle = {
        "ctc_nat": [{"ctc_length_bonus": 1.0}],
        "da_transformer": [
            {"viterbi_length_penalty": 2.0},
            {"graph_beam_size": 2, "graph_decoding": "viterbi"},
            {"graph_beam_length_penalty": 2.0},
        ],
        "flowseq": [{"latent_temperature": 0.5}],
    }.get(model.config.model_type, [])
    for knobs in idle:
        with pytest.raises(ValueError, match=f"`{next(iter(knobs))}` must be left out with `"):
            model.require_knobs(knobs)
    with pytest.raises(ValueError, match="`nonsense` must be left out for "):
        model.require_knobs({"nonsense": 1})
    model.require_knobs({})


@pytest.mark.parametrize(
    ("model", "knobs"),
    [
        ("ctc_nat", {"ctc_beam_size": 2, "ctc_length_bonus": 1.0}),
        ("da_transformer", {"viterbi_length_penalty": 2.0, "graph_decoding": "viterbi"}),
        ("da_transformer", {"graph_beam_length_penalty": 2.0, "graph_decoding": "beam"}),
        ("flowseq", {"latent_temperature": 0.5, "num_samples": 2}),
    ],
    indirect=["model"],
)
def test_knobs_with_an_effect_are_taken(model, knobs):
    model.require_knobs(knobs)
    settings = model._resolve_settings(None, dict(knobs))
    assert not model.idle_knobs(settings).keys() & knobs.keys()


@pytest.mark.parametrize("model", ["da_transformer"], indirect=True)
def test_a_length_penalty_has_an_effect_on_candidates_that_another_model_chooses_among(model):
    knobs = {"viterbi_length_penalty": 2.0, "num_candidates": 2}
    assert not model.idle_knobs(model._resolve_settings(None, dict(knobs))).keys() & knobs.keys()
    model.require_knobs(knobs, reranker="a teacher")
    with pytest.raises(ValueError, match="`viterbi_length_penalty` must be left out"):
        model.require_knobs({"viterbi_length_penalty": 2.0})


def test_a_model_that_chooses_needs_candidates(model):
    if model.candidate_knobs:
        with pytest.raises(ValueError, match="A `reranker` must have at least 2 candidates to choose from, got 1"):
            model.require_knobs({}, reranker="teacher")
        model.require_knobs({model.candidate_knobs[0]: 2}, reranker="teacher")


def test_knobs_have_upper_bounds(model):
    limits = {"max_iterations": 201} | dict.fromkeys(model.candidate_knobs, 65)
    for knob, value in limits.items():
        with pytest.raises(ValueError, match=f"`{knob}` must be <= {value - 1}, got {value}"):
            model.generate(SOURCE[1:], **{knob: value})


def test_a_model_of_its_kind_is_no_teacher(model):
    with pytest.raises(ValueError, match="`teacher` must be autoregressive, got a "):
        model.require_teacher(model)
