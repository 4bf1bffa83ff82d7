"""A server beside the test, on loopback."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any

import pytest

from hf_nat.decoding import Translation
from hf_nat.serving import ServingArguments
from hf_nat.serving.app import build_app
from hf_nat.serving.server import Server, bind


@dataclass
class Running:
    """A server and where it is."""

    server: Server
    port: int
    thread: threading.Thread

    def ask(
        self, body: bytes, method: str = "POST", path: str = "/translate", **headers: str
    ) -> tuple[int, bytes, dict[str, str]]:
        """Sends one request; returns status, body and headers."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request(method, path, body, {"Content-Type": "application/json"} | headers)
        answer = connection.getresponse()
        content = answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()}
        connection.close()
        return content

    def stop(self) -> None:
        """As SIGTERM does."""
        self.server.handle_exit(signal.SIGTERM, None)


@contextmanager
def serving(translate: Callable[[list[str]], Sequence[Translation]], **limits: Any) -> Iterator[Running]:
    """Runs a server; at the end it must stop by itself."""
    args, ready = ServingArguments(**limits), threading.Event()
    with bind("127.0.0.1", 0) as bound:
        server = Server(build_app(translate, args, model="a model"), args, ready.set)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
        running = Running(server, bound.getsockname()[1], thread)
        thread.start()
        assert ready.wait(30)
        yield running
        running.stop()
        thread.join(30)
        assert not thread.is_alive()


@pytest.fixture(scope="session")
def start() -> Callable[..., Any]:
    """Starts a server of a function."""
    return serving
