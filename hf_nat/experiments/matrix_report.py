"""Tables and plots of a matrix of teachers, corpora and students."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

from ..analysis import measures_table
from ..base.reporting import Table, plot_bars, write_report


REAL = "real"
Results = Mapping[str, Any]


@dataclass(frozen=True)
class StudyText:
    """What the report of a study says beside its numbers.

    Args:
        name (`str`): of the study and its JSON file.
        title (`str`): headline.
        source (`str`): where the paper has it.
        question (`str`): what is compared, in a sentence or two.
        paper (`Mapping[str, Mapping[str, float]]`): the paper's numbers on WMT14 en-de, by the name of a corpus or a
            model and by column.
    """

    name: str
    title: str
    source: str
    question: str
    paper: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def names(rows: Sequence[Mapping[str, Any]], key: str) -> list[str]:
    """Returns the values of a key, each once, in their order."""
    return list(dict.fromkeys(row[key] for row in rows))


def scores_of(results: Results, student: str, corpus: str, metric: str = "bleu") -> list[float]:
    """Returns a test score of a student on a corpus for every seed that was run.

    Args:
        results (`Results`): content of the study's JSON file.
        student (`str`): its name.
        corpus (`str`): its name; "real" for the real targets.
        metric (`str`, *optional*, defaults to `"bleu"`): which score, 0-100.
    """
    return [
        row["test"]["scores"][metric]["score"]
        for row in results["students"]
        if (row["name"], row["corpus"]) == (student, corpus)
    ]


def spread(values: Sequence[float]) -> str:
    """Prints the mean, and with more than one value half the distance between the largest and the smallest."""
    if not values:
        return ""
    half = f" ± {(max(values) - min(values)) / 2:.2f}" if len(values) > 1 else ""
    return f"{mean(values):.2f}{half}"


def paper_cell(study: StudyText, name: str, column: str) -> str:
    """Prints a number of the paper, or nothing."""
    value = study.paper.get(name, {}).get(column)
    return "" if value is None else f"{value:g}"


def teachers_table(study: StudyText, results: Results) -> Table:
    """Makes the table of the teachers."""
    rows = [
        [
            row["name"],
            f"{row['num_parameters']:,}",
            *(f"{row[split]['scores']['bleu']['score']:.2f}" for split in ("validation", "test")),
            paper_cell(study, row["name"], "BLEU"),
            ", ".join(f"{knob} {value:g}" for knob, value in row["tuned"].items()),
        ]
        for row in results["teachers"]
    ]
    return Table(["teacher", "parameters", "BLEU, validation", "BLEU, test", "paper", "tuned"], rows)


def students_table(results: Results) -> Table:
    """Makes the table of BLEU on test, a row for each student, a column for each corpus."""
    students, corpora = names(results["students"], "name"), names(results["students"], "corpus")
    rows = [[student, *(spread(scores_of(results, student, corpus)) for corpus in corpora)] for student in students]
    return Table(["student", *corpora], rows)


def capacity_table(study: StudyText, results: Results) -> Table:
    """Makes the paper's Table 2: size, BLEU, rounds and time of a decoder round on one corpus, the real one if any."""
    corpus = names(results["students"], "corpus")[0]
    students = names(results["students"], "name")
    of = {
        name: [row for row in results["students"] if (row["name"], row["corpus"]) == (name, corpus)]
        for name in students
    }
    times = {name: mean(_seconds_per_round(row["test"]) for row in rows) for name, rows in of.items()}
    rows = [
        [
            name,
            f"{of[name][0]['num_parameters']:,}",
            spread(scores_of(results, name, corpus)),
            paper_cell(study, name, "BLEU"),
            f"{mean(row['test']['iterations_mean'] for row in of[name]):.2f}",
            f"{times[name] / times[students[0]]:.2f}",
            paper_cell(study, name, "pass"),
            ", ".join(f"{knob} {value:g}" for knob, value in of[name][0]["tuned"].items()),
        ]
        for name in students
    ]
    return Table(
        ["student", "parameters", f"BLEU, {corpus}", "paper", "rounds", "time of a round", "paper", "tuned"], rows
    )


def _seconds_per_round(metrics: Mapping[str, Any]) -> float:
    return metrics["seconds"] / metrics["num_sentences"] / metrics["iterations_mean"]


def paper_table(study: StudyText, results: Results) -> Table:
    """Makes the paper's Tables 3 and 4: complexity, faithfulness and BLEU of the first student, the paper's beside."""
    student = names(results["students"], "name")[0]
    columns = ("C(d)", "F(d)", "BLEU")
    rows = []
    for corpus in results["corpora"]:
        own = [
            f"{corpus['complexity']:.3f}",
            "" if corpus["faithfulness"] is None else f"{corpus['faithfulness']:.3f}",
            spread(scores_of(results, student, corpus["name"])),
        ]
        rows.append([corpus["name"], *own, *(paper_cell(study, corpus["name"], column) for column in columns)])
    return Table(["corpus", "C(d)", "F(d)", f"BLEU of {student}", *(f"paper: {column}" for column in columns)], rows)


def metrics_table(results: Results) -> Table:
    """Makes the table of all metrics of the first student on test (the paper's Figure 8)."""
    student, corpora = names(results["students"], "name")[0], names(results["students"], "corpus")
    metrics = results["settings"]["metrics"]
    rows = [[corpus, *(spread(scores_of(results, student, corpus, m)) for m in metrics)] for corpus in corpora]
    return Table([f"{student} on", *metrics], rows)


def _bars(results: Results, student: str, metric: str = "bleu") -> dict[str, float]:
    """The mean score of a student by corpus."""
    scores = {corpus: scores_of(results, student, corpus, metric) for corpus in names(results["students"], "corpus")}
    return {corpus: mean(values) for corpus, values in scores.items() if values}


def write_matrix_report(folder: Path, study: StudyText, results: Results) -> Path:
    """Writes report.md, report.html and the plots.

    Args:
        folder (`Path`): of the study.
        study (`StudyText`): what is said.
        results (`Results`): content of the study's JSON file, some students at least.

    Returns:
        `Path`: report.html.
    """
    students = names(results["students"], "name")
    plot_bars(folder / "students.png", {student: _bars(results, student) for student in students})
    measures: dict[str, Callable[[Mapping[str, Any]], Any]] = {
        "complexity C(d)": lambda row: row["complexity"],
        "faithfulness F(d)": lambda row: row["faithfulness"],
        "training BLEU": lambda row: row["training_bleu"],
        "fuzzy reordering": lambda row: row["reordering"],
    }
    plot_bars(
        folder / "corpora.png",
        {
            title: {row["name"]: value(row) for row in results["corpora"] if value(row) is not None}
            for title, value in measures.items()
        },
    )
    metrics, scored = results["settings"]["metrics"], results["students"][0]["test"]["scores"]
    plot_bars(folder / "metrics.png", {metric: _bars(results, students[0], metric) for metric in metrics})
    return write_report(
        folder,
        "matrix",
        study=study,
        paper=paper_table(study, results),
        teachers=teachers_table(study, results),
        capacity=capacity_table(study, results),
        measures=measures_table(results["corpora"]),
        students=students_table(results),
        metrics=metrics_table(results),
        seeds=names(results["students"], "seed"),
        signatures={metric: scored[metric]["signature"] for metric in metrics},
        **{key: results[key] for key in ("settings", "measured", "environment")},
    )
