"""Prints the results table of a corpus from the committed metrics of its runs.

    python scripts/results_table.py configs/multi30k/results/systems [configs/multi30k/results/benchmark/cpu.json]

Every `<run>.json` in the folder is a metrics.json that `hf-nat evaluate` wrote; `<run>_seed<n>.json` is the same run
from another seed. A row is the mean over the seeds, with half the distance of the best from the worst. A benchmark of
`scripts/benchmark_decoding.py` with systems of the same names adds their speed.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from hf_nat.base.reporting import Table
from hf_nat.base.utils import read_json


def results_table(folder: Path, benchmark: Path | None = None) -> str:
    """Returns the table in Markdown, with the signatures of the scores below.

    Args:
        folder (`Path`): folder of the metrics files.
        benchmark (`Path`, *optional*): result of `scripts/benchmark_decoding.py`.

    Raises:
        ValueError: if the folder holds no metrics, or their signatures differ.
    """
    runs: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for path in sorted(folder.glob("*.json")):
        runs[re.sub(r"_seed\d+$", "", path.stem)].append(read_json(path))
    if not runs:
        raise ValueError(f"`folder` must hold metrics files of `hf-nat evaluate`, got none in {folder}.")
    measured = [metrics for seeds in runs.values() for metrics in seeds]
    names = list(measured[0]["scores"])
    signatures = {name: {metrics["scores"][name]["signature"] for metrics in measured} for name in names}
    for name, found in signatures.items():
        if len(found) > 1:
            raise ValueError(f"All runs must be scored alike, got {sorted(found)} for {name}. Evaluate them again.")
    speeds = _speeds(benchmark)
    rows = [
        [
            run,
            str(len(seeds)),
            *(_mean([metrics["scores"][name]["score"] for metrics in seeds]) for name in names),
            "" if seeds[0]["iterations_mean"] is None else _mean([metrics["iterations_mean"] for metrics in seeds]),
            *(speed.get(run, "") for speed in speeds.values()),
        ]
        for run, seeds in sorted(runs.items())
    ]
    lines = [f"- {name}: `{found.pop()}`" for name, found in signatures.items()]
    return "\n".join([Table(["run", "seeds", *names, "rounds", *speeds], rows).markdown(), "", *lines])


def _mean(values: list[float]) -> str:
    """Prints the mean, and half the range where there are several values."""
    mean = f"{sum(values) / len(values):.2f}"
    return mean if len(values) == 1 else f"{mean} ± {(max(values) - min(values)) / 2:.2f}"


def _speeds(benchmark: Path | None) -> dict[str, dict[str, str]]:
    """Prints the speed of every system: latency for single sentences, else throughput."""
    if benchmark is None:
        return {}
    columns = {}
    for size, systems in sorted(read_json(benchmark)["batch_sizes"].items(), key=lambda item: int(item[0])):
        if size == "1":
            columns["ms/sentence"] = {name: f"{speed['ms_per_batch']:.1f}" for name, speed in systems.items()}
        else:
            columns[f"sentences/s, batch {size}"] = {
                name: f"{speed['sentences_per_second']:.0f}" for name, speed in systems.items()
            }
    return columns


if __name__ == "__main__":
    print(results_table(*map(Path, sys.argv[1:])))
