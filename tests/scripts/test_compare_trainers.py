"""The comparison of trainers sets turns of the same number against each other."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from hf_nat.base.utils import read_json


SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def script() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPTS / "compare_trainers.py"))


def turns(*measured: tuple[float, int, int]) -> list[dict[str, float]]:
    return [dict(zip(("seconds", "target_tokens", "padding"), turn, strict=True)) for turn in measured]


def test_summary_compares_turns_of_the_same_number(script: dict[str, Any]) -> None:
    own, other = (
        turns((1.0, 100, 0), (2.0, 600, 50), (1.0, 200, 50)),
        turns((2.0, 100, 100), (1.0, 100, 0), (5, 200, 0)),
    )
    summary = script["summary"]({"by tokens": own, "random": other})
    assert [summary["random"][key] for key in ("target_tokens_per_second", "own_against_it")] == [50.0, 3.0]
    assert [row["padding_per_target_token"] for row in summary.values()] == [100 / 900, 100 / 400]
    assert summary["by tokens"]["own_against_it"] == 1.0


def test_updates_but_the_first_and_the_last_are_measured(script: dict[str, Any]) -> None:
    watched = script["Watched"]()
    watched.updates = [(0.0, 1000, 1000), (5.0, 3, 7), (6.0, 4, 1), (8.0, 1000, 1000)]
    assert watched.measured() == {"seconds": 3.0, "target_tokens": 7, "padding": 8}


@pytest.mark.slow
def test_trainers_take_turns(script: dict[str, Any], tmp_path: Path) -> None:
    output = tmp_path / "comparison.json"
    small = ["--size", "nano", "--vocab_size", "50", "--max_tokens", "250", "--num_updates", "2", "--repeats", "2"]
    script["main"]([*small, "--output", str(output)])
    models = read_json(output)["models"]
    assert [*models] == ["marian", "vanilla_nat"]
    for systems in models.values():
        assert {len(row["turns"]) for row in systems.values()} == {2}
        padding = {system: row["padding_per_target_token"] for system, row in systems.items()}
        assert 0 <= padding["by tokens"] < padding["group_by_length"] < padding["random"]
