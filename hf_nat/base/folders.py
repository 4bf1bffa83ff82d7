"""Folders that commands write: whole or not at all, by one process at a time, and never among other things."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path

from .files import naming, new_folder


# Where files wait for the others of theirs.
_UNFINISHED = ".unfinished"
# Folders in each other; more are meant to exhaust a reader.
DEEPEST = 50


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Gives a temporary folder beside `path` and moves it there when the block ends without an error.

    `path` must not exist, or be an empty folder. A process killed inside the block leaves `path` as it was, and beside
    it a hidden folder that the next call for `path` removes.

    Raises:
        OSError: if it cannot be written, by name; see `naming`.
        ValueError: if another process is at it.
    """
    path = Path(path).resolve()
    temporary = path.with_name(f".{path.name}.tmp")
    with new_folder(path.parent), naming(path, temporary), _held(temporary, path):
        yield temporary
        os.replace(temporary, path)


@contextmanager
def atomic_contents(folder: str | Path, order: Sequence[str]) -> Iterator[Path]:
    """Gives a temporary folder and moves what it holds into `folder` when the block ends without an error.

    What has the same name there gives way, other files stay, and what is hidden is not moved. A process killed inside
    the block leaves them as they were; one killed while they are moved, no last one. Either leaves a hidden folder,
    which the next call removes.

    Args:
        folder (`str` or `Path`): where the files shall be; it may hold others.
        order (`Sequence[str]`): names that are moved after all others, the last one of them at the very end: who finds
            it knows that all are there.

    Raises:
        OSError: if they cannot be written, by name; see `naming`.
        ValueError: if another process is at it.
    """
    folder = Path(folder)
    temporary = folder / _UNFINISHED
    with new_folder(folder), naming(folder, temporary), _held(temporary, folder):
        yield temporary
        places = {name: number for number, name in enumerate(order)}
        mark = folder / order[-1]
        if os.path.lexists(mark):  # From here on the earlier files are not all there.
            os.replace(mark, temporary / ".earlier")
        made = [path for path in temporary.iterdir() if not path.name.startswith(".")]
        for path in sorted(made, key=lambda path: places.get(path.name, -1)):
            place = folder / path.name
            if place.is_dir() and not place.is_symlink():
                shutil.rmtree(place)
            path.replace(place)


def remove_leftovers(folder: str | Path) -> None:
    """Removes what processes that were killed inside `atomic_path` or `atomic_contents` left in a folder."""
    folder = Path(folder)
    for leftover in folder.glob(".*.tmp"):
        if leftover.is_file():
            leftover.unlink()
    shutil.rmtree(folder / _UNFINISHED, ignore_errors=True)


@contextmanager
def _held(temporary: Path, path: Path) -> Iterator[None]:
    """Makes an empty folder for this process alone, which is gone in the end; `path` is what an error names."""
    if temporary.is_symlink():  # What it leads to is not ours.
        temporary.unlink()
    temporary.mkdir(exist_ok=True)
    descriptor = os.open(temporary, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if not _lock(descriptor, temporary):
            raise ValueError(
                f"`{path}` must be made by one process at a time, but another one is at it. Wait for it, or use "
                "another name."
            )
        try:
            for left in temporary.iterdir():
                if left.is_dir() and not left.is_symlink():
                    shutil.rmtree(left)
                else:
                    left.unlink()
            yield
        except shutil.Error as error:  # Of a copied folder: a list of all files that failed.
            raise OSError(f"`{path}` cannot be written: {error.args[0][0][-1]}") from error
        finally:
            # Where it has moved, its name may already be another process's.
            with suppress(OSError):
                if os.path.samestat(os.fstat(descriptor), os.stat(temporary)):
                    shutil.rmtree(temporary, ignore_errors=True)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> bool:
    """Takes the lock of an open folder, which ends with the process; False if it is taken, or the folder has gone."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP):  # Of file systems that have no locks.
            raise
    return folder.exists() and os.path.samestat(os.fstat(descriptor), os.stat(folder))


def require_folder_name(what: str, name: object, remedy: str = "") -> None:
    """Raises ValueError, about `what`, unless a name can be that of a folder inside another."""
    if not isinstance(name, str) or name in ("", ".", "..") or "/" in name:
        raise ValueError(f"{what} must be those of files, without `/`, got {name!r}. {remedy}".rstrip())


def require_outside(folder: str | Path, inputs: Iterable[str]) -> None:
    """Raises unless a folder to write lies outside those that are read, whose files its own would join.

    Args:
        folder (`str` or `Path`): where a command will write.
        inputs (`Iterable[str]`): what it reads; names of no folder are passed over.

    Raises:
        ValueError: naming both.
    """
    place = Path(folder).resolve()
    for given in inputs:
        if os.path.isdir(given) and Path(given).resolve() in place.parents:
            raise ValueError(
                f"`output_dir` must lie outside of what is read, got {str(folder)!r} in {str(given)!r}. Use a folder "
                "beside it."
            )


def check_output_folder(folder: str | Path, own: Sequence[str] = (), mark: str | None = None) -> None:
    """Raises unless a folder is new or empty, or holds an earlier result of the same kind and nothing else.

    Args:
        folder (`str` or `Path`): where a command will write.
        own (`Sequence[str]`, *optional*): patterns of the files that it writes there, relative to the folder.
        mark (`str`, *optional*): the one of them that every earlier result has.

    Raises:
        ValueError: if something else is there; hidden files do not count.
    """
    folder = Path(folder)
    if not os.path.lexists(folder):
        return
    if not folder.is_dir():
        kind = "file" if folder.exists() else "link to nothing"
        raise ValueError(f"`output_dir` must be a folder, but `{folder}` is a {kind}. Use another name.")
    names = sorted(_visible_files(folder))
    others = [name for name in names if not any(fnmatch(name, pattern) for pattern in own)]
    if others or (names and mark is not None and mark not in names):
        raise ValueError(
            f"`output_dir` must be new or empty, or hold an earlier result of this command alone, got `{folder}` with "
            f"{', '.join((others or names)[:3])}. Use another folder, or empty this one."
        )


def _visible_files(folder: Path) -> Iterator[str]:
    """Yields the paths in a folder of what is no folder, but for hidden ones, and of folders too deep for a result."""
    for parent, folders, names in os.walk(folder):
        inside = os.path.relpath(parent, folder)
        if inside.count(os.sep) > DEEPEST:
            yield Path(inside).as_posix()
            folders.clear()  # `os.walk` calls itself for each.
        linked = [name for name in folders if os.path.islink(os.path.join(parent, name))]
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in (*names, *linked):
            if not name.startswith("."):
                yield Path(inside, name).as_posix()
