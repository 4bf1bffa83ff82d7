"""The picture of a race holds every system, at the numbers of the JSON file."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from hf_nat.base.reporting.report import _unbeaten
from hf_nat.base.utils import write_json


SCRIPT = runpy.run_path(str(Path(__file__).parents[2] / "scripts/plot_race.py"))


def race() -> dict[str, Any]:
    scores = {"slow": 37.5, "fast": 34.0, "poor": 20.0}
    rows = {name: {"ms_per_batch": 8.0 * i, "sentences_per_second": 100.0 / i} for i, name in enumerate(scores, 1)}
    quality = {name: {"quality": {"bleu": {"score": s}, "chrf": {"score": 2 * s}}} for name, s in scores.items()}
    return {"systems": quality, "batch_sizes": {"64": rows, "8": rows}}


def test_every_system_is_drawn_at_its_numbers(tmp_path: Path) -> None:
    points = SCRIPT["race_points"](race())
    assert points == {
        "milliseconds a sentence, batch 8": {"slow": (1.0, 37.5), "fast": (2.0, 34.0), "poor": (3.0, 20.0)},
        "sentences a second, batch 64": {"slow": (100.0, 37.5), "fast": (50.0, 34.0), "poor": (100 / 3, 20.0)},
    }
    result = race()
    result["batch_sizes"]["1"] = result["batch_sizes"]["8"]
    result["systems"]["fast"]["quality_batch_1"] = {"bleu": {"score": 33.0}}
    latency, throughput = SCRIPT["race_points"](result).values()
    assert (latency["fast"][1], throughput["fast"][1], latency["slow"][1]) == (33.0, 34.0, 37.5)
    write_json(tmp_path / "race.json", race())
    SCRIPT["main"]([str(tmp_path / "race.json"), str(tmp_path / "race.png"), "--metric", "chrf"])
    assert (tmp_path / "race.png").stat().st_size > 5_000


def test_a_system_without_a_score_is_an_error() -> None:
    result = race()
    del result["systems"]["fast"]["quality"]
    with pytest.raises(ValueError, match=r"got none of \['fast'\]. Measure with `--quality`"):
        SCRIPT["race_points"](result)


def test_the_line_joins_what_nothing_beats() -> None:
    points = [(1.0, 3.0), (2.0, 5.0), (2.0, 4.0), (3.0, 1.0), (4.0, 5.0)]
    assert _unbeaten(points, -1) == [(1.0, 3.0), (2.0, 5.0)]
    assert _unbeaten(points, 1) == [(4.0, 5.0)]
