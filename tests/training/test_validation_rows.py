"""Where the validation rows of a training come from, and what is said where they are no test."""

from __future__ import annotations

import json
import logging

import pytest

from hf_nat.steps import Train
from hf_nat.training.arguments import DataArguments
from hf_nat.training.summary import training_summary


@pytest.fixture
def corpus(tmp_path):
    """Ten numbered pairs as one table, which serves for every split, and other ones."""
    for name, first in (("rows", 0), ("others", 100)):
        lines = [
            json.dumps({"translation": {"en": f"{i} dogs", "de": f"{i} hunde"}}) for i in range(first, first + 10)
        ]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    return tmp_path


def arguments(corpus, **changes):
    return DataArguments(corpus=str(corpus / "rows.jsonl"), source_lang="en", target_lang="de", **changes)


def sources(rows):
    return [pair["en"] for pair in rows["translation"]]


def test_a_share_is_left_out_of_training_and_the_same_in_every_run(corpus):
    data = arguments(corpus, validation_share=0.3)
    train, validation = map(sources, data.load_splits())
    assert len(validation) == 3 and len(train) == 7
    assert sorted(train + validation) == sources(data.load("train"))
    assert train == sorted(train) and validation == sorted(validation)
    assert [*map(sources, data.load_splits())] == [train, validation]
    assert sources(data.load_train()) == train
    assert sources(arguments(corpus, validation_share=0.3, max_train_samples=2).load_splits()[0]) == train[:2]
    assert not data.validates_on_train


def test_another_corpus_validates(corpus):
    data = arguments(corpus, validation_corpus=str(corpus / "others.jsonl"))
    train, validation = map(sources, data.load_splits())
    assert train[0] == "0 dogs" and validation[0] == "100 dogs" and not data.validates_on_train


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"validation_share": 0.0}, "`validation_share` must be > 0 and < 1, got 0.0"),
        ({"validation_share": 1.0}, "`validation_share` must be > 0 and < 1"),
        ({"validation_share": float("nan")}, "`validation_share` must be a finite number > 0 and < 1"),
        ({"validation_share": 0.5, "validation_corpus": "x"}, "Only one of `validation_share` and"),
        ({"validation_split": None, "validation_corpus": "x"}, "must come with a `validation_split`"),
        ({"max_train_samples": 0}, "`max_train_samples` must be >= 1, got 0"),
        ({"vocab_size": -3}, "`vocab_size` must be >= 1, got -3"),
    ],
)
def test_rules_of_the_keys(changes, rule, corpus):
    with pytest.raises(ValueError, match=rule):
        arguments(corpus, **changes)


def test_a_share_must_leave_rows_on_both_sides(corpus):
    with pytest.raises(ValueError, match="must leave rows to train and to validate on, got 0.01 of 10"):
        arguments(corpus, validation_share=0.01).load_splits()


def test_a_run_without_validation_rows_has_no_evaluation(tiny_run, tmp_path):
    metrics = tiny_run(validation_split=None, report_to=None, max_steps=2)
    assert not [name for name in metrics if name.startswith("eval_")] and metrics["num_updates"] == 2
    assert "validation loss" not in training_summary(tmp_path / "run")


def test_an_evaluation_must_have_rows(run_keys, tmp_path):
    keys = run_keys(tmp_path / "run", validation_split=None, eval_strategy="steps", eval_steps=2)
    with pytest.raises(ValueError, match="`eval_strategy` must be no without a `validation_split`"):
        Train.from_config(**keys).run()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "warned"),
    [({}, True), ({"validation_share": 0.2}, False), ({"max_validation_samples": 3}, True)],
)
def test_validation_on_the_training_rows_is_told(changes, warned, corpus, run_keys, tmp_path, caplog):
    keys = {**run_keys(tmp_path / "run"), "corpus": str(corpus / "rows.jsonl"), "source_lang": "en"}
    step = Train.from_config(**keys | {"target_lang": "de"} | changes)
    with caplog.at_level(logging.WARNING, "hf_nat"):
        step.prepare()
    assert ("are those that it trains on" in caplog.text) is warned


def test_equal_rows_in_two_splits_are_told_too(corpus, run_keys, tmp_path, caplog):
    for split in ("train", "validation"):
        (corpus / f"{split}.jsonl").write_bytes((corpus / "rows.jsonl").read_bytes())
    keys = run_keys(tmp_path / "run") | {"corpus": str(corpus / "{split}.jsonl"), "source_lang": "en"}
    with caplog.at_level(logging.WARNING, "hf_nat"):
        Train.from_config(**keys | {"target_lang": "de"}).prepare()
    assert "are those that it trains on" in caplog.text
