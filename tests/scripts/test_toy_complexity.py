from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from hf_nat.base.utils import read_json
from hf_nat.data import ToyTask


ROOT = Path(__file__).parents[2]
main = runpy.run_path(str(ROOT / "scripts/toy_complexity.py"))["main"]


def test_estimate_comes_to_the_exact_value(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--sizes", "100", "4000", "--seeds", "1", "--output_dir", str(tmp_path)])
    result = read_json(tmp_path / "results.json")
    assert result["exact"] == ToyTask().complexity()
    few, many = result["estimates"]
    for kind in ("aligned", "true_links"):
        assert abs(few[kind] / result["exact"] - 1) > 0.05
        assert many[kind] == pytest.approx(result["exact"], rel=0.02)
    assert many["aligned"] == pytest.approx(many["true_links"], rel=0.002)
    assert (tmp_path / "complexity.png").stat().st_size > 5000
    assert "| 4,000 |" in capsys.readouterr().out


def test_committed_estimates_converge() -> None:
    result = read_json(ROOT / "configs/toy/results/complexity/results.json")
    last = [row for row in result["estimates"] if row["size"] == 30_000]
    assert all(row["aligned"] == pytest.approx(result["exact"], rel=0.005) for row in last)
