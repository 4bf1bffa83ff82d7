"""What every step promises: it works once, goes on where it was begun, and leaves a folder of something else alone."""

from __future__ import annotations

import itertools
import logging
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from copy_step import Copy, Move
from killing import dies_before_change

from hf_nat.base.utils import read_json, write_json
from hf_nat.steps import RECORD_FILE, check_steps
from hf_nat.steps.step import fingerprint


PROGRAM = Path(__file__).with_name("copy_step.py")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROGRAM.parents[2])}


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def change_record(folder: Path, **changes: Any) -> None:
    write_json(folder / RECORD_FILE, read_json(folder / RECORD_FILE) | changes)


def test_a_step_works_once_and_leaves_a_record_and_a_card(tmp_path: Path) -> None:
    step = Copy(tmp_path / "deep/run", times=2)
    assert step.run() == tmp_path / "deep/run"
    record = read_json(step.folder / RECORD_FILE)
    identity = {"settings": {"times": 2, "options": {}}, "inputs": {"text": "a"}}
    assert record.pop("versions").keys() >= {"torch", "transformers"}
    assert record == {"step": "copy", "fingerprint": fingerprint(identity), "finished": True, **identity}
    assert (step.folder / "README.md").read_text() == "a card"
    before = content(step.folder)
    assert step.run() == step.folder
    assert step.worked == ["a"] and content(step.folder) == before


@pytest.mark.parametrize("there", [False, True])
def test_a_step_that_makes_nothing_leaves_nothing(there: bool, tmp_path: Path) -> None:
    folder = tmp_path / "deep/run"
    if there:
        folder.mkdir(parents=True)
    with pytest.raises(ValueError, match="'early'"):
        Copy(folder, fault="early").run()
    assert list(tmp_path.rglob("*")) == ([folder.parent, folder] if there else [])


def test_what_is_lost_is_made_again(tmp_path: Path) -> None:
    step = Copy(tmp_path)
    step.run()
    before = content(tmp_path)
    (tmp_path / "out.txt").unlink()
    step.run()
    assert step.worked == ["a", "a"] and content(tmp_path) == before


def test_a_step_that_was_begun_goes_on(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'late'"):
        Copy(tmp_path, fault="late").run()
    assert read_json(tmp_path / RECORD_FILE)["finished"] is False
    step = Copy(tmp_path)
    step.run()
    assert step.worked == ["a"] and read_json(tmp_path / RECORD_FILE)["finished"] is True


@pytest.mark.parametrize("fault", ["", "late"])
@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"times": 3}, "`times` must be the same in every run into '.*': it was 1, got 3. Use another `output_dir`"),
        (
            {"options": {"deep": {"er": 1}}},
            "`options.deep.er` must be the same .*: it was unset, got 1 .or an earlier version",
        ),
        ({"text": "b"}, "`text` must be the same .*: it was 'a', got 'b'[.] "),
        ({"text": "b", "times": 3}, "`times` must be the same"),
    ],
)
def test_another_plan_is_refused_by_its_first_field_and_changes_nothing(
    fault: str, other: dict[str, Any], message: str, tmp_path: Path
) -> None:
    try:
        Copy(tmp_path, fault=fault).run()
    except ValueError:
        assert fault
    before = content(tmp_path)
    with pytest.raises(ValueError, match=message):
        Copy(tmp_path, **other).run()
    assert content(tmp_path) == before


def test_another_step_is_refused(tmp_path: Path) -> None:
    Copy(tmp_path).run()
    with pytest.raises(ValueError, match=r"step.json` must be of a move step, got a copy step. Use another"):
        Move(tmp_path).run()


def test_settings_are_checked_before_anything_and_inputs_not_yet(tmp_path: Path) -> None:
    Copy(tmp_path / "one").run()
    check_steps([Copy(tmp_path / "one", text="b"), Copy(tmp_path / "new", times=7)])
    with pytest.raises(ValueError, match="`times` must be the same in every run into .*one': it was 1, got 2"):
        check_steps([Copy(tmp_path / "new"), Copy(tmp_path / "one", times=2)])
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "damaged",
    [
        *(b"", b"[]", b"7", b'"text"', b"null", b"{}", b'{"step": "co', bytes(range(256))),
        b'{"step": "copy", "settings": [], "inputs": {}, "finished": true}',
        b'{"step": "copy", "settings": {}, "inputs": null, "finished": true}',
    ],
)
@pytest.mark.parametrize("method", ["run", "check"])
def test_a_damaged_record_is_one_error_that_names_the_file(damaged: bytes, method: str, tmp_path: Path) -> None:
    step = Copy(tmp_path)
    step.run()
    (tmp_path / RECORD_FILE).write_bytes(damaged)
    before = content(tmp_path)
    with pytest.raises(
        ValueError, match=f"^`{re.escape(str(tmp_path / RECORD_FILE))}` must be .*Use another `output_dir`"
    ) as error:
        getattr(step, method)()
    assert "\n" not in str(error.value)
    assert content(tmp_path) == before and step.worked == ["a"]


def test_a_folder_with_strangers_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match=r"`output_dir` must be new, empty, or hold the step.json .* with thesis.txt"):
        Copy(tmp_path).run()
    assert content(tmp_path) == {"thesis.txt": b"years of work"}
    with pytest.raises(ValueError, match="`output_dir` must be a folder, got the file"):
        Copy(tmp_path / "thesis.txt").run()
    assert content(tmp_path) == {"thesis.txt": b"years of work"}


@pytest.mark.parametrize("fault", ["prepare", "early"])
@pytest.mark.parametrize("exists", [False, True])
def test_what_failed_before_it_made_anything_binds_nobody(fault: str, exists: bool, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    if exists:
        folder.mkdir()
    with pytest.raises(ValueError, match=fault):
        Copy(folder, fault=fault).run()
    assert folder.exists() == exists
    Move(folder, times=5).run()
    assert (folder / "out.txt").read_text() == "aaaaa"


def test_a_finished_step_writes_a_card_that_is_gone_and_no_other(tmp_path: Path) -> None:
    card = Copy(tmp_path).run() / "README.md"
    card.unlink()
    Copy(tmp_path).run()
    assert card.read_text() == "a card"
    card.write_text("mine")
    Copy(tmp_path).run()
    assert card.read_text() == "mine"


def test_the_record_of_a_killed_run_that_made_nothing_binds_nobody(tmp_path: Path) -> None:
    Copy(tmp_path).run()
    (tmp_path / "out.txt").unlink()
    (tmp_path / "README.md").unlink()
    change_record(tmp_path, finished=False)
    Copy(tmp_path, text="b").run()
    assert (tmp_path / "out.txt").read_text() == "b"


def test_what_a_killed_run_left_half_written_goes_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "step"
    for number in itertools.count(1):
        if not dies_before_change(number, folder, Copy(folder).run):
            break
        Copy(folder).run()
        assert sorted(path.name for path in folder.iterdir()) == ["README.md", "out.txt", RECORD_FILE]
        shutil.rmtree(folder)
    assert number > 10


def test_other_versions_are_said_and_no_more(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    step = Copy(tmp_path)
    step.run()
    logging.getLogger("hf_nat").propagate = True
    change_record(tmp_path, versions={**read_json(tmp_path / RECORD_FILE)["versions"], "torch": "1.0"})
    step.run()
    # Whatever else the loggers of earlier tests let through.
    said = [message for message in caplog.messages if "was begun with" in message]
    assert len(said) == 1 and "was begun with torch 1.0, this is " in said[0]
    (tmp_path / "out.txt").unlink()
    step.run()
    assert step.worked == ["a", "a"]
    assert read_json(tmp_path / RECORD_FILE)["versions"]["torch"] != "1.0"


def test_a_fingerprint_depends_on_no_path_and_no_order(tmp_path: Path) -> None:
    steps = [
        Copy(tmp_path / "one", options={"a": 1, "b": {"c": 2, "d": (3,)}}),
        Copy(tmp_path / "two", options={"b": {"d": [3], "c": 2}, "a": 1}),
        Copy(tmp_path / "three", options={"a": 1, "b": {"c": 2, "d": [4]}}),
    ]
    prints = [read_json(step.run() / RECORD_FILE)["fingerprint"] for step in steps]
    assert prints[0] == prints[1] != prints[2]
    # The same plan from JSON, where a tuple is a list, is the same step.
    Copy(tmp_path / "one", options={"b": {"d": [3], "c": 2}, "a": 1}).run()


def test_a_folder_is_one_process_at_a_time_and_its_lock_dies_with_it(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    holder = get_context("fork").Process(target=Copy(folder, fault="hold").run)
    holder.start()
    try:
        deadline = time.monotonic() + 120
        out = folder / "out.txt"
        while not (out.exists() and out.read_text() == "a"):  # A file is there before its text is.
            assert holder.is_alive() and time.monotonic() < deadline
            time.sleep(0.02)
        before, step = content(folder), Copy(folder)
        who = f"process {holder.pid} on {re.escape(socket.gethostname())}"
        with pytest.raises(ValueError, match=f"`output_dir` must be free, got '.*run', in which {who} works. Wait"):
            step.run()
        assert content(folder) == before and not step.worked
    finally:
        holder.kill()
        holder.join()
    step.run()
    assert step.worked == ["a"] and read_json(folder / RECORD_FILE)["finished"] is True


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["", "late"])
def test_two_processes_run_a_step_together_and_end_together(fault: str, tmp_path: Path) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*launcher, PROGRAM, tmp_path / "run", fault]
    ended = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=200)
    assert (ended.returncode == 0) == (not fault), ended.stderr
    assert read_json(tmp_path / "run" / RECORD_FILE)["finished"] == (not fault)
    again = subprocess.run(command[:-1], env=ENVIRONMENT, capture_output=True, text=True, timeout=200)
    assert again.returncode == 0, again.stderr
    assert read_json(tmp_path / "run" / RECORD_FILE)["finished"] is True


@pytest.mark.slow
def test_a_refusal_of_the_main_process_ends_both(tmp_path: Path) -> None:
    (tmp_path / "stranger").touch()
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    ended = subprocess.run(
        [*launcher, PROGRAM, tmp_path], env=ENVIRONMENT, capture_output=True, text=True, timeout=200
    )
    assert ended.returncode != 0
    assert ended.stderr.count("ValueError: `output_dir` must be new, empty, or hold the step.json") == 2
    assert content(tmp_path) == {"stranger": b""}
