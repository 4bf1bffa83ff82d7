#!/usr/bin/env python
"""Training speed of two checkouts of this project, in turns.

    git worktree add ../before e01bd15
    python scripts/compare_training.py --before ../before --output comparison.json

Each checkout trains in a process of its own, as its `scripts/benchmark_training.py` does, on the same batches; of two
updates of the same batch one follows the other. What is counted is the processor time of an update, that of the kernel
included, because other work on the machine does not change it much; `HF_NAT_MALLOC=off` switches the allocator off in
both.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any


WORKER = "measured-process"
CHECKOUT = Path(__file__).parents[1]


def worker(settings: dict[str, Any]) -> None:
    """Reads an architecture and a batch from each line, and writes the seconds of one update: user and system."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    sys.path.insert(0, "scripts")
    import benchmark_training as benchmark

    if hasattr(benchmark, "keep_freed_memory"):
        benchmark.keep_freed_memory()
    args = benchmark.parse_arguments(["--output", "unused"])
    vars(args).update(settings)
    batches = benchmark.make_batches(benchmark.synthetic_lengths(20_000), args)
    trainees: dict[str, Any] = {}
    for line in sys.stdin:
        name, batch = json.loads(line)
        if name not in trainees:
            trainees[name] = benchmark.new_trainee(name, args)
        before = os.times()
        trainees[name].update(batches[batch])
        after = os.times()
        print(json.dumps([after.user - before.user, after.system - before.system]), file=answers, flush=True)


class Checkout:
    """A process that trains with the code of a checkout."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), WORKER, json.dumps(settings)],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(folder.resolve())},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def update(self, name: str, batch: int) -> list[float]:
        """Returns the seconds of one update: user and system."""
        assert self._process.stdin is not None and self._process.stdout is not None
        print(json.dumps([name, batch]), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()


def summary(before: Sequence[Sequence[float]], after: Sequence[Sequence[float]]) -> dict[str, float]:
    """Medians of the seconds `[user, system]` of updates, and of the ratios of those of the same turn."""
    return {
        "seconds_before": median(map(sum, before)),
        "seconds_after": median(map(sum, after)),
        "kernel_before": median(system / (user + system) for user, system in before),
        "kernel_after": median(system / (user + system) for user, system in after),
        "speed_up": median(sum(old) / sum(new) for old, new in zip(before, after, strict=True)),
    }


def markdown_table(result: dict[str, Any]) -> str:
    """Prints one row per architecture."""
    from hf_nat.base.reporting import Table

    header = ["architecture", "seconds before", "now", "speed-up", "of the kernel before", "now"]
    rows = [
        [
            name,
            f"{row['seconds_before']:.2f}",
            f"{row['seconds_after']:.2f}",
            f"{row['speed_up']:.2f}x",
            f"{100 * row['kernel_before']:.1f} %",
            f"{100 * row['kernel_after']:.1f} %",
        ]
        for name, row in sorted(result["architectures"].items())
    ]
    return Table(header, rows).markdown()


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, writes the JSON file after each architecture and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, help="folder of the other checkout")
    parser.add_argument("--architectures", nargs="+", default=["vanilla_nat", "marian"], metavar="NAME")
    parser.add_argument("--size", default="tiny")
    parser.add_argument("--max_tokens", type=int, default=4096)
    parser.add_argument("--num_batches", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3, help="timed updates of each batch")
    parser.add_argument("--output", required=True, help="JSON file to write")
    args = parser.parse_args(argv)
    from hf_nat.base.utils import environment, write_json

    settings = {name: getattr(args, name) for name in ("size", "max_tokens", "num_batches")}
    result: dict[str, Any] = {"settings": {**settings, "repeats": args.repeats}, "architectures": {}}
    checkouts = [Checkout(folder, settings) for folder in (args.before, CHECKOUT)]
    for name in args.architectures:
        seconds: list[list[list[float]]] = [[], []]
        for turn in range((args.repeats + 1) * args.num_batches):
            order = (0, 1) if turn % 2 else (1, 0)
            for number in order:
                measured = checkouts[number].update(name, turn % args.num_batches)
                if turn >= args.num_batches:  # the first update of a batch warms up
                    seconds[number].append(measured)
        result["architectures"][name] = {"before": seconds[0], "after": seconds[1]} | summary(*seconds)
        result["environment"] = environment()
        write_json(args.output, result)
        print(f"{name}: {result['architectures'][name]['speed_up']:.2f}x")
    for checkout in checkouts:
        checkout.close()
    print(markdown_table(result))


if __name__ == "__main__":
    if sys.argv[1:2] == [WORKER]:
        worker(json.loads(sys.argv[2]))
    else:
        main()
