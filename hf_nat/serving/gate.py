"""What a request passes before anything reads it: its size, its time, its encoding."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic

from fastapi import HTTPException
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .arguments import ServingArguments


# Clients that send too much read the answer when they are done; so many times the limit is listened to.
_LISTENED = 16
LEFT = 499
# Where the rest of a body may still come, nothing else can.
_CLOSE = {"Connection": "close"}


class Gate:
    """ASGI middleware: bodies of POST arrive whole, small enough, in time, as JSON in UTF-8, or are answered here.

    Args:
        app (`ASGIApp`): what answers the others.
        args ([`ServingArguments`]): the limits.
        answered (`Callable`): told the status and the seconds of every POST; 499 where the client left before.
    """

    def __init__(self, app: ASGIApp, args: ServingArguments, answered: Callable[[int, float], None]):
        self.app = app
        self.args = args
        self.answered = answered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or lets it pass."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        started, status = monotonic(), LEFT

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            body = await self._body(Headers(scope=scope), receive)
        except HTTPException as error:
            answer = JSONResponse({"detail": error.detail}, error.status_code, error.headers)
            await answer(scope, receive, send_and_note)
        except ClientDisconnect:
            pass  # Nobody is left to be told.
        else:
            await self.app(scope, _replay(body, receive), send_and_note)
        finally:
            self.answered(status, monotonic() - started)

    async def _body(self, headers: Headers, receive: Receive) -> bytes:
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        try:
            async with asyncio.timeout(self.args.max_body_seconds):
                body = await self._read(receive)
        except TimeoutError:
            rule = f"A request must arrive within {self.args.max_body_seconds} s."
            raise HTTPException(408, rule, _CLOSE) from None
        if body is None:
            rule = f"A request must have at most {self.args.max_body_bytes} bytes. Send its sentences in several."
            raise HTTPException(413, rule, _CLOSE)
        if kind != "application/json":
            raise HTTPException(415, f"`Content-Type` must be application/json, got {kind!r:.100}.")
        try:
            body.decode()
        except UnicodeDecodeError as error:
            raise HTTPException(
                400, f"A request must be UTF-8, got byte 0x{body[error.start]:02x} at byte {error.start}."
            ) from error
        return body

    async def _read(self, receive: Receive) -> bytes | None:
        """The body, None where it is too large."""
        body, num_bytes, more = bytearray(), 0, True
        while more and num_bytes <= _LISTENED * self.args.max_body_bytes:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            chunk, more = message.get("body", b""), message.get("more_body", False)
            num_bytes += len(chunk)
            if num_bytes <= self.args.max_body_bytes:
                body += chunk
        return bytes(body) if num_bytes <= self.args.max_body_bytes else None


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body, then what comes behind it: that the client has left."""
    is_given = False

    async def give() -> Message:
        nonlocal is_given
        if is_given:
            return await receive()
        is_given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return give
