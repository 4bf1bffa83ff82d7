"""Whether the Hub can be reached: asked once, before the libraries ask a silent host again and again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import datasets
from huggingface_hub import constants, get_session


try:
    from httpx2 import TransportError
except ImportError:  # huggingface_hub before 2.0
    from httpx import TransportError  # type: ignore[no-redef, assignment, unused-ignore]


__all__ = ["TransportError", "offline_without_network"]

# Seconds for which an answer holds: a command reads many files, and a network may come back.
_HOLDS = 60


@contextmanager
def offline_without_network() -> Iterator[str | None]:
    """Guards lines that ask the Hub: without network only its cache is read, as under `HF_HUB_OFFLINE=1`.

    The libraries try each file six times, half a minute long, before they look into the cache or give up.

    Yields:
        `str`, *optional*: what went wrong if the Hub cannot be reached.
    """
    if constants.is_offline_mode():
        yield None
        return
    fault = _fault(constants.ENDPOINT, int(time.monotonic() / _HOLDS))
    modes = (constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE)
    if fault is not None:
        constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    try:
        yield fault
    finally:
        constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE = modes


@lru_cache(maxsize=1)
def _fault(endpoint: str, period: int) -> str | None:
    """Returns why a host cannot be reached, None where it answers anything; one request a period of time."""
    try:
        get_session().head(endpoint, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except TransportError as error:
        return f"{endpoint} cannot be reached ({error})"
    return None
