"""`hf-nat serve` as a user runs it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from clients import load, read_answer, request_bytes
from nat_model_tester import save, tiny_student

import hf_nat.serving.server
from hf_nat.decoding import load_model, translate
from hf_nat.steps import Export, ExportArguments
from hf_nat_cli import main


ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def model(tmp_path_factory, copy_teacher, tiny_tokenizer) -> Path:
    folder = tmp_path_factory.mktemp("model")
    copy_teacher.save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def texts(sentences: list[str]) -> list[str]:
    return [*sentences, "", "  a dog runs ", "a </s> dog", " ".join(sentences * 4)]


@pytest.fixture
def expected(model: Path, texts: list[str]) -> dict[str, str]:
    """Each sentence translated alone."""
    loaded = load_model(model, device="cpu")
    return {text: translate(*loaded, [text])[0].text for text in texts}


def test_the_command_serves_until_a_signal(model, expected, monkeypatch, capsys) -> None:
    servers, printed, statuses = [], threading.Event(), []

    class Recorded(hf_nat.serving.server.Server):
        async def startup(self, sockets: Any = None) -> None:
            servers.append(self)
            await super().startup(sockets)
            printed.set()

    monkeypatch.setattr(hf_nat.serving.server, "Server", Recorded)
    argv = ["serve", f"--model={model}", "--port=0", "--with_scores=false", "--batch_wait_ms=0"]
    thread = threading.Thread(target=lambda: statuses.append(main(argv)), daemon=True)
    thread.start()
    assert printed.wait(60)
    address = re.search(r"served on (http://127\.0\.0\.1:\d+/translate)", capsys.readouterr().out)[1]
    body = json.dumps({"sentences": list(expected)}).encode()
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        translations = json.load(answer)["translations"]
    assert [translation["text"] for translation in translations] == list(expected.values())
    assert {translation["score"] for translation in translations} == {None}
    servers[0].handle_exit(signal.SIGINT, None)
    thread.join(60)
    assert statuses == [0]


@contextmanager
def process(model: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The command in a process of its own, and its port."""
    command = [sys.executable, "-u", "-m", "hf_nat", "serve", f"--model={model}", "--port=0", *options]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as running:
        try:
            found = re.search(r"http://127\.0\.0\.1:(\d+)/translate", running.stdout.readline())
            yield running, int(found[1])
        finally:
            running.kill()


def resident_kb(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1])


@pytest.fixture(scope="module")
def graph(tmp_path_factory, tiny_tokenizer) -> Path:
    """An exported CTC model."""
    for package in ("onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp("graph")
    save(folder / "model", tiny_student("ctc_nat", tiny_tokenizer), tiny_tokenizer)
    Export(ExportArguments(model=str(folder / "model"), output_dir=str(folder / "exported"))).run()
    return folder / "exported"


@pytest.mark.slow
@pytest.mark.parametrize(("served", "options"), [("model", {}), ("graph", {"backend": "onnx"})])
def test_two_thousand_requests_lose_nothing_and_memory_stays(served, options, texts, request) -> None:
    folder = request.getfixturevalue(served)
    loaded = load_model(folder, **options or {"device": "cpu"})
    expected = {text: translate(*loaded, [text])[0].text for text in texts}

    def send(num_requests: int) -> None:
        ends = asyncio.run(load(port, list(expected), num_requests, 32, expected.__getitem__))
        assert ends == {"served": 0.8 * num_requests, "refused": 0.1 * num_requests, "left": 0.1 * num_requests}

    with process(folder, *(f"--{name}={value}" for name, value in options.items())) as (running, port):
        send(200)
        before = resident_kb(running.pid)
        send(1800)
        assert resident_kb(running.pid) <= 1.05 * before
        running.send_signal(signal.SIGTERM)
        assert running.wait(60) == 0


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_process_after_the_answers(sent, model, expected) -> None:
    async def ask(port: int, running: subprocess.Popen[str]) -> list[tuple[int, dict[str, Any]]]:
        connections = [await asyncio.open_connection("127.0.0.1", port) for _ in range(8)]
        for _, writer in connections:
            writer.write(request_bytes(json.dumps({"sentences": [text] * 100}).encode()))
        # The first answers: all have been accepted by then, in their order.
        answers = [await read_answer(connections[0][0])]
        running.send_signal(sent)
        return answers + [await read_answer(reader) for reader, _ in connections[1:]]

    text = list(expected)[0]
    with process(model, "--max_batch_sentences=16") as (running, port):
        for status, content in asyncio.run(ask(port, running)):
            assert status == 200
            assert [row["text"] for row in content["translations"]] == [expected[text]] * 100
        assert running.wait(60) == 0
