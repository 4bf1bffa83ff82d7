"""The serving benchmark asks what it says, and reports what it measured."""

from __future__ import annotations

import importlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from hf_nat.base.utils import read_json


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    """The script as a module."""
    return importlib.import_module("benchmark_serving")


class Counting(BaseHTTPRequestHandler):
    """Answers after a while, and notes what it was asked and how many asked at a time."""

    protocol_version = "HTTP/1.1"
    asked: list[str] = []
    at_once: list[int] = []
    active = 0
    lock = threading.Lock()

    def do_POST(self) -> None:
        sentences = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["sentences"]
        with self.lock:
            type(self).active += 1
            self.asked.extend(sentences)
            self.at_once.append(self.active)
        time.sleep(0.01)
        with self.lock:
            type(self).active -= 1
        self.send_response(503 if sentences == ["full"] else 200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def do_GET(self) -> None:
        content = f"# HELP\nprocess_resident_memory_bytes {len(self.asked):.1e}\n".encode()
        self.send_response(200 if self.path == "/metrics" else 404)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Counting) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.mark.parametrize("clients", [1, 3])
def test_every_sentence_is_asked_once_and_no_client_asks_twice_at_a_time(clients, port, benchmark) -> None:
    Counting.asked.clear(), Counting.at_once.clear()
    sentences = [str(number) for number in range(20)]
    one = benchmark.ask(port, sentences, clients)
    assert sorted(Counting.asked) == sorted(sentences) and max(Counting.at_once) <= clients
    assert len(one.seconds) == 20 and min(one.seconds) >= 0.01 and sum(one.seconds) / clients <= one.total_seconds
    assert one.resident_bytes == (20, 20)


def test_memory_is_read_early_and_at_the_end(port, benchmark, monkeypatch) -> None:
    monkeypatch.setattr(benchmark, "EARLY_REQUESTS", 4)
    Counting.asked.clear()
    assert benchmark.ask(port, ["a"] * 10, 1).resident_bytes == (4, 10)


def test_a_refused_request_is_no_measurement(port, benchmark) -> None:
    with pytest.raises(RuntimeError, match="The server answered 503"):
        benchmark.ask(port, ["full"], 1)


@pytest.mark.parametrize(
    ("count", "share", "expected"),
    [(1, 0.5, 1), (2, 0.5, 1), (3, 0.5, 2), (100, 0.5, 50), (100, 0.99, 99), (99, 0.99, 99)],
)
def test_percentiles_of_small_samples(count, share, expected, benchmark) -> None:
    assert benchmark.percentile(list(range(count, 0, -1)), share) == expected


def test_the_table_and_the_file_hold_every_setting(benchmark, tmp_path, monkeypatch, capsys) -> None:
    from contextlib import contextmanager

    started = []

    @contextmanager
    def serving(model: str, wait_ms: float, options: list[str]) -> Iterator[int]:
        started.append((model, wait_ms, options))
        yield 1

    monkeypatch.setattr(benchmark, "serving", serving)
    asked: list[list[str]] = []

    def ask(port: int, sentences: list[str], clients: int) -> Any:
        asked.append(sentences)
        late = 100_000_000 + clients * len(asked) * 100_000
        return benchmark.Pass([0.001 * clients] * 2, 0.5, (100_000_000, late))

    monkeypatch.setattr(benchmark, "ask", ask)
    for side in ("src", "tgt"):
        (tmp_path / f"test.{side}").write_text("a\nb\n", encoding="utf-8")
    argv = [f"--corpus={tmp_path}/{{split}}.{{lang}}", "--source_lang=src", "--target_lang=tgt", "--model=m"]
    argv += [
        "--repeats=2",
        "--num_requests=3",
        "--waits_ms",
        "0",
        "5",
        "--clients",
        "1",
        "4",
        f"--output={tmp_path / 'x.json'}",
    ]
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    benchmark.main([*argv, "--options", "--max_iterations", "4"])
    assert started == [("m", wait, ["--max_iterations", "4"]) for wait in (0.0, 5.0)] * 2
    result = read_json(tmp_path / "x.json")
    assert [(row["batch_wait_ms"], row["clients"]) for row in result["results"]] == [(0, 1), (0, 4), (5, 1), (5, 4)]
    assert result["results"][1]["p99_ms"] == pytest.approx(4.0)
    assert result["results"][1]["sentences_per_second"] == pytest.approx(4.0)
    assert asked == [["a", "b", "a"]] * 12 and result["num_requests"] == 3
    # The third and the ninth call.
    assert result["results"][1]["resident_mb"] == [[100, 101.2], [100, 103.6]]
    assert result["results"][1]["resident_growth"] == pytest.approx(1.036)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6 and "MB after 200" in lines[0] and "MB after 3" in lines[0]
    cells = [cell.strip() for cell in lines[3].split("|")[1:-1]]
    assert cells == ["0", "4", "4.0", "4.0", "4.0", "100", "104", "1.036x"]


@pytest.mark.slow
def test_a_server_is_measured(benchmark, tmp_path, copy_teacher, tiny_tokenizer, monkeypatch) -> None:
    copy_teacher.save_pretrained(tmp_path / "model")
    tiny_tokenizer.save_pretrained(tmp_path / "model")
    for side in ("src", "tgt"):
        (tmp_path / f"test.{side}").write_text("a dog runs\nhello\n" * 10, encoding="utf-8")
    argv = [f"--corpus={tmp_path}/{{split}}.{{lang}}", "--source_lang=src", "--target_lang=tgt", "--repeats=1"]
    argv += [
        f"--model={tmp_path / 'model'}",
        "--waits_ms",
        "0",
        "--clients",
        "4",
        "--num_requests=220",
        f"--output={tmp_path / 'x.json'}",
    ]
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    benchmark.main(argv)
    (row,) = read_json(tmp_path / "x.json")["results"]
    assert 0 < row["p50_ms"] <= row["p99_ms"] and row["percentiles_ms"][98] == row["p99_ms"]
    (pair,) = row["resident_mb"]
    assert 50 < pair[0] <= pair[1] * 1.1 and row["resident_growth"] == pair[1] / pair[0]
