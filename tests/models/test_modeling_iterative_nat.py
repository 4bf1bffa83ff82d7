from __future__ import annotations

from collections import Counter
from itertools import product
from typing import Any

import pytest
import torch
from nat_model_tester import BOS, EOS, MASK, PAD, VOCAB_SIZE, tiny_batch, tiny_model
from test_corruption import scan
from torch.testing import assert_close

from hf_nat.models import IterativeNATConfig, NATPreTrainedModel, losses
from hf_nat.models.noise import TargetNoise


SPECIAL = [PAD, BOS, EOS, MASK]
CONTENT = [token for token in range(VOCAB_SIZE) if token not in SPECIAL]


@pytest.fixture
def model() -> NATPreTrainedModel:
    return tiny_model("iterative_nat")


def mask_canvas(labels: torch.Tensor) -> torch.Tensor:
    return labels.masked_fill(labels == -100, PAD).masked_fill(labels.ne(-100) & labels.ne(EOS), MASK)


def decoder_inputs(model: NATPreTrainedModel) -> list[torch.Tensor]:
    """The canvases of the rounds after the first, as soon as a forward pass has run."""
    canvases: list[torch.Tensor] = []
    model.get_decoder().register_forward_pre_hook(lambda _, inputs: canvases.extend(inputs[:1]))
    return canvases


def many(num_rows: int, num_content: int = 6) -> dict[str, torch.Tensor]:
    """One source, many random targets."""
    labels = torch.randint(5, VOCAB_SIZE, (num_rows, num_content + 1)).index_fill(1, torch.tensor([num_content]), EOS)
    return {"input_ids": torch.tensor([[5, 6, 7, 8, EOS]]).expand(num_rows, -1), "labels": labels}


def plain_word_loss(model: NATPreTrainedModel, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean loss of one sentence over its positions and rounds, one position after the other."""
    config, length = model.config, len(target)
    noise = TargetNoise(target.unsqueeze(0), training=False)
    coins = noise.uniform(config.num_training_rounds - 1)[0].tolist()
    numbers = noise.uniform(length * (config.num_training_rounds - 1) * 3)[0].view(length, -1, 3)
    canvas, nlls = [MASK] * (length - 1) + [EOS], []
    for i in range(config.num_training_rounds):
        logits = model(source.unsqueeze(0), decoder_input_ids=torch.tensor([canvas])).logits[0]
        log_probs = logits.log_softmax(dim=1)
        nlls += [-0.9 * log_probs[t, token] - 0.1 * log_probs[t].mean() for t, token in enumerate(target.tolist())]
        if i == config.num_training_rounds - 1:
            return torch.stack(nlls).mean()
        draws, operations, replacements = numbers[:, i].T.tolist()
        if coins[i] < config.denoising_probability:
            words = [CONTENT[int(u * len(CONTENT))] for u in replacements]
            content = [True] * (length - 1) + [False]
            canvas = scan(target.tolist(), content, operations, words, config.corruption_rate)
            continue
        logits[:, SPECIAL] = float("-inf")
        for t, probabilities in enumerate(logits[:-1].softmax(dim=1)):
            if config.sample_predictions:
                canvas[t] = int((probabilities.cumsum(dim=0) <= draws[t]).sum())
            else:
                canvas[t] = int(probabilities.argmax())


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"sample_predictions": False},
        {"denoising_probability": 0},
        {"denoising_probability": 1, "corruption_rate": 0.9},
        {"num_training_rounds": 1},
        {"num_training_rounds": 2, "source_copy": "none"},
    ],
)
def test_loss_and_gradients_are_those_of_the_plain_rounds(
    fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Three positions at a time.
    monkeypatch.setitem(losses._CHUNK_ELEMENTS, "cpu", 3 * VOCAB_SIZE)
    model, batch = tiny_model("iterative_nat", **fields), tiny_batch()
    output = model(**batch)
    plain = torch.zeros(())
    for source, mask, labels in zip(*batch.values(), strict=True):
        target = labels[labels.ne(-100)]
        plain = plain + len(target) * plain_word_loss(model, source[mask.bool()], target)
    plain = plain / batch["labels"].ne(-100).sum()
    assert_close(output.loss_components["word"], plain, rtol=1e-4, atol=1e-5)
    parameters = [p for p in model.model.parameters() if p.requires_grad]
    # `labels` only change the length loss of the sum; take it away.
    length_loss = model.length_predictor.loss(output.length_logits, batch["labels"], batch["attention_mask"])
    gradients = torch.autograd.grad(output.loss - length_loss, parameters, retain_graph=True)
    expected = torch.autograd.grad(plain, parameters)
    for gradient, value in zip(gradients, expected, strict=True):
        assert_close(gradient, value, rtol=1e-3, atol=1e-5)


def test_training_has_the_loss_of_evaluation_given_the_same_noise(model: NATPreTrainedModel) -> None:
    batch = tiny_batch()
    evaluated = model(**batch, generator=torch.Generator().manual_seed(2))
    trained = model.train()(**batch, generator=torch.Generator().manual_seed(2))
    assert trained.logits is None
    assert_close(trained.loss, evaluated.loss)
    assert not torch.isclose(model(**batch, generator=torch.Generator().manual_seed(3)).loss, trained.loss)


def test_encoder_runs_once_and_the_decoder_once_a_round(model: NATPreTrainedModel) -> None:
    calls: Counter[str] = Counter()
    model.get_encoder().register_forward_hook(lambda *_: calls.update(["encoder"]))
    model.get_decoder().register_forward_hook(lambda *_: calls.update(["decoder"]))
    batch = tiny_batch()
    model.train()(**batch)
    assert calls == {"encoder": 1, "decoder": 4}
    model(**batch, decoder_input_ids=mask_canvas(batch["labels"]))
    assert calls == {"encoder": 2, "decoder": 5}


def test_a_given_canvas_is_scored_in_one_pass(model: NATPreTrainedModel) -> None:
    batch = tiny_batch([0, 3])
    canvas = mask_canvas(batch["labels"])
    canvas[0, 1], canvas[1, 0] = 9, 20
    output = model(**batch, decoder_input_ids=canvas)
    log_probs, selected = output.logits.log_softmax(dim=2), batch["labels"].ne(-100)
    gold = log_probs.gather(2, batch["labels"].clamp(min=0).unsqueeze(2)).squeeze(2)
    expected = -(0.9 * gold + 0.1 * log_probs.mean(dim=2))[selected].mean()
    assert_close(output.loss_components["word"], expected)


def test_logits_are_those_of_the_first_round(model: NATPreTrainedModel) -> None:
    batch = tiny_batch()
    first = model(batch["input_ids"], decoder_input_ids=mask_canvas(batch["labels"]))
    assert torch.equal(model(**batch).logits, first.logits)


def test_first_round_reads_the_source(model: NATPreTrainedModel) -> None:
    batch = tiny_batch()
    without = tiny_model("iterative_nat", source_copy="none")
    without.load_state_dict(model.state_dict())
    assert not torch.allclose(model(**batch).logits, without(**batch).logits, atol=1e-2)
    # A canvas without masks leaves nothing to copy.
    canvas = batch["labels"].masked_fill(batch["labels"] == -100, PAD)
    logits = [m(batch["input_ids"], decoder_input_ids=canvas).logits for m in (model, without)]
    assert torch.equal(*logits)


def test_coins_fall_for_each_sentence_and_round_by_itself() -> None:
    torch.manual_seed(4)
    num_rows = 4000
    model = tiny_model("iterative_nat", corruption_rate=0.0).train()
    batch, canvases = many(num_rows), decoder_inputs(model)
    with torch.no_grad():
        model(**batch)
    # What is not corrupted at rate 0 is the target itself; no random translation is.
    denoised = torch.stack([canvas.eq(batch["labels"]).all(dim=1) for canvas in canvases], dim=1)
    counts = Counter(map(tuple, denoised.int().tolist()))
    expected = num_rows / 8
    # Chi-square with 7 degrees of freedom: 24.3 at p = 0.001.
    assert sum((counts[coins] - expected) ** 2 / expected for coins in product((0, 1), repeat=3)) < 24.3


@pytest.mark.parametrize("denoising_probability", [0.0, 1.0])
def test_denoising_probability_at_its_ends(denoising_probability: float) -> None:
    model = tiny_model("iterative_nat", corruption_rate=0.0, denoising_probability=denoising_probability).train()
    batch, canvases = many(50), decoder_inputs(model)
    model(**batch)
    assert len(canvases) == 3
    for canvas in canvases:
        assert canvas.eq(batch["labels"]).all(dim=1).float().mean() == denoising_probability


def test_own_translations_are_sampled_from_the_predicted_distribution() -> None:
    torch.manual_seed(6)
    num_rows = 20_000
    fields = {"denoising_probability": 0, "num_training_rounds": 2, "init_std": 0.15}
    model = tiny_model("iterative_nat", **fields).train()
    batch, canvases = many(num_rows, num_content=2), decoder_inputs(model)
    with torch.no_grad():
        model(**batch)
        canvas = torch.tensor([[MASK, MASK, EOS]])
        logits = model.eval()(batch["input_ids"][:1], decoder_input_ids=canvas).logits[0]
    logits[:, SPECIAL] = float("-inf")
    for t in range(2):
        counts = torch.bincount(canvases[0][:, t], minlength=VOCAB_SIZE)
        expected = num_rows * logits[t].softmax(dim=0)
        possible = expected > 0
        assert possible.sum() == len(CONTENT) and not counts[~possible].any()
        assert expected[possible].min() > 5
        # Chi-square with 19 degrees of freedom: 43.8 at p = 0.001.
        assert ((counts - expected) ** 2 / expected)[possible].sum() < 43.8


def test_own_translations_without_sampling_are_the_most_probable_tokens() -> None:
    model = tiny_model("iterative_nat", denoising_probability=0, sample_predictions=False).train()
    batch, canvases = many(3, num_content=4), decoder_inputs(model)
    model(**batch)
    canvas = torch.tensor([[MASK] * 4 + [EOS]])
    for given in canvases:
        logits = model.eval()(batch["input_ids"][:1], decoder_input_ids=canvas).logits
        logits[:, :, SPECIAL] = float("-inf")
        canvas = torch.cat([logits[:, :-1].argmax(dim=2), torch.tensor([[EOS]])], dim=1)
        assert given.tolist() == canvas.tolist() * 3


def test_canvases_of_training_end_where_the_target_ends(model: NATPreTrainedModel) -> None:
    torch.manual_seed(8)
    model.train()
    labels = tiny_batch()["labels"]
    canvases = decoder_inputs(model)
    for _ in range(50):
        model(**tiny_batch())
    assert len(canvases) == 150
    for canvas in canvases:
        assert torch.equal(canvas.eq(PAD), labels.eq(-100))
        assert torch.equal(canvas.eq(EOS), labels.eq(EOS))
        assert not torch.isin(canvas, torch.tensor([BOS, MASK])).any()


def test_no_logits_are_kept_for_the_backward_pass() -> None:
    vocab_size, num_rows, width = 3000, 32, 20
    model = tiny_model("iterative_nat", vocab_size=vocab_size).train()
    labels = torch.randint(5, vocab_size, (num_rows, width))
    saved: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes() // tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = model(input_ids=labels, labels=labels).loss
    # The largest is the embedding, of 16 numbers a token; logits would be of 640, four times over.
    assert max(saved.values()) == vocab_size * 16
    assert sum(saved.values()) < num_rows * width * vocab_size
    loss.backward()


@torch.no_grad()
def plain_refinement(model: NATPreTrainedModel, source: list[int], length: int, rounds: int) -> tuple[list, list, int]:
    """Greedy refinement of one sentence until nothing changes."""
    canvas, iteration = [MASK] * (length - 1) + [EOS], 0
    while True:
        logits = model(torch.tensor([source]), decoder_input_ids=torch.tensor([canvas])).logits[0, :-1]
        logits[:, SPECIAL] = float("-inf")
        scores, tokens = logits.log_softmax(dim=1).max(dim=1)
        before, canvas = canvas, [*tokens.tolist(), EOS]
        iteration += 1
        if iteration == rounds or canvas == before:
            return canvas, [*scores.tolist(), 0.0], iteration


@pytest.mark.parametrize("rounds", [1, 2, 10])
def test_generate_refines_until_nothing_changes(model: NATPreTrainedModel, rounds: int) -> None:
    torch.manual_seed(1)
    input_ids = torch.randint(5, VOCAB_SIZE, (12, 9)).index_fill(1, torch.tensor([8]), EOS)
    output = model.generate(input_ids, max_iterations=rounds, return_dict_in_generate=True)
    for row, source in enumerate(input_ids.tolist()):
        length = int(output.sequences[row].ne(PAD).sum())
        tokens, scores, iterations = plain_refinement(model, source, length, rounds)
        assert output.sequences[row, :length].tolist() == tokens
        assert_close(output.token_scores[row, :length], torch.tensor(scores), rtol=1e-4, atol=1e-5)
        assert output.iterations[row] == iterations
    if rounds == 10:
        assert 1 < output.iterations.min() < output.iterations.max()


def test_ten_rounds_are_the_default(model: NATPreTrainedModel) -> None:
    assert model.generation_config.max_iterations == 10


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("num_training_rounds", 0, ">= 1, got 0"),
        ("denoising_probability", 1.5, r"in \[0, 1\], got 1.5"),
        ("corruption_rate", -0.1, r"in \[0, 1\], got -0.1"),
    ],
)
def test_config_out_of_range_is_an_error(field: str, value: float, rule: str) -> None:
    with pytest.raises(ValueError, match=f"`{field}` must be {rule}"):
        IterativeNATConfig(**{field: value})
