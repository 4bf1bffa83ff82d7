"""HTTP connections that nobody holds open for nothing."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol


_Base: Any = AutoHTTPProtocol  # Of httptools where that is installed, else of h11.


class _Protocol(_Base):
    """Uvicorn's, which waits for the head of a request without end, but in time.

    Args:
        head_seconds (`float`): time from the opening of a connection, or the first byte after an answer, to the end of
            a head; then the connection is closed.
    """

    def __init__(self, *args: Any, head_seconds: float, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._head_seconds = head_seconds
        self._head_timer: asyncio.TimerHandle | None = None

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

    def _note_head(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._cancel()
        elif self._head_timer is None:
            self._head_timer = asyncio.get_running_loop().call_later(self._head_seconds, self.transport.close)

    def _cancel(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


def http_protocol(head_seconds: float) -> Any:
    """Returns what uvicorn takes as `http`: connections whose heads arrive in so many seconds, or are closed."""
    return partial(_Protocol, head_seconds=head_seconds)
