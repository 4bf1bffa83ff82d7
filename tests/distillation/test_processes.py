"""Distillation in real processes: killed at any moment, and several at once."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import MarianMTModel, PreTrainedTokenizerFast

from hf_nat.distillation import DistillArguments, distill
from hf_nat.distillation.strategies import STRATEGIES
from hf_nat.utils import read_json, write_json


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


def kill_when(folder: Path, pattern: str, count: int, job_file: Path) -> None:
    """Starts the program and kills it as soon as `count` files match."""
    process = subprocess.Popen([sys.executable, PROGRAM, job_file], env=ENVIRONMENT)
    try:
        deadline = time.monotonic() + 120
        while len(list(folder.glob(pattern))) < count:
            assert process.poll() is None, "the program ended before it could be killed"
            assert time.monotonic() < deadline, "the program makes no progress"
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_killed_at_any_moment_the_same_command_ends_with_the_same_bytes(
    job, copy_teacher, tiny_tokenizer, file_bytes, strategy
):
    args, _ = job("whole", strategy=strategy)
    whole = file_bytes(distill(copy_teacher, tiny_tokenizer, args))
    args, job_file = job("killed", strategy=strategy)
    folder = Path(args.output_dir)
    moments = [("run.json", 1), ("data/.*.tmp", 1), ("data/*.parquet", 5), ("data/*.parquet", NUM_SHARDS // 2)]
    for pattern, count in moments:
        kill_when(folder, pattern, count, job_file)
        assert not (folder / "manifest.json").exists(), f"killed too late to test {pattern}"
    written = {path: path.stat().st_mtime_ns for path in folder.glob("data/*.parquet")}
    subprocess.run([sys.executable, PROGRAM, job_file], env=ENVIRONMENT, check=True)
    assert file_bytes(folder) == whole
    assert all(path.stat().st_mtime_ns == before for path, before in written.items())


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_two_processes_write_the_bytes_of_one_and_one_resumes_them(
    job, copy_teacher, tiny_tokenizer, file_bytes, strategy
):
    args, _ = job("one", strategy=strategy)
    one = file_bytes(distill(copy_teacher, tiny_tokenizer, args))
    args, job_file = job("two", strategy=strategy)
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
