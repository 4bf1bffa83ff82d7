"""`predict` and `compute_metrics` of the trainer, as the parent has them."""

import numpy as np
import pytest

from hf_nat import NATSeq2SeqTrainer, encode_corpus, load_corpus, load_model
from hf_nat.training.arguments import NATSeq2SeqTrainingArguments


@pytest.fixture(params=("marian", "vanilla_nat"))
def trainer(request, tiny_run, toy_corpus, tmp_path):
    """Builds a trainer of a model that was trained for two updates."""
    tiny_run(model_type=request.param, max_steps=2, save_strategy="no")
    model, tokenizer = load_model(tmp_path / "run", device="cpu")
    rows = load_corpus(toy_corpus, "validation", source_lang="src", target_lang="tgt")
    limits = {"max_source_length": 60, "max_target_length": 60}
    encoded, _ = encode_corpus(rows, tokenizer, source_lang="src", target_lang="tgt", **limits)

    def build(**keys):
        names = ("predict_with_generate", "bleu_on_eval")
        args = NATSeq2SeqTrainingArguments(
            output_dir=str(tmp_path / "other"),
            use_cpu=True,
            report_to="none",
            disable_tqdm=True,
            **{name: keys.pop(name) for name in names if name in keys},
        )
        return NATSeq2SeqTrainer(
            model=model, args=args, processing_class=tokenizer, **{"eval_dataset": encoded, **keys}
        )

    return build, model, tokenizer, encoded


def test_predict_returns_logits_and_labels_of_every_row(trainer):
    build, model, _, encoded = trainer
    output = build().predict(encoded)
    predictions = output.predictions[0] if isinstance(output.predictions, tuple) else output.predictions
    assert predictions.shape[0] == len(encoded)
    assert predictions.shape[-1] == model.config.vocab_size
    assert [row[row != -100].tolist() for row in output.label_ids] == encoded["labels"][:]
    assert np.isfinite(output.metrics["test_loss"])


def test_predict_with_generate_returns_what_generate_writes(trainer):
    build, model, tokenizer, encoded = trainer
    output = build(predict_with_generate=True).predict(encoded, max_length=20)
    assert output.predictions.shape[0] == len(encoded)
    rows = np.where(output.predictions == -100, tokenizer.pad_token_id, output.predictions)
    batch = tokenizer.pad({"input_ids": encoded["input_ids"][:]}, return_tensors="pt")
    expected = model.generate(input_ids=batch.input_ids, attention_mask=batch.attention_mask, max_length=20)
    found = tokenizer.batch_decode(rows, skip_special_tokens=True)
    assert found == tokenizer.batch_decode(expected, skip_special_tokens=True)


def test_compute_metrics_sees_every_row_at_each_evaluation(trainer):
    build, _, _, encoded = trainer
    seen = []

    def compute_metrics(prediction):
        seen.append(prediction.label_ids)
        return {"rows": len(prediction.label_ids)}

    metrics = build(compute_metrics=compute_metrics).evaluate()
    assert metrics["eval_rows"] == len(encoded) == len(seen[0])
    assert "eval_loss" in metrics


def test_a_set_without_lengths_is_told_what_it_lacks(trainer):
    build, _, _, encoded = trainer
    own = encoded.remove_columns("length")
    with pytest.raises(ValueError, match=r"^`train_dataset` must be a .* column `length`.* with `encode_corpus`"):
        build(train_dataset=own).get_train_dataloader()
    with pytest.raises(ValueError, match="^`eval_dataset` must be a .* column `length`"):
        build(eval_dataset=own).evaluate()
