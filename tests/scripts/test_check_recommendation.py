"""Pairs of corpora that were ordered rightly are counted."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from hf_nat.base.utils import write_json


SCRIPTS = Path(__file__).parents[2] / "scripts"
SCRIPT = runpy.run_path(str(SCRIPTS / "check_recommendation.py"))
check_recommendation = SCRIPT["check_recommendation"]


def recommendation(**ranks: int) -> dict[str, Any]:
    return {
        "recommendation": {"ranking": [{"name": name, "rank": rank, "reason": ""} for name, rank in ranks.items()]}
    }


def metrics(bleu: float, chrf: float = 50.0, signature: str = "s") -> dict[str, Any]:
    scores = {"bleu": bleu, "chrf": chrf}
    return {"scores": {name: {"score": score, "signature": signature} for name, score in scores.items()}}


def test_pairs_are_judged_by_the_means_of_their_students(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # b and c share a rank, d has no student; a is better than c with one seed of two, and by the mean.
    write_json(tmp_path / "recommendation.json", recommendation(d=1, a=2, c=3, b=3))
    results = {"a": metrics(31.0), "a2": metrics(35.0), "b": metrics(34.0), "c": metrics(32.0)}
    for name, found in results.items():
        write_json(tmp_path / f"{name}.json", found)
    given = [f"{name[0]}={tmp_path / name}.json" for name in results]
    SCRIPT["main"]([str(tmp_path / "recommendation.json"), *given])
    table, _, counted = capsys.readouterr().out.strip().rpartition("\n\n")
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    assert lines == [
        ["a", "b", "a", "33.00", "34.00", "-1.00", "wrong"],
        ["a", "c", "a", "33.00", "32.00", "+1.00", "right"],
        ["b", "c", "neither", "34.00", "32.00", "+2.00", "nothing said"],
    ]
    # Wilson's interval by its formula: (p + z²/2n ± z sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n).
    assert counted.startswith("Ordered rightly: 1 of 2 pairs (50 %, 95 % interval 9 to 91 %); of the 1 other pairs")


def test_another_metric_may_say_otherwise_and_nothing_may_be_ordered() -> None:
    found = {"a": [metrics(30.0, 60.0)], "b": [metrics(31.0, 55.0)]}
    assert "0 of 1 pairs (0 %" in check_recommendation(recommendation(a=1, b=2), found)
    assert "1 of 1 pairs (100 %" in check_recommendation(recommendation(a=1, b=2), found, "chrf")
    assert "Ordered: no pair; of the 1 other" in check_recommendation(recommendation(a=1, b=1), found)
    equal = {name: [metrics(30.0)] for name in "ab"}
    assert "| equal scores |" in check_recommendation(recommendation(a=1, b=2), equal)


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ({"a": [metrics(1)], "x": [metrics(1)]}, r"of the candidates \['a', 'b'\], got one of 'x'"),
        ({"a": [metrics(1)]}, r"of at least 2 candidates, got \['a'\]"),
        ({"a": [metrics(1)], "b": [metrics(1, signature="t")]}, r"scored alike, got \['s', 't'\]"),
    ],
)
def test_results_that_do_not_compare_are_an_error(results: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_recommendation(recommendation(a=1, b=2), results)


def test_a_metric_that_is_missing_and_a_file_without_a_name_are_errors(tmp_path: Path) -> None:
    results = {"a": [metrics(1)], "b": [metrics(1)]}
    with pytest.raises(ValueError, match=r"`metric` must be .* got 'ter', which 'a' lacks, with \['bleu', 'chrf'\]"):
        check_recommendation(recommendation(a=1, b=2), results, "ter")
    with pytest.raises(SystemExit):
        SCRIPT["main"]([str(tmp_path / "recommendation.json"), str(tmp_path / "metrics.json")])
