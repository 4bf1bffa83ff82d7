"""HTTP connections that nobody holds open for nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol


_Base: Any = AutoHTTPProtocol  # Of httptools where that is installed, else of h11.


class _Protocol(_Base):
    """Uvicorn's, which waits for the head of a request, and for the reader of an answer, without end; this, in time.

    Args:
        seconds (`float`): time from the opening of a connection, or the first byte after an answer, to the end of a
            head, and for a reader to take what waits of an answer; then the connection is closed.
    """

    def __init__(self, *args: Any, seconds: float, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._seconds = seconds
        self._head_timer: asyncio.TimerHandle | None = None
        self._reader_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins to wait."""
        super().connection_made(transport)
        self._note_head()

    def data_received(self, data: bytes) -> None:
        """Stops waiting once there is a request to answer."""
        super().data_received(data)
        self._note_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops waiting."""
        super().connection_lost(exc)
        self._cancel()
        self.resume_writing()

    def pause_writing(self) -> None:
        """Begins to wait for the reader of an answer."""
        super().pause_writing()
        self._reader_timer = self._later(self.transport.abort)

    def resume_writing(self) -> None:
        """Stops waiting for the reader."""
        super().resume_writing()
        if self._reader_timer is not None:
            self._reader_timer.cancel()
            self._reader_timer = None

    def _note_head(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._cancel()
        elif self._head_timer is None:
            self._head_timer = self._later(self._close)

    def _close(self) -> None:
        """Closes a connection, whose last answer somebody may still read for a while."""
        self.transport.close()
        self._later(self.transport.abort)

    def _later(self, act: Callable[[], None]) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(self._seconds, act)

    def _cancel(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


def http_protocol(seconds: float) -> Any:
    """Returns what uvicorn takes as `http`: connections that are closed where a head or a reader takes longer."""
    return partial(_Protocol, seconds=seconds)
