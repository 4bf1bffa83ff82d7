"""Work in a process that dies at a moment that a test chooses: before any change of a file."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any


_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_CHANGES = ("os.mkdir", "os.remove", "os.rename", "os.rmdir")


def dies_before_change(number: int, folder: Path, work: Callable[[], object]) -> bool:
    """Runs `work` in a process of its own, which is killed before its change of a file, counted from 1.

    Args:
        number (`int`): which change.
        folder (`Path`): changes count inside it: what is created, opened for writing, renamed or removed.
        work (`Callable`): the work; it may use whatever this process holds.

    Returns:
        `bool`: whether the process was killed; False means that the work has fewer changes, and was done.
    """
    process = os.fork()
    if process == 0:
        status = 1
        try:
            _die_before(number, folder)
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)  # Nothing of the parent's: no test goes on here, no buffer is written twice.
    _, status = os.waitpid(process, 0)
    assert status in (0, signal.SIGKILL), f"the work failed, with the status {status}"
    return status != 0


def _die_before(number: int, folder: Path) -> None:
    changes = count(1)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if _is_change(event, arguments, folder) and next(changes) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def _is_change(event: str, arguments: tuple[Any, ...], folder: Path) -> bool:
    if event != "open" and event not in _CHANGES or isinstance(arguments[0], int):
        return False
    if event == "open" and not arguments[2] & _WRITING:
        return False
    path = os.fsdecode(arguments[0])
    # What `shutil.rmtree` removes has names relative to open folders.
    return not os.path.isabs(path) or path.startswith(f"{folder}{os.sep}") or path == str(folder)
