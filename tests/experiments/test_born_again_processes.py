"""Born-again teachers in real processes: killed at random moments, and two at once."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from hf_nat.base.utils import read_json


pytestmark = pytest.mark.slow

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}


@pytest.fixture
def command(config: Callable[..., str], tmp_path: Path) -> Callable[..., list[str]]:
    """Builds the command of a run of two iterations."""
    configs = {"teacher_config": config("teacher", max_steps=40, save_steps=10), "distill_config": config("distill")}

    def build(output_dir: str) -> list[str]:
        path = tmp_path / f"{output_dir}.yaml"
        settings = {"output_dir": str(tmp_path / output_dir), "iterations": 1, "num_bootstrap": 10}
        path.write_text(yaml.safe_dump({**configs, **settings}))
        return ["-m", "hf_nat", "born-again", str(path)]

    return build


def corpora(folder: Path) -> dict[str, bytes]:
    paths = folder.glob("iteration_*/corpus/data/*.parquet")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_killed_at_random_moments_the_same_command_ends_with_the_same_corpora_and_scores(
    command: Callable[..., list[str]], tmp_path: Path
) -> None:
    started = time.monotonic()
    subprocess.run([sys.executable, *command("whole")], env=ENVIRONMENT, check=True)
    seconds = time.monotonic() - started
    seed = random.randrange(2**32)
    print(f"moments of seed {seed}")
    draw = random.Random(seed)
    for _ in range(5):
        process = subprocess.Popen([sys.executable, *command("killed")], env=ENVIRONMENT)
        time.sleep(draw.uniform(0, seconds))
        process.kill()
        process.wait()
    subprocess.run([sys.executable, *command("killed")], env=ENVIRONMENT, check=True)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert len(corpora(whole)) == 12
    assert corpora(killed) == corpora(whole)
    scores = [
        [row["teacher"] for row in read_json(folder / "born_again.json")["iterations"]] for folder in (whole, killed)
    ]
    assert scores[0] == scores[1]


def test_two_processes_share_the_work(command: Callable[..., list[str]], tmp_path: Path) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    subprocess.run([*launcher, *command("two")], env=ENVIRONMENT, check=True)
    folder = tmp_path / "two"
    for iteration in (0, 1):
        own = folder / f"iteration_{iteration}"
        for step in ("teacher", "corpus"):
            assert read_json(own / step / "metrics.json")["num_processes"] == 2
    assert len(read_json(folder / "born_again.json")["iterations"]) == 2
    assert (folder / "report.html").is_file()
