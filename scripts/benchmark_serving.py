#!/usr/bin/env python
"""Latency, throughput and memory of `hf-nat serve`, asked by clients that wait for each answer before they ask again.

    python scripts/benchmark_serving.py --model runs/toy/cmlm_distilled --corpus runs/toy/corpus --split test \
        --source_lang src --target_lang tgt --output serving.json --options --max_iterations 4

A server is started for every wait limit, on loopback and in a process of its own; the clients, in this process, send
one sentence a request, those of the split over and over. The waits take turns, `repeats` times over. The table goes to
standard output, all percentiles of the times to the JSON file.

Memory is what the server's /metrics says, early in a pass and at its end: beyond what its longest batches took, a
server must not grow.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from itertools import cycle, islice
from math import ceil
from pathlib import Path
from statistics import median
from typing import Any

from hf_nat.base.reporting import Table
from hf_nat.base.utils import environment, progress_bar, write_json
from hf_nat.data.corpora import load_corpus


WARM_UP_REQUESTS = 20
# Answers after which memory is read first.
EARLY_REQUESTS = 200


@dataclass(frozen=True)
class Pass:
    """What the requests of a pass took.

    Args:
        seconds (`Sequence[float]`): each request.
        total_seconds (`float`): all together.
        resident_bytes (`tuple[int, int]`): resident memory of the server after `EARLY_REQUESTS` answers and after
            all; twice the latter where there are fewer.
    """

    seconds: Sequence[float]
    total_seconds: float
    resident_bytes: tuple[int, int]


@contextmanager
def serving(model: str, wait_ms: float, options: Sequence[str]) -> Iterator[int]:
    """Runs a server and gives its port."""
    command = [sys.executable, "-m", "hf_nat", "serve", f"--model={model}", "--port=0", f"--batch_wait_ms={wait_ms}"]
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:(\d+)/translate", process.stdout.readline())
        if found is None:
            raise RuntimeError(f"The server of {model!r} did not start: its error is above.")
        try:
            yield int(found[1])
        finally:
            process.send_signal(signal.SIGTERM)


def ask(port: int, sentences: Sequence[str], num_clients: int) -> Pass:
    """Sends every sentence as a request of its own, `num_clients` at a time.

    Args:
        port (`int`): where the server is.
        sentences (`Sequence[str]`): source sentences.
        num_clients (`int`): connections, each with one request at a time.

    Returns:
        `Pass`: times and memory.

    Raises:
        RuntimeError: if the server refuses a request.
    """
    remaining, lock, seconds, early = iter(sentences), threading.Lock(), list[float](), list[int]()

    def client(_: int) -> None:
        connection = HTTPConnection("127.0.0.1", port, timeout=600)
        while True:
            with lock:
                sentence = next(remaining, None)
            if sentence is None:
                connection.close()
                return
            body = json.dumps({"sentences": [sentence]})
            start = time.perf_counter()
            connection.request("POST", "/translate", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            content = answer.read()
            elapsed = time.perf_counter() - start
            if answer.status != 200:
                raise RuntimeError(f"The server answered {answer.status}: {content.decode()}")
            with lock:
                seconds.append(elapsed)
                is_early = len(seconds) == EARLY_REQUESTS
            if is_early:
                early.append(resident_bytes(port))

    start = time.perf_counter()
    with ThreadPoolExecutor(num_clients) as clients:
        list(clients.map(client, range(num_clients)))
    total, late = time.perf_counter() - start, resident_bytes(port)
    return Pass(seconds, total, (early[0] if early else late, late))


def resident_bytes(port: int) -> int:
    """Asks a server for its resident memory."""
    connection = HTTPConnection("127.0.0.1", port, timeout=600)
    connection.request("GET", "/metrics")
    found = re.search(r"^process_resident_memory_bytes (\S+)$", connection.getresponse().read().decode(), re.MULTILINE)
    connection.close()
    if found is None:
        raise RuntimeError("The server must tell its memory in /metrics, which it does on Linux alone.")
    return int(float(found[1]))


def percentile(times: Sequence[float], share: float) -> float:
    """Returns the smallest of the times that so large a share of them does not exceed."""
    ordered = sorted(times)
    return ordered[max(1, ceil(share * len(ordered))) - 1]


def summary(passes: Sequence[Pass]) -> dict[str, Any]:
    """Puts the passes of one setting together; percentiles are over the requests of all of them.

    `resident_mb` has a pair for each pass (MB of a million bytes), `resident_growth` is the largest ratio of a pair.
    """
    times = [seconds for one in passes for seconds in one.seconds]
    rates = [len(one.seconds) / one.total_seconds for one in passes]
    return {
        "p50_ms": 1000 * percentile(times, 0.5),
        "p99_ms": 1000 * percentile(times, 0.99),
        "sentences_per_second": median(rates),
        "sentences_per_second_range": [min(rates), max(rates)],
        "resident_mb": [[size / 1e6 for size in one.resident_bytes] for one in passes],
        "resident_growth": max(late / early for early, late in (one.resident_bytes for one in passes)),
        "percentiles_ms": [1000 * percentile(times, share / 100) for share in range(1, 101)],
    }


def markdown_table(result: dict[str, Any]) -> str:
    """Prints one row per wait limit and number of clients; memory is that of the pass in which it grew most."""
    early, late = (f"MB after {number:,}" for number in (EARLY_REQUESTS, result["num_requests"]))
    heads = ["wait limit, ms", "clients", "p50, ms", "p99, ms", "sentences/s", early, late, "growth"]
    rows = []
    for row in result["results"]:
        pair = max(row["resident_mb"], key=lambda pair: pair[1] / pair[0])
        rows.append(
            [
                f"{row['batch_wait_ms']:g}",
                str(row["clients"]),
                f"{row['p50_ms']:.1f}",
                f"{row['p99_ms']:.1f}",
                f"{row['sentences_per_second']:.1f}",
                *(f"{size:.0f}" for size in pair),
                f"{row['resident_growth']:.3f}x",
            ]
        )
    return Table(heads, rows).markdown()


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, prints the table and writes the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True, help="what is served: checkpoint folder or Hub id")
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--source_lang", required=True)
    parser.add_argument("--target_lang", required=True)
    parser.add_argument("--num_requests", type=int, default=2000, help="requests of a pass")
    parser.add_argument("--waits_ms", type=float, nargs="+", default=[0, 5, 20])
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="threads of the server's model")
    parser.add_argument("--output", required=True, help="JSON file to write")
    parser.add_argument("--options", nargs=argparse.REMAINDER, default=[], help="the rest goes to `hf-nat serve`")
    args = parser.parse_args(argv)
    corpus = load_corpus(args.corpus, args.split, source_lang=args.source_lang, target_lang=args.target_lang)
    texts = (row["translation"][args.source_lang] for row in corpus)
    sentences = list(islice(cycle(text for text in texts if text.strip()), args.num_requests))
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    settings = [(wait, clients) for wait in args.waits_ms for clients in args.clients]
    passes: dict[tuple[float, int], list[Pass]] = {setting: [] for setting in settings}
    with progress_bar(args.repeats * len(settings), "serving", unit="passes") as bar:
        for _ in range(args.repeats):
            for wait in args.waits_ms:
                with serving(args.model, wait, args.options) as port:
                    ask(port, sentences[:WARM_UP_REQUESTS], 1)
                    for clients in args.clients:
                        passes[wait, clients].append(ask(port, sentences, clients))
                        bar.update()
    results = [
        {"batch_wait_ms": wait, "clients": clients, **summary(passes[wait, clients])} for wait, clients in settings
    ]
    result = {
        "model": args.model,
        "options": args.options,
        "num_requests": len(sentences),
        "threads": args.threads,
        "environment": environment(),
        "results": results,
    }
    write_json(Path(args.output), result)
    print(markdown_table(result))


if __name__ == "__main__":
    main()
