"""Clients of a server, good, slow and broken ones, over real connections."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable
from typing import Any


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def request_bytes(body: bytes, length: int | None = None) -> bytes:
    """A POST to /translate; `length` is what its head says of the body."""
    head = [
        "POST /translate HTTP/1.1",
        "Host: localhost",
        "Content-Type: application/json",
        f"Content-Length: {len(body) if length is None else length}",
    ]
    return "\r\n".join([*head, "", ""]).encode() + body


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, Any]]:
    """Status and content of the next answer of a connection."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = next(int(line.partition(":")[2]) for line in head.split("\r\n") if line.startswith("content-length"))
    return int(head.split()[1]), json.loads(await reader.readexactly(length))


async def _plain(connection: Connection, body: bytes) -> tuple[int, dict[str, Any]]:
    reader, writer = connection
    writer.write(request_bytes(body))
    await writer.drain()
    return await read_answer(reader)


async def _trickle(connection: Connection, body: bytes) -> tuple[int, dict[str, Any]]:
    reader, writer = connection
    whole = request_bytes(body)
    for first in range(0, len(whole), 40):
        writer.write(whole[first : first + 40])
        await asyncio.sleep(0.002)
    await asyncio.sleep(0.02)
    return await read_answer(reader)


async def _nonsense(connection: Connection, body: bytes) -> None:
    assert (await _plain(connection, body[:-1]))[0] == 400


async def _too_much(connection: Connection, body: bytes) -> None:
    sentences = ["a"] * 10_000
    assert (await _plain(connection, json.dumps({"sentences": sentences}).encode()))[0] == 413


async def _break_off(connection: Connection, body: bytes) -> None:
    connection[1].write(request_bytes(body[: len(body) // 2], len(body)))
    await connection[1].drain()


async def _leave(connection: Connection, body: bytes) -> None:
    connection[1].write(request_bytes(body))
    await connection[1].drain()


# Of twenty requests; the last two kinds take their connection with them.
_KINDS = {3: _trickle, 7: _nonsense, 11: _too_much, 15: _break_off, 19: _leave}


async def load(
    port: int, sentences: list[str], num_requests: int, num_connections: int, expected: Callable[[str], str]
) -> Counter[str]:
    """Sends requests of 1 to 8 sentences and checks every answer, sentence by sentence.

    Returns:
        `Counter[str]`: requests by what they came to: served, refused as they should, or ended by their client.
    """
    numbers, ends = iter(range(num_requests)), Counter[str]()

    async def client() -> None:
        connection: Connection | None = None
        for number in numbers:
            draw = random.Random(number)
            chosen = draw.choices(sentences, k=draw.randint(1, 8))
            body = json.dumps({"sentences": chosen}).encode()
            kind = _KINDS.get(number % 20, _plain)
            connection = connection or await asyncio.open_connection("127.0.0.1", port)
            answer = await kind(connection, body)
            if kind in (_break_off, _leave):
                connection[1].close()
                connection = None
                ends["left"] += 1
            elif answer is None:
                ends["refused"] += 1
            else:
                status, content = answer
                assert status == 200, content
                texts = [translation["text"] for translation in content["translations"]]
                assert texts == [expected(sentence) for sentence in chosen]
                ends["served"] += 1
        if connection:
            connection[1].close()

    await asyncio.gather(*(client() for _ in range(num_connections)))
    return ends
