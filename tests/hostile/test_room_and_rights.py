"""A disk without room, and places that cannot be written: one line that names them, and nothing touched."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from hostile.places import fails


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


@pytest.mark.parametrize("command", [*_WRITERS, "tune", "calibrate"])
def test_a_disk_without_room_is_one_line(command, sound, place, capsys):
    shutil.copytree(sound, place, dirs_exist_ok=True)
    with files_of_at_most(300):
        line = fails([command, f"{command}.yaml", *_OPTIONS.get(command, [])], place, capsys)
    assert (
        "File too large: '" in line or "File too large: a cache or a temporary file" in line or "run` cannot" in line
    )


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
