"""Uvicorn as `hf-nat serve` runs it: on a socket of ours, with an end that loses nothing."""

from __future__ import annotations

import socket
from collections.abc import Callable
from types import FrameType

import uvicorn
from fastapi import FastAPI

from ..base.bounds import require_number
from .arguments import ServingArguments
from .protocol import http_protocol


# A connection without a new request is kept so long.
_KEEP_ALIVE_SECONDS = 5


def bind(host: str, port: int) -> socket.socket:
    """Takes an address; nobody can connect to it before the server runs.

    Args:
        host (`str`): name or address, of IPv4 or IPv6.
        port (`int`): port; 0 takes a free one.

    Raises:
        OSError: if the address is in use, or not of this machine.
        ValueError: if `port` is none.
    """
    require_number("port", port, least=0, most=65_535, remedy="Use 0 for any free one.")
    bound: socket.socket | None = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        if bound is not None:
            bound.close()
        raise OSError(f"The server cannot listen on {host} port {port}: {error.strerror or error}.") from error
    return bound


class Server(uvicorn.Server):
    """Serves until SIGINT or SIGTERM: what is accepted is answered then, what comes is refused; a second one ends all.

    `run(sockets=[bound])` starts it.

    Args:
        app (`FastAPI`): from `build_app`.
        args ([`ServingArguments`]): the limits.
        started (`Callable`): called when requests are accepted.
    """

    def __init__(self, app: FastAPI, args: ServingArguments, started: Callable[[], None]):
        config = uvicorn.Config(
            app,
            log_config=None,
            log_level="warning",
            access_log=False,
            ws="none",
            http=http_protocol(args.max_body_seconds),
            timeout_keep_alive=min(_KEEP_ALIVE_SECONDS, args.max_body_seconds),
            limit_concurrency=args.max_connections + 1,  # The number from which uvicorn refuses, the new one counted.
            timeout_graceful_shutdown=args.max_stop_seconds,
        )
        super().__init__(config)
        self._batcher = app.state.batcher
        self._started = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begins to listen."""
        await super().startup(sockets)
        self._started()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Ends as asked: unlike uvicorn's own, without the signal once more at the end, which would be no success."""
        self.force_exit = self.should_exit
        self.should_exit = True
        self._batcher.refuse()
