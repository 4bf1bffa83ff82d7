from __future__ import annotations

from typing import Any

import pytest
import torch
from nat_model_tester import BOS, EOS, MASK, PAD, tiny_batch, tiny_model
from torch.testing import assert_close

from hf_nat.models import NATPreTrainedModel, NATState, modeling_nat
from hf_nat.models.canvas import content_mask
from hf_nat.models.losses import linear_cross_entropy
from hf_nat.models.noise import TargetNoise, random_mask


@pytest.fixture
def model() -> NATPreTrainedModel:
    return tiny_model("cmlm")


def test_training_projects_the_masked_positions_alone_with_the_same_loss(monkeypatch, model) -> None:
    batch = tiny_batch()
    noise = TargetNoise(batch["labels"], training=False)
    masked = random_mask(content_mask(batch["labels"].ne(-100)), noise)
    canvas = batch["labels"].masked_fill(batch["labels"] == -100, PAD).masked_fill(masked, MASK)
    projected: list[int] = []

    def recording(hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> tuple:
        projected.append(len(hidden_states))
        return linear_cross_entropy(hidden_states, *args, **kwargs)

    monkeypatch.setattr(modeling_nat, "linear_cross_entropy", recording)
    trained = model.train()(**batch, decoder_input_ids=canvas)
    assert trained.logits is None
    assert projected == [int(masked.sum())]
    assert_close(trained.loss, model.eval()(**batch).loss)


def test_loss_covers_the_masked_positions_by_sentence(model: NATPreTrainedModel) -> None:
    batch = tiny_batch([0, 1])
    labels = batch["labels"]
    canvas = torch.tensor([[MASK, 8, MASK, 6, EOS, PAD, PAD], [10, 10, 11, MASK, 13, 14, EOS]])
    output = model(**batch, decoder_input_ids=canvas)
    log_probs = model(batch["input_ids"], decoder_input_ids=canvas).logits.log_softmax(dim=2)

    def smoothed(row: int, position: int) -> torch.Tensor:
        token = log_probs[row, position]
        return -0.9 * token[labels[row, position]] - 0.1 * token.mean()

    expected = (5 * (smoothed(0, 0) + smoothed(0, 2)) / 2 + 7 * smoothed(1, 3)) / 12
    assert_close(output.loss_components["word"], expected)


def test_generator_decides_the_masking(model: NATPreTrainedModel) -> None:
    batch = tiny_batch()
    losses = [model(**batch, generator=torch.Generator().manual_seed(seed)).loss for seed in (1, 1, 2)]
    assert torch.equal(losses[0], losses[1])
    assert not torch.equal(losses[0], losses[2])


@torch.no_grad()
def mask_predict(
    model: NATPreTrainedModel, source: list[int], num_content: int, rounds: int, corrects: bool = False
) -> tuple[list, list, int]:
    """Mask-predict on one sentence as the paper tells it, all rounds, without vectors."""
    tokens, scores, decoded = [MASK] * num_content, [0.0] * num_content, 0
    for t in range(rounds):
        num_masked = num_content * (rounds - t) // rounds
        if not num_masked:
            break
        masked = sorted(range(num_content), key=lambda i: (scores[i], i))[:num_masked]
        tokens = [MASK if i in masked else token for i, token in enumerate(tokens)]
        logits = model(torch.tensor([source]), decoder_input_ids=torch.tensor([[*tokens, EOS]])).logits[0]
        logits[:, [PAD, BOS, EOS, MASK]] = float("-inf")
        for i in range(num_content) if corrects else masked:
            score, token = logits[i].log_softmax(dim=0).max(dim=0)
            tokens[i], scores[i] = int(token), float(score)
        decoded += 1
    return [*tokens, EOS], [*scores, 0.0], decoded


@pytest.mark.parametrize("rounds", [1, 2, 4, 10])
def test_generate_is_mask_predict(model: NATPreTrainedModel, rounds: int) -> None:
    batch = tiny_batch()
    output = model.generate(batch["input_ids"], max_iterations=rounds, return_dict_in_generate=True)
    for row, source in enumerate(batch["input_ids"].tolist()):
        source = source[: int(batch["attention_mask"][row].sum())]
        length = int(output.sequences[row].ne(PAD).sum())
        tokens, scores, decoded = mask_predict(model, source, length - 1, rounds)
        assert output.sequences[row, :length].tolist() == tokens
        assert_close(output.token_scores[row, :length], torch.tensor(scores), rtol=1e-4, atol=1e-5)
        assert output.iterations[row] == max(decoded, 1)


@pytest.mark.parametrize("rounds", [1, 4, 10])
def test_generate_with_correction_writes_every_token_anew(rounds: int) -> None:
    model, batch = tiny_model("cmlm", correction_ratio=0.3), tiny_batch()
    output = model.generate(batch["input_ids"], max_iterations=rounds, return_dict_in_generate=True)
    for row, source in enumerate(batch["input_ids"].tolist()):
        source = source[: int(batch["attention_mask"][row].sum())]
        length = int(output.sequences[row].ne(PAD).sum())
        tokens, scores, decoded = mask_predict(model, source, length - 1, rounds, corrects=True)
        assert output.sequences[row, :length].tolist() == tokens
        assert_close(output.token_scores[row, :length], torch.tensor(scores), rtol=1e-4, atol=1e-5)
        assert output.iterations[row] == max(decoded, 1)


def test_correction_changes_tokens_that_are_not_masked() -> None:
    changed = []
    for ratio in (0.0, 0.3):
        model = tiny_model("cmlm", correction_ratio=ratio)
        state = state_of(model, [6], 10, iteration=5)
        after = model.refine(state)
        kept = after.intermediate[0].ne(MASK) & state.tokens.eq(5)
        changed.append(bool((after.tokens != state.tokens)[kept].any()))
    assert changed == [False, True]


@pytest.mark.parametrize("training", [False, True])
def test_loss_of_correction_is_that_of_a_canvas_with_its_own_mistakes(training: bool) -> None:
    model, batch = tiny_model("cmlm", correction_ratio=0.5).train(training), tiny_batch([0, 1])
    canvases: list[torch.Tensor] = []
    model.get_decoder().register_forward_hook(
        lambda _, args, kwargs, output: canvases.append(kwargs["input_ids"]), with_kwargs=True
    )
    torch.manual_seed(1)
    output = model(**batch)
    masked, blank, wrong = canvases[:3]
    model.eval()
    labels, content = batch["labels"], content_mask(batch["labels"].ne(-100))
    assert torch.equal(blank, masked.masked_fill(content, MASK))
    predicted = model(batch["input_ids"], decoder_input_ids=blank).logits.argmax(2)
    shown = content & masked.ne(MASK)
    replaced = shown & (wrong != labels)
    # A replacement that is right by chance cannot be told from a token that was left.
    counts = (shown.sum(1) * 0.5 + 0.5).long()
    assert (replaced.sum(1) <= counts).all() and replaced.any()
    assert torch.equal(wrong[replaced], predicted[replaced])
    assert torch.equal(wrong[~replaced], masked[~replaced])
    alone = model(**batch, decoder_input_ids=masked).loss_components["word"]
    assert_close(output.loss_components["word"], alone / 2)
    if torch.equal(replaced.sum(1), counts):
        logits = model(batch["input_ids"], decoder_input_ids=wrong).logits
        log_probs, num_tokens = logits.log_softmax(2), labels.ne(-100).sum(1)
        nll = torch.zeros(())
        for row, own in enumerate(replaced):
            gold = labels[row, own]
            smoothed = 0.9 * log_probs[row, own].gather(1, gold.unsqueeze(1)).squeeze(1)
            nll -= num_tokens[row] * (smoothed + 0.1 * log_probs[row, own].mean(1)).sum() / max(1, int(own.sum()))
        assert_close(output.loss_components["correction"], nll / num_tokens.sum() / 2)
    assert_close(output.loss, sum(output.loss_components.values()))


def test_without_correction_nothing_changes() -> None:
    losses, generated = [], []
    for ratio in (0.0, 0.3):
        model, batch = tiny_model("cmlm", correction_ratio=ratio), tiny_batch()
        losses.append(model(**batch).loss_components)
        generated.append(model.generate(batch["input_ids"], max_iterations=1))
    assert set(losses[0]) == {"word", "length"} and set(losses[1]) == {"word", "length", "correction"}
    assert torch.equal(losses[0]["word"], 2 * losses[1]["word"])
    assert torch.equal(*generated)  # the first round writes all in any case
    with pytest.raises(ValueError, match=r"`correction_ratio` must be in \[0, 1\], got 1.5"):
        tiny_model("cmlm", correction_ratio=1.5)


def test_correction_depends_on_no_other_row_and_trains() -> None:
    model, batch = tiny_model("cmlm", correction_ratio=0.5), tiny_batch(extra_padding=2)
    together = model(**batch).loss_components["correction"] * batch["labels"].ne(-100).sum()
    alone = [tiny_batch([row]) for row in range(4)]
    parts = [model(**one).loss_components["correction"] * one["labels"].ne(-100).sum() for one in alone]
    assert_close(together, sum(parts))
    model.train()(**batch).loss.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_rounds_change_the_translation(model: NATPreTrainedModel) -> None:
    input_ids = torch.randint(5, 24, (16, 12)).index_fill(1, torch.tensor([11]), EOS)
    outputs = [model.generate(input_ids, max_iterations=rounds) for rounds in (1, 10)]
    assert not torch.equal(*outputs)


def state_of(model: NATPreTrainedModel, lengths: list[int], max_iterations: int, **fields) -> NATState:
    tokens = torch.full((len(lengths), max(lengths) + 1), PAD)
    for row, length in enumerate(lengths):
        tokens[row, :length], tokens[row, length] = 5, EOS
    input_ids = torch.tensor([[5, EOS]]).expand(len(lengths), -1)
    values = {
        "scores": torch.zeros(tokens.shape),
        "finished": torch.zeros(len(lengths), dtype=torch.bool),
        "members": (model,),
        "encoder_hidden_states": (torch.randn(len(lengths), 2, 16),),
        **fields,
    }
    return NATState(input_ids, torch.ones_like(input_ids), tokens=tokens, max_iterations=max_iterations, **values)


@pytest.mark.parametrize(
    ("num_content", "expected"),
    [(5, [4, 4, 3, 3, 2, 2, 1, 1, 0]), (10, [9, 8, 7, 6, 5, 4, 3, 2, 1]), (1, [0] * 9)],
)
def test_number_of_masks_is_the_exact_floor(model: NATPreTrainedModel, num_content: int, expected: list[int]) -> None:
    # Another row in the batch must not change the schedule.
    masked = []
    for iteration in range(1, 10):
        state = model.refine(state_of(model, [num_content, 17], 10, iteration=iteration))
        masked.append(int(state.intermediate[0][0].eq(MASK).sum()))
        assert bool(state.finished[0]) == (num_content * (9 - iteration) // 10 == 0)
    assert masked == expected


def test_certain_tokens_never_put_eos_or_padding_under_the_mask(model: NATPreTrainedModel) -> None:
    # All scores are 0, those of certain tokens, EOS and padding alike.
    state = model.refine(state_of(model, [2, 6], 10, iteration=5))
    assert state.intermediate[0].tolist() == [
        [MASK, 5, EOS, PAD, PAD, PAD, PAD],
        [MASK, MASK, MASK, 5, 5, 5, EOS],
    ]


def test_no_mask_is_left_in_short_sentences(model: NATPreTrainedModel) -> None:
    # fairseq's adaptive stop leaves masks in all of these.
    state = state_of(model, [2, 3, 4, 5, 8], 10)
    for iteration in range(10):
        state = model.refine(NATState(**{**vars(state), "iteration": iteration, "intermediate": ()}))
        assert not state.tokens.eq(MASK).any()
