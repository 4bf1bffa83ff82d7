"""The launchers without a launch: what they refuse, and what they hand on."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest


ROOT = Path(__file__).parents[2]
NAMES = sorted(path.stem for path in (ROOT / "configs/accelerate").glob("*.yaml"))


def launch(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs launch.sh with an `accelerate` that prints its arguments."""
    stub = tmp_path / "accelerate"
    stub.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    stub.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    command = ["bash", str(ROOT / "scripts/launch.sh"), *arguments]
    return subprocess.run(command, env=os.environ | {"PATH": path}, capture_output=True, text=True)


def test_options_of_the_launcher_and_of_the_command_go_where_they_belong(tmp_path: Path) -> None:
    result = launch(tmp_path, "multi_gpu", "--num_processes=4", "train", "a b.yaml", "--seed", "2")
    config = ["launch", "--config_file", "configs/accelerate/multi_gpu.yaml", "--num_processes=4"]
    assert result.stdout.splitlines() == [*config, "-m", "hf_nat", "train", "a b.yaml", "--seed", "2"]


@pytest.mark.parametrize("arguments", [[], ["multi_gpus", "train"]])
def test_a_wrong_name_is_an_error(arguments: list[str], tmp_path: Path) -> None:
    result = launch(tmp_path, *arguments)
    assert result.returncode != 0 and result.stdout == ""
    assert "usage: launch.sh NAME" in result.stderr or all(name in result.stderr for name in NAMES)


def studies(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs studies.sh with a `python` that prints its arguments and then does what the YAML file is called after."""
    stub = tmp_path / "python"
    stub.write_text('#!/bin/sh\necho "$@"\ncase $4 in slow) sleep 60 ;; wrong) exit 2 ;; esac\n')
    stub.chmod(0o755)
    command = ["bash", str(ROOT / "scripts/studies.sh"), *arguments]
    path = f"{tmp_path}:{os.environ['PATH']}"
    return subprocess.run(command, env=os.environ | {"PATH": path}, capture_output=True, text=True)


def test_studies_run_in_their_order_until_the_time_is_over(tmp_path: Path) -> None:
    result = studies(tmp_path, "30", "a/one.yaml", "two.yaml")
    assert result.returncode == 0
    assert result.stdout == "-m hf_nat experiment one a/one.yaml\n-m hf_nat experiment two two.yaml\n"
    result = studies(tmp_path, "1", "one.yaml", "slow.yaml", "two.yaml")
    assert result.returncode == 75 and "two" not in result.stdout
    assert studies(tmp_path, "0", "one.yaml").returncode == 75
    result = studies(tmp_path, "30", "wrong.yaml", "two.yaml")
    assert result.returncode == 2 and "two" not in result.stdout
    assert "usage" in studies(tmp_path).stderr


@pytest.mark.parametrize("script", sorted((ROOT / "scripts").glob("*.s*h*")), ids=lambda path: path.name)
def test_scripts_are_sound_shell(script: Path) -> None:
    assert subprocess.run(["bash", "-n", str(script)]).returncode == 0
