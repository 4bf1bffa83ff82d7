"""Lines of text files in every state in which people have them; what cannot be read is named with its line."""

from __future__ import annotations

import gzip
import os
import shutil
import sys
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import cache, partial
from pathlib import Path
from typing import IO, cast


_GZIP = b"\x1f\x8b"
# Of a text; a packed file of some KB can hold one that fills the memory.
_LONGEST_LINE = 2**24
# What a file of UTF-16 begins with that has a byte order mark.
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


def read_lines(path: str, name: str | None = None) -> Iterator[str]:
    """Yields the lines of a UTF-8 text file without their ends.

    Lines end at `"\\n"` only; one `"\\r"` before it and a byte order mark are removed.

    Args:
        path (`str`): a file, plain or packed by gzip, whatever its name; `"-"` is standard input.
        name (`str`, *optional*): what errors call it, by default `path`.

    Raises:
        OSError: if there is no such file, or it cannot be read.
        ValueError: if a line is longer than 16 MiB, is not UTF-8 or holds a null byte, lines end in `"\\r"` alone, or
            the gzip file is damaged; file and line (from 1) are named.
    """
    number, name = 0, name or path
    try:
        with _open_bytes(path) as file:
            for number, line in enumerate(iter(partial(file.readline, _LONGEST_LINE + 2), b""), start=1):
                if number == 1:
                    _refuse_other_encodings(name, line)
                if len(line.rstrip(b"\r\n")) > _LONGEST_LINE:
                    raise ValueError(
                        f"`{name}` line {number} must have at most {_LONGEST_LINE:,} bytes, got more. Is it text?"
                    )
                if b"\0" in line:
                    raise ValueError(
                        f"`{name}` line {number} must hold no null byte, got one at column {line.index(0) + 1}. "
                        "Convert the file from UTF-16, if it is that, or take the null bytes out with tr."
                    )
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                yield text.removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"`{name}` line {number} must be UTF-8, got byte 0x{error.object[error.start]:02x} at column "
            f"{error.start + 1} ({error.reason}). Convert the file, for instance with iconv."
        ) from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"`{name}` is a damaged gzip file after line {number}: {error}") from error
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, name) from error


def _refuse_other_encodings(name: str, first: bytes) -> None:
    """Raises if the first line shows UTF-16, or is all of a file whose lines end in `"\\r"`."""
    if first.startswith(_UTF16):
        raise ValueError(
            f"`{name}` line 1 must be UTF-8, got the byte order mark of UTF-16. Convert the file, for instance with "
            "iconv -f UTF-16 -t UTF-8."
        )
    if not first.endswith(b"\n") and b"\r" in first.rstrip(b"\r"):
        raise ValueError(
            rf"`{name}` line 1 must end in \n or \r\n, got \r alone. Convert the file, for instance with tr '\r' '\n'."
        )


@contextmanager
def _open_bytes(path: str) -> Iterator[IO[bytes]]:
    if os.path.isdir(path):
        raise IsADirectoryError(f"`{path}` must be a text file, but it is a folder. Name a file in it.")
    with nullcontext(sys.stdin.buffer) if path == "-" else open(path, "rb") as file:
        # Standard input of a program may be replaced by a stream that cannot look ahead.
        if hasattr(file, "peek") and file.peek(2)[:2] == _GZIP:
            with gzip.GzipFile(fileobj=file) as unpacked:
                yield cast(IO[bytes], unpacked)
        else:
            yield file


def regular_files(paths: Sequence[str]) -> list[str]:
    """Replaces pipes and descriptors (`/dev/fd/63` of `<(...)`), which can be read only once, by copies.

    The copies live as long as the process, and one pipe is copied once. Several are read side by side, as one program
    may fill them all.

    Args:
        paths (`Sequence[str]`): existing files.

    Returns:
        `list[str]`: absolute paths of regular files.
    """
    once = [path for path in dict.fromkeys(paths) if not os.path.isfile(path)]
    if once:
        scratch_folder()  # Not first in the threads: each would make one, and those that are not kept would go.
        with ThreadPoolExecutor(len(once)) as pool:
            copies = dict(zip(once, pool.map(_copy, once), strict=True))
    return [copies[path] if path in once else str(Path(path).resolve()) for path in paths]


@cache
def _copy(path: str) -> str:
    with open(path, "rb") as file, tempfile.NamedTemporaryFile(dir=scratch_folder(), delete=False) as copy:
        shutil.copyfileobj(file, copy)
        return copy.name


def scratch_folder() -> str:
    """Returns a folder of this process for what it needs beside a corpus; it goes when the process ends."""
    return _scratch().name


@cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="hf_nat-")
