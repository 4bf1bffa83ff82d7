from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForSeq2SeqLM

from hf_nat.base.utils import read_json
from hf_nat.experiments.born_again import BornAgain, BornAgainArguments
from hf_nat_cli import main


@pytest.fixture
def arguments(config: Callable[..., str], tmp_path: Path) -> Callable[..., BornAgainArguments]:
    configs = {"teacher_config": config("teacher"), "distill_config": config("distill")}

    def build(**changes: object) -> BornAgainArguments:
        defaults = {"output_dir": str(tmp_path / "born"), "iterations": 1, "num_bootstrap": 10}
        return BornAgainArguments(**{**configs, **defaults, **changes})

    return build


def run_of(model: Path) -> dict:
    return read_json(model / "run.json")["arguments"]


def times(folder: Path) -> dict[Path, int]:
    """When each result of a finished step was written."""
    patterns = ("teacher/*.safetensors", "teacher/eval-*/[mt]*", "corpus/data/*", "student/*.safetensors")
    return {path: path.stat().st_mtime_ns for pattern in patterns for path in folder.glob(f"iteration_*/{pattern}")}


def scores(folder: Path) -> list[dict]:
    """The rows of the report, without the seconds that measuring took."""
    rows = read_json(folder / "born_again.json")["iterations"]
    return [{**row, "measures": {**row["measures"], "seconds": None}} for row in rows]


def test_each_teacher_learns_from_the_corpus_before_and_all_are_scored_on_real_targets(
    arguments: Callable[..., BornAgainArguments], config: Callable[..., str], corpus: Path, tmp_path: Path
) -> None:
    student = config(
        "student", model_type="vanilla_nat", size=None, init_from_teacher="any", model_config={"dropout": 0.0}
    )
    report = BornAgain(arguments(student_config=student, teacher_options={"seed": 5})).run()
    folder = tmp_path / "born"
    first, second = folder / "iteration_0", folder / "iteration_1"
    assert run_of(first / "teacher")["corpus"] == str(corpus)
    assert run_of(second / "teacher")["corpus"] == str(first / "corpus")
    assert [run_of(own / "teacher")["seed"] for own in (first, second)] == [5, 6]
    assert [run_of(own / "teacher")["init_from"] for own in (first, second)] == [None, None]
    assert (second / "teacher/tokenizer.json").read_bytes() == (first / "teacher/tokenizer.json").read_bytes()
    for own in (first, second):
        assert run_of(own / "student")["corpus"] == str(own / "corpus")
        assert run_of(own / "student")["init_from_teacher"] == str(first / "teacher")
        manifest = read_json(own / "corpus/manifest.json")
        assert manifest["teacher"] == str(own / "teacher")
        rows = [row for path in sorted(own.glob("corpus/data/train-*")) for row in pq.read_table(path).to_pylist()]
        assert [row["id"] for row in rows] == list(range(200))
        for split in ("validation", "test"):
            evaluation = read_json(own / f"teacher/eval-{split}/metrics.json")
            assert (evaluation["corpus"], evaluation["split"]) == (str(corpus), split)
    real = [row["real_target"] for row in rows]
    assert real == [pair["tgt"] for pair in pq.read_table(next(corpus.glob("data/train*")))["translation"].to_pylist()]

    results = read_json(folder / "born_again.json")
    assert [row["iteration"] for row in results["iterations"]] == [0, 1]
    for own, row in zip((first, second), results["iterations"], strict=True):
        assert row["teacher"]["test"] == read_json(own / "teacher/eval-test/metrics.json")["scores"]
        assert row["student"]["test"] == read_json(own / "student/eval-test/metrics.json")["scores"]
        assert row["measures"]["complexity"] == read_json(own / "corpus/measures.json")["corpora"][1]["complexity"]
        assert (folder / f"measures/{own.name}/measures.json").is_file()
        assert f"{row['measures']['complexity']:.3f}" in (folder / "report.md").read_text()
    pairs = {(row["first"], row["second"]): row for row in results["differences"]}
    assert list(pairs) == [("real", "iteration 0"), ("real", "iteration 1"), ("iteration 0", "iteration 1")]
    for measure in ("complexity", "faithfulness", "reordering", "training_bleu"):
        before, after = (row["measures"][measure] for row in results["iterations"])
        assert pairs["iteration 0", "iteration 1"][measure]["value"] == pytest.approx(before - after)
    assert report.is_file() and (folder / "born_again.png").is_file()


@pytest.mark.slow
def test_born_again_teachers_start_from_new_weights(
    arguments: Callable[..., BornAgainArguments], tmp_path: Path
) -> None:
    BornAgain(arguments(teacher_options={"learning_rate": 1e-30})).run()
    weights = [
        AutoModelForSeq2SeqLM.from_pretrained(tmp_path / f"born/iteration_{i}/teacher").get_input_embeddings().weight
        for i in (0, 1)
    ]
    assert not torch.allclose(weights[0], weights[1], atol=1e-3)


@pytest.mark.slow
def test_a_run_goes_on_where_it_stopped(
    arguments: Callable[..., BornAgainArguments], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "born"
    BornAgain(arguments(iterations=0)).run()
    before = times(folder)
    assert len(before) == 1 + 4 + 6
    BornAgain(arguments(iterations=1)).run()
    after = times(folder)
    assert len(after) == 2 * len(before)
    assert before.items() <= after.items()

    for lost in ("teacher/eval-test/metrics.json", "corpus/data/train-00001-of-00004.parquet"):
        (folder / "iteration_1" / lost).unlink()
    results = scores(folder)
    BornAgain(arguments(iterations=1)).run()
    assert {path for path, time in times(folder).items() if after.get(path) != time} == {
        folder / "iteration_1/teacher/eval-test/metrics.json",
        folder / "iteration_1/teacher/eval-test/translations.txt",
        folder / "iteration_1/corpus/data/train-00001-of-00004.parquet",
    }
    assert scores(folder) == results


def test_other_settings_in_the_same_folder_are_an_error(
    arguments: Callable[..., BornAgainArguments], config: Callable[..., str], tmp_path: Path
) -> None:
    BornAgain(arguments(iterations=0)).run()
    with pytest.raises(ValueError, match=r"`decoding.early_stopping` must be the same in every run .*corpus"):
        BornAgain(arguments(iterations=0, distill_config=config("distill", strategy="beam"))).run()
    with pytest.raises(ValueError, match=r"`seed` must be the same .*teacher.* it was 42, got 3"):
        BornAgain(arguments(iterations=0, distill_config=config("distill"), teacher_options={"seed": 3})).run()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"iterations": -1}, "`iterations` must be >= 0, got -1. Use 0 for a plain distillation"),
    ],
)
def test_arguments_that_break_a_rule(
    changes: dict, message: str, arguments: Callable[..., BornAgainArguments]
) -> None:
    with pytest.raises(ValueError, match=message):
        arguments(**changes)


@pytest.mark.parametrize(
    ("options", "key"),
    [("teacher_options", "output_dir"), ("distill_options", "teacher"), ("student_options", "corpus")],
)
def test_options_cannot_be_what_the_study_sets(
    arguments: Callable[..., BornAgainArguments], config: Callable[..., str], options: str, key: str
) -> None:
    student = config("student", model_type="vanilla_nat", size=None, model_config=None)
    with pytest.raises(ValueError, match=f"`{options}` must leave out `{key}`, which the study sets itself"):
        BornAgain(arguments(student_config=student, **{options: {key: "x"}}))


def test_splits_to_score_on_are_required(arguments: Callable[..., BornAgainArguments], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`validation_split` and `test_split` must be given"):
        BornAgain(arguments(distill_options={"test_split": None})).run()
    assert not (tmp_path / "born").exists()


def test_command_line(config: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "born_again.yaml"
    path.write_text(
        f"teacher_config: {config('teacher')}\ndistill_config: {config('distill')}\n"
        f"teacher_options: {{max_steps: 3, seed: 2}}\noutput_dir: {tmp_path / 'born'}\n"
    )
    assert main(["born-again", str(path), "--iterations", "0", "--num_bootstrap=0"]) == 0
    printed = capsys.readouterr().out
    assert "# Born-again teachers\n" in printed
    assert run_of(tmp_path / "born/iteration_0/teacher")["max_steps"] == 3
    assert run_of(tmp_path / "born/iteration_0/teacher")["seed"] == 2
