"""The comparison of two checkouts sets updates of the same turn against each other."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

from hf_nat.base.utils import read_json


SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return importlib.import_module("compare_training")


def test_summary_compares_updates_of_the_same_turn(script: ModuleType) -> None:
    before, after = [[3.0, 1.0], [9.0, 3.0], [2.0, 0.0]], [[2.0, 0.0], [4.0, 0.0], [4.0, 0.0]]
    assert script.summary(before, after) == {
        "seconds_before": 4.0,
        "seconds_after": 4.0,
        "kernel_before": 0.25,
        "kernel_after": 0.0,
        "speed_up": 2.0,
    }


@pytest.mark.slow
def test_a_checkout_against_itself(script: ModuleType, tmp_path: Path) -> None:
    output = tmp_path / "comparison.json"
    small = ["--size", "nano", "--max_tokens", "250", "--num_batches", "2", "--repeats", "1"]
    script.main(["--before", str(SCRIPTS.parent), "--architectures", "vanilla_nat", *small, "--output", str(output)])
    row = read_json(output)["architectures"]["vanilla_nat"]
    assert len(row["before"]) == len(row["after"]) == 2
    assert row["speed_up"] > 0
