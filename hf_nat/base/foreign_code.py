"""The one place that runs code which a user named: whatever it raises is told with its name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def foreign_code(rule: str) -> Iterator[None]:
    """Guards the lines that run foreign code; Ctrl-C stays what it is.

    Args:
        rule (`str`): what an error begins with: the option and what it must be, and the name that was given.

    Raises:
        ValueError: if the code raises anything, or ends the program.
    """
    try:
        yield
    except (Exception, SystemExit) as error:
        kind = "" if isinstance(error, ValueError | ImportError | OSError) else f"{type(error).__name__}: "
        raise ValueError(f"{rule}: {kind}{error}") from error
