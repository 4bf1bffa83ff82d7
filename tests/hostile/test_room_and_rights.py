"""A disk without room, and places that cannot be written: one line that names them, and nothing touched."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from hostile.places import CONFIGS, INTO_MODEL, fails
from rights import of_an_ordinary_user

from hf_nat_cli import main


_OUTPUTS = {"translate": "--output", "align": "--output_file", "demo": "--space_dir"}
_WRITERS = [
    *("train", "distill", "filter", "mix", "translate", "evaluate", "align", "analyze", "recommend", "export", "toy"),
    *("quickstart", "born-again", "demo"),
]
_OPTIONS = {"recommend": ["--corpus", "corpus/{split}.{lang}"], "push": ["--dry_run", "false"]}


@contextmanager
def files_of_at_most(num_bytes: int) -> Iterator[None]:
    """As on a full disk, writing fails, but with `File too large`."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("command", [*_WRITERS, *INTO_MODEL])
def test_a_disk_without_room_is_one_line(command, sound, place, capsys):
    shutil.copytree(sound, place, dirs_exist_ok=True)
    with files_of_at_most(300):
        line = fails([command, f"{command}.yaml", *_OPTIONS.get(command, [])], place, capsys)
    unnamed = "File too large: standard output, a cache or a temporary file"
    assert "File too large: '" in line or unnamed in line or "run` cannot" in line


def _in_a_file(place) -> str:
    (place / "file").write_text("mine")
    return "file/run"


@pytest.mark.parametrize("where", [_in_a_file, lambda place: "/proc/run", lambda place: "/dev/null/run"])
@pytest.mark.parametrize("command", _WRITERS)
def test_a_place_that_cannot_be_written_is_one_line(command, where: Callable, sound, place, capsys):
    shutil.copytree(sound, place, dirs_exist_ok=True)
    output = where(place)
    option = _OUTPUTS.get(command, "--output_dir")
    line = fails([command, f"{command}.yaml", option, output, *_OPTIONS.get(command, [])], place, capsys)
    assert output.rpartition("/")[0] in line


@pytest.mark.parametrize("command", ["translate", "align"])
def test_a_full_device_is_one_line(command, sound, place, capsys):
    shutil.copytree(sound, place, dirs_exist_ok=True)
    line = fails([command, f"{command}.yaml", _OUTPUTS[command], "/dev/full"], place, capsys)
    assert "No space left on device: '/dev/full'" in line


_UNREADABLE = [
    *((name.removesuffix(".yaml"), name, ()) for name in CONFIGS),
    *(("born-again", f"parts/{name}.yaml", ()) for name in ("teacher", "distill", "student")),
    ("quickstart", "configs/teacher.yaml", ()),
    *(("train", name, ()) for name in ("tokenizer/tokenizer.json", "tokenizer", "corpus/train.en", "corpus")),
    ("train", "student", ("--init_from", "student", "--size", "null", "--model_config", "null")),
    *(
        ("translate", name, ())
        for name in ("teacher", *(f"teacher/{file}" for file in ("config.json", "generation_config.json")))
    ),
    *(
        ("translate", f"teacher/{name}", ())
        for name in ("model.safetensors", "tokenizer.json", "tokenizer_config.json")
    ),
    ("translate", "marian/source.spm", ("--model", "marian", "--source_prefix", ">>deu<< ")),
    ("translate", "marian/vocab.json", ("--model", "marian", "--source_prefix", ">>deu<< ")),
    ("translate", "corpus/test.en", ()),
    ("translate", "lm.arpa", ("--model", "student", "--terms", "lm.arpa")),
    *(("distill", name, ()) for name in ("teacher", "teacher/model.safetensors", "corpus/train.en")),
    ("distill", "corpus/train.en", ("--corpus", "null", "--source", "corpus/train.en")),
    *(("evaluate", name, ()) for name in ("teacher/model.safetensors", "corpus/test.de")),
    *(("tune", name, ()) for name in ("student", "student/generation_config.json", "corpus/validation.en")),
    *(("language-model", name, ()) for name in ("ctc", "ctc/tokenizer.json", "corpus/train.de")),
    *(("calibrate", name, ()) for name in ("student", "student/model.safetensors", "corpus/validation.en")),
    *(("export", name, ()) for name in ("student", "student/model.safetensors")),
    *(("demo", name, ()) for name in ("student", "student/model.safetensors")),
    ("serve", "teacher/tokenizer.json", ()),
    *(
        ("filter", f"corpus/distilled{name}", ())
        for name in ("", "/manifest.json", "/data", "/data/train-00000-of-00001.parquet")
    ),
    *(
        ("mix", name, ())
        for name in ("corpus/distilled", "corpus/distilled/manifest.json", "corpus/distilled/data", "corpus/train.de")
    ),
    *(
        ("align", f"corpus/rows.{suffix}", ("--corpus", f"corpus/rows.{suffix}"))
        for suffix in ("csv", "tsv", "jsonl", "jsonl.gz", "parquet")
    ),
    ("align", "corpus/hub", ("--corpus", "corpus/hub")),
    ("align", "corpus/hub/data", ("--corpus", "corpus/hub")),
    ("align", "corpus/hub/data/train-00000-of-00001.parquet", ("--corpus", "corpus/hub")),
    *(("analyze", name, ()) for name in ("corpus/train.en", "corpus/distilled/data")),
    ("analyze", "lm.arpa", ("--real_links", "lm.arpa")),
    *(("recommend", name, ()) for name in ("train.yaml", "corpus/distilled")),
    *(("push", name, ()) for name in ("student", "student/config.json", "student/model.safetensors")),
    *(
        ("push", f"corpus/distilled{name}", ("--folder", "corpus/distilled"))
        for name in ("", "/manifest.json", "/data", "/data/train-00000-of-00001.parquet")
    ),
]


@pytest.mark.parametrize(("command", "name", "options"), _UNREADABLE, ids=str)
def test_what_this_user_may_not_read_is_one_line(command, name, options, sound, place, capsys):
    shutil.copytree(sound, place, dirs_exist_ok=True)
    mode = (place / name).stat().st_mode
    (place / name).chmod(0)
    try:
        line = fails([command, f"{command}.yaml", *options], place, capsys, of_an_ordinary_user)
    finally:
        (place / name).chmod(mode)
    assert name.rpartition("/")[2] in line or name in line


@pytest.mark.parametrize("command", _WRITERS)
def test_a_folder_that_this_user_may_not_write_is_one_line(command, sound, place, capsys):
    shutil.copytree(sound, place, dirs_exist_ok=True)
    (place / "locked").mkdir(mode=0o555)
    option = _OUTPUTS.get(command, "--output_dir")
    argv = [command, f"{command}.yaml", option, "locked/run", *_OPTIONS.get(command, [])]
    line = fails(argv, place, capsys, of_an_ordinary_user)
    assert "Permission denied: '" in line and "locked" in line


def test_a_model_that_others_share_is_evaluated_without_a_card(sound, place):
    shutil.copytree(sound, place, dirs_exist_ok=True)
    (place / "teacher").chmod(0o555)
    try:
        with of_an_ordinary_user():
            assert main(["evaluate", "evaluate.yaml"]) == 0
    finally:
        (place / "teacher").chmod(0o755)
    assert (place / "run/metrics.json").is_file() and not (place / "teacher/README.md").exists()


def test_a_corpus_whose_measures_cannot_be_written_is_told_before_they_are_made(sound, place, capsys):
    shutil.copytree(sound, place, dirs_exist_ok=True)
    (place / "corpus/distilled").chmod(0o555)
    try:
        line = fails(["analyze", "analyze.yaml"], place, capsys, of_an_ordinary_user)
    finally:
        (place / "corpus/distilled").chmod(0o755)
    assert "Permission denied: 'corpus/distilled/measures.json'" in line


@pytest.mark.parametrize("command", ["evaluate", "filter", "mix", "tune"])
def test_a_finished_step_needs_no_right_to_write(command, finished, place):
    shutil.copytree(finished, place, dirs_exist_ok=True)
    folder = "student" if command == "tune" else f"run-{command}"
    argv = [command, f"{command}.yaml", *([] if command == "tune" else ["--output_dir", folder])]
    (place / folder).chmod(0o555)
    try:
        with of_an_ordinary_user():
            assert main(argv) == 0
    finally:
        (place / folder).chmod(0o755)


@pytest.mark.parametrize("command", INTO_MODEL)
def test_a_model_that_this_user_may_not_write_is_one_line(command, sound, place, capsys):
    shutil.copytree(sound, place, dirs_exist_ok=True)
    model = place / INTO_MODEL[command]
    model.chmod(0o555)
    try:
        line = fails([command, f"{command}.yaml"], place, capsys, of_an_ordinary_user)
    finally:
        model.chmod(0o755)
    assert f"`model` must be a folder that can be written to, got '{model.name}'" in line
