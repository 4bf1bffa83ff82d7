"""Tables, plots and page of the study of several target languages."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..base.reporting import Table, interval_cell, plot_bars, plot_simplex, text_cell, write_report


Results = Mapping[str, Any]

# The corpora of the study: every source with all its targets, with one drawn at random, with its teacher's.
CONCATENATED, RANDOM, DISTILLED = "concatenated", "random selection", "distilled"
# Zhou, Gu & Neubig 2020, Table 1, Europarl en -> de, es, fr.
PAPER = {CONCATENATED: 3.67, RANDOM: 3.30, DISTILLED: 2.64}
_PAPER_PAIRS = "2.81 to 3.12"


def systems_table(results: Results) -> Table:
    """Prints how concentrated the outputs of each model are, in which languages, and how many tokens none has."""
    languages = results["settings"]["target_langs"]
    header = ["outputs", "sentences", "concentration", "95 %", *(f"most {lang}" for lang in languages)]
    # Studies made before it was counted lack the share.
    counted = all("unknown_share" in system for system in results["systems"])
    rows = []
    for system in results["systems"]:
        interval = interval_cell(system["concentration_interval"])
        shares = [f"{100 * system['languages'][lang]:.0f} %" for lang in languages]
        if counted:
            shares.append(f"{100 * system['unknown_share']:.2f} %")
        rows.append(
            [system["name"], f"{system['num_sentences']:,}", f"{system['concentration']:.3f}", interval, *shares]
        )
    return Table([*header, *(["unknown tokens"] if counted else [])], rows)


def corpora_table(results: Results) -> Table:
    """Prints the complexity and reordering of each corpus, in words and pieces, beside the paper's complexity."""
    kinds = ("words", "pieces")
    header = ["corpus", "pairs"]
    for kind in kinds:
        header += [f"C(d), {kind}", "95 %", f"reordering, {kind}"]
    rows = []
    for measured in results["corpora"]:
        name = measured["name"]
        row = [name, f"{measured['words']['num_pairs']:,}"]
        for kind in kinds:
            row += [f"{measured[kind]['complexity']:.3f}", interval_cell(measured[kind]["complexity_interval"])]
            row.append(f"{measured[kind]['reordering']:.3f}")
        rows.append([*row, f"{PAPER[name]:.2f}" if name in PAPER else _PAPER_PAIRS])
    return Table([*header, "paper: C(d)"], rows)


def write_multimodality_report(folder: Path, results: Results, points: Mapping[str, np.ndarray]) -> Path:
    """Writes report.md, report.html and the plots.

    Args:
        folder (`Path`): where they go.
        results (`Mapping[str, Any]`): what `multimodality.json` holds.
        points (`Mapping[str, np.ndarray]`): by system `[N, 3]`, the posteriors of its outputs.

    Returns:
        `Path`: report.html.
    """
    languages = results["settings"]["target_langs"]
    models = {name: found for name, found in points.items() if name in dict(results["examples"][0])}
    plot_simplex(folder / "simplex.png", models, languages)
    bars = {measured["name"]: measured["words"]["complexity"] for measured in results["corpora"]}
    plot_bars(folder / "complexity.png", {"C(d), words": bars})
    examples = [
        Table(["", ""], [[name, text_cell(text)] for name, text in example]) for example in results["examples"]
    ]
    return write_report(
        folder,
        "multimodality",
        results=results,
        systems=systems_table(results),
        corpora=corpora_table(results),
        examples=examples,
    )
