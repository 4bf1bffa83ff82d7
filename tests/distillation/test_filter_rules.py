"""The columns and rules of a filter: brute force on small cases, what they mean, and runs that stop half-way."""

from __future__ import annotations

import json
import random
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch import nn
from transformers import MarianMTModel, PreTrainedTokenizerFast

from hf_nat.base.utils import read_json, sha256_file, write_json
from hf_nat.data import load_corpus
from hf_nat.distillation import FilterArguments, filter_columns, filter_rules
from hf_nat.distillation.duplicates import ranks, text_keys
from hf_nat.distillation.filter_rules import FILTER_COLUMNS, worst_cut
from hf_nat.distillation.flags import FLAGS
from hf_nat.distillation.pair_measures import copy_rates, find_numbers, find_urls, num_differences
from hf_nat.distillation.shards import corpus_features, plan_shards
from hf_nat.steps import Filter
from hf_nat_cli import main


SOURCES = ["a dog runs", "two men", "hello", "hello 7", "", "see www.a.org", "the cat sleeps", "a  dog runs"]
TARGETS = ["ein hund", "two men", "hallo", "hallo 8", "leer", "siehe www.b.org", "hello the cat", "ein hund", ""]


def make_rows(number: int) -> list[dict[str, Any]]:
    draw = random.Random(3)
    return [
        {
            "id": row,
            "translation": {"en": draw.choice(SOURCES), "xx": draw.choice(TARGETS)},
            "real_target": draw.choice(TARGETS[:1] + TARGETS[2:4]),
            "teacher_score": draw.choice([None, -0.25, -0.5, -1.0]),
            "flags": ["looping"] if draw.random() < 0.15 else [],
        }
        for row in range(number)
    ]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """40 training rows in 4 shards, with many equal sources and targets, and 2 of validation."""
    folder, rows = tmp_path / "corpus", make_rows(40)
    for shard in plan_shards(folder, {"train": 40, "validation": 2}, 10):
        shard.path.parent.mkdir(parents=True, exist_ok=True)
        own = rows[shard.start : shard.stop]
        Dataset.from_list(own, features=corpus_features("en", "xx")).to_parquet(shard.path)
    manifest = {
        **{"teacher": "runs/teacher", "teacher_sha256": "ab" * 32, "corpus": "runs/real", "config_name": None},
        **{"source_lang": "en", "target_lang": "xx", "strategy": "beam", "decoding": {}, "license": None, "seed": 1},
        **{"counts": {"train": 40, "validation": 2}, "flag_counts": dict.fromkeys(FLAGS, 0)},
        **{"tokenizer_sha256": "cd" * 32, "corpus_sha256": {"train": "ef" * 32}},
        "shards": {f"data/{path.name}": sha256_file(path) for path in sorted((folder / "data").iterdir())},
    }
    write_json(folder / "manifest.json", manifest)
    return folder


def run_filter(corpus: Path, output_dir: Path, **rule: Any) -> list[dict[str, Any]]:
    Filter(FilterArguments(corpus=str(corpus), output_dir=str(output_dir), **{"drop": ["none"], **rule})).run()
    return load_corpus(output_dir, "train", source_lang="en", target_lang="xx").to_list()


def copy_rate(row: dict[str, Any]) -> float:
    words, left = row["translation"]["en"].split(), row["translation"]["xx"].split()
    words = [word for word in words if any(map(str.isalpha, word))]
    copied = 0
    for word in words:
        if word in left:
            left.remove(word)
            copied += 1
    return copied / len(words) if words else 0


def posterior_oracle(rows: list[dict[str, Any]]) -> list[float]:
    sides = ([row["translation"]["en"] for row in rows], [row["real_target"] for row in rows])
    words = [" ".join(side).split() for side in sides]

    def of(text: str, side: int) -> float:
        shares = [[own.count(word) / len(own) for own in words] for word in text.split()]
        known = [pair[side] / sum(pair) for pair in shares if sum(pair)]
        return sum(known) / len(known) if known else 0.5

    return [min(of(row["translation"]["en"], 0), of(row["translation"]["xx"], 1)) for row in rows]


def best_by_hand(rows: list[dict[str, Any]], lang: str, number: int) -> list[dict[str, Any]]:
    """All but the `number` best of each text go: a row stays if fewer than so many others beat it."""

    def badness(row: dict[str, Any]) -> tuple[float, int]:
        return (float("inf") if row["teacher_score"] is None else -row["teacher_score"], row["id"])

    def text(row: dict[str, Any]) -> list[str]:
        return row["translation"][lang].split()

    return [
        row
        for row in rows
        if sum(text(other) == text(row) and badness(other) < badness(row) for other in rows) < number
    ]


def kept_by_hand(rows: list[dict[str, Any]], rule: dict[str, Any]) -> list[dict[str, Any]]:
    """Oracle: each rule by brute force over the rows."""
    kept, flags = rows, [flag for flag in rule.get("drop", []) if flag != "none"]
    kept = [row for row in kept if not set(flags).intersection(row["flags"])]
    if "max_copy_rate" in rule:
        kept = [row for row in kept if copy_rate(row) <= rule["max_copy_rate"]]
    for kind, items in (("number", "78"), ("url", ["www.a.org", "www.b.org"])):
        if f"max_{kind}_differences" in rule:
            pairs = [(row["translation"]["en"], row["translation"]["xx"]) for row in kept]
            same = [all((item in source) == (item in target) for item in items) for source, target in pairs]
            kept = [row for row, is_same in zip(kept, same, strict=True) if is_same]
    if "min_language_posterior" in rule:
        posteriors = posterior_oracle(rows)
        kept = [row for row in kept if posteriors[row["id"]] >= rule["min_language_posterior"] - 1e-6]
    if "worst_score" in rule:
        scores = sorted(row["teacher_score"] for row in rows if row["teacher_score"] is not None)
        cut = scores[int(len(scores) * rule["worst_score"])]
        kept = [row for row in kept if row["teacher_score"] is None or row["teacher_score"] >= cut]
    for lang, name in (("en", "max_per_source"), ("xx", "max_per_target")):
        if name in rule:
            kept = best_by_hand(kept, lang, rule[name])
    return kept


RULES = [
    {"max_copy_rate": 0.4},
    {"max_number_differences": 0},
    {"max_url_differences": 0},
    {"min_language_posterior": 0.45},
    {"worst_score": 0.6},
    {"max_per_source": 1},
    {"max_per_target": 2},
    {"drop": ["looping"], "max_copy_rate": 0.5, "worst_score": 0.5, "max_per_source": 2, "max_per_target": 1},
]


def test_every_rule_has_its_oracle() -> None:
    # The first two in test_filter.py, the others below.
    elsewhere = {"min_score", "max_length_ratio", "min_backward_score", "worst_backward_score"}
    assert set().union(*RULES) - {"drop"} == filter_rules.RULES.keys() - elsewhere


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_rows_reasons_and_files_are_those_of_the_oracle(corpus: Path, tmp_path: Path, rule: dict[str, Any]) -> None:
    rows, new = make_rows(40), tmp_path / "new"
    kept = run_filter(corpus, new, **rule)
    wanted = [row["id"] for row in kept_by_hand(rows, rule)]
    assert [row["id"] for row in kept] == wanted
    assert 0 < len(kept) < len(rows)
    (applied,) = read_json(new / "manifest.json")["filters"]
    report = read_json(new / "filter.json")["reasons"]
    dropped = [json.loads(line) for line in (new / "dropped.jsonl").read_text(encoding="utf-8").splitlines()]
    assert sorted([*wanted, *(row["id"] for row in dropped)]) == list(range(40))
    assert len(dropped) == applied["num_dropped"]
    for reason, found in report.items():
        ids = [row["id"] for row in dropped if reason in row["reasons"]]
        alone = [row for row in dropped if row["reasons"] == [reason]]
        assert found["rows"] == applied["reasons"][reason] == len(ids)
        assert found["alone"] == len(alone)
        assert len(found["examples"]) == min(3, len(ids))
        assert all(row in dropped and row["id"] in ids for row in found["examples"])
    card = (new / "README.md").read_text(encoding="utf-8")
    assert all(f"`{name}={value}`" in card or name == "drop" for name, value in rule.items())
    columns = [name for name in FILTER_COLUMNS if name in kept[0]]
    assert read_json(new / "manifest.json").get("columns", []) == columns
    assert all(f"| `{column}` |" in card for column in columns)
    validation = load_corpus(new, "validation", source_lang="en", target_lang="xx")
    assert all(row[column] is None for row in validation for column in columns)


def test_numbers_are_their_digits_and_urls_end_before_punctuation() -> None:
    same = [("1,000.50 m", "1.000,50 m"), ("1\u00a0000", "1000"), ("٣", "3"), ("in 2 or 3.", "3, 2"), ("no", "keine")]
    other = [("2 dogs", "two dogs", 1), ("3 3", "3", 1), ("10", "100", 2), ("at www.x.org/12", "12", 1)]
    assert not num_differences(*zip(*same, strict=True), find_numbers).any()
    assert num_differences(*list(zip(*other, strict=True))[:2], find_numbers).tolist() == [row[2] for row in other]
    assert find_urls("(see http://a.b/c?d=1, or WWW.x.org).") == ["http://a.b/c?d=1", "WWW.x.org"]
    assert find_urls("http: //a, ahttp, 1") == []


def test_copied_words_count_as_often_as_they_stand_on_both_sides() -> None:
    words = ["a", "b", "7"]
    sides = [list(side) for length in range(4) for side in product(words, repeat=length)]
    pairs = [(source, target) for source in sides for target in sides]
    found = copy_rates(*zip(*pairs, strict=True))
    rows = [{"translation": {"en": " ".join(source), "xx": " ".join(target)}} for source, target in pairs]
    assert found.tolist() == [copy_rate(row) for row in rows]


def test_ranks_of_all_small_cases() -> None:
    for keys in product([1, 2], repeat=4):
        for scores in product([0.0, -1.0, np.nan], repeat=4):
            for is_ranked in ([True] * 4, [True, False, True, True]):
                rows = [row for row in range(4) if is_ranked[row]]
                bad = [(np.inf if np.isnan(score) else -score, row) for row, score in enumerate(scores)]
                wanted = [
                    sum(keys[other] == keys[row] and bad[other] < bad[row] for other in rows) if row in rows else -1
                    for row in range(4)
                ]
                found = ranks(np.array(keys, np.uint64), np.array(scores, np.float32), np.array(is_ranked))
                assert found.tolist() == wanted
    first, second, third = text_keys(["a b", " a \t b", "ab"])
    assert first == second != third
    assert len(ranks(text_keys([]), np.empty(0, np.float32), np.empty(0, bool))) == 0


def test_share_of_the_worst_is_never_more_than_asked_for() -> None:
    for values in product([-3.0, -2.0, -1.0, np.nan], repeat=4):
        for share in (0.1, 0.25, 0.5, 0.99):
            column = np.array(values, np.float32)
            known = [value for value in values if not np.isnan(value)]
            gone = int((column < worst_cut(column, share)).sum())
            assert gone <= share * len(known)
            if len(set(known)) == len(known):
                assert gone == int(share * len(known))
    assert worst_cut(np.arange(100, dtype=np.float32), 0.29) == 29


def test_backward_scores_are_those_of_the_model_and_can_be_used_again(
    corpus: Path, tmp_path: Path, copy_teacher: MarianMTModel, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    backward = tmp_path / "backward"
    copy_teacher.save_pretrained(backward)
    tiny_tokenizer.save_pretrained(backward)
    measured = run_filter(corpus, tmp_path / "measured", columns=["backward_score"], backward_teacher=str(backward))
    assert len(measured) == 40
    for row in measured:
        source, target = (row["translation"][lang] for lang in ("en", "xx"))
        if not source or not target:
            assert row["backward_score"] is None
            continue
        inputs, labels = (tiny_tokenizer(text, return_tensors="pt").input_ids for text in (target, source))
        with torch.no_grad():
            logits = copy_teacher(input_ids=inputs, labels=labels).logits[0]
        assert row["backward_score"] == pytest.approx(-float(nn.functional.cross_entropy(logits, labels[0])), abs=1e-4)
    scores = sorted(row["backward_score"] for row in measured if row["backward_score"] is not None)
    cut = scores[int(0.3 * len(scores))]
    ids = [row["id"] for row in measured if row["backward_score"] is None or row["backward_score"] >= cut]
    again = run_filter(tmp_path / "measured", tmp_path / "again", worst_backward_score=0.3)
    assert [row["id"] for row in again] == ids
    assert run_filter(tmp_path / "measured", tmp_path / "floor", min_backward_score=cut) == again
    options = {"worst_backward_score": 0.3, "backward_teacher": str(backward)}
    assert run_filter(corpus, tmp_path / "once", **options) == again
    (applied,) = read_json(tmp_path / "once/manifest.json")["filters"]
    assert len(applied["backward_teacher"]["teacher_sha256"]) == 64
    assert read_json(tmp_path / "once/filter.json")["reasons"]["worst_backward_score"]["cut"] == cut
    assert applied["backward_teacher"]["teacher_sha256"] in (tmp_path / "once/README.md").read_text()


def test_interrupted_run_goes_on_with_what_it_measured(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file_bytes: Any
) -> None:
    rule = {"max_copy_rate": 0.4, "max_per_source": 1}
    run_filter(corpus, tmp_path / "whole", **rule)
    measure, calls = filter_columns.copy_rates, []

    def counted(*args: Any) -> np.ndarray:
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return measure(*args)

    monkeypatch.setattr(filter_columns, "copy_rates", counted)
    with pytest.raises(KeyboardInterrupt):
        run_filter(corpus, tmp_path / "new", **rule)
    assert not (tmp_path / "new/manifest.json").exists()
    run_filter(corpus, tmp_path / "new", **rule)
    assert len(calls) == 2 + 1 + 2, "two shards of four were measured, the third had to be begun again"
    assert file_bytes(tmp_path / "new") == file_bytes(tmp_path / "whole")


def test_command_prints_examples_and_how_to_measure(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = tmp_path / "new"
    assert main(["filter", f"--corpus={corpus}", f"--output_dir={new}", "--max_number_differences=0"]) == 0
    printed = capsys.readouterr().out
    found = read_json(new / "filter.json")["reasons"]["max_number_differences"]
    cut = f"max_number_differences: {found['rows']} ({found['alone']} for nothing else), number_differences cut at 0"
    assert cut in printed
    (example, *_) = found["examples"]
    assert f"  {example['id']} ({example['number_differences']}): {example['translation']['en']!r} -> " in printed
    assert f"--real runs/real --distilled {corpus} {new} --source_lang en --target_lang xx" in printed
    assert f"hf-nat recommend --candidates {corpus} {new} --student STUDENT.yaml --proxy_updates 1000" in printed


PART = {"name": "a", "place": "x", "configuration": None, "weight": 1.0, "num_rows": 1, "num_taken": 1}


@pytest.mark.parametrize(
    ("made", "options"),
    [
        (
            {"config_name": "de-en", "source_column": "a", "target_column": "b", "splits": {"train": "first"}},
            "--real runs/real --config_name de-en --source_column a --target_column b --real_split first --distilled",
        ),
        ({"source_alone": True, "splits": {"train": "first"}}, "--real REAL --distilled"),
        ({"mix": [PART], "corpus": "a, b"}, "--real REAL --distilled"),
    ],
)
def test_printed_line_tells_where_the_real_corpus_is(
    made: dict[str, Any], options: str, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = read_json(corpus / "manifest.json")
    write_json(corpus / "manifest.json", manifest | made)
    new = tmp_path / "other" / corpus.name
    assert main(["filter", f"--corpus={corpus}", f"--output_dir={new}", "--max_number_differences=0"]) == 0
    assert f"hf-nat analyze {options} before={corpus} after={new} " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"max_copy_rate": 1.5}, "`max_copy_rate` must be >= 0 and <= 1, got 1.5"),
        ({"max_number_differences": -1}, "`max_number_differences` must be >= 0, got -1"),
        ({"max_per_source": 0}, "`max_per_source` must be >= 1, got 0"),
        ({"worst_score": 0}, "`worst_score` must be > 0 and < 1, got 0. Leave it out for no rule."),
        ({"worst_backward_score": 5.0}, "`worst_backward_score` must be > 0 and < 1, got 5.0"),
        (
            {"min_language_posterior": float("nan")},
            "`min_language_posterior` must be a finite number >= 0 and <= 1, got nan",
        ),
        ({"columns": ["quality"]}, "`columns` must be one of"),
        ({"min_score": -1.0, "backward_teacher": "x"}, "`backward_teacher` must come with a use, got none"),
        ({"min_backward_score": -1.0}, "`backward_teacher` must be given for a corpus without the column"),
    ],
)
def test_rules_that_cannot_be(corpus: Path, tmp_path: Path, rule: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run_filter(corpus, tmp_path / "new", **rule)
    assert not (tmp_path / "new").exists()
