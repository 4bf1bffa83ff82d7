"""The table of results shows the epochs, corpora and speed of each run."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from hf_nat.base.utils import write_json


SCRIPT = runpy.run_path(str(Path(__file__).parents[2] / "scripts/results_table.py"))


def write_runs(folder: Path, *names: str) -> None:
    metrics: dict[str, Any] = {"scores": {"bleu": {"score": 30.0, "signature": "s"}}, "iterations_mean": 1.0}
    for name in names:
        write_json(folder / f"{name}.json", metrics)


def columns(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> dict[str, list[str]]:
    """Prints the table, and gives the cells of each column by its name."""
    SCRIPT["main"]([str(argument) for argument in arguments])
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    names, _, *cells = ([cell.strip() for cell in row.split("|")[1:-1]] for row in rows)
    return {name: [row[index] for row in cells] for index, name in enumerate(names)}


def test_epochs_and_what_was_counted_of_the_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_runs(tmp_path, "new__beam5", "old")
    old = {"epochs": 3, "share_infeasible": 0.5, "num_train_pairs": 800}
    write_json(tmp_path / "training/old.json", old)
    write_json(tmp_path / "training/new.json", old | {"num_infeasible_pairs": 2})
    table = columns(capsys, tmp_path)
    assert table["infeasible"] == ["", "50.00"] and table["infeasible pairs, %"] == ["0.25", ""]


def test_measures_of_the_corpora(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_runs(tmp_path / "runs", "ctc_mbr", "ctc_rest_real__beam5", "ctc_real", "teacher")
    corpora = {"real": (1.5, None), "mbr": (1.25, 7.0), "rest_real": (1.75, 3.0)}
    rows = [{"name": name, "complexity": c, "faithfulness": f} for name, (c, f) in corpora.items()]
    write_json(tmp_path / "measures.json", {"corpora": rows})
    table = columns(capsys, tmp_path / "runs", "--measures", tmp_path / "measures.json")
    assert list(table) == ["run", "C(d)", "F(d)", "seeds", "bleu", "rounds"]
    assert table["run"] == ["ctc_mbr", "ctc_real", "ctc_rest_real__beam5", "teacher"]
    assert table["C(d)"] == ["1.250", "1.500", "1.750", ""] and table["F(d)"] == ["7.000", "", "3.000", ""]


def test_speed_of_the_system_that_a_run_has_in_the_benchmark(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, file = tmp_path / "runs", tmp_path / "race.json"
    write_runs(runs, "ctc", "teacher")
    speeds = {"ctc": 8.0, "ctc_int8": 2.0, "teacher_ct2": 4.0}
    measured = {name: {"ms_per_batch": ms, "sentences_per_second": 1000 / ms} for name, ms in speeds.items()}
    write_json(file, {"batch_sizes": {"64": measured, "1": measured}})
    assert columns(capsys, runs, file)["ms/sentence"] == ["8.0", ""]
    table = columns(capsys, runs, file, "--systems", "ctc=ctc_int8", "teacher=teacher_ct2")
    assert list(table)[-2:] == ["ms/sentence", "sentences/s, batch 64"]
    assert table["ms/sentence"] == ["2.0", "4.0"] and table["sentences/s, batch 64"] == ["500", "250"]
    for wrong in ("ctc=nothing", "nobody=ctc"):
        with pytest.raises(ValueError, match="`systems` must name runs"):
            columns(capsys, runs, file, "--systems", wrong)
    for arguments in ((runs, file, "--systems", "ctc"), (runs, "--systems", "ctc=ctc_int8")):
        with pytest.raises(SystemExit):
            columns(capsys, *arguments)
        assert "--systems must be RUN=SYSTEM" in capsys.readouterr().err
