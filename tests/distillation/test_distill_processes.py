"""Distillation in real processes: killed at any moment, and several at once."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from distillation.strategy_runs import RUNS
from transformers import MarianMTModel, PreTrainedTokenizerFast

from hf_nat.base.utils import read_json, write_json
from hf_nat.distillation import DistillArguments
from hf_nat.steps import distill


PROGRAM = Path(__file__).with_name("distill_program.py")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROGRAM.parents[2])}
NUM_SHARDS = 40

pytestmark = pytest.mark.slow


@pytest.fixture
def job(
    arguments: Callable[..., DistillArguments],
    copy_teacher: MarianMTModel,
    tiny_tokenizer: PreTrainedTokenizerFast,
    sentences: list[str],
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

    def build(output_dir: str, **changes: object) -> tuple[DistillArguments, Path]:
        args = arguments(output_dir, teacher=str(teacher), shard_size=2, **changes)
        write_json(tmp_path / f"{output_dir}.json", dataclasses.asdict(args))
        return args, tmp_path / f"{output_dir}.json"

    return build


def start(job_file: Path, num_processes: int) -> list[subprocess.Popen]:
    """Starts the program as a launcher would."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for rank in range(num_processes):
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": num_processes, "LOCAL_WORLD_SIZE": num_processes}
        place |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        own = {name: str(value) for name, value in place.items()} if num_processes > 1 else {}
        processes.append(subprocess.Popen([sys.executable, PROGRAM, job_file], env=ENVIRONMENT | own))
    return processes


def kill_when(folder: Path, num_shards: int, delay: float, processes: list[subprocess.Popen]) -> None:
    """Kills all processes `delay` seconds after so many shards are there."""
    try:
        written, deadline = -1, 0.0
        while (found := len(list(folder.glob("data/*.parquet")))) < num_shards:
            if found != written:
                written, deadline = found, time.monotonic() + 120
            assert all(process.poll() is None for process in processes), "the program ended before it could be killed"
            assert time.monotonic() < deadline, "the program makes no progress"
        time.sleep(delay)
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()


def times(folder: Path) -> dict[str, int]:
    """When each shard was written, by its name without the number of all, which a stream has at its end."""
    return {path.stem.partition("-of-")[0]: path.stat().st_mtime_ns for path in sorted(folder.glob("data/*.parquet"))}


@pytest.mark.parametrize("num_processes", [1, 2])
@pytest.mark.parametrize("name", [*RUNS, "ct2"])
def test_killed_at_ten_random_moments_the_same_command_ends_with_the_same_bytes(
    job, copy_teacher, tiny_tokenizer, file_bytes, name, num_processes
):
    changes = RUNS.get(name, {"backend": "ct2"})
    args, _ = job("whole", **changes)
    whole = file_bytes(distill(copy_teacher, tiny_tokenizer, args))
    args, job_file = job("killed", **changes)
    folder = Path(args.output_dir)
    seed = random.randrange(2**32)
    print(f"moments of seed {seed}")
    draw = random.Random(seed)
    # While Python starts, before and after the folder is claimed, then between and in the midst of shards.
    moments = [
        (0, draw.uniform(0, 6)),
        *((count, draw.uniform(0, 0.05)) for count in sorted(draw.sample(range(1, 37), 9))),
    ]
    for num_shards, delay in moments:
        kill_when(folder, num_shards, delay, start(job_file, num_processes))
    assert not (folder / "manifest.json").exists(), "killed too late"
    written = times(folder)
    assert written
    for process in start(job_file, num_processes):
        assert process.wait() == 0
    assert file_bytes(folder) == whole
    assert written.items() <= times(folder).items(), "what was written is not written again"


@pytest.mark.parametrize("name", RUNS)
def test_two_processes_write_the_bytes_of_one_and_one_resumes_them(
    job, copy_teacher, tiny_tokenizer, file_bytes, name
):
    args, _ = job("one", **RUNS[name])
    one = file_bytes(distill(copy_teacher, tiny_tokenizer, args))
    args, job_file = job("two", **RUNS[name])
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
