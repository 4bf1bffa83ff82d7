from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hf_nat.base.config import load_config
from hf_nat.base.utils import read_json
from hf_nat.experiments.bilstm import METRICS
from hf_nat.experiments.hmm import HMM, HMMArguments
from hf_nat.experiments.hmm_report import (
    DATA_SETS,
    DECODERS,
    differences_table,
    summarize,
    wilson_interval,
    wins_table,
)
from hf_nat_cli import main


ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs/hmm").glob("*.yaml"))
SIZES = {
    "a": [0.05, 0.3],
    "b": [0.05, 0.2],
    "num_hmms": 3,
    "num_labels": 3,
    "num_observations": 5,
    "sequence_length": 4,
    "num_train": 60,
    "num_validation": 40,
    "num_test": 50,
    "hidden_size": 4,
    "num_train_epochs": 2,
    "batch_size": 20,
    "chunk_size": 2,
    "num_bootstrap": 20,
}


@pytest.fixture
def arguments(tmp_path: Path) -> Callable[..., HMMArguments]:
    return lambda **changes: HMMArguments(**{"output_dir": str(tmp_path / "hmm"), **SIZES, **changes})


def rows_of(folder: Path) -> list[list[dict]]:
    return [result["rows"] for result in read_json(folder / "hmm.json")["results"]]


def units_of(folder: Path) -> dict[str, int]:
    return {path.relative_to(folder).as_posix(): path.stat().st_mtime_ns for path in folder.glob("a*/*.json")}


def test_every_hmm_is_scored_in_every_setting_and_the_report_shows_it(
    arguments: Callable[..., HMMArguments], tmp_path: Path
) -> None:
    report = HMM(arguments()).run()
    folder = tmp_path / "hmm"
    results = read_json(folder / "hmm.json")["results"]
    assert [(result["a"], result["b"]) for result in results] == [(0.05, 0.05), (0.3, 0.2)]
    for result in results:
        assert [row["hmm"] for row in result["rows"]] == [0, 1, 2]
        for metric in METRICS:
            for row in result["rows"]:
                assert set(row[metric]) == {*DATA_SETS, *DECODERS}
                assert all(0 <= value <= 1 for value in row[metric].values())
                assert all(1 <= epoch <= 2 for epoch in row[f"{metric}_epoch"].values())
            assert sum(won["rate"] for won in result["wins"][metric].values()) == pytest.approx(1)
        text = (folder / "report.md").read_text(encoding="utf-8")
        for table in (wins_table(result), differences_table(result)):
            assert table.markdown() in text
    # More uncertainty: the exact decoders are right less often.
    assert results[0]["mean"]["token_accuracy"]["viterbi"] > results[1]["mean"]["token_accuracy"]["viterbi"]
    for name in ("win_rates", *METRICS):
        assert f"({name}.png)" in text
        assert (folder / f"{name}.png").stat().st_size > 5000
    assert report == folder / "report.html" and "<table>" in report.read_text(encoding="utf-8")


def test_a_run_goes_on_where_it_stopped_and_takes_more_models(
    arguments: Callable[..., HMMArguments], tmp_path: Path
) -> None:
    folder = tmp_path / "hmm"
    HMM(arguments()).run()
    rows, units = rows_of(folder), units_of(folder)
    assert len(units) == 4
    lost = folder / "a0.3_b0.2/hmms_0000-0001.json"
    lost.unlink()
    HMM(arguments(num_bootstrap=30)).run()
    assert rows_of(folder) == rows
    assert [name for name, written in units_of(folder).items() if written != units[name]] == [
        "a0.3_b0.2/hmms_0000-0001.json"
    ]
    HMM(arguments(num_hmms=4)).run()
    assert [more[:2] for more in rows_of(folder)] == [fewer[:2] for fewer in rows]
    assert [[row["hmm"] for row in more] for more in rows_of(folder)] == [[0, 1, 2, 3]] * 2


def test_numbers_of_a_model_depend_on_seed_and_setting_alone(
    arguments: Callable[..., HMMArguments], tmp_path: Path
) -> None:
    HMM(arguments()).run()
    HMM(arguments(output_dir=str(tmp_path / "alone"), a=[0.3], b=[0.2], chunk_size=1)).run()
    HMM(arguments(output_dir=str(tmp_path / "other"), a=[0.3], b=[0.2], seed=2)).run()
    rows, alone, other = (rows_of(tmp_path / name)[-1] for name in ("hmm", "alone", "other"))
    for row, same in zip(rows, alone, strict=True):
        assert row["label_agreement"] == same["label_agreement"]
        for metric in METRICS:
            # Products in batches of another size may differ in the last bit: of 200 labels at most one.
            assert row[metric] == pytest.approx(same[metric], abs=0.021)
    assert not {row["label_agreement"]["real-tok"] for row in rows} & {
        row["label_agreement"]["real-tok"] for row in other
    }


def test_other_settings_in_the_same_folder_are_an_error(arguments: Callable[..., HMMArguments]) -> None:
    HMM(arguments(a=[0.3], b=[0.2], num_hmms=1)).run()
    with pytest.raises(ValueError, match="`hidden_size` must be the same in every run into .* it was 4, got 5"):
        HMM(arguments(a=[0.3], b=[0.2], num_hmms=1, hidden_size=5)).run()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"a": [0.1]}, r"`a` and `b` must be equally many numbers, got \[0.1\] and \[0.05, 0.2\]"),
        ({"a": [], "b": []}, "must be equally many numbers"),
        ({"a": [0.1, 0.0]}, "`a` must be > 0, got 0.0"),
        ({"b": [0.1, float("nan")]}, "`b` must be a finite number > 0, got nan"),
        ({"learning_rate": -1.0}, "`learning_rate` must be > 0, got -1.0"),
        ({"num_test": 0}, "`num_test` must be >= 1, got 0"),
    ],
)
def test_bad_arguments_are_named(
    arguments: Callable[..., HMMArguments], changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        arguments(**changes)


def test_wins_ties_and_differences_by_hand() -> None:
    scores = [(0.1, 0.4, 0.4), (0.2, 0.2, 0.2), (0.1, 0.3, 0.2), (0.5, 0.1, 0.1)]
    rows = [
        {"hmm": i, **{metric: {**dict(zip(DATA_SETS, row, strict=True)), "viterbi": 0.9} for metric in METRICS}}
        for i, row in enumerate(scores)
    ]
    summary = summarize(rows, num_bootstrap=500, seed=1)
    won = summary["wins"]["token_accuracy"]
    assert {name: (row["alone"], row["shared"]) for name, row in won.items()} == {
        "real": (1, 1), "tok": (1, 2), "seq": (0, 2)
    }  # fmt: skip
    shares = {"real": 1 + 1 / 3, "tok": 1 + 1 / 2 + 1 / 3, "seq": 1 / 2 + 1 / 3}
    for name, share in shares.items():
        assert won[name]["rate"] == pytest.approx(share / 4)
        assert won[name]["interval"] == pytest.approx(wilson_interval(share, 4))
    assert summary["mean"]["token_accuracy"] == pytest.approx(
        {"real": 0.225, "tok": 0.25, "seq": 0.225, "viterbi": 0.9}
    )
    differences = summary["differences"]["token_accuracy"]
    for pair, mean in {"tok-real": 0.025, "seq-real": 0.0, "tok-seq": 0.025}.items():
        assert differences[pair]["mean"] == pytest.approx(mean)
        low, high = differences[pair]["interval"]
        assert low <= mean <= high
    assert differences["tok-seq"]["interval"] == pytest.approx((0, 0.075))  # means of four draws out of 0, 0, 0.1, 0


@pytest.mark.parametrize(
    ("wins", "num_runs", "expected"),
    [(8, 10, (0.4902, 0.9433)), (0, 10, (0, 0.2775)), (50, 50, (0.9287, 1)), (1, 2, (0.0945, 0.9055))],
)
def test_wilson_interval(wins: float, num_runs: int, expected: tuple[float, float]) -> None:
    assert wilson_interval(wins, num_runs) == pytest.approx(expected, abs=1e-4)


@pytest.mark.slow
def test_killed_at_random_moments_and_shared_by_two_processes_it_ends_with_the_same_numbers(tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    options = [part for name, value in {**SIZES, "num_train_epochs": 40}.items() for part in (
        f"--{name}", *(map(str, value) if isinstance(value, list) else [str(value)]))]  # fmt: skip

    def command(name: str) -> list[str]:
        return ["-m", "hf_nat", "experiment", "hmm", *options, "--output_dir", str(tmp_path / name)]

    started = time.monotonic()
    subprocess.run([sys.executable, *command("whole")], env=environment, check=True)
    seconds = time.monotonic() - started
    seed = random.randrange(2**32)
    print(f"moments of seed {seed}")
    draw = random.Random(seed)
    for _ in range(4):
        process = subprocess.Popen([sys.executable, *command("killed")], env=environment)
        time.sleep(draw.uniform(0, seconds))
        process.kill()
        process.wait()
    subprocess.run([sys.executable, *command("killed")], env=environment, check=True)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    subprocess.run([*launcher, *command("two")], env=environment, check=True)
    assert rows_of(tmp_path / "killed") == rows_of(tmp_path / "whole")
    assert rows_of(tmp_path / "two") == rows_of(tmp_path / "whole")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_config_runs(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"hf-nat experiment hmm configs/hmm/{path.name}\n" in path.read_text(encoding="utf-8")
    (written,) = load_config((HMMArguments,), [str(path)])
    assert written.output_dir == f"runs/hmm/{path.stem}"
    small = {name: value for name, value in SIZES.items() if name not in ("a", "b", "num_labels", "num_observations")}
    options = [f"--{name}={value}" for name, value in small.items()]
    assert main(["experiment", "hmm", str(path), *options, f"--output_dir={tmp_path}"]) == 0
    assert len(rows_of(tmp_path)) == len(written.a)
    assert f"Report: {tmp_path / 'report.html'}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "path", sorted((ROOT / "configs/hmm/results").glob("*/hmm.json")), ids=lambda path: path.parent.name
)
def test_committed_pages_hold_the_tables_of_their_results(path: Path) -> None:
    results = read_json(path)
    (args,) = load_config((HMMArguments,), [f"{ROOT}/configs/hmm/{path.parent.name}.yaml"])
    assert results["settings"] == args.settings()
    page = (path.parent / "report.md").read_text(encoding="utf-8")
    for result in results["results"]:
        assert len(result["rows"]) == args.num_hmms
        again = summarize(result["rows"], args.num_bootstrap, args.seed)
        for table in (wins_table, differences_table):
            assert table(result).markdown() == table(again).markdown()
            assert table(result).markdown() in page
