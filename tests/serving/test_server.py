"""A running server, asked by real clients."""

from __future__ import annotations

import asyncio
import json
import math
import socket
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from clients import load, read_answer, request_bytes

from hf_nat.decoding import Translation
from hf_nat.serving import ServingArguments
from hf_nat.serving.server import bind
from hf_nat_cli import main


def turned(sentences: list[str]) -> list[Translation]:
    """A model that turns each sentence round."""
    if "poison" in sentences:
        raise RuntimeError("a fault of the model")
    return [Translation(text[::-1], -0.5, len(text), len(text) > 10, None) for text in sentences]


class Gated:
    """The same, that waits until it may begin."""

    def __init__(self) -> None:
        self.may_go = threading.Event()
        self.has_begun = threading.Event()
        self.seen: list[str] = []

    def __call__(self, sentences: list[str]) -> list[Translation]:
        self.has_begun.set()
        assert self.may_go.wait(30)
        self.seen += sentences
        return turned(sentences)


def body(*sentences: str) -> bytes:
    return json.dumps({"sentences": sentences}).encode()


def waiting(running: Any) -> int:
    return json.loads(running.ask(b"", "GET", "/health")[1])["waiting_sentences"]


def until(condition: Callable[[], bool]) -> None:
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen")


def test_translations_come_in_order_with_their_scores(start) -> None:
    with start(turned) as running:
        status, content, _ = running.ask(body("abc", "", "drei häuser"))
        rows = json.loads(content)["translations"]
        assert status == 200 and [row["text"] for row in rows] == ["cba", "", "resuäh ierd"]
        assert rows[2] == {
            "text": "resuäh ierd",
            "score": -0.5,
            "num_tokens": 11,
            "truncated": True,
            "iterations": None,
        }
        assert json.loads(running.ask(body())[1]) == {"translations": []}


@pytest.mark.parametrize(
    ("output", "score"),
    [
        (Translation("a", math.nan, 1, False, 1), None),
        (Translation("", 0.0, 0, False, 1), None),  # of a NAT model: the mean of no tokens
        (Translation("", -0.25, 0, False, None), -0.25),  # of an autoregressive one: that of EOS
    ],
)
def test_a_score_that_is_no_number_or_of_no_token_is_null(output, score, start) -> None:
    with start(lambda sentences: [output] * len(sentences)) as running:
        assert json.loads(running.ask(body("a"))[1])["translations"][0]["score"] == score


@pytest.mark.parametrize(
    ("sent", "status", "said"),
    [
        (b"", 422, "Field required"),
        (b"nonsense", 400, "must be JSON"),
        (b'{"sentences": ["\xff"]}', 400, "must be UTF-8, got byte 0xff at byte 16"),
        (b"[" * 100_000, 400, "pars"),
        (b'{"sentences": [' + b"1" * 5000 + b"]}", 400, "pars"),
        (b"[]", 422, "valid dictionary"),
        (b"{}", 422, "`sentences`: Field required"),
        (b'{"sentences": "a"}', 422, "`sentences`: Input should be a valid list"),
        (b'{"sentences": ["a", 1, 2]}', 422, "`sentences.1`: Input should be a valid string"),
        (b'{"sentences": [null]}', 422, "`sentences.0`: Input should be a valid string"),
        (b'{"sentences": ["a"], "num_beams": 5}', 422, "no key 'num_beams'"),
        (b'{"sentences": ["\\ud800"]}', 422, "`sentences.0`: Text must be Unicode, got half of a pair"),
        (body(*"abcde"), 413, "at most 4 sentences, got 5"),
        (body("a", "b" * 21), 413, "at most 20 characters, got 21 in `sentences.1`"),
        (body("poison"), 500, "The model failed on this request"),
    ],
)
def test_what_cannot_be_translated_is_answered_plainly(sent, status, said, strict_server) -> None:
    got, content, headers = strict_server.ask(sent)
    assert (got, headers["content-type"]) == (status, "application/json")
    assert said in json.loads(content)["detail"] and len(content) < 300
    assert strict_server.ask(body("ab"))[0] == 200, "the server goes on"


@pytest.fixture(scope="module")
def strict_server(start):
    with start(turned, max_request_sentences=4, max_sentence_characters=20, max_body_bytes=200_000) as running:
        yield running


def test_a_form_of_a_page_is_no_request(strict_server) -> None:
    status, content, _ = strict_server.ask(body("a"), **{"Content-Type": "text/plain"})
    assert status == 415 and "application/json, got 'text/plain'" in json.loads(content)["detail"]


@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_large_body_is_not_kept(is_chunked, strict_server) -> None:
    sent = body("a" * 300_000)
    status, content, _ = strict_server.ask(iter([sent[:1000], sent[1000:]]) if is_chunked else sent)
    assert status == 413 and "at most 200000 bytes" in json.loads(content)["detail"]


def test_an_endless_body_is_cut_off(strict_server) -> None:
    with socket.create_connection(("127.0.0.1", strict_server.port), 30) as client:
        client.sendall(request_bytes(b"", 10**12))
        with pytest.raises(OSError):  # noqa: B017, PT011
            for _ in range(10_000):
                client.sendall(b"a" * 100_000)


def test_a_client_that_stops_in_the_middle_is_answered(start) -> None:
    with (
        start(turned, max_body_seconds=1) as running,
        socket.create_connection(("127.0.0.1", running.port), 30) as client,
    ):
        client.sendall(request_bytes(b'{"sent', 100))
        assert client.recv(100).startswith(b"HTTP/1.1 408")


_WHOLE = request_bytes(body("one"))


@pytest.mark.parametrize(
    ("sent", "num_answered"),
    [
        (b"", 0),
        (b"POST /translate HTTP/1.1\r\nHost:", 0),
        (b"\x00\xff" * 20, 0),
        (b"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n1", 1),  # which reads no body
        (_WHOLE + b"POST", 1),
    ],
)
def test_a_connection_without_a_request_is_closed(sent, num_answered, start) -> None:
    with (
        start(turned, max_body_seconds=1) as running,
        socket.create_connection(("127.0.0.1", running.port), 30) as client,
    ):
        client.sendall(sent)
        until(lambda: waiting(running) == 0)
        answer = b"".join(iter(lambda: client.recv(10_000), b""))  # to its end, which a closed connection has
        assert answer.count(b" 200 OK") == num_answered


def test_who_reads_no_answer_is_cut_off(start) -> None:
    with (
        start(turned, max_body_seconds=1) as running,
        socket.socket(socket.AF_INET, socket.SOCK_STREAM) as client,
    ):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        client.settimeout(30)
        client.connect(("127.0.0.1", running.port))
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            for _ in range(3000):
                client.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n")
                time.sleep(0.01)


@pytest.mark.parametrize("head", ["Content-Length: -1", "Content-Length: x", "Content-Length: 3\r\nContent-Length: 4"])
def test_a_length_that_is_none_is_refused(head, start) -> None:
    with start(turned) as running, socket.create_connection(("127.0.0.1", running.port), 30) as client:
        client.sendall(f"POST /translate HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n{{}}".encode())
        assert client.recv(100).startswith(b"HTTP/1.1 400")
        assert running.ask(body("one"))[0] == 200


def test_a_full_queue_says_when_to_come_again(start) -> None:
    model = Gated()
    with (
        start(model, max_batch_sentences=1, max_queue_sentences=3, max_request_sentences=3) as running,
        ThreadPoolExecutor() as clients,
    ):
        first = clients.submit(running.ask, body("at work"))
        until(model.has_begun.is_set)
        second = clients.submit(running.ask, body("a", "b"))
        until(lambda: waiting(running) == 2)
        status, content, headers = running.ask(body("c", "d"))
        assert status == 503 and int(headers["retry-after"]) >= 1
        assert "2 sentences wait, and 2 more" in json.loads(content)["detail"]
        model.may_go.set()
        assert [future.result()[0] for future in (first, second)] == [200, 200]
        assert running.ask(body("c", "d"))[0] == 200


def test_who_hangs_up_is_not_translated(start) -> None:
    model = Gated()
    with start(model, max_batch_sentences=1) as running, ThreadPoolExecutor() as clients:
        first = clients.submit(running.ask, body("at work"))
        until(model.has_begun.is_set)
        with socket.create_connection(("127.0.0.1", running.port)) as client:
            client.sendall(request_bytes(body("in vain", "as well")))
            until(lambda: waiting(running) == 2)
        until(lambda: waiting(running) == 0)
        model.may_go.set()
        assert first.result()[0] == 200 and running.ask(body("on"))[0] == 200
        assert model.seen == ["at work", "on"]
        assert 'hf_nat_requests_total{status="499"} 1.0' in running.ask(b"", "GET", "/metrics")[1].decode()


def test_stopping_ends_what_was_accepted_and_refuses_the_rest(start) -> None:
    model = Gated()
    with start(model, max_batch_sentences=1) as running, ThreadPoolExecutor() as clients:
        accepted = [clients.submit(running.ask, body(name, name)) for name in ("ab", "cd")]
        until(lambda: model.has_begun.is_set() and waiting(running) == 3)
        slow = socket.create_connection(("127.0.0.1", running.port), 30)
        late = request_bytes(body("late")).replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n")
        slow.sendall(late[:-5])
        # Who gets this answer is heard: a connection without a request is closed.
        assert slow.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        running.stop()
        slow.sendall(late[-5:])
        assert slow.recv(20).startswith(b"HTTP/1.1 503")
        slow.close()
        until(lambda: socket.socket().connect_ex(("127.0.0.1", running.port)) != 0)
        assert running.thread.is_alive()
        model.may_go.set()
        assert [future.result()[0] for future in accepted] == [200, 200]
        running.thread.join(30)
        assert not running.thread.is_alive() and sorted(model.seen) == ["ab", "ab", "cd", "cd"]


def test_health_metrics_and_schema(start) -> None:
    with start(turned, batch_wait_ms=0) as running:
        assert running.ask(body("a", "b"))[0] == 200 and running.ask(b"x")[0] == 400
        status, content, _ = running.ask(b"", "GET", "/health")
        assert (status, json.loads(content)) == (200, {"status": "ok", "model": "a model", "waiting_sentences": 0})
        status, content, headers = running.ask(b"", "GET", "/metrics")
        lines = content.decode().splitlines()
        assert status == 200 and headers["content-type"].startswith("text/plain")
        for line in (
            'hf_nat_requests_total{status="200"} 1.0',
            'hf_nat_requests_total{status="400"} 1.0',
            "hf_nat_sentences_total 2.0",
            "hf_nat_batch_sentences_count 1.0",
            "hf_nat_request_seconds_count 1.0",
            "hf_nat_waiting_sentences 0.0",
        ):
            assert line in lines
        schema = json.loads(running.ask(b"", "GET", "/openapi.json")[1])
        assert {"/translate", "/health", "/metrics"} == schema["paths"].keys()
        post = schema["paths"]["/translate"]["post"]
        assert {"200", "400", "408", "413", "415", "422", "500", "503"} == post["responses"].keys()
        parts = schema["components"]["schemas"]
        assert parts["TranslationRequest"]["properties"]["sentences"]["items"] == {"type": "string"}
        assert parts["TranslationRequest"]["additionalProperties"] is False
        assert {"text", "score", "truncated"} <= parts["TranslatedSentence"]["properties"].keys()
        assert "HTTPValidationError" not in parts
        assert running.ask(b"", "GET", "/nowhere")[0] == 404 and running.ask(b"", "GET")[0] == 405


def test_many_clients_good_slow_and_broken_lose_nothing(start) -> None:
    sentences = [f"sentence number {number}" for number in range(50)]
    with start(turned, max_batch_sentences=8, batch_wait_ms=1) as running:
        ends = asyncio.run(load(running.port, sentences, 120, 8, lambda text: text[::-1]))
        until(lambda: waiting(running) == 0)
    assert ends == {"served": 96, "refused": 12, "left": 12}


def test_two_requests_of_a_connection_sent_at_once(start) -> None:
    async def both(port: int) -> list[Any]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request_bytes(body("ab")) + request_bytes(body("cd")))
        answers = [await read_answer(reader), await read_answer(reader)]
        writer.close()
        return [(status, content["translations"][0]["text"]) for status, content in answers]

    with start(turned) as running:
        assert asyncio.run(both(running.port)) == [(200, "ba"), (200, "dc")]


@pytest.mark.parametrize("most", [1, 2])
def test_so_many_connections_are_served_and_one_more_is_refused(most, start) -> None:
    with start(turned, max_connections=most) as running:
        assert [running.ask(body("ab"))[0] for _ in range(3)] == [200] * 3
        held = [socket.create_connection(("127.0.0.1", running.port), 30) for _ in range(most)]
        until(lambda: running.ask(body("ab"))[0] == 503)
        for client in held:
            client.close()
        until(lambda: running.ask(body("ab"))[0] == 200)


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"batch_wait_ms": -1.0}, "`batch_wait_ms` must be >= 0 and <= 60000, got -1.0"),
        ({"batch_wait_ms": 1e12}, "`batch_wait_ms` must be >= 0 and <= 60000, got 1000000000000.0"),
        ({"batch_wait_ms": math.inf}, "`batch_wait_ms` must be a finite number >= 0 and <= 60000, got inf"),
        ({"max_batch_sentences": 0}, "`max_batch_sentences` must be >= 1, got 0"),
        ({"max_queue_sentences": 10}, r"`max_request_sentences` must be <= `max_queue_sentences` \(10\), got 256"),
    ],
)
def test_limits_that_make_no_sense(limits, said) -> None:
    with pytest.raises(ValueError, match=said):
        ServingArguments(**limits)


def test_an_address_that_is_taken_is_one_line(tmp_path, capsys) -> None:
    with bind("127.0.0.1", 0) as bound:
        bound.listen()
        port = bound.getsockname()[1]
        assert main(["serve", "--model=nowhere", f"--port={port}"]) == 2
    assert f"cannot listen on 127.0.0.1 port {port}: Address already in use" in capsys.readouterr().err
    assert main(["serve", "--model=nowhere", "--port=70000"]) == 2
    assert "`port` must be >= 0 and <= 65535, got 70000" in capsys.readouterr().err


def test_missing_packages_are_named(monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "hf_nat.serving.app", None)
    assert main(["serve", "--model=nowhere"]) == 2
    assert "pip install 'hf_nat[serve]'" in capsys.readouterr().err
