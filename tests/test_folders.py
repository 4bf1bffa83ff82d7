"""Folders that commands write: whole or not at all, by one process at a time, and never among other things."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import pytest
from killing import dies_before_change
from safetensors import SafetensorError

from hf_nat.base.files import atomic_path, naming
from hf_nat.base.folders import atomic_contents, atomic_folder, check_output_folder, remove_leftovers


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
            make(temporary, a_mark=str(number), z="", **{f"data/{number}": "", ".own": ""})
        assert names(folder) == ["a_mark", f"data/{number}", *(["mine"] if number == 2 else []), "z"]
        assert (folder / "a_mark").read_text() == str(number)
        make(folder, mine="")
    assert moved == ["z", "data", "a_mark"] * 2


def make_contents(folder: Path, text: str) -> None:
    with atomic_contents(folder, ["a-mark"]) as made:
        for name in ("a-mark", "b", ".hidden", "data/0", "data/1"):
            (made / name).parent.mkdir(exist_ok=True)
            (made / name).write_text(text)


def test_contents_are_all_there_where_the_last_is_whenever_a_process_was_killed(tmp_path: Path) -> None:
    all_names, seen = ["a-mark", "b", "data/0", "data/1"], set()
    for number in itertools.count(1):
        folder = tmp_path / f"killed-{number}"
        if not dies_before_change(number, folder, partial(make_contents, folder, "old")):
            break
        there = [name for name in names(folder) if not name.startswith(".")]
        seen.add(tuple(there))
        assert there == all_names or "a-mark" not in there
        make_contents(folder, "new")
        assert names(folder) == all_names
        assert {(folder / name).read_text() for name in all_names} == {"new"}
    # `b` and `data` go in the order in which the file system lists them.
    assert {len(there) for there in seen} in ({0, 1, 3, 4}, {0, 2, 3, 4})


def test_contents_over_earlier_ones_are_all_of_one_time_where_the_last_is(tmp_path: Path) -> None:
    for number in itertools.count(1):
        folder = tmp_path / f"killed-{number}"
        make_contents(folder, "old")
        if not dies_before_change(number, folder, partial(make_contents, folder, "new")):
            break
        if (folder / "a-mark").exists():
            assert len({(folder / name).read_text() for name in ("a-mark", "b", "data/0", "data/1")}) == 1
    assert number > 5


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


@pytest.mark.parametrize(
    ("maker", "hidden"),
    [(atomic_folder, ".run.tmp"), (lambda path: atomic_contents(path, ["mark"]), "run/.unfinished")],
)
def test_a_link_in_the_place_of_the_hidden_folder_leads_nowhere(maker: Callable, hidden: str, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    make(tmp_path / "precious", file="kept")
    (tmp_path / "run").mkdir()
    (tmp_path / hidden).symlink_to(tmp_path / "precious")
    with maker(tmp_path / "run") as temporary:
        make(temporary, mark="")
    assert names(tmp_path) == ["precious/file", "run/mark"]


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


@pytest.mark.parametrize("maker", [atomic_folder, lambda path: atomic_contents(path, ["mark"])])
def test_a_full_disk_names_a_file_where_it_shall_be(maker: Callable, tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match=r"\[Errno 28\] .*: '.*/run/deep/file'$") as caught,
        maker(tmp_path / "run") as folder,
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder / "deep/file"))
    assert caught.value.filename == str(tmp_path / "run/deep/file")


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


def test_leftovers_of_a_killed_process_are_removed_and_nothing_else(tmp_path: Path) -> None:
    def write_one() -> None:
        with atomic_path(tmp_path / "out.json") as temporary:
            temporary.write_text("half")

    (tmp_path / ".mine").write_text("kept")
    (tmp_path / "a.tmp").write_text("kept")
    assert dies_before_change(3, tmp_path, write_one), "once its folder and the file are made"
    assert len(list(tmp_path.iterdir())) == 3
    remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".mine", "a.tmp"]
    remove_leftovers(tmp_path / "missing")


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ([], True),
        (["mark", "data/a.x"], True),
        (["mark", ".hidden", ".git/config"], True),
        (["data/a.x"], False),
        (["mark", "other"], False),
        (["mark", "data/b.y"], False),
    ],
)
def test_an_output_folder_holds_nothing_else(files: list[str], free: bool, tmp_path: Path) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    if free:
        check_output_folder(tmp_path, own=["mark", "data/*.x"], mark="mark")
    else:
        with pytest.raises(
            ValueError, match=f"must be new or empty.*got `{tmp_path}` with {files[-1]}.*another folder"
        ):
            check_output_folder(tmp_path, own=["mark", "data/*.x"], mark="mark")


def test_an_output_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="must be a folder, but .* is a file"):
        check_output_folder(tmp_path / "file")
    check_output_folder(tmp_path / "new")
