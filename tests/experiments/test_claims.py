"""The page of claims: how an effect is judged, and that the committed page is that of the committed results."""

from __future__ import annotations

from pathlib import Path

import pytest

from hf_nat.cli.main import main
from hf_nat.experiments.claims import CLAIMS, Effect, between, judge, over_seeds
from hf_nat.utils import read_json


ROOT = Path(__file__).parents[2]


def test_interval_of_two_corpora_is_the_widest_that_theirs_allow() -> None:
    larger, smaller = {"c": 2.0, "c_interval": [1.9, 2.2]}, {"c": 1.5, "c_interval": [1.4, 1.6]}
    effect = between(larger, smaller, "c")
    assert (effect.value, effect.low, effect.high) == pytest.approx((0.5, 0.3, 0.8))
    assert between({"c": 2.0}, {"c": 1.5}, "c").low is None


def test_interval_of_seeds_is_the_range_over_their_pairs() -> None:
    effect = over_seeds([20.0, 22.0], [19.0, 20.5])
    assert (effect.value, effect.low, effect.high) == (1.25, -0.5, 3.0)
    assert over_seeds([20.0], [19.0, 18.0]).low is None


@pytest.mark.parametrize(
    ("effect", "verdict"),
    [
        (Effect(1.0, "", 0.1, 2.0), "confirmed"),
        (Effect(1.0, "", -0.1, 2.0), "not confirmed"),
        (Effect(-1.0, "", -2.0, -0.1), "not confirmed"),
        (Effect(9.0, ""), "not confirmed"),
    ],
)
def test_verdict(effect: Effect, verdict: str) -> None:
    assert effect.verdict == verdict


def test_nothing_is_claimed_without_results(tmp_path: Path) -> None:
    assert {row["verdict"] for row in judge(tmp_path)} == {"not tested at this scale"}
    assert len({claim.text for claim in CLAIMS}) == len(CLAIMS)


def test_committed_page_is_that_of_the_committed_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert main(["experiment", "report", f"--output_dir={tmp_path}"]) == 0
    assert (tmp_path / "report.md").read_text() == (ROOT / "configs/claims/report.md").read_text()
    rows, committed = read_json(tmp_path / "claims.json"), read_json(ROOT / "configs/claims/claims.json")
    assert rows == committed
    used = {file for row in rows if row["effects"] for file in row["files"]}
    assert len(used) > 20 and all((ROOT / "configs" / file).is_file() for file in used)
