"""The studies of the toy corpus as their YAML files have them, in real processes, killed at random moments."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hf_nat.base.utils import read_json
from hf_nat.data.toy import ToyTask, generate_toy_corpus


pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
TOY = ROOT / "configs/toy"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with the toy corpus where the YAML files look for it."""
    generate_toy_corpus(tmp_path / "runs/toy/corpus", ToyTask())
    generate_toy_corpus(tmp_path / "runs/toy/multi_target", ToyTask(), multi_target=True)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    return tmp_path


def run(name: str, place: Path, *options: str) -> None:
    config = f"configs/toy/{name.replace('-', '_')}.yaml"
    command = [sys.executable, "-m", "hf_nat", "experiment", name, config, *options]
    subprocess.run(command, env=ENVIRONMENT, cwd=place, check=True)


def test_toy_study_of_three_languages_shows_what_the_paper_shows(place: Path) -> None:
    run("multimodality", place)
    results = read_json(place / "runs/toy/multimodality/multimodality.json")
    systems = {system["name"]: system["concentration"] for system in results["systems"]}
    concatenated, random, distilled = (systems[f"NAT, {c}"] for c in ("concatenated", "random selection", "distilled"))
    assert systems["AT"] > distilled > random > concatenated
    complexity = {measured["name"]: measured["words"]["complexity"] for measured in results["corpora"]}
    assert complexity["concatenated"] >= complexity["random selection"] > complexity["distilled"]


def test_toy_teachers_are_born_again_as_written(place: Path) -> None:
    run("born-again", place)
    folder = place / "runs/toy/born_again"
    results = read_json(folder / "born_again.json")
    assert [row["iteration"] for row in results["iterations"]] == [0, 1, 2]
    complexity = [measured["complexity"] for measured in (results["real"], results["iterations"][0]["measures"])]
    assert complexity[0] > complexity[1]
    assert (folder / "report.html").is_file()


@pytest.mark.parametrize("name", ["capacity", "decoding", "experts", "interpolation"])
def test_toy_study_runs_as_written(name: str, place: Path) -> None:
    run(name, place)
    folder = place / "runs/toy" / name
    results = read_json(folder / f"{name}.json")
    real, *distilled = results["corpora"]
    searched = [corpus for corpus in distilled if corpus["name"] not in ("sampling", "top-k")]
    assert searched and all(corpus["complexity"] < real["complexity"] for corpus in searched)
    assert (folder / "report.html").is_file()


def test_killed_at_random_moments_the_same_command_ends_with_the_same_scores(place: Path) -> None:
    short = {"teachers": '{"nano": {"config": "configs/toy/teacher.yaml", "max_steps": 240, "save_steps": 80}}'}
    short["students"] = '{"vanilla_nat": {"config": "configs/toy/vanilla_nat_real.yaml", "max_steps": 40}}'
    short["corpora"] = '{"greedy": {"teacher": "nano", "strategy": "greedy", "max_samples": 600, "shard_size": 100}}'
    options = [f"--{key}={value}" for key, value in short.items()]
    started = time.monotonic()
    run("decoding", place, *options, "--output_dir=whole")
    seconds = time.monotonic() - started
    draw = random.Random(seed := random.randrange(2**32))
    print(f"moments of seed {seed}")
    command = [sys.executable, "-m", "hf_nat", "experiment", "decoding", "configs/toy/decoding.yaml", *options]
    for _ in range(5):
        process = subprocess.Popen([*command, "--output_dir=killed"], env=ENVIRONMENT, cwd=place)
        time.sleep(draw.uniform(0, seconds))
        process.kill()
        process.wait()
    run("decoding", place, *options, "--output_dir=killed")

    def scores(folder: str) -> list[object]:
        results = read_json(place / folder / "decoding.json")
        return [row["test"]["scores"] for row in (*results["teachers"], *results["students"])]

    assert scores("killed") == scores("whole")
