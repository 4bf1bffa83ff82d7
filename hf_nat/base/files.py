"""The one place that opens files to write: whole or not at all, and never over what is being read."""

from __future__ import annotations

import gzip
import io
import os
import re
import shutil
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TextIO, cast


_DESCRIPTOR = re.compile(r"/(?:dev/fd|proc/self/fd|proc/thread-self/fd)/(\d+)")
_NUMBER_IN_TEXT = re.compile(r"\(os error (\d+)\)")
_STANDARD = {"-": 1, "/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Gives a temporary path beside `path` and moves it there when the block ends without an error.

    A process killed inside the block leaves `path` as it was; after an error no new folder is left either.

    Raises:
        OSError: if it cannot be written, by name; see `naming`.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with new_folder(path.parent), naming(path, temporary):
        try:
            yield temporary
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def new_folder(folder: Path) -> Iterator[None]:
    """Makes a folder, with those above it, where there is none; what is new and still empty in the end goes again."""
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        for path in reversed(new):  # One after the other: pathlib would call itself for each.
            path.mkdir(exist_ok=True)
        folder.mkdir(exist_ok=True)  # It was there, or a file of this name is.
        yield
    finally:
        with suppress(OSError):
            for path in new:
                path.rmdir()


@contextmanager
def naming(path: str | Path, temporary: str | Path | None = None) -> Iterator[None]:
    """Guards the lines that write something: a disk that is full, or may not be written, is one error with a name.

    Libraries have errors of their own for it: those written in Rust give the number in the text.

    Args:
        path (`str` or `Path`): what is written, for the error.
        temporary (`str` or `Path`, *optional*): where it is written first, which the error shall not name.

    Raises:
        OSError: with number, reason and name.
    """
    try:
        yield
    except OSError as error:
        name = None if error.filename is None else os.fspath(error.filename)
        hidden = None if temporary is None else str(temporary)
        if error.errno is None or not (name is None or (hidden and f"{name}/".startswith(f"{hidden}/"))):
            raise
        below = "" if name is None or hidden is None else name.removeprefix(hidden)
        raise OSError(error.errno, error.strerror, f"{path}{below}") from error
    except Exception as error:
        number = _NUMBER_IN_TEXT.search(str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error


@contextmanager
def open_output(path: str | Path, inputs: Iterable[str | Path] = ()) -> Iterator[TextIO]:
    """Opens a text file in UTF-8 for a result that someone asked for under this name.

    A regular file appears whole when the block ends without an error; else, or when the process is killed, the old one
    stays as it was. A symbolic link stays a link, and the file that it leads to is replaced. Standard output, open
    descriptors (`/dev/fd/3`), pipes and devices are written through: their reader has each line at the next `flush`.

    Args:
        path (`str` or `Path`): the file, packed where the name ends in `.gz`; `"-"` is standard output.
        inputs (`Iterable[str]`, *optional*): files that the result is made from; `"-"` is standard input, and names
            of no file are passed over.

    Returns:
        `TextIO`: the open file, with `"\\n"` at the ends of lines.

    Raises:
        ValueError: if the output has no name, or is one of the inputs.
        OSError: if it cannot be written, by name, for instance since the disk is full.
    """
    path = str(path)
    if not path:
        raise ValueError("An output must be the name of a file, got ''. Use - for standard output.")
    number = _descriptor(path)
    _refuse_inputs(path, number, inputs)
    if path == "-":
        with _standard_output() as output:
            yield output
    elif number is not None:
        with _named(path):
            descriptor = os.dup(number)
        with _text(_Raw(descriptor, path)) as output:
            yield output
    elif os.path.exists(path) and not os.path.isfile(path):
        if os.path.isdir(path):
            raise IsADirectoryError(f"An output must be a file, but `{path}` is a folder. Name a file in it.")
        with _text(_Raw(path, path)) as output:
            yield output
    else:
        place = os.path.realpath(path)
        with atomic_path(place) as temporary:
            with _text(_Raw(temporary, path), compress=path.endswith(".gz")) as output:
                yield output
            if os.path.exists(place):
                shutil.copymode(place, temporary)


class _Raw(io.FileIO):
    """A file whose errors tell the name that the user gave."""

    def __init__(self, file: int | str | Path, shown: str) -> None:
        with _named(shown):
            super().__init__(file, "w")
        self._shown = shown

    def write(self, data: Any) -> int:
        with _named(self._shown):
            return super().write(data)


@contextmanager
def _named(shown: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, shown) from error


@contextmanager
def _text(raw: _Raw, compress: bool = False) -> Iterator[TextIO]:
    file = cast(IO[bytes], gzip.GzipFile(fileobj=raw, mode="wb", mtime=0) if compress else io.BufferedWriter(raw))
    with raw:
        output = io.TextIOWrapper(cast(Any, file), encoding="utf-8", newline="\n")
        try:
            yield output
        except BaseException:
            with suppress(OSError):  # The first error is the one to tell.
                output.close()
            raise
        output.close()


@contextmanager
def _standard_output() -> Iterator[TextIO]:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="strict")  # Whatever the locale, as all our files.
    try:
        yield sys.stdout
        sys.stdout.flush()
    except OSError as error:
        # Writing fails with a number and without a name; other errors are of what was to be written.
        if error.errno is None or error.filename is not None:
            raise
        # Nobody reads, or the disk is full: without this Python would try again at its end, and complain again.
        with suppress(OSError, ValueError), open(os.devnull, "w") as nothing:
            os.dup2(nothing.fileno(), sys.stdout.fileno())
        raise OSError(error.errno, error.strerror, "standard output") from error


def _descriptor(path: str) -> int | None:
    """Returns the number of the open descriptor that a path stands for, as `/dev/fd/3` for 3."""
    match = _DESCRIPTOR.fullmatch(path)
    return int(match.group(1)) if match else _STANDARD.get(path)


def _status(path: str | Path, number: int | None) -> os.stat_result | None:
    try:
        return os.stat(path) if number is None else os.fstat(number)
    except (OSError, ValueError):
        return None


def _refuse_inputs(path: str, number: int | None, inputs: Iterable[str | Path]) -> None:
    output = _status(path, number)
    if output is None or not stat.S_ISREG(output.st_mode):
        return
    for given in map(str, inputs):
        status = _status(given, 0 if given == "-" else _descriptor(given))
        if status is not None and os.path.samestat(status, output):
            raise ValueError(f"An output must be no input, got `{path}`, the file of `{given}`. Use another name.")


def refuse_one_output(paths: Sequence[str]) -> None:
    """Raises unless outputs are different files; what is written to `/dev/null` twice is nobody's.

    Args:
        paths (`Sequence[str]`): where a command will write, as `open_output` takes them.

    Raises:
        ValueError: if two are one file, one descriptor, or one link and its file.
    """
    seen: dict[object, str] = {}
    for path in paths:
        status = _status(path, _descriptor(path))
        if status is not None and os.path.samestat(status, os.stat(os.devnull)):
            continue
        place = os.path.realpath(path) if status is None else (status.st_dev, status.st_ino)
        if place in seen:
            raise ValueError(f"Two outputs must be two files, got `{seen[place]}` and `{path}`. Use another name.")
        seen[place] = path
