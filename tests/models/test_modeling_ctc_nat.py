from __future__ import annotations

from collections import defaultdict
from itertools import groupby, product

import pytest
import torch
from nat_model_tester import BOS, EOS, MASK, PAD, VOCAB_SIZE, tiny_batch, tiny_model, tiny_teacher
from torch.testing import assert_close

from hf_nat.models import CTCNATConfig, CTCNATForConditionalGeneration
from hf_nat.models.ctc import best_alignment


BLANK = BOS
# Of tiny_batch(); the second target repeats a token and has 7 labels and blanks for 6 frames.
FEASIBLE = torch.tensor([True, False, True, True])


def frame_log_probs(model: CTCNATForConditionalGeneration, batch: dict) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities `[B, F + 1, V]` of the frames, and their number in each row."""
    return model(**batch).logits.detach().log_softmax(2), 2 * batch["attention_mask"].sum(1)


def test_loss_is_that_of_torch_per_target_token_of_all_pairs() -> None:
    model, batch = tiny_model("ctc_nat", label_smoothing=0.0), tiny_batch()
    log_probs, num_frames = frame_log_probs(model, batch)
    labels, num_tokens = batch["labels"], batch["labels"].ne(-100).sum(1)
    nll = torch.nn.functional.ctc_loss(
        log_probs.transpose(0, 1)[:, FEASIBLE],
        labels[FEASIBLE],
        num_frames[FEASIBLE],
        num_tokens[FEASIBLE] - 1,
        blank=BLANK,
        reduction="sum",
    )
    output = model(**batch)
    assert_close(output.loss, nll / num_tokens.sum())
    assert_close(output.token_shares["infeasible"], num_tokens[~FEASIBLE].sum() / num_tokens.sum())


def test_pair_that_does_not_fit_changes_no_weight() -> None:
    model, batch = tiny_model("ctc_nat").train(), tiny_batch([1])
    output = model(**batch)
    output.loss.backward()
    assert output.loss == 0 and output.token_shares["infeasible"] == 1
    assert all(p.grad is None or p.grad.eq(0).all() for p in model.parameters())


@pytest.mark.parametrize("seed", range(3))
def test_log_probs_of_translations_are_those_of_their_frame_strings(seed: int) -> None:
    model, source = tiny_model("ctc_nat", seed=seed, vocab_size=7), torch.tensor([[5, EOS]])
    frames = model(source, decoder_input_ids=model.initial_canvas(torch.ones(1, 2))).logits[0, :4].detach()
    frames[:, [PAD, EOS, MASK]] = float("-inf")
    log_probs = frames.double().log_softmax(1)
    exact: defaultdict[tuple[int, ...], float] = defaultdict(float)
    strings = list(product(log_probs[0].isfinite().nonzero().flatten().tolist(), repeat=4))
    probabilities = [float(log_probs[range(4), list(string)].sum().exp()) for string in strings]
    for string, probability in zip(strings, probabilities, strict=True):
        exact[tuple(label for label, _ in groupby(string) if label != BLANK)] += probability
    best = model.generate(source, return_dict_in_generate=True)
    assert best.sequences_log_probs.exp().item() == pytest.approx(max(probabilities), rel=1e-4)
    size = len(exact) + 2
    found = model.generate(source, ctc_beam_size=size, num_return_sequences=size, return_dict_in_generate=True)
    rows = [tuple(row[: row.index(EOS)]) for row in found.sequences.tolist()]
    assert rows[:-2] == sorted(exact, key=exact.__getitem__, reverse=True) and rows[-2:] == [rows[0]] * 2
    expected = [exact[row] for row in rows[:-2]] + [0.0] * 2
    assert found.sequences_log_probs.exp().tolist() == pytest.approx(expected, rel=1e-4)
    assert model.generate(source, return_dict_in_generate=True, output_scores=False).sequences_log_probs is None


@pytest.mark.parametrize("ratio", [2, 3])
def test_canvas_has_frames_for_each_source_token(ratio: int) -> None:
    model, batch = tiny_model("ctc_nat", upsample_ratio=ratio), tiny_batch()
    canvas = model.initial_canvas(batch["attention_mask"])
    assert canvas.eq(MASK).sum(1).tolist() == [ratio * n for n in batch["attention_mask"].sum(1)]
    assert (canvas.ne(PAD).sum(1) - 1 == canvas.eq(EOS).long().argmax(1)).all()
    assert torch.equal(model(**batch).logits, model(batch["input_ids"], decoder_input_ids=canvas).logits)


def test_canvas_stays_within_the_positions() -> None:
    model = tiny_model("ctc_nat")
    source = torch.full((1, 20), 7)
    assert model.initial_canvas(torch.ones(1, 20)).shape == (1, 32)
    assert model.generate(source).shape[1] <= 32
    assert model(source, labels=torch.tensor([[7, 8, EOS]])).loss.isfinite()


def test_generate_collapses_the_most_probable_frames() -> None:
    model, batch = tiny_model("ctc_nat"), tiny_batch()
    model.model.shared.weight.data[BLANK] *= -4
    log_probs, num_frames = frame_log_probs(model, batch)
    log_probs[:, :, [PAD, EOS, MASK]] = float("-inf")
    best, frames = log_probs.log_softmax(2).max(2)
    output = model.generate(batch["input_ids"], return_dict_in_generate=True, return_history=True)
    blanks = 0
    for row, length in enumerate(num_frames.tolist()):
        expected, scores = [], []
        for frame in range(length):
            label, score = int(frames[row, frame]), float(best[row, frame])
            blanks += label == BLANK
            if frame and label == frames[row, frame - 1]:
                if label != BLANK:
                    scores[-1] = max(scores[-1], score)
            elif label != BLANK:
                expected.append(label)
                scores.append(score)
        assert output.sequences[row, : len(expected) + 1].tolist() == [*expected, EOS]
        assert output.token_scores[row, : len(expected)].tolist() == pytest.approx(scores, rel=1e-4)
        canvas, written, translation = output.history[row]
        assert canvas.tolist() == [MASK] * length + [EOS]
        assert written.tolist() == [*frames[row, :length].tolist(), EOS]
        assert translation.tolist() == [*expected, EOS]
    assert blanks


def test_max_length_cuts_the_translation_and_not_the_frames() -> None:
    model, source = tiny_model("ctc_nat"), tiny_batch([0])["input_ids"]
    full = model.generate(source, return_dict_in_generate=True)
    cut = model.generate(source, max_length=4, return_dict_in_generate=True)
    assert cut.sequences.tolist() == [[*full.sequences[0, :3].tolist(), EOS]]
    assert torch.equal(cut.token_scores[0, :3], full.token_scores[0, :3])


def test_glancing_shows_labels_of_the_best_alignment() -> None:
    model, batch = tiny_model("ctc_nat", glancing_ratio=0.6).train(), tiny_batch([0, 2, 3])
    canvases = []
    embed_canvas = model.source_copy.embed_canvas
    model.source_copy.embed_canvas = lambda m, canvas, *args, **kwargs: (
        canvases.append(canvas) or embed_canvas(m, canvas, *args, **kwargs)
    )
    output = model(**batch)
    first, second = canvases
    masked = first.eq(MASK)
    logits = model.eval()(batch["input_ids"], decoder_input_ids=first).logits.detach()
    num_labels, num_frames = batch["labels"].ne(-100).sum(1) - 1, masked.sum(1)
    scores = logits.gather(2, batch["labels"].clamp(min=0).unsqueeze(1).expand(-1, logits.shape[1], -1))
    states = best_alignment(scores - logits[:, :, [BLANK]], batch["labels"], num_labels, num_frames)
    revealed = masked & second.ne(MASK)
    assert revealed.any() and (masked & ~revealed).any()
    shares = []
    for row, frame in masked.nonzero().tolist():
        state = int(states[row, frame])
        label = batch["labels"][row, state // 2] if state % 2 else BLANK
        shares.append(float(logits[row, frame].argmax() == label) / num_frames[row] * (num_labels[row] + 1))
        if revealed[row, frame]:
            assert second[row, frame] == batch["labels"][row, min(state // 2, num_labels[row] - 1)]
    assert float(output.token_shares["correct"]) == pytest.approx(float(sum(shares)) / (num_labels + 1).sum().item())


def test_glancing_of_an_empty_or_too_long_target_shows_nothing() -> None:
    for labels in ([[EOS]], [[5, 5, 5, EOS]], [[EOS, -100, -100, -100], [5, 5, 5, EOS]]):
        model = tiny_model("ctc_nat", glancing_ratio=1.0).train()
        output = model(torch.tensor([[EOS]] * len(labels)), labels=torch.tensor(labels))
        output.loss.backward()
        assert output.token_shares["glanced"] == 0
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_blank_is_bos_or_a_token_of_its_own() -> None:
    assert CTCNATConfig().blank_token_id == CTCNATConfig().bos_token_id
    assert CTCNATConfig(blank_token_id=7).blank_token_id == 7
    teacher = tiny_teacher()
    student = CTCNATForConditionalGeneration.from_teacher(
        teacher, vocab_size=VOCAB_SIZE + 2, mask_token_id=VOCAB_SIZE, blank_token_id=VOCAB_SIZE + 1
    )
    batch = tiny_batch()
    output = student.generate(batch["input_ids"])
    assert not output.eq(VOCAB_SIZE + 1).any() and not output.eq(BOS).any()
    assert student(**batch).loss.isfinite()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"upsample_ratio": 0}, "`upsample_ratio` must be >= 1, got 0"),
        ({"bos_token_id": None}, r"`blank_token_id` must be in \[0, `vocab_size` = 32000\), got None"),
        ({"blank_token_id": 32000}, r"`blank_token_id` must be in \[0, `vocab_size` = 32000\), got 32000"),
        ({"blank_token_id": 2}, "must not be the token of padding, EOS or mask"),
        ({"bos_token_id": 0}, "must not be the token of padding, EOS or mask"),
    ],
)
def test_bad_configuration_is_an_error(fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CTCNATConfig(**fields)


def test_ensemble_of_other_frames_is_an_error() -> None:
    with pytest.raises(ValueError, match="'upsample_ratio': 2"):
        tiny_model("ctc_nat").generate(torch.tensor([[5, EOS]]), ensemble=[tiny_model("ctc_nat", upsample_ratio=3)])
