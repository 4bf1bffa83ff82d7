"""Files that are whole and of their form, but say what no command of ours writes, or are no files: one line each."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hostile.places import fails

from hf_nat.base.utils import write_json
from hf_nat_cli import main


Change = Callable[[Path], object]
_MANIFEST, _CARD = "corpus/distilled/manifest.json", "corpus/hub/README.md"


def _keys(file: str, **keys: object) -> Change:
    return lambda place: write_json(place / file, {**json.loads((place / file).read_text()), **keys})


def _text(file: str, text: str | bytes) -> Change:
    data = text if isinstance(text, bytes) else text.encode()

    def change(place: Path) -> None:
        (place / file).parent.mkdir(exist_ok=True)
        (place / file).write_bytes(data)

    return change


def _pipe(file: str) -> Change:
    def change(place: Path) -> None:
        (place / file).parent.mkdir(exist_ok=True)
        (place / file).unlink(missing_ok=True)
        os.mkfifo(place / file)

    return change


def _link(file: str) -> Change:
    def change(place: Path) -> None:
        (place / file).parent.mkdir(exist_ok=True)
        (place / file).symlink_to("nothing")

    return change


def _deep(folder: str) -> Change:
    """1,500 folders in each other, deeper than Python calls itself."""

    def change(place: Path) -> None:
        (place / folder).mkdir(exist_ok=True)
        os.chdir(place / folder)
        for _ in range(1500):
            os.mkdir("d")
            os.chdir("d")
        os.chdir(place)

    return change


def _twice(place: Path) -> None:
    columns = [pa.array(["a"])] * 3
    pq.write_table(pa.table(columns, names=["en", "en", "de"]), place / "rows.parquet")


_TRAIN_DISTILLED = ("train", "--corpus", "corpus/distilled")
_EVALUATE_HUB = ("evaluate", "--corpus", "corpus/hub")
_CASES: list[tuple[tuple[str, ...], Change, str]] = [
    (("filter",), _keys(_MANIFEST, counts={"train": 72}), "`counts` of"),
    (("filter",), _keys(_MANIFEST, counts={"train": -5, "validation": 1, "test": 1}), "must be >= 0, got -5"),
    (("filter",), _keys(_MANIFEST, filters=5), "`filters` of"),
    (("filter",), _keys(_MANIFEST, mix=[5]), "`mix` of"),
    (("push", "--folder", "corpus/distilled"), _keys(_MANIFEST, columns="x"), "`columns` of"),
    (("push", "--folder", "corpus/distilled"), _keys(_MANIFEST, flag_counts=5), "`flag_counts`"),
    (("push", "--folder", "corpus/distilled"), _keys(_MANIFEST, filters=[{}]), "must be those that hf_nat writes"),
    (("push",), _text("student/run.json", '{"arguments": 5}'), "must be those that hf_nat writes"),
    (("push",), _text("student/run.json", '{"arguments": {}, "environment": {}}'), "must be those that hf_nat writes"),
    (("push",), _text("student/eval-test/metrics.json", "{}"), "must be those that hf_nat writes"),
    (("push",), _keys("student/config.json", model_type=["a"]), "must be those that hf_nat writes"),
    (_EVALUATE_HUB, _text(_CARD, "---\nx: !!python/name:os.system\n---\n"), "cannot be read from `corpus/hub`"),
    (_EVALUATE_HUB, _text(_CARD, "---\ndataset_info:\n  features: 7\n---\n"), "`corpus` cannot be read from"),
    (_EVALUATE_HUB, _text("corpus/hub/hub.py", "import nothing"), "`corpus` cannot be read from `corpus/hub`"),
    (_EVALUATE_HUB, _pipe("corpus/hub/data/x.parquet"), "plain files, got `corpus/hub/data/x.parquet`"),
    (_EVALUATE_HUB, _deep("corpus/hub"), "at most 50 deep in each other"),
    (("evaluate", "--corpus", "rows.parquet"), _twice, "columns of different names, got 'en' twice"),
    (("translate",), _pipe("teacher/config.json"), "`teacher/config.json` must be a plain file"),
    (("translate",), _pipe("teacher/generation_config.json"), "generation_config.json` must be a plain file"),
    (("translate",), _keys("teacher/config.json", encoder_attention_heads=-2), "_attention_heads` must be >= 1"),
    (("translate",), _keys("teacher/tokenizer_config.json", model_max_length="x"), "`model_max_length` must be a "),
    (("push",), _deep("student"), "at most 50 deep in each other"),
    (("toy",), _deep("run"), "`output_dir` must be new or empty"),
    (("quickstart",), _deep("run"), "`output_dir` must be new or empty"),
    (("analyze", "--real_links", "links"), _text("links", "99999999999999999999-0\n" * 72), "`links` line 1 must"),
    (("train", "--seed", "9" * 5000), lambda place: None, "at most 4300 digits, got 5000"),
    # What the card needs at the end is read before the work.
    *(((command,), _text(f"{model}/run.json", '{"arguments": 5}'), "must be those that hf_nat writes")
      for command, model in (("evaluate", "teacher"), ("tune", "student"), ("calibrate", "student"))),
    (("evaluate",), _text("teacher/eval-a/metrics.json", "{}"), "must be those that hf_nat writes"),
    *((command, _text(_MANIFEST, "[]"), _MANIFEST) for command in (_TRAIN_DISTILLED, ("analyze",))),
    *((command, _text("corpus/distilled/metrics.json", "[]"), "corpus/distilled/metrics.json")
      for command in (_TRAIN_DISTILLED, ("analyze",))),
    (_TRAIN_DISTILLED, _text("corpus/distilled/measures.json", '{"settings": {}, "corpora": [{}, {}]}'), "distilled"),
    *((("evaluate",), _pipe(name), f"`{name}` must be a plain file, got a folder, pipe or device") for name in
      ("run/step.json", "teacher/README.md", "teacher/run.json", "teacher/confidence.json", "teacher/x.bin")),
    (("evaluate",), _link("run/step.json"), "`run/step.json` must be a plain file, got a link to nothing"),
    (("evaluate", "--model", "student", "--terms", "terms"), _pipe("terms"), "`terms` must be a plain file"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("argv", "change", "message"), _CASES, ids=lambda value: None if callable(value) else str(value)[:60]
)
def test_what_no_command_of_ours_writes_is_one_line(argv, change, message, sound, place, capsys):
    shutil.copytree(sound, place, dirs_exist_ok=True)
    change(place)
    command, *options = argv
    try:
        assert message in fails([command, f"{command}.yaml", *options], place, capsys)
    finally:
        deep = [place / name / "d" for name in ("corpus/hub", "student", "run")]
        subprocess.run(["rm", "-rf", *deep], check=True)  # Python cannot remove them.


def test_a_damaged_measurement_is_measured_again(sound, place):
    shutil.copytree(sound, place, dirs_exist_ok=True)
    (place / "corpus/distilled/measures.json").write_text("{}")
    assert main(["analyze", "analyze.yaml"]) == 0
    assert "corpora" in json.loads((place / "corpus/distilled/measures.json").read_text())


@pytest.mark.parametrize("kind", ["pipe", "link"])
def test_what_has_the_name_of_the_note_beside_a_lock_gives_way(kind, sound, place):
    shutil.copytree(sound, place, dirs_exist_ok=True)
    (place / "run").mkdir()
    (place / "mine").write_text("mine")
    _pipe("run/.lock-holder")(place) if kind == "pipe" else (place / "run/.lock-holder").symlink_to("../mine")
    assert main(["filter", "filter.yaml"]) == 0
    assert not os.path.lexists(place / "run/.lock-holder") and (place / "mine").read_text() == "mine"


def test_links_in_a_circle_are_walked_once(sound, place):
    shutil.copytree(sound, place, dirs_exist_ok=True)
    (place / "corpus/hub/loop").symlink_to(".")
    assert main(["evaluate", "evaluate.yaml", "--corpus", "corpus/hub"]) == 0


@pytest.mark.parametrize("beams", ["1", "2"])
def test_a_saved_setting_for_another_output_does_not_matter(beams, sound, place):
    shutil.copytree(sound, place, dirs_exist_ok=True)
    assert main(["translate", "translate.yaml", "--num_beams", beams]) == 0
    expected = (place / "out.txt").read_bytes()
    _keys("teacher/generation_config.json", return_dict_in_generate=True, output_scores=True)(place)
    assert main(["translate", "translate.yaml", "--num_beams", beams]) == 0
    assert (place / "out.txt").read_bytes() == expected


def _measure(key: str, value: object) -> Change:
    def change(place: Path) -> None:
        path = place / "corpus/distilled/measures.json"
        measures = json.loads(path.read_text())
        measures["corpora"][1][key] = value
        write_json(path, measures)

    return change


_FINISHED: list[tuple[tuple[str, ...], Change, str]] = [
    (("recommend",), _measure("faithfulness", "x"), "must hold `faithfulness` as int or float, got 'x'"),
    (("recommend",), _measure("complexity_interval", [1]), "`complexity_interval` of"),
    (("recommend",), _measure("faithfulness_interval", "x"), "`faithfulness_interval` of"),
    (("tune",), _keys("student/tune-length_beam.json", results=[{"value": 1, "score": 2.0}]), "as int or float"),
    (("evaluate", "--output_dir", "run-evaluate"), _text("run-evaluate/metrics.json", "{}"), "must hold `scores`"),
    (("evaluate", "--output_dir", "run-evaluate"), _text("run-evaluate/metrics.json", "[]"), "a JSON object"),
    (("filter", "--output_dir", "run-filter"), _keys("run-filter/step.json", versions=5), "`versions` must hold"),
    (("analyze", "--output_dir", "run-analyze"), _text("run-analyze/measures.json", "{}"), "must hold `corpora`"),
]


@pytest.mark.parametrize(
    ("argv", "change", "message"), _FINISHED, ids=lambda value: None if callable(value) else str(value)[:60]
)
def test_a_result_of_something_else_is_one_line(argv, change, message, finished, place, capsys):
    shutil.copytree(finished, place, dirs_exist_ok=True)
    change(place)
    command, *options = argv
    assert message in fails([command, f"{command}.yaml", *options], place, capsys)


@pytest.mark.parametrize(
    "name", ["trainer_state.json", "optimizer.pt", "scheduler.pt", "rng_state.pth", "model.safetensors"]
)
def test_a_checkpoint_with_a_damaged_state_is_named(name, sound, place, capsys):
    shutil.copytree(sound, place, dirs_exist_ok=True)
    steps = ["--save_strategy", "steps", "--save_steps", "1"]
    assert main(["train", "train.yaml", "--max_steps", "2", *steps, "--output_dir", "old"]) == 0
    (place / "old/checkpoint-1" / name).write_bytes(b"{}" if name.endswith(".json") else bytes(50))
    argv = ["train", "train.yaml", "--max_steps", "3", "--resume_from_checkpoint", "old/checkpoint-1"]
    assert "old/checkpoint-1" in fails(argv, place, capsys)
