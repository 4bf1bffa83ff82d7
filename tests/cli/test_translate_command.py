"""`hf-nat translate` on files, pipes and terminals."""

from __future__ import annotations

import gzip
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hf_nat.decoding import Translation
from hf_nat_cli import main


@pytest.fixture(autouse=True)
def model(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that turns each sentence round, and knows what window it was asked for."""
    monkeypatch.setattr("hf_nat.decoding.DecodingArguments.load_model", lambda self, path: (None, None))
    monkeypatch.setattr("hf_nat.decoding.DecodingArguments.generate_kwargs", lambda self, model: {})
    monkeypatch.setattr(
        "hf_nat.decoding.Translator._translate",
        lambda self, sentences, bar: [[Translation(text[::-1], None, 0, False, None)] for text in sentences],
    )


def translate(*options: str) -> int:
    return main(["translate", "--model=x", *options])


@contextmanager
def running(*options: str) -> Iterator[None]:
    """Translates beside the test."""
    statuses: list[int] = []
    thread = threading.Thread(target=lambda: statuses.append(translate(*options)), daemon=True)
    thread.start()
    yield
    thread.join()
    assert statuses == [0]


def test_a_coprocess_answers_after_each_window() -> None:
    (read_in, write_in), (read_out, write_out) = os.pipe(), os.pipe()
    with (
        running(f"--input=/dev/fd/{read_in}", f"--output=/dev/fd/{write_out}", "--window=2"),
        open(write_in, "w", buffering=1) as questions,
        open(read_out) as answers,
    ):
        for _ in range(2):
            questions.write("abc\nde\n")
            assert [answers.readline() for _ in range(2)] == ["cba\n", "ed\n"]
        questions.write("xy\n")
        questions.close()
        assert answers.readline() == "yx\n"
    os.close(read_in), os.close(write_out)


def test_a_terminal_does_not_wait_for_a_thousand_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    (user, terminal), (read_out, write_out) = os.openpty(), os.pipe()
    with open(terminal) as stdin, open(read_out) as answers:
        monkeypatch.setattr(sys, "stdin", stdin)
        with running(f"--output=/dev/fd/{write_out}"):
            for line in ("abc", "de"):
                os.write(user, f"{line}\n".encode())
                assert answers.readline() == f"{line[::-1]}\n"
            os.write(user, b"\x04")
    os.close(user), os.close(write_out)


@pytest.mark.parametrize("way", ["option", "standard input", "link"])
def test_the_input_is_no_output(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, output = tmp_path / "text.txt", tmp_path / "text.txt"
    path.write_text("abc\n")
    options = [] if way == "standard input" else [f"--input={path}"]
    if way == "link":
        output = tmp_path / "link.txt"
        output.symlink_to(path)
    stdin = os.dup(0)
    try:
        if way == "standard input":
            file = os.open(path, os.O_RDONLY)
            os.dup2(file, 0)
            os.close(file)
        assert translate(*options, f"--output={output}") == 2
    finally:
        os.dup2(stdin, 0)
        os.close(stdin)
    assert "An output must be no input" in capsys.readouterr().err
    assert path.read_text() == "abc\n"


@pytest.mark.parametrize("option", ["model", "draft", "reranker", "ensemble", "language_model"])
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "onnx/model.onnx", "language_model.arpa.gz"])
@pytest.mark.parametrize("output", ["output", "confidence_output"])
def test_no_file_of_a_model_is_an_output(
    option: str,
    name: str,
    output: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for step in ("way_of_decoding", "require_calibration"):
        monkeypatch.setattr(f"hf_nat.cli.translate.{step}", lambda *args: None)
    file = tmp_path / "folder" / name
    file.parent.mkdir(parents=True)
    file.write_text("old")
    (tmp_path / "in.txt").write_text("abc\n")
    options = [f"--input={tmp_path / 'in.txt'}", f"--{option}={tmp_path / 'folder'}", f"--{output}={file}"]
    assert translate(*options) == 2
    assert f"An output must be no input, got `{file}`" in capsys.readouterr().err
    assert file.read_text() == "old"
    (tmp_path / "folder" / "out.txt").write_text("old")
    if output == "output":
        assert translate(*options[:2], f"--output={tmp_path / 'folder' / 'out.txt'}") == 0


@pytest.mark.parametrize("content", [None, b"ab\n\xff\n", gzip.compress(b"ab\n" * 100, mtime=0)[:-9]])
def test_an_input_that_cannot_be_read_leaves_the_output(
    content: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out.txt").write_text("old\n")
    if content is not None:
        (tmp_path / "in.txt").write_bytes(content)
    assert translate(f"--input={tmp_path / 'in.txt'}", f"--output={tmp_path / 'out.txt'}", "--window=1") == 2
    error = capsys.readouterr().err
    assert str(tmp_path / "in.txt") in error
    assert error.count("\n") == 1
    assert (tmp_path / "out.txt").read_text() == "old\n"


def test_packed_text_goes_in_and_out(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_bytes(gzip.compress(b"abc\n\nde", mtime=0))
    assert translate(f"--input={tmp_path / 'in.txt'}", f"--output={tmp_path / 'out.gz'}") == 0
    assert gzip.decompress((tmp_path / "out.gz").read_bytes()) == b"cba\n\ned\n"


def test_a_full_disk_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in.txt").write_text("abc\n")
    assert translate(f"--input={tmp_path / 'in.txt'}", "--output=/dev/full") == 2
    assert capsys.readouterr().err == "hf-nat translate: [Errno 28] No space left on device: '/dev/full'\n"


def test_window_below_one_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert translate("--window=0") == 2
    assert "`window` must be >= 1 and <= " in capsys.readouterr().err
