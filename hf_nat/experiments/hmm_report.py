"""Accuracies, wins and differences of the study of hidden Markov models: numbers, tables, plots and pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from ..base.reporting import Table, plot_bars, plot_points, write_report
from ..base.utils import environment, write_json
from ..metrics.bootstrap import bootstrap
from .bilstm import METRICS


RESULTS_FILE = "hmm.json"
DATA_SETS = ("real", "tok", "seq")  # labels: sampled; argmax of the posteriors; Viterbi
DECODERS = ("forward_backward", "viterbi")  # the Bayes classifiers of token and of sequence accuracy
PAPER_WIN_RATES = {("token_accuracy", "tok"): 0.976, ("sequence_accuracy", "seq"): 0.985}
_PAIRS = (("tok", "real"), ("seq", "real"), ("tok", "seq"))
_Z = 1.959964  # of a 95 % interval


def wilson_interval(wins: float, num_runs: int) -> tuple[float, float]:
    """Computes the 95 % interval of a win rate.

    Args:
        wins (`float`): runs won; a shared win is a part of 1.
        num_runs (`int`): all runs.

    Source: Wilson 1927.
    """
    rate, shrink = wins / num_runs, _Z**2 / num_runs
    center, half = rate + shrink / 2, _Z * ((rate * (1 - rate) + shrink / 4) / num_runs) ** 0.5
    return max(0.0, (center - half) / (1 + shrink)), min(1.0, (center + half) / (1 + shrink))


def summarize(rows: Sequence[Mapping[str, Any]], num_bootstrap: int, seed: int) -> dict[str, Any]:
    """Compares the data sets over the runs.

    A run is won by the data set of the highest accuracy; k data sets that share it win 1/k of the run each.

    Args:
        rows (`Sequence[Mapping[str, Any]]`): for each run by metric the accuracy of each data set and decoder, and
            other groups of named numbers.
        num_bootstrap (`int`): samples of the runs for the intervals of the differences.
        seed (`int`): of the bootstrap.

    Returns:
        `dict[str, Any]`: `rows`; the `mean` of every group of numbers; `wins` by metric and data set: `alone`,
        `shared`, `rate` (0-1) and its `interval`; `differences` by metric and pair of data sets: `mean` and
        `interval`. All intervals are of 95 %.
    """
    columns = {
        group: {name: np.array([row[group][name] for row in rows]) for name in names}
        for group, names in rows[0].items()
        if group != "hmm"
    }
    return {
        "mean": {group: {name: float(x.mean()) for name, x in names.items()} for group, names in columns.items()},
        "wins": {metric: _wins(columns[metric]) for metric in METRICS},
        "differences": {metric: _differences(columns[metric], num_bootstrap, seed) for metric in METRICS},
        "rows": rows,
    }


def _wins(scores: Mapping[str, np.ndarray]) -> dict[str, dict[str, Any]]:
    contest = np.stack([scores[name] for name in DATA_SETS])
    best = contest == contest.max(0)
    alone = best.sum(0) == 1
    won = (best / best.sum(0)).sum(1)
    return {
        name: {
            "alone": int((best[i] & alone).sum()),
            "shared": int((best[i] & ~alone).sum()),
            "rate": float(won[i] / len(alone)),
            "interval": wilson_interval(float(won[i]), len(alone)),
        }
        for i, name in enumerate(DATA_SETS)
    }


def _differences(scores: Mapping[str, np.ndarray], num_bootstrap: int, seed: int) -> dict[str, dict[str, Any]]:
    differences = {}
    for first, second in _PAIRS:
        found = scores[first] - scores[second]
        weighted_mean = partial(_weighted_mean, found)
        interval = bootstrap(weighted_mean, len(found), num_samples=num_bootstrap, seed=seed).interval()
        differences[f"{first}-{second}"] = {"mean": float(found.mean()), "interval": interval}
    return differences


def _weighted_mean(values: np.ndarray, weights: np.ndarray) -> float:
    return float(np.average(values, weights=weights))


def wins_table(result: Mapping[str, Any]) -> Table:
    """Makes the table of mean accuracies and wins, in percent but for the numbers of runs."""
    rows = []
    for metric in METRICS:
        means = result["mean"][metric]
        for name in DATA_SETS:
            won, paper = result["wins"][metric][name], PAPER_WIN_RATES.get((metric, name))
            rows.append(
                [
                    f"{_words(metric)}, D_{name}",
                    f"{100 * means[name]:.2f}",
                    str(won["alone"]),
                    str(won["shared"]),
                    f"{100 * won['rate']:.1f}",
                    _interval(won["interval"], ".1f"),
                    "" if paper is None else f"{100 * paper:.1f}",
                ]
            )
        rows += [
            [f"{_words(metric)}, exact {_words(name)}", f"{100 * means[name]:.2f}", *[""] * 5] for name in DECODERS
        ]
    return Table(["metric, labels", "mean accuracy", "won alone", "shared", "win rate", "95 %", "paper"], rows)


def differences_table(result: Mapping[str, Any]) -> Table:
    """Makes the table of the mean differences of accuracy, in points of percent."""
    rows = []
    for metric, (first, second) in product(METRICS, _PAIRS):
        found = result["differences"][metric][f"{first}-{second}"]
        cells = [f"{100 * found['mean']:+.2f}", _interval(found["interval"], "+.2f")]
        rows.append([f"{_words(metric)}, D_{first} - D_{second}", *cells])
    return Table(["metric, difference", "mean", "95 %"], rows)


def _words(name: str) -> str:
    return name.replace("forward_backward", "forward-backward").replace("viterbi", "Viterbi").replace("_", " ")


def _interval(ends: Sequence[float], style: str) -> str:
    return " to ".join(f"{100 * end:{style}}" for end in ends)


def write_hmm_report(folder: Path, settings: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> None:
    """Writes `hmm.json`, the plots and the pages.

    Args:
        folder (`Path`): where they go.
        settings (`Mapping[str, Any]`): of the study.
        results (`Sequence[Mapping[str, Any]]`): `summarize` for each (a, b), with `a`, `b` and `seconds`.
    """
    content = {"settings": settings, "results": results, "environment": environment()}
    write_json(folder / RESULTS_FILE, content)
    for metric in METRICS:
        scores = [row[metric] for result in results for row in result["rows"]]
        real, tok, seq = (100 * np.array([row[name] for row in scores]) for name in DATA_SETS)
        points = {"D_tok": (real, tok - real), "D_seq": (real, seq - real)}
        axes = (f"{_words(metric)}, trained on D_real (%)", "gain of the other labels (points)")
        plot_points(folder / f"{metric}.png", points, *axes, marker_size=4, level=0)
    panels: dict[str, dict[str, float]] = {}
    intervals: dict[str, dict[str, list[float]]] = {}
    for metric, result, name in product(METRICS, results, DATA_SETS):
        title, label = f"wins, {_words(metric)} (%)", f"D_{name}, a {result['a']}, b {result['b']}"
        won = result["wins"][metric][name]
        panels.setdefault(title, {})[label] = 100 * won["rate"]
        intervals.setdefault(title, {})[label] = [100 * end for end in won["interval"]]
    plot_bars(folder / "win_rates.png", panels, intervals)
    tables = [(wins_table(result), differences_table(result)) for result in results]
    write_report(folder, "hmm", tables=tables, metrics=METRICS, **content)
