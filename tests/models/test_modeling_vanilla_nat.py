from __future__ import annotations

import pytest
import torch
from nat_model_tester import EOS, MASK, PAD, tiny_batch, tiny_model
from test_source_copy import MODES
from torch.testing import assert_close


def test_loss_covers_all_target_positions_at_the_gold_length() -> None:
    model, batch = tiny_model("vanilla_nat", label_smoothing=0.1), tiny_batch()
    output = model(**batch)
    canvas = torch.full_like(batch["labels"], PAD)
    nll = torch.zeros(())
    for row, labels in enumerate(batch["labels"]):
        length = int(labels.ne(-100).sum())
        canvas[row, : length - 1], canvas[row, length - 1] = MASK, EOS
    logits = model(batch["input_ids"], decoder_input_ids=canvas).logits
    assert_close(output.logits, logits)
    log_probs, gold = logits.log_softmax(dim=2), batch["labels"]
    for row, position in gold.ne(-100).nonzero().tolist():
        token_log_probs = log_probs[row, position]
        nll -= 0.9 * token_log_probs[gold[row, position]] + 0.1 * token_log_probs.mean()
    assert_close(output.loss_components["word"], nll / gold.ne(-100).sum())


def test_labels_beside_a_canvas_are_scored_on_it() -> None:
    model, batch = tiny_model("vanilla_nat"), tiny_batch([0])
    canvas = batch["labels"].clone()
    canvas[0, 1] = MASK
    output = model(**batch, decoder_input_ids=canvas)
    assert torch.equal(output.logits, model(batch["input_ids"], decoder_input_ids=canvas).logits)
    assert not torch.equal(output.logits, model(**batch).logits)


@pytest.mark.parametrize("mode", [*MODES, "none"])
def test_every_source_copy_trains_and_translates_like_training(mode: str) -> None:
    model, batch = tiny_model("vanilla_nat", source_copy=mode), tiny_batch()
    output = model.train()(**batch)
    output.loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)
    generated = model.eval().generate(batch["input_ids"], return_dict_in_generate=True)
    # The translation is the argmax of the logits that training sees at this length.
    logits = model(batch["input_ids"], labels=generated.sequences.masked_fill(generated.sequences == PAD, -100)).logits
    logits[:, :, [PAD, 1, EOS, MASK]] = float("-inf")
    content = generated.sequences.ne(PAD) & generated.sequences.ne(EOS)
    assert torch.equal(logits.argmax(dim=2)[content], generated.sequences[content])
    assert_close(generated.token_scores[content], logits.log_softmax(dim=2).amax(dim=2)[content], rtol=1e-4, atol=1e-5)


def test_source_copy_changes_the_network() -> None:
    batch = tiny_batch()
    logits = [tiny_model("vanilla_nat", source_copy=mode)(**batch).logits for mode in ("uniform", "none")]
    assert not torch.allclose(*logits, atol=1e-2)


def test_soft_temperature_starts_at_a_half() -> None:
    assert tiny_model("vanilla_nat", source_copy="soft").source_copy.temperature.item() == 0.5


def test_source_copy_without_source_is_an_error() -> None:
    model, batch = tiny_model("vanilla_nat"), tiny_batch()
    encoder_outputs = model.get_encoder()(batch["input_ids"], batch["attention_mask"])
    with pytest.raises(ValueError, match="must be given for the source copy, got none"):
        model(attention_mask=batch["attention_mask"], encoder_outputs=encoder_outputs, labels=batch["labels"])


def test_more_than_one_round_is_an_error() -> None:
    with pytest.raises(ValueError, match="at most 1 for VanillaNATForConditionalGeneration, got 2"):
        tiny_model("vanilla_nat").generate(torch.tensor([[5, EOS]]), max_iterations=2)


def test_glancing_reveals_a_share_of_the_wrong_tokens_and_learns_the_others() -> None:
    model, batch = tiny_model("vanilla_nat", glancing_ratio=0.5, label_smoothing=0.0).train(), tiny_batch()
    canvases = []
    embed_canvas = model.source_copy.embed_canvas
    model.source_copy.embed_canvas = lambda m, canvas, *args, **kwargs: (
        canvases.append(canvas) or embed_canvas(m, canvas, *args, **kwargs)
    )
    output = model(**batch)
    model.eval()
    first, second = canvases
    labels, content = batch["labels"], first.eq(MASK)
    wrong = content & model(batch["input_ids"], decoder_input_ids=first).logits.argmax(2).ne(labels)
    revealed = content & second.ne(MASK)
    assert revealed.sum(1).tolist() == [int(n) // 2 for n in wrong.sum(1)] and revealed.any()
    assert torch.equal(second[revealed], labels[revealed])
    assert torch.equal(second[~revealed], first[~revealed])
    log_probs = model(batch["input_ids"], decoder_input_ids=second).logits.log_softmax(2)
    nll = torch.zeros(())
    for row, is_target in enumerate(labels.ne(-100)):
        learned = is_target & ~revealed[row]
        nll -= is_target.sum() * log_probs[row][learned].gather(1, labels[row][learned].unsqueeze(1)).mean()
    assert_close(output.loss_components["word"], nll / labels.ne(-100).sum())
