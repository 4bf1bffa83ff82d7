"""Text files in bad states: each is one line that names file and line, through every command that reads text."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from rights import of_an_ordinary_user

from hf_nat.data import load_corpus
from hf_nat.data.text_files import read_lines


LANGUAGES = {"source_lang": "en", "target_lang": "de"}
LINES = "a\nb\nc\n"
PACKED = gzip.compress(os.urandom(3000).hex().encode() + b"\n" + LINES.encode())

# Content of a file and what the error says of it.
FAULTS = {
    "null byte": (b"a\nb\0c\n", "line 2 must hold no null byte, got one at column 2"),
    "surrogate": (b"a\nb\xed\xa0\x80\n", "line 2 must be UTF-8, got byte 0xed at column 2"),
    "latin-1": ("a\nb\nü\n".encode("latin-1"), "line 3 must be UTF-8, got byte 0xfc at column 1"),
    "cut character": ("ü".encode()[:1], "line 1 must be UTF-8, got byte 0xc3 at column 1"),
    "UTF-16": (LINES.encode("utf-16"), "line 1 must be UTF-8, got the byte order mark of UTF-16"),
    "UTF-16 big": (b"\xfe\xff" + LINES.encode("utf-16-be"), "line 1 must be UTF-8, got the byte order mark of UTF-16"),
    "UTF-16 unmarked": (LINES.encode("utf-16-le"), "line 1 must hold no null byte, got one at column 2"),
    "CR only": (LINES.replace("\n", "\r").encode(), r"line 1 must end in \\n or \\r\\n, got \\r alone"),
    "CR only, no end": (b"a\rb", r"line 1 must end in \\n or \\r\\n, got \\r alone"),
    "cut gzip": (PACKED[:-9], "is a damaged gzip file after line"),
    "cut gzip header": (PACKED[:5], "is a damaged gzip file after line 0"),
    "bad gzip": (PACKED[:1000] + b"xxxx" + PACKED[1004:], "is a damaged gzip file after line"),
    "rest behind gzip": (PACKED + b"rest", "is a damaged gzip file after line"),
}


@pytest.mark.parametrize("name", ["x.txt", "x.gz"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_with_its_line(fault: str, name: str, tmp_path: Path) -> None:
    content, message = FAULTS[fault]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"^`{path}` {message}") as raised:
        list(read_lines(str(path)))
    assert "\n" not in str(raised.value)
    (tmp_path / "other").write_text(LINES)
    for corpus in ([tmp_path / "other", path], [path, tmp_path / "other"]):
        with pytest.raises(ValueError, match=f"^`{path}` {message}"):
            load_corpus(corpus, **LANGUAGES)


READABLE = {
    "plain": (LINES.encode(), ["a", "b", "c"]),
    "no final newline": (b"a\nb", ["a", "b"]),
    "mark": (b"\xef\xbb\xbfa\nb\n", ["a", "b"]),
    "CR LF": (b"a\r\n\r\nb\r\n", ["a", "", "b"]),
    "CR LF once": (b"a\r\n", ["a"]),
    "CR at the end of all": (b"a\r", ["a"]),
    "CR inside": (b"a\rb\nc", ["a\rb", "c"]),
    "long line": (b"x" * 10_000_000 + b"\ny\n", ["x" * 10_000_000, "y"]),
    "blank": (b"\n", [""]),
    "nothing": (b"", []),
    "one byte": (b"\x1f", ["\x1f"]),
}


@pytest.mark.parametrize(
    "pack", [bytes, gzip.compress, lambda data: gzip.compress(data[:3]) + gzip.compress(data[3:])]
)
@pytest.mark.parametrize("name", ["x.txt", "x.gz"])
@pytest.mark.parametrize("state", READABLE)
def test_packed_or_not_is_told_by_the_content(
    state: str, name: str, pack: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    content, lines = READABLE[state]
    (tmp_path / name).write_bytes(pack(content))
    assert list(read_lines(str(tmp_path / name))) == lines


def test_both_files_may_begin_with_a_mark(tmp_path: Path) -> None:
    for lang in ("en", "de"):
        (tmp_path / f"x.{lang}").write_text(f"{lang}\n", encoding="utf-8-sig")
    assert load_corpus(f"{tmp_path}/x.{{lang}}", **LANGUAGES)[:] == {"translation": [{"en": "en", "de": "de"}]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('"\\ud800"', r"got half a surrogate pair, \\ud800, in `{path}` line 2"),
        ("1" + "0" * 5000, "`{path}` line 2 must be one JSON object: "),
        ("[" * 100_000, "`{path}` line 2 must be one JSON object: "),
        ('"a\0"', "`{path}` line 2 must hold no null byte"),
    ],
)
def test_json_that_is_no_text_is_named(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    row = json.dumps({"translation": {"en": "x", "de": "y"}})
    path.write_text(row + "\n" + row.replace('"x"', text) + "\n")
    with pytest.raises(ValueError, match=message.format(path=path)) as raised:
        load_corpus(path, **LANGUAGES)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("corpus", [["{0}", "{0}/x"], ["{0}/x", "{0}"], "{0}/{lang}", "{0}/folder.csv"])
def test_a_folder_is_no_file(corpus: str | list[str], tmp_path: Path) -> None:
    (tmp_path / "x").write_text("x\n")
    (tmp_path / "en").mkdir()
    name = str(tmp_path)
    corpus = corpus.replace("{0}", name) if isinstance(corpus, str) else [part.replace("{0}", name) for part in corpus]
    if "csv" in corpus:
        (tmp_path / "folder.csv").mkdir()
    with pytest.raises(OSError, match=f"{tmp_path}.*(is a folder|any data files)"):
        load_corpus(corpus, **LANGUAGES)
    with pytest.raises(IsADirectoryError, match=f"`{tmp_path}` must be a text file, but it is a folder"):
        list(read_lines(name))


@pytest.mark.parametrize("name", ["x.en", "x.jsonl", "x.parquet", "x.csv"])
def test_an_unreadable_file_is_named(name: str, tmp_path: Path) -> None:
    for side in ("x.de", name):
        (tmp_path / side).write_text("x\n")
    (tmp_path / name).chmod(0)
    with of_an_ordinary_user(), pytest.raises(PermissionError, match=f"'{tmp_path / name}'"):
        load_corpus([tmp_path / name, tmp_path / "x.de"] if name == "x.en" else tmp_path / name, **LANGUAGES)


def test_a_disk_that_cannot_be_read_is_named() -> None:
    with pytest.raises(OSError, match="Input/output error: '/proc/self/mem'"):
        list(read_lines("/proc/self/mem"))


def test_devices_and_pipes_are_read() -> None:
    assert list(read_lines("/dev/null")) == []
    with subprocess.Popen(["printf", "a\\nb"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert list(read_lines(f"/dev/fd/{process.stdout.fileno()}")) == ["a", "b"]
