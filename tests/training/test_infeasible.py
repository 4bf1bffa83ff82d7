"""Pairs that a model cannot learn are counted as its loss leaves them out, and told."""

from __future__ import annotations

import random

import pytest
import torch
from datasets import Dataset
from nat_model_tester import EOS, tiny_model

from hf_nat.training import infeasible
from hf_nat.training.infeasible import count_infeasible_pairs
from hf_nat.training.summary import training_summary


def random_rows(number: int) -> list[dict[str, list[int]]]:
    """Pairs of random lengths, of few words, so that they repeat each other."""
    chance, rows = random.Random(3), []
    for _ in range(number):
        source, target = ([*chance.choices((7, 8), k=chance.randrange(9)), EOS] for _ in range(2))
        rows.append({"input_ids": source, "attention_mask": [1] * len(source), "labels": target})
    return rows


@pytest.mark.parametrize(
    ("model_type", "fields"),
    [
        ("ctc_nat", {"upsample_ratio": 1}),
        ("ctc_nat", {"upsample_ratio": 2}),
        ("ctc_nat", {"upsample_ratio": 2, "max_position_embeddings": 10}),
        ("da_transformer", {"graph_size_ratio": 1}),
        ("da_transformer", {"graph_size_ratio": 1.3, "max_position_embeddings": 10}),
    ],
)
def test_counts_are_those_of_the_loss(model_type, fields, monkeypatch):
    model, rows = tiny_model(model_type, **fields), random_rows(60)
    marks = []
    for row in rows:
        loss = model(**{name: torch.tensor([ids]) for name, ids in row.items()}).loss
        assert loss.isfinite()
        marks.append(bool(loss == 0))
    assert 3 < sum(marks) < 57
    monkeypatch.setattr(infeasible, "_ROWS", 7)
    counts = count_infeasible_pairs(model, Dataset.from_list(rows), Dataset.from_list(rows[:9]))
    assert counts == {"num_infeasible_pairs": sum(marks), "eval_num_infeasible_pairs": sum(marks[:9])}
    for row, is_infeasible in zip(rows, marks, strict=True):
        count = count_infeasible_pairs(model, Dataset.from_list([row]))
        assert count == {"num_infeasible_pairs": is_infeasible}


def test_a_model_that_learns_every_pair_has_no_count():
    assert count_infeasible_pairs(tiny_model("cmlm"), Dataset.from_list(random_rows(3))) == {}


@pytest.mark.parametrize("ratio", [1.05, 1.13, 2.3, 4])
def test_a_graph_does_not_depend_on_longer_sources(ratio):
    model = tiny_model("da_transformer", graph_size_ratio=ratio, max_position_embeddings=1024)
    lengths = torch.arange(1, 256)
    together = model.initial_canvas((torch.arange(255) < lengths.unsqueeze(1)).long()).ne(0).sum(dim=1)
    alone = [model.initial_canvas(torch.ones(1, length, dtype=torch.long)) for length in lengths.tolist()]
    assert together.tolist() == [canvas.shape[1] for canvas in alone] == [int(canvas.ne(0).sum()) for canvas in alone]


@pytest.mark.parametrize(("num_fitting", "level"), [(99, "INFO"), (98, "WARNING")])
def test_more_than_one_in_a_hundred_are_a_warning(num_fitting, level, caplog, monkeypatch):
    fitting, other = ({"attention_mask": [1, 1], "labels": [*[7] * words, EOS]} for words in (1, 4))
    rows = Dataset.from_list([fitting] * num_fitting + [other] * (100 - num_fitting))
    monkeypatch.setattr(infeasible.logger, "propagate", True)
    with caplog.at_level("INFO", logger=infeasible.logger.name):
        count_infeasible_pairs(tiny_model("ctc_nat"), rows)
    (record,) = [record for record in caplog.records if record.name == infeasible.logger.name]
    assert record.levelname == level
    share = f"{100 - num_fitting} of 100 training pairs ({100 - num_fitting}.00%)"
    assert share in record.message and "into the frames of its source" in record.message
    assert ("Raise `upsample_ratio`" in record.message) == (level == "WARNING")


def test_run_reports_the_pairs(tiny_run, tmp_path):
    config = {"upsample_ratio": 2, "d_model": 16, "max_position_embeddings": 128}
    metrics = tiny_run(model_type="ctc_nat", max_steps=1, model_config=config)
    count = metrics["num_infeasible_pairs"]
    assert 0 < count < metrics["num_train_pairs"] and 0 < metrics["eval_num_infeasible_pairs"] < 20
    share = f"{count} ({count / metrics['num_train_pairs']:.2%} of them)"
    assert [line for line in training_summary(tmp_path / "run").splitlines() if line.endswith(share)]
    card = (tmp_path / "run/README.md").read_text(encoding="utf-8")
    assert f"| Pairs whose target does not fit | {count} |" in card
    assert f"Of its training pairs {100 * count / metrics['num_train_pairs']:.1f} % have a target" in card


def test_a_run_without_a_pair_that_fits_is_an_error(tiny_run, tmp_path):
    sources, targets = (tmp_path / f"{name}.txt" for name in ("source", "target"))
    sources.write_text("bado kivu\n" * 20)
    targets.write_text("a b c d e f g h\n" * 20)
    corpus = {"corpus": f"{sources},{targets}", "validation_split": None, "vocab_size": 40}
    config = {"graph_size_ratio": 1, "d_model": 16, "max_position_embeddings": 64}
    with pytest.raises(ValueError, match="must fit into the canvas of the model, got none of 20. Raise"):
        tiny_run(model_type="da_transformer", model_config=config, max_steps=1, **corpus)
