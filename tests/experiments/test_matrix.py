"""A matrix of teachers, corpora and students: what is trained on what, and what the report says of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hf_nat.base.utils import read_json
from hf_nat.experiments.matrix import Matrix, MatrixArguments
from hf_nat.experiments.matrix_report import (
    StudyText,
    capacity_table,
    paper_table,
    scores_of,
    spread,
    students_table,
    teachers_table,
)


PAPER = {"beam": {"C(d)": 1.9, "BLEU": 19.5}, "weak": {"BLEU": 11.4}}
STUDY = StudyText("trial", "A trial", "nowhere", "What?", PAPER)


@pytest.fixture
def matrix(config: Callable[..., str], tmp_path: Path) -> Callable[..., MatrixArguments]:
    """Builds the arguments of a run of two corpora and a student."""
    student = config("student", model_type="vanilla_nat", size=None, model_config=None, save_steps=6)
    keys = {
        "output_dir": str(tmp_path / "study"),
        "distill_config": config("distill"),
        "teachers": {"nano": {"config": config("teacher")}},
        "corpora": {"greedy": {"teacher": "nano"}, "beam": {"teacher": "nano", "strategy": "beam", "num_beams": 2}},
        "students": {"weak": {"config": student, "init_from_teacher": "nano", "max_steps": 3}},
        "metrics": ["bleu", "chrf"],
        "tokens": "space",
        "num_bootstrap": 5,
    }
    return lambda **changes: MatrixArguments(**{**keys, **changes})


def test_run_trains_all_on_all_and_a_second_call_does_nothing(
    matrix: Callable[..., MatrixArguments], tmp_path: Path
) -> None:
    corpora = {"beam": {"teacher": "nano", "strategy": "beam", "num_beams": 2}}
    args, folder = matrix(seeds=[1, 2], corpora=corpora), tmp_path / "study"
    assert Matrix(args, STUDY).run() == folder / "report.html"
    results = read_json(folder / "trial.json")
    assert [row["name"] for row in results["corpora"]] == ["real", "beam"]
    found = [(row["seed"], row["corpus"]) for row in results["students"]]
    assert found == [(seed, corpus) for seed in (1, 2) for corpus in ("real", "beam")]
    for corpus, seed in [("real", 1), ("beam", 2)]:
        run = read_json(folder / f"students/{corpus}/weak_seed{seed}/run.json")["arguments"]
        assert (run["seed"], run["max_steps"]) == (seed, 3)
        assert run["init_from_teacher"] == run["tokenizer"] == str(folder / "teachers/nano")
        assert (run["corpus"] == str(folder / "corpora/beam")) == (corpus == "beam")
    assert read_json(folder / "corpora/beam/manifest.json")["decoding"]["num_beams"] == 2
    for name in ("students", "corpora", "metrics"):
        assert (folder / f"{name}.png").is_file()
    page = (folder / "report.md").read_text(encoding="utf-8")
    for table in (students_table(results), paper_table(STUDY, results), teachers_table(STUDY, results)):
        assert table.markdown() in page
    made = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.suffix in (".safetensors", ".parquet")}
    Matrix(args, STUDY).run()
    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert read_json(folder / "trial.json") == results
    Matrix(matrix(seeds=[2, 3], corpora=corpora), STUDY).run()
    more = read_json(folder / "trial.json")["students"]
    assert [row["seed"] for row in more] == [2, 2, 3, 3] and more[:2] == results["students"][2:]
    with pytest.raises(ValueError, match="num_bootstrap"):
        Matrix(matrix(num_bootstrap=6, corpora=corpora), STUDY).run()


@pytest.mark.slow
def test_studies_share_a_teacher_and_a_corpus_by_their_folders(
    matrix: Callable[..., MatrixArguments], tmp_path: Path
) -> None:
    first = matrix()
    teachers = {"shared": {**first.teachers["nano"], "output_dir": str(tmp_path / "study/teachers/nano")}}
    corpora = {"same": {"teacher": "shared", "output_dir": str(tmp_path / "study/corpora/greedy")}}
    Matrix(matrix(on_real=False, corpora={"greedy": {"teacher": "nano"}}), STUDY).run()
    shard = next((tmp_path / "study/corpora/greedy/data").glob("train-*"))
    before = shard.stat().st_mtime_ns
    students = {"weak": {**first.students["weak"], "init_from_teacher": "shared"}}
    changes = {"teachers": teachers, "corpora": corpora, "students": students}
    Matrix(matrix(on_real=False, output_dir=str(tmp_path / "other"), **changes), STUDY).run()
    assert shard.stat().st_mtime_ns == before
    own, other = (read_json(tmp_path / name / "trial.json")["students"][0]["test"] for name in ("study", "other"))
    assert own["scores"] == other["scores"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"teachers": {}}, "`teachers` must be a mapping from names"),
        ({"students": {"weak": {"size": "nano"}}}, r"`students.weak` must be a mapping with the key `config`"),
        ({"corpora": {"real": {"teacher": "nano"}}}, "its name not 'real'"),
        ({"corpora": {"beam": {"teacher": "big"}}}, r"`corpora.beam.teacher` must be one of \['nano'\]"),
        ({"seeds": []}, "`seeds` must be distinct, at least one"),
        ({"seeds": [1, 1]}, "`seeds` must be distinct, at least one"),
        ({"students": {"../weak": {"config": "x"}}}, "Names of `students` must be those of files"),
        ({"corpora": {"beam": {"teacher": "nano", "beams": 3}}}, "Unknown key 'beams' in the overrides"),
        ({"metrics": ["bleu", "meteor"]}, "`language` must be one that METEOR"),
        ({"metrics": ["bleu", "blue"]}, "blue"),
        ({"metrics": ["chrf"]}, "`metrics` must hold 'bleu'"),
        ({"metrics": ["bleu", "beer"]}, "`metrics` must be such as can be computed, got beer: BEER needs"),
        ({"corpora": {"beam": {"teacher": "nano", "test_split": None}}}, "`test_split` must be given"),
    ],
)
def test_a_wrong_entry_is_an_error_before_anything_is_trained(
    matrix: Callable[..., MatrixArguments], changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        Matrix(matrix(**changes), STUDY).run()
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize(("key", "value"), [("seed", 7), ("output_dir", "x"), ("corpus", "x"), ("tokenizer", "x")])
def test_a_student_cannot_be_given_what_the_study_sets(
    matrix: Callable[..., MatrixArguments], key: str, value: Any
) -> None:
    students = {"weak": {**matrix().students["weak"], key: value}}
    with pytest.raises(ValueError, match=f"`students.weak` must leave out `{key}`, which the study sets itself"):
        Matrix(matrix(students=students), STUDY)


@pytest.mark.parametrize("entries", ["teachers", "students"])
def test_a_key_of_other_entries_is_unknown(matrix: Callable[..., MatrixArguments], entries: str) -> None:
    given = {name: {**keys, "teacher": "nano"} for name, keys in getattr(matrix(), entries).items()}
    with pytest.raises(ValueError, match="Unknown key 'teacher'"):
        Matrix(matrix(**{entries: given}), STUDY)


def test_a_damaged_split_is_an_error_before_anything_is_trained(
    config: Callable[..., str], matrix: Callable[..., MatrixArguments], corpus: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(corpus, copy)
    next(copy.glob("data/test-*")).write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"`.*test-.*` must be a parquet file"):
        Matrix(matrix(distill_config=config("distill", corpus=str(copy))), STUDY).run()
    assert not (tmp_path / "study").exists()


def student_row(name: str, corpus: str, seed: int, bleu: float, seconds: float, rounds: float) -> dict[str, Any]:
    test = {"scores": {"bleu": {"score": bleu}}, "seconds": seconds, "num_sentences": 10, "iterations_mean": rounds}
    return {"name": name, "corpus": corpus, "seed": seed, "num_parameters": 1000, "tuned": {}, "test": test}


def test_tables_of_known_numbers() -> None:
    results = {
        "corpora": [
            {"name": "real", "complexity": 2.0, "faithfulness": None},
            {"name": "beam", "complexity": 1.5, "faithfulness": 3.25},
        ],
        "students": [
            student_row("weak", "real", 1, 10.0, 2.0, 1.0),
            student_row("strong", "real", 1, 20.0, 12.0, 3.0),
            student_row("weak", "beam", 1, 13.0, 2.0, 1.0),
            student_row("weak", "real", 2, 11.0, 2.0, 1.0),
        ],
    }
    assert scores_of(results, "weak", "real") == [10.0, 11.0]
    assert students_table(results).rows == [["weak", "10.50 ± 0.50", "13.00"], ["strong", "20.00", ""]]
    assert paper_table(STUDY, results).rows == [
        ["real", "2.000", "", "10.50 ± 0.50", "", "", ""],
        ["beam", "1.500", "3.250", "13.00", "1.9", "", "19.5"],
    ]
    assert capacity_table(STUDY, results).rows == [
        ["weak", "1,000", "10.50 ± 0.50", "11.4", "1.00", "1.00", "", ""],
        ["strong", "1,000", "20.00", "", "3.00", "2.00", "", ""],
    ]
    assert spread([]) == ""
