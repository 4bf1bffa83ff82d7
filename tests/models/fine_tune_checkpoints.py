"""Loads checkpoints where hf_nat is missing, compares, fine-tunes, saves and loads them again; run by a test.

Arguments: folders of a checkpoint and `expected.pt`, what it gave where hf_nat is there. Writes `<folder>-tuned`.
"""

import sys

import torch
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
)


def load(folder):
    model = AutoModelForSeq2SeqLM.from_pretrained(folder, trust_remote_code=True)
    assert type(model).__module__.startswith("transformers_modules")
    return model, AutoTokenizer.from_pretrained(folder, trust_remote_code=True)


def outputs(model, tokenizer, sentences, settings):
    batch = tokenizer(sentences, text_target=sentences, padding=True, return_tensors="pt", return_token_type_ids=False)
    labels = batch.pop("labels").masked_fill(batch["attention_mask"].eq(0), -100)
    with torch.no_grad():
        output = model.eval()(**batch, labels=labels)
    return {
        "loss": output.loss,
        "logits": output.logits,
        **{str(kwargs): model.generate(**batch, max_length=12, **kwargs) for kwargs in settings},
    }


def assert_equal(first, second):
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


def compare_and_tune(folder):
    expected = torch.load(f"{folder}/expected.pt")
    sentences, settings = expected["sentences"], expected["settings"]
    model, tokenizer = load(folder)
    assert_equal(outputs(model, tokenizer, sentences, settings), expected["outputs"])
    rows = [
        {**tokenizer(text, return_token_type_ids=False), "labels": tokenizer(text).input_ids} for text in sentences
    ]
    arguments = Seq2SeqTrainingArguments(
        output_dir=f"{folder}-tuned",
        max_steps=2,
        per_device_train_batch_size=len(rows),
        predict_with_generate=True,
        generation_max_length=12,
        learning_rate=1e-2,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
    )
    collator = DataCollatorForSeq2Seq(tokenizer)
    trainer = Seq2SeqTrainer(
        model, arguments, data_collator=collator, train_dataset=rows, eval_dataset=rows, processing_class=tokenizer
    )
    trainer.train()
    assert len(trainer.predict(rows).predictions) == len(rows)
    trainer.save_model()
    tuned = outputs(model, tokenizer, sentences, settings)
    assert not torch.equal(tuned["logits"], expected["outputs"]["logits"])
    assert_equal(outputs(*load(f"{folder}-tuned"), sentences, settings), tuned)


if __name__ == "__main__":
    sys.modules["hf_nat"] = None  # type: ignore[assignment]
    for folder in sys.argv[1:]:
        compare_and_tune(folder)
