"""Files that commands write: whole or not at all, never over an input, and what is no file is written through."""

from __future__ import annotations

import errno
import gzip
import io
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO

import pytest

import hf_nat
from hf_nat.base.files import open_output, refuse_one_output


def write(path: Path, text: str, **options) -> None:
    with open_output(path, **options) as output:
        output.write(text)


def run(program: str, *arguments: object, stdout: IO[str] | None = None) -> subprocess.CompletedProcess[str]:
    """Runs lines that call `open_output` in a process of their own, without the seconds that the package takes."""
    start = "import os, random, resource, signal, sys\nfrom files import open_output\n"
    command = [sys.executable, "-c", start + program, *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(Path(hf_nat.__file__).parent / "base")}
    return subprocess.run(command, env=environment, stdout=stdout, stderr=subprocess.PIPE, text=True)


def fail(path: Path) -> None:
    with pytest.raises(RuntimeError, match="half way"), open_output(path) as output:
        output.write("new\n" * 100_000)
        output.flush()
        raise RuntimeError("half way")


def test_a_file_appears_whole_with_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "new" / "out.txt"
    with open_output(path) as output:
        output.write("Straße\n")
        output.flush()
        assert not path.exists()
    assert path.read_bytes() == "Straße\n".encode()
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("before", [None, "old\n"])
def test_an_error_leaves_what_was_there(before: str | None, tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    if before is not None:
        path.write_text(before)
    fail(path)
    assert [file.read_text() for file in tmp_path.iterdir()] == ([] if before is None else [before])


def test_a_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    path.write_text("old\n")
    program = """
with open_output(sys.argv[1]) as output:
    output.write("new" * 100_000)
    output.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert run(program, path).returncode == -signal.SIGKILL
    assert path.read_text() == "old\n"


def test_a_link_stays_a_link_and_rights_stay(tmp_path: Path) -> None:
    target, link = tmp_path / "there" / "target.txt", tmp_path / "link.txt"
    target.parent.mkdir()
    target.write_text("old")
    target.chmod(0o640)
    link.symlink_to("there/target.txt")
    fail(link)
    assert target.read_text() == "old"
    write(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"
    assert target.stat().st_mode & 0o777 == 0o640
    assert sorted(tmp_path.rglob("*")) == sorted([link, target.parent, target])


def test_a_link_to_nothing_makes_its_target(tmp_path: Path) -> None:
    (tmp_path / "link.txt").symlink_to("target.txt")
    write(tmp_path / "link.txt", "new")
    assert (tmp_path / "target.txt").read_text() == "new"


def test_a_named_pipe_is_written_through_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    opened: list[IO[str]] = []
    reader = threading.Thread(target=lambda: opened.append(path.open()))
    reader.start()
    with open_output(path) as output:
        reader.join()
        for line in ("one\n", "two\n"):
            output.write(line)
            output.flush()
            assert opened[0].readline() == line
    assert opened[0].read() == ""
    opened[0].close()
    assert path.is_fifo()


def test_an_open_descriptor_is_written_where_it_is_and_stays_open(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    with open(path, "w") as file:
        file.write("before\n")
        file.flush()
        write(Path(f"/dev/fd/{file.fileno()}"), "result\n")
        file.write("after\n")
    assert path.read_text() == "before\nresult\nafter\n"


def test_devices_stay_devices() -> None:
    write(Path("/dev/null"), "x")
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize("size", [1, 10**6])
def test_a_full_disk_is_one_named_error(size: int) -> None:
    with pytest.raises(OSError, match="No space left on device: '/dev/full'") as raised:
        write(Path("/dev/full"), "x" * size)
    assert raised.value.errno == errno.ENOSPC


@pytest.mark.parametrize("name", ["out.txt", "out.txt.gz"])
@pytest.mark.parametrize("size", [2000, 10**6])
def test_a_file_that_finds_no_room_leaves_the_old_one(name: str, size: int, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(b"old")
    program = """
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
with open_output(sys.argv[1]) as output:
    output.write(random.randbytes(int(sys.argv[2])).hex())
"""
    error = run(program, path, size).stderr
    assert error.endswith(f"OSError: [Errno 27] File too large: '{path}'\n")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_of_what_is_written_is_none_of_standard_output() -> None:
    with pytest.raises(OSError, match="^the Hub does not give it$"), open_output("-"):
        raise OSError("the Hub does not give it")


def test_standard_output_that_is_full_is_named_once() -> None:
    program = "with open_output('-') as output: output.write('x')"
    with open("/dev/full", "w") as full:
        error = run(program, stdout=full).stderr
    assert error.endswith("OSError: [Errno 28] No space left on device: 'standard output'\n")


def test_a_name_that_ends_in_gz_is_packed(tmp_path: Path) -> None:
    write(tmp_path / "out.gz", "ä\n" * 1000)
    assert gzip.decompress((tmp_path / "out.gz").read_bytes()).decode() == "ä\n" * 1000


@pytest.mark.parametrize("way", ["itself", "link", "hard link", "other spelling"])
def test_an_output_is_no_input(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "text.txt"
    path.write_text("old")
    monkeypatch.chdir(tmp_path)
    other = tmp_path / "other.txt"
    if way == "link":
        other.symlink_to(path)
    elif way == "hard link":
        other.hardlink_to(path)
    name = {"itself": path, "other spelling": Path("text.txt")}.get(way, other)
    with pytest.raises(ValueError, match=f"must be no input, got `{name}`, the file of `{path}`"):
        write(name, "new", inputs=["missing", path])
    assert path.read_text() == "old"


def test_one_terminal_or_device_may_be_both() -> None:
    write(Path("/dev/null"), "x", inputs=["/dev/null"])
    assert Path("/dev/null").is_char_device(), "a device is written to, not replaced by a file"


def test_a_folder_is_no_output(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match=f"`{tmp_path}` is a folder"):
        write(tmp_path, "x")


def test_two_outputs_are_two_files(tmp_path: Path) -> None:
    old, new, link, dangling = (str(tmp_path / name) for name in ("old", "new", "link", "dangling"))
    Path(old).write_text("old")
    Path(link).symlink_to(old)
    Path(dangling).symlink_to(new)
    refuse_one_output([old, new])
    refuse_one_output([os.devnull, os.devnull])
    same = ([old, old], [new, new], [old, link], [new, dangling], [new, f"{tmp_path}/./new"], ["-", "/dev/stdout"])
    for pair in same:
        with pytest.raises(ValueError, match="Two outputs must be two files"):
            refuse_one_output(pair)
    with open(old, "a") as file, pytest.raises(ValueError, match="must be two files"):
        refuse_one_output([f"/dev/fd/{file.fileno()}", old])
    assert Path(old).read_text() == "old"


def test_standard_output_is_utf_8_whatever_the_locale(monkeypatch):
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="latin-1", errors="backslashreplace")
    monkeypatch.setattr("sys.stdout", stdout)
    with open_output("-") as output:
        output.write("日本\n")
    assert stdout.buffer.getvalue() == "日本\n".encode()
