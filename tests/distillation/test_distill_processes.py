"""Distillation in real processes: killed at any moment, and several at once."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil
import pytest
from distillation.distill_program import distill_job
from distillation.strategy_runs import RUNS, SEVERAL, in_folder
from transformers import MarianMTModel, PreTrainedTokenizerFast

from hf_nat.base.utils import read_json, write_json
from hf_nat.distillation import DistillArguments
from hf_nat.steps import distill


PROGRAM = Path(__file__).with_name("distill_program.py")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROGRAM.parents[2])}
NUM_SHARDS = 40
# A standstill uses no more processor seconds than these in so many seconds; a run needs fewer from shard to shard.
IDLE_CPU, IDLE_SECONDS, MOST_CPU = 1, 120, 300

NOISE = {"casing": 0.4, "punctuation": 0.4, "typos": 0.4, "merge": 0.4}
ALL_RUNS = {**RUNS, **SEVERAL, "ct2": {"backend": "ct2"}, "noise": {"strategy": "greedy", "source_noise": NOISE}}

# Processes start from one that has imported what takes seconds, so that kills fall into the work.
LAUNCHER = multiprocessing.get_context("forkserver")
LAUNCHER.set_forkserver_preload(
    ["pytest", "distillation.distill_program", "transformers.models.marian.modeling_marian"]
)

pytestmark = pytest.mark.slow


@pytest.fixture
def job(
    arguments: Callable[..., DistillArguments],
    copy_teacher: MarianMTModel,
    tiny_tokenizer: PreTrainedTokenizerFast,
    sentences: list[str],
    second: str,
    third: str,
    tmp_path: Path,
) -> Callable[..., tuple[DistillArguments, Path]]:
    """Builds the arguments of a run of 40 shards and more, and their file."""
    teacher = tmp_path / "teacher"
    copy_teacher.save_pretrained(teacher)
    tiny_tokenizer.save_pretrained(teacher)
    words = sorted({word for sentence in sentences for word in sentence.split()})
    sources = [" ".join(words[(i * k) % len(words)] for k in range(1, 2 + i % 7)) for i in range(2 * NUM_SHARDS)]
    rows = [{"translation": {"en": source, "xx": source}} for source in sources]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "news.en").write_text("".join(f"{source}\n" for source in sources))

    def build(output_dir: str, name: str) -> tuple[DistillArguments, Path]:
        changes = in_folder(ALL_RUNS[name], tmp_path)
        args = arguments(output_dir, teacher=str(teacher), shard_size=2, **changes)
        write_json(tmp_path / f"{output_dir}.json", dataclasses.asdict(args))
        return args, tmp_path / f"{output_dir}.json"

    return build


def start(job_file: Path, num_processes: int) -> list[BaseProcess]:
    """Starts the program as a launcher would."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for rank in range(num_processes):
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": num_processes, "LOCAL_WORLD_SIZE": num_processes}
        place |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        own = {name: str(value) for name, value in place.items()} if num_processes > 1 else {}
        process = LAUNCHER.Process(target=distill_job, args=(job_file, own))
        process.start()
        processes.append(process)
    return processes


def num_shards(folder: Path) -> int:
    return len(list(folder.glob("data/*.parquet")))


def watch(folder: Path, processes: list[BaseProcess]) -> Iterator[int]:
    """Yields the number of shards again and again; an error if the processes stand still or run for nothing.

    Time alone tells neither: a machine may be busy with other things, or stop for minutes.
    """
    seconds: dict[int, float] = {}
    at_shard = at_look = 0.0
    written, look = -1, time.monotonic()
    while True:
        found = num_shards(folder)
        yield found
        seconds |= cpu_seconds(processes)
        used = sum(seconds.values())
        if found != written:
            written, at_shard = found, used
        stands = False
        if time.monotonic() > look + IDLE_SECONDS:
            stands, look, at_look = used - at_look < IDLE_CPU, time.monotonic(), used
        if stands or used > at_shard + MOST_CPU * len(processes):
            for process in processes:
                os.kill(process.pid, signal.SIGABRT)
                process.join()
            raise AssertionError(f"the program stands still at {found} shards; its threads are in the captured output")
        time.sleep(0.001)  # Or this process would take the time that the program needs.


def cpu_seconds(processes: list[BaseProcess]) -> dict[int, float]:
    """Processor time that each process that has not ended has used."""
    found = {}
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            found[process.pid] = sum(psutil.Process(process.pid).cpu_times()[:2])
    return found


def kill_when(folder: Path, number: int, delay: float, processes: list[BaseProcess]) -> None:
    """Kills all processes `delay` seconds after so many shards are there, or when the next one is."""
    reached = None
    try:
        for found in watch(folder, processes):
            now = time.monotonic()
            reached = now if reached is None and found >= number else reached
            if reached is not None and (now >= reached + delay or found > number):
                break
            assert all(process.exitcode is None for process in processes), (
                "the program ended before it could be killed"
            )
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.join()


def times(folder: Path) -> dict[str, int]:
    """When each shard was written, by its name without the number of all, which a stream has at its end."""
    return {path.stem.partition("-of-")[0]: path.stat().st_mtime_ns for path in sorted(folder.glob("data/*.parquet"))}


@pytest.mark.parametrize("program", ["import time; time.sleep(600)", "while True: pass"])
def test_a_program_that_hangs_is_found(program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "IDLE_SECONDS", 5)
    monkeypatch.setattr(sys.modules[__name__], "MOST_CPU", 2)
    process = LAUNCHER.Process(target=exec, args=(program,))
    process.start()
    with pytest.raises(AssertionError, match="stands still at 0 shards"):
        kill_when(tmp_path, 1, 0, [process])
    assert process.exitcode == -signal.SIGABRT


@pytest.mark.parametrize("num_processes", [1, 2])
@pytest.mark.parametrize("name", ALL_RUNS)
def test_killed_at_ten_random_moments_the_same_command_ends_with_the_same_bytes(
    job, copy_teacher, tiny_tokenizer, file_bytes, name, num_processes
):
    args, _ = job("whole", name)
    whole = file_bytes(distill(copy_teacher, tiny_tokenizer, args))
    args, job_file = job("killed", name)
    folder = Path(args.output_dir)
    seed = random.randrange(2**32)
    print(f"moments of seed {seed}")
    draw = random.Random(seed)
    # Before and after the folder is claimed, then between and in the midst of shards.
    moments = [
        (0, draw.uniform(0, 2)),
        *((number, draw.uniform(0, 0.05)) for number in sorted(draw.sample(range(1, 31), 9))),
    ]
    for number, delay in moments:
        kill_when(folder, number, delay, start(job_file, num_processes))
    assert not (folder / "manifest.json").exists(), "killed too late"
    written = times(folder)
    assert written
    processes = start(job_file, num_processes)
    for _ in watch(folder, processes):
        if all(process.exitcode is not None for process in processes):
            break
    assert [process.exitcode for process in processes] == [0] * num_processes
    assert file_bytes(folder) == whole
    assert written.items() <= times(folder).items(), "what was written is not written again"


@pytest.mark.parametrize("name", ALL_RUNS)
def test_two_processes_write_the_bytes_of_one_and_one_resumes_them(
    job, copy_teacher, tiny_tokenizer, file_bytes, name
):
    args, _ = job("one", name)
    one = file_bytes(distill(copy_teacher, tiny_tokenizer, args))
    args, job_file = job("two", name)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    subprocess.run([*launcher, PROGRAM, job_file], env=ENVIRONMENT, check=True)
    folder = Path(args.output_dir)
    assert read_json(folder / "metrics.json")["num_processes"] == 2, "two processes must really have run"
    assert file_bytes(folder) == one

    lost = sorted(folder.glob("data/train-*"))[::2]
    for path in lost:
        path.unlink()
    distill(copy_teacher, tiny_tokenizer, args)
    metrics = read_json(folder / "metrics.json")
    assert (metrics["num_processes"], metrics["num_sentences"]) == (1, 2 * len(lost)), "the others must be left alone"
    assert file_bytes(folder) == one
