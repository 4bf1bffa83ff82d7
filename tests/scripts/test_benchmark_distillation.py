"""The benchmark of distillation: what it measures does its work, and its tables hold what a file has."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from nat_model_tester import save
from transformers import MarianMTModel, PreTrainedTokenizerFast

from hf_nat.base.utils import read_json, write_json


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    """The script as a module."""
    return importlib.import_module("benchmark_distillation")


@pytest.fixture
def settings(
    copy_teacher: MarianMTModel, tiny_tokenizer: PreTrainedTokenizerFast, sentences: list[str], tmp_path: Path
) -> dict[str, Any]:
    """Settings of a run with a teacher that copies, which is one of both directions."""
    for lang in ("en", "de"):
        (tmp_path / f"train.{lang}").write_text("".join(f"{sentence}\n" for sentence in sentences), encoding="utf-8")
    teacher = str(save(tmp_path / "teacher", copy_teacher, tiny_tokenizer))
    languages = {"source_lang": "en", "target_lang": "de", "corpus": str(tmp_path / "{split}.{lang}")}
    numbers = {"num_sentences": 4, "num_beams": 2, "num_candidates": 3, "threads": 1}
    return {"teacher": teacher, "backward_teacher": teacher, "split": "train", **languages, **numbers}


def argv(settings: dict[str, Any], output: Path, *more: str) -> list[str]:
    """The command line of these settings."""
    return [*(f"--{key}={value}" for key, value in settings.items()), f"--output={output}", *more]


def run(benchmark: ModuleType, name: str, settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Does the work of a system on 8 rows of a corpus of 5 and returns the manifest of what it wrote."""
    folder.mkdir()
    benchmark.prepared(name, settings, benchmark.rows_of(settings, 8), folder)()
    (manifest,) = (path for path in folder.glob("*/manifest.json") if path.parent.name != "corpus")
    return read_json(manifest)


def test_a_backward_teacher_chooses_among_the_candidates_that_are_asked_for(
    benchmark: ModuleType, settings: dict[str, Any], tmp_path: Path
) -> None:
    manifest = run(benchmark, "rerank, samples", settings, tmp_path / "run")
    assert manifest["strategy"] == "rerank" and "backward_teacher" in manifest and manifest["counts"] == {"train": 8}
    candidates = benchmark.prepared("3 samples", settings, benchmark.rows_of(settings, 2), tmp_path)()
    assert [len(own) for own in candidates] == [3, 3]


def test_a_mix_has_half_of_the_rows_once_more(benchmark: ModuleType, settings: dict[str, Any], tmp_path: Path) -> None:
    assert run(benchmark, "mix", settings, tmp_path / "run")["counts"] == {"train": 12}


@pytest.mark.slow
def test_a_filter_reads_what_another_process_wrote(
    benchmark: ModuleType, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sources are five, and three of the eight rows repeat one; sides are equal, which its rules would forbid."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    for name, value in (("max_copy_rate", 1.0), ("max_per_source", 1)):
        monkeypatch.setitem(benchmark.FILTER_RULES, name, value)
    assert run(benchmark, "filter", settings, tmp_path / "run")["counts"]["train"] == 5


def test_a_run_measures_what_it_is_asked_for_and_goes_on(
    benchmark: ModuleType,
    settings: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    calls: list[tuple[str, int]] = []

    def measure(name: str, size: int, _: dict[str, Any]) -> dict[str, float]:
        calls.append((name, size))
        return {"seconds": 3.0 if name.startswith("rerank") else 2.0, "peak_mb": 5.0, "peak_mb_before": 4.0}

    monkeypatch.setattr(benchmark, "measure", measure)
    output = tmp_path / "out.json"
    growth = ["--repeats=0", "--choosing=1", "--sizes", "7", "--growth", "filter", "mix"]
    benchmark.main(argv(settings, output, *growth))
    strategies = ["mbr chrf, samples", "mbr bleu, samples", "rerank, samples"]
    names = ["3 samples", *strategies, "beam of 3", "mbr chrf, beam", "interpolation", "rerank, beam"]
    assert calls == [*((name, 4) for name in names), ("filter", 7), ("mix", 7)]
    cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in capsys.readouterr().out.splitlines()]
    assert ["rerank, beam", "beam of 3", "3.0", "1.50x"] in cells and ["mix", "7", "2", "4", "4", "5"] in cells
    benchmark.main(argv(settings, output, *growth))
    assert len(calls) == len(names) + 2


def test_a_file_of_before_goes_on_and_its_table_has_what_was_measured(
    benchmark: ModuleType, settings: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says nothing of the number of candidates, which was 16, and knows no backward teacher."""
    former = {key: value for key, value in settings.items() if key not in ("num_candidates", "backward_teacher")}
    seconds = {name: {"seconds": 2.0} for name in ("16 samples", "mbr chrf, samples", "beam of 16")}
    write_json(tmp_path / "old.json", {"settings": former, "turns": [], "growth": {}, "choosing": [seconds]})
    more = ["--repeats=0", "--choosing=1", "--num_candidates=16"]
    benchmark.main(argv(former, tmp_path / "old.json", *more))
    (row,) = capsys.readouterr().out.strip().splitlines()[2:]
    assert [cell.strip() for cell in row.split("|")[1:-1]] == ["mbr chrf, samples", "16 samples", "2.0", "1.00x"]
    with pytest.raises(ValueError, match="`output` must be a new file or one of the same settings"):
        benchmark.main(argv(settings, tmp_path / "old.json", *more))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--growth", "rerank, beam"], "--growth rerank needs --backward_teacher"),
        (["--num_candidates=0"], "--num_candidates, --threads and --sizes must be >= 1"),
    ],
)
def test_command_line_faults_are_named(
    benchmark: ModuleType, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        benchmark.main(
            ["--teacher=t", "--corpus=c", "--source_lang=en", "--target_lang=de", "--output=o.json", *options]
        )
    assert message in capsys.readouterr().err
