"""Folders that commands write: whole or not at all, and by one process at a time."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

import pytest
from safetensors import SafetensorError

from hf_nat.base.files import atomic_path, naming
from hf_nat.base.folders import atomic_contents, atomic_folder


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def make(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / name).write_text(text)


def test_contents_appear_beside_what_is_there_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, moved = tmp_path / "new/run", []
    replace = Path.replace
    monkeypatch.setattr(Path, "replace", lambda path, place: moved.append(path.name) or replace(path, place))
    for number in (1, 2):
        with atomic_contents(folder, ["data", "a_mark"]) as temporary:
            (temporary / "data").mkdir()
            make(temporary, a_mark=str(number), z="", **{f"data/{number}": ""})
        assert names(folder) == ["a_mark", f"data/{number}", *(["mine"] if number == 2 else []), "z"]
        assert (folder / "a_mark").read_text() == str(number)
        make(folder, mine="")
    assert moved == ["z", "data", "a_mark"] * 2


@pytest.mark.parametrize("maker", [atomic_folder, lambda path: atomic_contents(path, ["mark"])])
def test_an_error_leaves_nothing_and_a_kill_a_hidden_folder_that_goes(maker: Callable, tmp_path: Path) -> None:
    folder = tmp_path / "new/run"
    with pytest.raises(RuntimeError, match="half way"), maker(folder) as temporary:
        make(temporary, mark="")
        raise RuntimeError("half way")
    assert list(tmp_path.iterdir()) == []

    def die() -> None:
        with maker(folder) as temporary:
            (temporary / "deep").mkdir()
            make(temporary, half="")
            os._exit(9)

    dying = get_context("fork").Process(target=die)
    dying.start()
    dying.join()
    assert len(names(tmp_path)) == 1
    with maker(folder) as temporary:
        make(temporary, mark="")
    assert names(tmp_path) == ["new/run/mark"]


@pytest.mark.parametrize("maker", [atomic_folder, lambda path: atomic_contents(path, ["mark"])])
def test_a_folder_is_made_by_one_process_at_a_time(maker: Callable, tmp_path: Path) -> None:
    folder, context = tmp_path / "run", get_context("fork")
    begun, may_end = context.Event(), context.Event()

    def hold() -> None:
        with maker(folder) as temporary:
            make(temporary, mark="first")
            begun.set()
            may_end.wait(60)

    holder = context.Process(target=hold)
    holder.start()
    assert begun.wait(60)
    with pytest.raises(ValueError, match="`.*run` must be made by one process at a time"), maker(folder):
        pytest.fail("two at a time")
    may_end.set()
    holder.join()
    assert names(tmp_path) == ["run/mark"] and (folder / "mark").read_text() == "first"


@pytest.mark.parametrize(
    "error",
    [
        FULL,
        SafetensorError("I/O error: No space left on device (os error 28)"),
        Exception("No space left on device (os error 28)"),
    ],
    ids=repr,
)
def test_a_full_disk_is_told_with_the_name(error: Exception, tmp_path: Path) -> None:
    for maker in (atomic_path, atomic_folder, naming, lambda path: atomic_contents(path, ["mark"])):
        with pytest.raises(OSError, match=r"\[Errno 28\] No space left on device: '.*run'"), maker(tmp_path / "run"):
            raise error
        assert list(tmp_path.iterdir()) == []


def test_a_copied_folder_that_fails_is_one_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "from").mkdir()
    make(tmp_path / "from", a="a", b="b")
    monkeypatch.setattr(shutil, "copyfile", lambda *args, **kwargs: (_ for _ in ()).throw(FULL))
    with pytest.raises(OSError, match=r"run` cannot be written: .*No space left on device$"):  # noqa: SIM117
        with atomic_folder(tmp_path / "run") as temporary:
            shutil.copytree(tmp_path / "from", temporary, dirs_exist_ok=True)
    assert [path.name for path in tmp_path.iterdir()] == ["from"]


def test_an_error_of_another_file_keeps_its_name_and_another_error_its_kind(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"), naming(tmp_path):
        (tmp_path / "nowhere").read_text()
    with pytest.raises(KeyError), naming(tmp_path):
        raise KeyError("os error")


def test_a_place_that_may_not_be_written_is_named_without_its_temporary_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for maker in (atomic_path, atomic_folder):
        with pytest.raises(OSError, match="'[^']*/file'"), maker(tmp_path / "file" / "out"):
            pytest.fail("there is no such folder")
