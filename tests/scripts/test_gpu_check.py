"""The check for a GPU runs on a CPU: every piece as a whole in the slow tier, what holds it together here."""

from __future__ import annotations

import gzip
import importlib
import os
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import yaml
from transformers import TrainerControl

from hf_nat.base.utils import read_json


ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """The script as a module."""
    return importlib.import_module("gpu_check")


@pytest.fixture(scope="module")
def multi30k(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus with the names of Multi30k."""
    folder = tmp_path_factory.mktemp("multi30k")
    words = {
        "en": ["a", "dog", "runs", "the", "cat", "sleeps"],
        "de": ["ein", "Hund", "rennt", "die", "Katze", "ruht"],
    }
    for split, size in (("train", 60), ("val", 4), ("test_2016_flickr", 4)):
        for lang, vocabulary in words.items():
            lines = (" ".join(vocabulary[(row * i) % 6] for i in range(1, 3 + row % 7)) for row in range(size))
            with gzip.open(folder / f"{split}.{lang}.gz", "wt", encoding="utf-8") as file:
                file.writelines(f"{line}\n" for line in lines)
    return folder


@pytest.fixture
def check(script: ModuleType, tmp_path: Path) -> object:
    args = SimpleNamespace(piece="levt", size="nano", seconds=60.0, output=str(tmp_path / "out"), multi30k="")
    return script.Check(args, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("piece", ["tests", "teacher", "students", "levt"])
def test_a_piece_runs_on_a_cpu(piece: str, multi30k: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    command = [str(ROOT / "scripts" / "gpu_check.sh"), piece, "--size", "nano", "--output", str(output)]
    environment = os.environ | {"MULTI30K": str(multi30k), "PYTHON": sys.executable}
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    stages = read_json(output / "results.json")["stages"]
    absent = {name: row["reason"] for name, row in stages.items() if row["status"] != "done"}
    assert all("is not installed" in reason for reason in absent.values()), absent
    assert len(stages) >= 5
    files = list(output.iterdir())
    assert all(path.is_file() for path in files) and len(files) <= 8
    assert sum(path.stat().st_size for path in files) < 8e6
    assert (output / "results.md").read_text(encoding="utf-8").count("\n|") == len(stages) + 1


def test_every_configuration_of_the_gpu_is_in_a_piece(script: ModuleType) -> None:
    studies = {"capacity", "decoding"}
    trained = [name for _, _, students in script.TRAININGS.values() for name in students]
    real = sorted(script.CONFIGS.glob("*_real.yaml"))
    found = {path.stem for path in script.CONFIGS.glob("*.yaml")} - studies - {path.stem for path in real}
    assert sorted(found) == sorted(["teacher_base", "distill_base", *trained])
    for path in real:  # the same training on another corpus
        files = path, path.with_name(path.name.replace("_real", "_distilled"))
        own, distilled = (yaml.safe_load(file.read_text(encoding="utf-8")) for file in files)
        differing = {key for key in own.keys() | distilled.keys() if own.get(key) != distilled.get(key)}
        assert differing == {"corpus", "validation_split", "output_dir"}


def test_a_failed_stage_is_written_down_and_the_others_go_on(script: ModuleType, check) -> None:
    def fail() -> None:
        raise ValueError("no such thing")

    def leave() -> None:
        raise script.NotRun("ctranslate2 is not installed")

    check.stage("first", fail)
    check.stage("second", lambda: {"score": 1.5, "name": "x"}, ["third"] if "third" in check.stages else [])
    check.stage("third", lambda: 1, ["first"])
    check.stage("fourth", leave)
    check.end = 0.0
    check.stage("fifth", lambda: 1)
    stages = read_json(check.output / "results.json")["stages"]
    assert {name: row["status"] for name, row in stages.items()} == {
        "first": "failed",
        "second": "done",
        "third": "not run",
        "fourth": "not run",
        "fifth": "not run",
    }
    assert stages["first"]["reason"] == "ValueError: no such thing"
    assert [stages[name]["reason"] for name in ("third", "fourth", "fifth")] == [
        "it needs: first",
        "ctranslate2 is not installed",
        "no time was left",
    ]
    assert "ValueError: no such thing" in check.log.read_text(encoding="utf-8")
    assert "score 1.50 |" in (check.output / "results.md").read_text(encoding="utf-8")


def test_the_log_stays_small(script: ModuleType, check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "MAX_LOG_BYTES", 100)
    check.stage("long", lambda: print("x" * 1000 + "end"))
    assert check.log.read_text(encoding="utf-8").endswith("xend\n") and check.log.stat().st_size == 100


def test_a_program_that_fails_or_lasts_is_stopped(check) -> None:
    assert check.call("-c", "print('fine')", limit=60) == "fine\n"
    with pytest.raises(RuntimeError, match="ended with status 3: said"):
        check.call("-c", "import sys; print('said'); sys.exit(3)", limit=60)
    check.is_nano, check.end = False, time.perf_counter() + 60
    with pytest.raises(RuntimeError, match="was stopped after 1 s"):
        check.call("-c", "import time; time.sleep(60)", limit=0.5)


def test_training_stops_at_the_moment(script: ModuleType) -> None:
    for moment, stops in ((time.perf_counter() - 1, True), (time.perf_counter() + 1000, False)):
        control = TrainerControl()
        script.StopAt(moment).on_step_end(None, None, control)
        assert control.should_training_stop is stops


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["all"], "invalid choice: 'all'"),
        (["levt", "--seconds", "0"], "--seconds must be above 0 and at most 440, got 0"),
        (["levt", "--seconds", "500"], "--seconds must be above 0 and at most 440, got 500"),
        (["levt", "--seconds", "nan"], "--seconds must be above 0 and at most 440, got nan"),
        (["levt", "--multi30k", "nowhere"], "must be the folder of Multi30k, got 'nowhere' without train.en.gz"),
    ],
)
def test_command_line_faults_are_named(
    script: ModuleType, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    with pytest.raises(SystemExit):
        script.parse_arguments(options)
    assert message in capsys.readouterr().err
