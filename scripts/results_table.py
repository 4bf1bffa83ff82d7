"""Prints the results table of a corpus from the committed metrics of its runs.

    python scripts/results_table.py configs/multi30k/results/systems [configs/multi30k/results/benchmark/cpu.json]
        [--systems RUN=SYSTEM ...] [--measures MEASURES.json]

Every `<run>.json` in the folder is a metrics.json that `hf-nat evaluate` wrote; `<run>_seed<n>.json` is the same run
from another seed. A row is the mean over the seeds, with half the distance of the best from the worst.
`training/<model>.json` is a metrics.json of `hf-nat train`; a run is `<model>` or `<model>__<decoding>`. It adds the
epochs and the share of what could not be learned: of the pairs, where the run counted them, else of the target tokens.
A benchmark of `scripts/benchmark_decoding.py` adds their speed: of the systems with the same names, or of those that
`--systems` names. `--measures`, a measures.json of `hf-nat analyze`, adds C(d) and F(d) of the corpus that a model was
trained on: the one by whose name the model's ends, as `mbr` in `ctc_nat_mbr`.
"""

from __future__ import annotations

import argparse
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hf_nat.base.reporting import Table
from hf_nat.base.utils import read_json


def results_table(
    folder: Path,
    benchmark: Path | None = None,
    measures: Path | None = None,
    systems: Mapping[str, str] | None = None,
) -> str:
    """Returns the table in Markdown, with the signatures of the scores below.

    Args:
        folder (`Path`): folder of the metrics files.
        benchmark (`Path`, *optional*): result of `scripts/benchmark_decoding.py`.
        measures (`Path`, *optional*): measures.json of `hf-nat analyze`, of the corpora that the models learned from.
        systems (`Mapping[str, str]`, *optional*): system of the benchmark by run, where their names differ.

    Raises:
        ValueError: if the folder holds no metrics, their signatures differ, or there is no such run or system.
    """
    runs: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for path in sorted(folder.glob("*.json")):
        if "scores" in (metrics := read_json(path)):  # Results of a study may lie beside them.
            runs[re.sub(r"_seed\d+$", "", path.stem)].append(metrics)
    if not runs:
        raise ValueError(f"`folder` must hold metrics files of `hf-nat evaluate`, got none in {folder}.")
    measured = [metrics for seeds in runs.values() for metrics in seeds]
    names = list(measured[0]["scores"])
    signatures = {name: {metrics["scores"][name]["signature"] for metrics in measured} for name in names}
    for name, found in signatures.items():
        if len(found) > 1:
            raise ValueError(f"All runs must be scored alike, got {sorted(found)} for {name}. Evaluate them again.")
    columns: dict[str, dict[str, str]] = {
        **_measures(measures, runs),
        "seeds": {run: str(len(seeds)) for run, seeds in runs.items()},
        **{
            name: {run: _mean([metrics["scores"][name]["score"] for metrics in seeds]) for run, seeds in runs.items()}
            for name in names
        },
        "rounds": {run: _mean([metrics["iterations_mean"] for metrics in seeds]) for run, seeds in runs.items()},
        **_errors(runs),
        **_training(folder / "training", runs),
        **_speeds(benchmark, runs, systems),
    }
    columns = {name: column for name, column in columns.items() if any(column.get(run) for run in runs)}
    rows = [[run, *(column.get(run, "") for column in columns.values())] for run in sorted(runs)]
    lines = [f"- {name}: `{found.pop()}`" for name, found in signatures.items()]
    return "\n".join([Table(["run", *columns], rows).markdown(), "", *lines])


def _measures(path: Path | None, runs: Iterable[str]) -> dict[str, dict[str, str]]:
    """Prints C(d) and F(d) of the corpus of each run; nothing where no corpus has such a name."""
    if path is None:
        return {}
    corpora = {row["name"]: row for row in read_json(path)["corpora"]}
    columns: dict[str, dict[str, str]] = {"C(d)": {}, "F(d)": {}}
    for run in runs:
        names = [name for name in corpora if f"_{run.split('__')[0]}".endswith(f"_{name}")]
        if not names:
            continue
        corpus = corpora[max(names, key=len)]
        for column, measure in zip(columns.values(), ("complexity", "faithfulness"), strict=True):
            if corpus[measure] is not None:  # The real corpus has no F(d).
                column[run] = f"{corpus[measure]:.3f}"
    return columns


def _errors(runs: Mapping[str, list[dict[str, Any]]]) -> dict[str, dict[str, str]]:
    """Prints the error rates of the translations in percent, and the parameters in millions."""
    rates = {
        run: [metrics["error_rates"]["translations"] for metrics in seeds]
        for run, seeds in runs.items()
        if all("error_rates" in metrics for metrics in seeds)
    }
    names = dict.fromkeys(name for seeds in rates.values() for rate in seeds for name in rate)
    columns = {
        name.replace("_", " "): {run: _mean([rate.get(name) for rate in seeds]) for run, seeds in rates.items()}
        for name in names
    }
    sizes = {run: seeds[0]["num_parameters"] / 1e6 for run, seeds in runs.items() if "num_parameters" in seeds[0]}
    return {**columns, "parameters, M": {run: f"{size:.2f}" for run, size in sizes.items()}}


def _training(folder: Path, runs: Iterable[str]) -> dict[str, dict[str, str]]:
    """Prints for how many epochs the model of a run was trained, and what it could not learn, in percent."""
    columns: dict[str, dict[str, str]] = {"epochs": {}, "infeasible": {}, "infeasible pairs, %": {}}
    for run in runs:
        paths = [path for path in folder.glob("*.json") if re.sub(r"_seed\d+$", "", path.stem) == run.split("__")[0]]
        metrics = [read_json(path) for path in sorted(paths)]
        if metrics:
            columns["epochs"][run] = _mean([found["epochs"] for found in metrics], decimals=0)
            if all("num_infeasible_pairs" in found for found in metrics):
                shares = [100 * found["num_infeasible_pairs"] / found["num_train_pairs"] for found in metrics]
                columns["infeasible pairs, %"][run] = _mean(shares)
            elif all("share_infeasible" in found for found in metrics):
                columns["infeasible"][run] = _mean([100 * found["share_infeasible"] for found in metrics])
    return columns


def _mean(values: Sequence[float | None], decimals: int = 2) -> str:
    """Prints the mean, and half the range where there are several values; nothing where one is missing."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return ""
    mean = f"{sum(known) / len(known):.{decimals}f}"
    return mean if len(known) == 1 else f"{mean} ± {(max(known) - min(known)) / 2:.{decimals}f}"


def _speeds(
    benchmark: Path | None, runs: Iterable[str], systems: Mapping[str, str] | None
) -> dict[str, dict[str, str]]:
    """Prints the speed of the system of every run: latency for single sentences, else throughput."""
    if benchmark is None:
        return {}
    measured = read_json(benchmark)["batch_sizes"]
    if systems is None:
        systems = {run: run for run in runs}
    elif unknown := [*(systems.keys() - runs), *(set(systems.values()) - measured[min(measured)].keys())]:
        raise ValueError(f"`systems` must name runs of the folder and systems of the benchmark, got {unknown}.")
    columns = {}
    for size, speeds in sorted(measured.items(), key=lambda item: int(item[0])):
        key, form = ("ms_per_batch", ".1f") if size == "1" else ("sentences_per_second", ".0f")
        column = "ms/sentence" if size == "1" else f"sentences/s, batch {size}"
        columns[column] = {run: f"{speeds[name][key]:{form}}" for run, name in systems.items() if name in speeds}
    return columns


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of the metrics files")
    parser.add_argument("benchmark", type=Path, nargs="?", help="JSON file of benchmark_decoding.py")
    parser.add_argument("--systems", nargs="+", metavar="RUN=SYSTEM", help="system of the benchmark for a run")
    parser.add_argument("--measures", type=Path, help="measures.json of the corpora that the models learned from")
    args = parser.parse_args(argv)
    if args.systems and (args.benchmark is None or any("=" not in pair for pair in args.systems)):
        parser.error(f"--systems must be RUN=SYSTEM of a benchmark that is given, got {args.systems}.")
    systems = dict(pair.split("=", 1) for pair in args.systems) if args.systems else None
    print(results_table(args.folder, args.benchmark, args.measures, systems))


if __name__ == "__main__":
    main()
