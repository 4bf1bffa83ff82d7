"""Prints the results table of a corpus from the committed metrics of its runs.

    python scripts/results_table.py configs/multi30k/results

Every `<run>.json` in the folder is a metrics.json that `hf-nat evaluate` wrote. Rows are in order of the file names.
"""

from __future__ import annotations

import sys
from pathlib import Path

from hf_nat.experiments.report import Table
from hf_nat.utils import read_json


def results_table(folder: Path) -> str:
    """Returns the table in Markdown, with the signatures of the scores below.

    Args:
        folder (`Path`): folder of the metrics files.

    Raises:
        ValueError: if the folder holds no metrics, or their signatures differ.
    """
    runs = {path.stem: read_json(path) for path in sorted(folder.glob("*.json"))}
    if not runs:
        raise ValueError(f"`folder` must hold metrics files of `hf-nat evaluate`, got none in {folder}.")
    names = list(next(iter(runs.values()))["scores"])
    signatures = {name: {run["scores"][name]["signature"] for run in runs.values()} for name in names}
    for name, found in signatures.items():
        if len(found) > 1:
            raise ValueError(f"All runs must be scored alike, got {sorted(found)} for {name}. Evaluate them again.")
    rows = [
        [
            run,
            *(f"{metrics['scores'][name]['score']:.2f}" for name in names),
            "" if metrics["iterations_mean"] is None else f"{metrics['iterations_mean']:.2f}",
        ]
        for run, metrics in runs.items()
    ]
    lines = [f"- {name}: `{found.pop()}`" for name, found in signatures.items()]
    return "\n".join([Table(["run", *names, "rounds"], rows).markdown(), "", *lines])


if __name__ == "__main__":
    print(results_table(Path(sys.argv[1])))
