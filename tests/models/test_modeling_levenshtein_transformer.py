from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from nat_model_tester import (
    BOS,
    EOS,
    MASK,
    PAD,
    SOURCES,
    VOCAB_SIZE,
    assert_translations,
    pad_rows,
    tiny_batch,
    tiny_model,
    tiny_teacher,
)
from test_levenshtein_edits import expert
from torch.testing import assert_close
from transformers import AutoModelForSeq2SeqLM

from hf_nat.models import (
    LevenshteinTransformerConfig,
    LevenshteinTransformerForConditionalGeneration,
    NATPreTrainedModel,
    losses,
    modeling_levenshtein_transformer,
    size_config,
)


SPECIAL = [PAD, BOS, EOS, MASK]
STACKS: list[dict[str, Any]] = [
    {"deletion_decoder": "own"},
    {"placeholder_decoder": "own", "placeholder_layers": 1},
    {"deletion_decoder": "own", "placeholder_decoder": "deletion", "deletion_layers": 1},
    {"deletion_layers": 1, "placeholder_layers": 2},
]


def levt(**fields: Any) -> NATPreTrainedModel:
    return tiny_model("levenshtein_transformer", **{"num_placeholder_bins": 6, **fields})


@pytest.fixture
def model() -> NATPreTrainedModel:
    return levt()


# Configuration and network


@pytest.mark.parametrize(
    ("size", "vocab_size", "expected"),
    [("base", 40624, 66_251_776), ("base", 39840, 65_850_368), ("big", 40624, pytest.approx(220.6e6, abs=5e4))],
)
def test_number_of_parameters_is_the_published_one(size: str, vocab_size: int, expected: int) -> None:
    config = LevenshteinTransformerConfig(
        **size_config(size), vocab_size=vocab_size, position_embedding_type="learned", max_position_embeddings=1026
    )
    with torch.device("meta"):
        model = LevenshteinTransformerForConditionalGeneration(config)
    assert sum(parameter.numel() for parameter in model.parameters()) == expected


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"bos_token_id": 0}, "`bos_token_id` must not be the padding, got 0"),
        ({"num_placeholder_bins": 1}, "`num_placeholder_bins` must be >= 2, got 1"),
        ({"placeholder_label_smoothing": 1.0}, r"`placeholder_label_smoothing` must be in \[0, 1\), got 1.0"),
        ({"deletion_layers": 0}, r"`deletion_layers` must be in \[1, `decoder_layers` = 6\], got 0"),
        ({"placeholder_layers": 7}, r"`placeholder_layers` must be in \[1, `decoder_layers` = 6\], got 7"),
        ({"deletion_roll_in_alpha": -0.5}, r"`deletion_roll_in_alpha` must be in \[0, 1\], got -0.5"),
        ({"insertion_roll_in_beta": 1.5}, r"`insertion_roll_in_beta` must be in \[0, 1\], got 1.5"),
        ({"placeholder_decoder": "deletion"}, "`deletion_decoder` is 'shared', got 'deletion'"),
    ],
)
def test_config_out_of_range_is_an_error(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LevenshteinTransformerConfig(**fields)


@pytest.mark.parametrize("stacks", STACKS)
def test_stacks_learn_save_and_take_other_embeddings(stacks: dict[str, Any], tmp_path: Path) -> None:
    model = levt(decoder_layers=2, position_embedding_type="learned", **stacks).train()
    model(**tiny_batch()).loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert name.endswith("k_proj.bias") or parameter.grad.any(), name
    model.eval().save_pretrained(tmp_path)
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    batch = tiny_batch()
    assert torch.equal(loaded(**batch).loss, model(**batch).loss)
    model.set_attn_implementation("eager")
    assert_close(model(**batch).loss, loaded(**batch).loss)
    loaded.resize_token_embeddings(VOCAB_SIZE + 3, mean_resizing=False)
    assert_translations(loaded.generate(batch["input_ids"]))


def test_stacks_read_from_the_layers_that_the_config_names() -> None:
    source, canvas = torch.tensor([[5, 6, EOS]]), torch.tensor([[8, MASK, EOS]])

    def logits(model: NATPreTrainedModel) -> tuple[torch.Tensor, torch.Tensor]:
        output = model(source, decoder_input_ids=canvas)
        return output.deletion_logits, output.placeholder_logits

    model = levt(decoder_layers=2)
    shallow = levt(decoder_layers=1)
    shallow.load_state_dict(model.state_dict(), strict=False)
    early = levt(decoder_layers=2, deletion_layers=1)
    early.load_state_dict(model.state_dict())
    assert_close(logits(early)[0], logits(shallow)[0])
    assert_close(logits(early)[1], logits(model)[1])
    shared = levt(decoder_layers=2, deletion_decoder="own", placeholder_decoder="deletion", placeholder_layers=1)
    shared.load_state_dict(model.state_dict(), strict=False)
    shared.deletion_decoder.load_state_dict(model.model.decoder.state_dict(), strict=False)
    assert_close(logits(shared)[0], logits(model)[0])
    assert_close(logits(shared)[1], logits(shallow)[1])


def test_heads_read_tokens_and_slots_behind_bos(model: NATPreTrainedModel) -> None:
    source, canvas = torch.tensor([[5, 6, EOS]]), [8, MASK, 9, EOS]
    states = model.model(source, decoder_input_ids=torch.tensor([[BOS, *canvas]])).last_hidden_state[0]
    output = model(source, decoder_input_ids=torch.tensor([canvas]))
    for i in range(len(canvas)):
        left, token = states[i], states[i + 1]
        assert_close(output.deletion_logits[0, i], model.deletion_head(token))
        assert_close(output.placeholder_logits[0, i], model.placeholder_head(torch.cat([left, token])))
        assert_close(output.logits[0, i], model.lm_head(token))


def test_own_stacks_start_from_the_decoder_of_the_teacher() -> None:
    student = LevenshteinTransformerForConditionalGeneration.from_teacher(
        tiny_teacher(decoder_layers=2), deletion_decoder="own", placeholder_decoder="own", placeholder_layers=1
    )
    for decoder, num_layers in ((student.deletion_decoder, 2), (student.placeholder_decoder, 1)):
        assert len(decoder.layers) == num_layers
        shared = student.model.decoder.state_dict()
        assert all(torch.equal(weight, shared[name]) for name, weight in decoder.state_dict().items())
    with torch.no_grad():
        student.deletion_decoder.layers[0].fc1.weight.add_(1.0)
    again = LevenshteinTransformerForConditionalGeneration.from_teacher(student)
    assert torch.equal(again.deletion_decoder.layers[0].fc1.weight, student.deletion_decoder.layers[0].fc1.weight)


# Loss


def keep(monkeypatch: pytest.MonkeyPatch, content: list[list[int]]) -> None:
    """Makes the roll-in keep the content marked with 1."""

    def kept(eligible: torch.Tensor, _noise: object) -> torch.Tensor:
        return pad_rows(content, 0, eligible.shape[1]).bool()

    monkeypatch.setattr(modeling_levenshtein_transformer, "random_keep", kept)


def mean_nll(logits: torch.Tensor, targets: list[int], smoothing: float) -> torch.Tensor:
    log_probs = logits.log_softmax(dim=1)
    gold = torch.stack([log_probs[i, target] for i, target in enumerate(targets)])
    return -((1 - smoothing) * gold + smoothing * log_probs.mean(dim=1)).mean()


@torch.no_grad()
def three_losses(model: NATPreTrainedModel, source: list[int], words: list[int], kept: list[int]) -> list[float]:
    """The losses of one sentence as the paper tells them: one canvas after the other, edits from plain Python."""
    target, kept = [*words, EOS], [*kept, 1]
    shortened = [token for token, is_kept in zip(target, kept, strict=True) if is_kept]
    ends = [i for i, is_kept in enumerate(kept) if is_kept]
    counts = [min(end - start - 1, 5) for start, end in itertools.pairwise([-1, *ends])]

    def score(canvas: list[int]) -> Any:
        return model(torch.tensor([source]), decoder_input_ids=torch.tensor([canvas]))

    placeholder = mean_nll(score(shortened).placeholder_logits[0], counts, 0.01)
    missing = [i for i, is_kept in enumerate(kept) if not is_kept]
    masked = [token if is_kept else MASK for token, is_kept in zip(target, kept, strict=True)]
    logits = score(masked).logits[0]
    word = mean_nll(logits[missing], [target[i] for i in missing], 0.1) if missing else torch.tensor(0.0)
    for i in missing:
        masked[i] = max(set(range(VOCAB_SIZE)) - set(SPECIAL), key=lambda token: float(logits[i, token]))
    labels = [int(not stays) for stays in expert(masked, target)[0]]
    deletion = mean_nll(score(masked).deletion_logits[0], labels, 0.0)
    return [float(placeholder), float(word), float(deletion)]


@pytest.mark.parametrize("seed", range(4))
def test_losses_are_those_of_three_canvases(
    model: NATPreTrainedModel, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The second target lacks more words than there are placeholder classes; equal neighbours make ties.
    words = [[7, 7, 8, 7], [5, 6, 5, 6, 9, 9, 10, 11, 12], [], [13]]
    draws = torch.rand(4, 9, generator=torch.Generator().manual_seed(seed)) < 0.25 * seed
    kept = [row[: len(sentence)].int().tolist() for row, sentence in zip(draws, words, strict=True)]
    keep(monkeypatch, kept)
    sentences = zip(SOURCES, words, kept, strict=True)
    sentence_losses = torch.tensor([three_losses(model, *sentence) for sentence in sentences])
    num_tokens = torch.tensor([[len(sentence) + 1.0] for sentence in words])
    expected = (sentence_losses * num_tokens).sum(dim=0) / num_tokens.sum()
    labels = pad_rows([[*sentence, EOS] for sentence in words], -100)
    for training in (False, True):
        output = model.train(training)(pad_rows(SOURCES, PAD), labels=labels)
        assert_close(output.loss, expected.sum(), rtol=1e-4, atol=1e-5)
        components = [output.loss_components[name] for name in ("placeholder", "word", "deletion")]
        assert_close(torch.stack(components), expected, rtol=1e-4, atol=1e-5)


def test_training_encodes_once_and_decodes_three_times(model: NATPreTrainedModel) -> None:
    calls: list[str] = []
    model.get_encoder().register_forward_hook(lambda *_: calls.append("encoder"))
    model.get_decoder().register_forward_hook(lambda *_: calls.append("decoder"))
    output = model.train()(**tiny_batch())
    assert sorted(calls) == ["decoder"] * 3 + ["encoder"]
    assert output.logits is output.placeholder_logits is output.deletion_logits is None


def test_logits_in_evaluation_are_those_of_the_three_canvases(
    model: NATPreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(monkeypatch, [[1, 0, 0, 1], [0, 0, 0, 0, 0, 0], [1], [0, 1, 1]])
    output = model(**tiny_batch())
    assert output.logits.shape == (4, 7, VOCAB_SIZE)
    assert output.placeholder_logits.shape == (4, 3, 6)
    assert output.deletion_logits.shape == (4, 7, 2)


def test_canvas_with_labels_has_the_loss_of_its_masks(model: NATPreTrainedModel) -> None:
    batch = tiny_batch([0, 1])
    canvas = torch.tensor([[MASK, 8, MASK, 6, EOS, PAD, PAD], [10, 10, 11, MASK, 13, 14, EOS]])
    output = model(**batch, decoder_input_ids=canvas)
    assert output.deletion_logits.shape == (2, 7, 2) and output.placeholder_logits.shape == (2, 7, 6)
    words = (5 * mean_nll(output.logits[0, [0, 2]], [9, 7], 0.1) + 7 * mean_nll(output.logits[1, [3]], [12], 0.1)) / 12
    assert_close(output.loss, words)
    assert list(output.loss_components) == ["word"]
    assert_close(model.train()(**batch, decoder_input_ids=canvas).loss, words)
    with pytest.raises(ValueError, match=r"shape of `decoder_input_ids`, \(2, 6\), got \(2, 7\)"):
        model(**batch, decoder_input_ids=canvas[:, :6])


def chi_square(observed: torch.Tensor, probabilities: torch.Tensor) -> float:
    expected = probabilities * observed.sum()
    return float(((observed - expected) ** 2 / expected).sum())


def test_roll_in_keeps_every_subset_as_often_as_its_size_asks(model: NATPreTrainedModel) -> None:
    labels = torch.tensor([[5, 6, 7, EOS, -100]]).expand(24000, -1)
    roll_in = model.train()._roll_in(labels, torch.Generator().manual_seed(0))
    subsets = (roll_in.missing[:, :3].long() * torch.tensor([1, 2, 4])).sum(dim=1).bincount(minlength=8)
    sizes = torch.tensor([bin(subset).count("1") for subset in range(8)])
    probabilities = torch.tensor([1 / (4 * math.comb(3, size)) for size in sizes.tolist()])
    assert chi_square(subsets, probabilities) < 40.5  # 1 - 1e-6 quantile, 7 degrees of freedom
    assert not roll_in.missing[:, 3:].any()
    assert not roll_in.is_initial.any()


def test_alpha_and_beta_are_the_shares_of_empty_canvases() -> None:
    model = levt(deletion_roll_in_alpha=0.25, insertion_roll_in_beta=0.5).train()
    labels = torch.tensor([[5, 6, 7, EOS]]).expand(20000, -1)
    roll_in = model._roll_in(labels, torch.Generator().manual_seed(0))
    assert float(roll_in.is_initial.float().mean()) == pytest.approx(0.25, abs=0.02)
    is_empty = roll_in.insertion_canvas[:, 0] == EOS
    assert float(is_empty.float().mean()) == pytest.approx(0.5 + 0.5 / 4, abs=0.02)
    assert roll_in.counts[is_empty, 0].eq(3).all()
    joint = float((is_empty & roll_in.is_initial[:, 0]).float().mean())
    assert joint == pytest.approx(0.25 * 0.625, abs=0.02)


def test_alpha_learns_deletion_on_the_empty_canvas() -> None:
    model = levt(deletion_roll_in_alpha=1.0)
    batch = tiny_batch()
    logits = model(batch["input_ids"], decoder_input_ids=torch.full((4, 1), EOS)).deletion_logits
    num_tokens = batch["labels"].ne(-100).sum(dim=1)
    expected = -(logits.log_softmax(dim=2)[:, 0, 0] * num_tokens).sum() / num_tokens.sum()
    assert_close(model(**batch).loss_components["deletion"], expected)


def test_sampled_roll_in_in_evaluation_does_not_depend_on_padding_or_order() -> None:
    model = levt(sample_deletion_roll_in=True)
    expected = model(**tiny_batch()).loss
    assert_close(model(**tiny_batch([2, 0, 3, 1], extra_padding=4)).loss, expected)
    assert not torch.equal(levt()(**tiny_batch()).loss, expected)


def test_sampled_roll_in_follows_the_distribution_of_the_words(monkeypatch: pytest.MonkeyPatch) -> None:
    model = levt(sample_deletion_roll_in=True, insertion_roll_in_beta=1.0, init_std=0.15).train()
    canvases: list[torch.Tensor] = []
    kept_tokens = modeling_levenshtein_transformer.kept_tokens

    def spy(canvas: torch.Tensor, *arguments: Any) -> tuple[torch.Tensor, torch.Tensor]:
        canvases.append(canvas)
        return kept_tokens(canvas, *arguments)

    monkeypatch.setattr(modeling_levenshtein_transformer, "kept_tokens", spy)
    monkeypatch.setitem(losses._CHUNK_ELEMENTS, "cpu", 100 * VOCAB_SIZE)  # 60 chunks, none with the draws of another
    source, size = torch.tensor([[5, 6, EOS]]), 6000
    generator = torch.Generator().manual_seed(0)
    model(source.expand(size, -1), labels=torch.tensor([[7, EOS]]).expand(size, -1), generator=generator)
    with torch.no_grad():
        logits = model.eval()(source, decoder_input_ids=torch.tensor([[MASK, EOS]])).logits[0, 0]
    logits[SPECIAL] = float("-inf")
    observed = canvases[0][:, 0].bincount(minlength=VOCAB_SIZE)
    assert not observed[SPECIAL].any()
    likely = logits.softmax(dim=0) > 0.001
    assert likely.sum() > 5
    assert chi_square(observed[likely], logits[likely].softmax(dim=0)) < 65  # 1 - 1e-6 quantile, 19 degrees of freedom
