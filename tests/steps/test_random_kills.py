"""Steps and studies killed at random moments, the final evaluation included, end as if nothing had happened."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from hf_nat.base.utils import read_json
from hf_nat.data.toy import ToyTask, generate_toy_corpus


pytestmark = pytest.mark.slow

KILLS = 20
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
TIMES = ("seconds", "per_second", "runtime", "environment", "versions", "flos", "peak_memory")
# Cards and files of a trainer hold times and paths; records are compared without their times.
NOT_BYTES = ("README.md", ".bin", ".pt", ".pth")
MODEL = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "max_position_embeddings": 64}


def timeless(value: Any) -> Any:
    """A JSON value without its times."""
    if isinstance(value, dict):
        return {key: timeless(item) for key, item in value.items() if not any(word in key for word in TIMES)}
    return [timeless(item) for item in value] if isinstance(value, list) else value


def contents(path: Path) -> Any:
    """A file without its times: a record, the line of a page that says what measuring cost, the last run's speed."""
    if path.name == "metrics.json" and (path.parent / "manifest.json").exists():
        return None
    if path.suffix == ".json":
        return timeless(read_json(path))
    cost = rb"[\d.]+ seconds, [\d,.]+ MB at the peak"
    return re.sub(cost, b"", path.read_bytes()) if path.suffix in (".md", ".html") else path.read_bytes()


def made(folder: Path) -> dict[str, Any]:
    """What a command leaves: records without times, other files by their bytes; checkpoints do not count."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and "checkpoint-" not in str(path)]
    visible = [path for path in paths if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    return {
        path.relative_to(folder).as_posix(): contents(path) for path in visible if not path.name.endswith(NOT_BYTES)
    }


def write_inputs(folder: Path) -> None:
    """Writes corpus and YAML files; commands run in `folder`, so that paths are the same everywhere."""
    generate_toy_corpus(folder / "corpus", ToyTask(num_words=12), sizes={"train": 200, "validation": 10, "test": 10})
    text = {"corpus": "corpus", "source_lang": "src", "target_lang": "tgt"}
    training = {
        **{"size": "nano", "model_config": MODEL, "max_source_length": 60, "max_target_length": 60, **text},
        **{"vocab_size": 120, "max_tokens": 200, "max_steps": 40, "warmup_steps": 4, "logging_steps": 7},
        **{"save_strategy": "steps", "save_steps": 10, "eval_strategy": "steps", "eval_steps": 10},
        **{"average_checkpoints": 2, "report_to": "none", "disable_tqdm": True, "use_cpu": True},
    }
    distillation = {**text, "teacher": "teacher", "strategy": "greedy", "max_new_tokens": 8, "shard_size": 40}
    files = {
        "teacher": {"model_type": "marian", **training, "output_dir": "teacher"},
        "student": {"model_type": "vanilla_nat", **training, "output_dir": "student"},
        "distill": {**distillation, "output_dir": "distilled"},
        "born_again": {
            **{"teacher_config": "teacher.yaml", "distill_config": "distill.yaml", "output_dir": "born_again"},
            **{"student_config": "student.yaml", "iterations": 1, "num_bootstrap": 10, "tokens": "space"},
        },
        "capacity": {
            **{"distill_config": "distill.yaml", "output_dir": "capacity", "num_bootstrap": 10, "tokens": "space"},
            **{"metrics": ["bleu", "chrf"], "teachers": {"one": {"config": "teacher.yaml"}}},
            **{"corpora": {"greedy": {"teacher": "one"}}, "students": {"weak": {"config": "student.yaml"}}},
        },
    }
    for name, content in files.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(content))))


def start(folder: Path, command: str) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", "hf_nat", *command.split()]
    return subprocess.Popen(words, cwd=folder, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def timed(folder: Path, command: str) -> float:
    """Seconds that a command takes: its work, or, where that is done, finding it out."""
    began = time.monotonic()
    assert start(folder, command).wait() == 0
    return time.monotonic() - began


@pytest.mark.parametrize(
    ("command", "output"),
    [
        ("train teacher.yaml", "teacher"),
        ("distill distill.yaml", "distilled"),
        ("born-again born_again.yaml", "born_again"),
        ("experiment capacity capacity.yaml", "capacity"),
    ],
)
def test_killed_again_and_again_it_ends_with_the_same_bytes(tmp_path: Path, command: str, output: str) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        write_inputs(folder)
        if output == "distilled":
            assert start(folder, "train teacher.yaml").wait() == 0
    seconds, idle = (timed(whole, command) for _ in range(2))
    seed = random.randrange(2**32)
    print(f"moments of seed {seed}")
    draw, kills = random.Random(seed), 0
    while kills < KILLS:
        process = start(killed, command)
        try:
            # Long enough to get somewhere, short enough for kills all along the way: some three runs' work in all.
            process.wait(draw.uniform(0.5 * idle, idle + (seconds - idle) / 3))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
            continue
        assert process.returncode == 0
        assert made(killed / output) == made(whole / output)
        subprocess.run(["rm", "-r", str(killed / output)], check=True)
    assert start(killed, command).wait() == 0
    assert made(killed / output) == made(whole / output)
