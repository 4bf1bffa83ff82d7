"""Tables, plots and pages."""

from __future__ import annotations

import importlib.resources
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import markdown
import numpy as np
from numpy.typing import ArrayLike

from ..files import atomic_path


# What Markdown, or HTML in it, takes for more than text.
_MARKUP = {ord(character): f"&#{ord(character)};" for character in "\\`*_[]()!<>&|#~"}


@dataclass(frozen=True)
class Table:
    """A table whose cells are printed already.

    Args:
        header (`Sequence[str]`): names of the columns.
        rows (`Sequence[Sequence[str]]`): cells.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """Returns the table in Markdown, columns padded so that it also reads well in a terminal."""
        lines = [self.header, *self.rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.header))]
        padded = [
            [cell.ljust(width) if column == 0 else cell.rjust(width) for column, (cell, width) in enumerate(cells)]
            for cells in (list(zip(line, widths, strict=True)) for line in lines)
        ]
        rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
        return "\n".join("| " + " | ".join(line) + " |" for line in [padded[0], rule, *padded[1:]])


@contextmanager
def _figure(path: Path, num_panels: int, width: float, height: float) -> Iterator[Any]:
    """Gives the axes of a row of panels and saves the figure as PNG when the block ends."""
    from matplotlib.figure import Figure
    from PIL import Image

    figure = Figure(figsize=(width * num_panels, height))
    axes = figure.subplots(1, num_panels, squeeze=False)
    for axis in axes[0]:
        axis.spines[["top", "right"]].set_visible(False)
    yield axes[0]
    figure.tight_layout()
    pixels = io.BytesIO()
    figure.savefig(pixels, dpi=150)
    # A plot has few colours: with a palette the file is a third as large.
    image = Image.open(pixels).convert("RGB").quantize(64, dither=Image.Dither.NONE)
    with atomic_path(path) as temporary:
        image.save(temporary, "PNG", optimize=True)


def interval_cell(ends: Sequence[float] | None) -> str:
    """Prints the ends of an interval; nothing where there is none."""
    return "" if ends is None else f"{ends[0]:.3f} to {ends[1]:.3f}"


def plot_bars(
    path: Path,
    panels: Mapping[str, Mapping[str, float]],
    intervals: Mapping[str, Mapping[str, Sequence[float]]] | None = None,
) -> Path:
    """Draws one panel of labelled horizontal bars for each entry.

    Args:
        path (`Path`): PNG file to write.
        panels (`Mapping[str, Mapping[str, float]]`): title -> label -> value.
        intervals (`Mapping[str, Mapping[str, Sequence[float]]]`, *optional*): title -> label, in the same order ->
            both ends of an interval.
    """
    height = max(2.8, 1 + 0.3 * max(map(len, panels.values())))
    with _figure(path, len(panels), 4.2, height) as axes:
        for axis, (title, bars) in zip(axes, panels.items(), strict=True):
            colors = ["#ced4da" if "real" in label or label == "exact" else "#0b7285" for label in bars]
            errors = None
            if intervals is not None:
                sides = [(bars[label] - low, high - bars[label]) for label, (low, high) in intervals[title].items()]
                errors = np.maximum(np.transpose(sides), 0)
            drawn = axis.barh(list(bars), list(bars.values()), xerr=errors, color=colors, ecolor="#e67700")
            axis.bar_label(drawn, fmt="%.3g", padding=3)
            axis.invert_yaxis()
            axis.margins(x=0.18)
            axis.set_title(title, fontsize=11)
    return path


def plot_points(
    path: Path,
    points: Mapping[str, tuple[ArrayLike, ArrayLike]],
    x_label: str,
    y_label: str,
    *,
    marker_size: float = 8,
    level: float | None = None,
    line: Sequence[str] = (),
    region: Mapping[str, tuple[float, float]] | None = None,
) -> Path:
    """Draws points, or sets of them, each with its entry in the legend.

    Args:
        path (`Path`): PNG file to write.
        points (`Mapping[str, tuple[ArrayLike, ArrayLike]]`): label -> x and y, numbers or equally many of them.
        x_label (`str`): what x is.
        y_label (`str`): what y is.
        marker_size (`float`, *optional*, defaults to 8): diameter of a point, in typographic points.
        level (`float`, *optional*): y of a horizontal line.
        line (`Sequence[str]`, *optional*): labels of points that a line joins.
        region (`Mapping[str, tuple[float, float]]`, *optional*): label -> range of x that is shaded.
    """
    with _figure(path, 1, 5.5, 4) as (axis,):
        for label, (left, right) in (region or {}).items():
            axis.axvspan(left, right, color="#e3fafc", zorder=0, label=label)
        if line:
            axis.plot(*zip(*(points[label] for label in line), strict=True), "--", color="#adb5bd", zorder=1)
        for label, (x, y) in points.items():
            axis.plot(x, y, "o", markersize=marker_size, label=label)
        if level is not None:
            axis.axhline(level, color="#ced4da", zorder=0)
        axis.legend(frameon=False)
        axis.margins(0.25)
        axis.set(xlabel=x_label, ylabel=y_label)
    return path


def plot_simplex(path: Path, panels: Mapping[str, np.ndarray], corners: Sequence[str]) -> Path:
    """Draws one triangle of points for each entry, each point in the colour of its nearest corner.

    Args:
        path (`Path`): PNG file to write.
        panels (`Mapping[str, np.ndarray]`): title -> points `[N, 3]` whose coordinates sum to 1.
        corners (`Sequence[str]`): names of the three corners.
    """
    places = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, 0.75**0.5]])
    with _figure(path, len(panels), 3.4, 3.4) as axes:
        for axis, (title, points) in zip(axes, panels.items(), strict=True):
            axis.plot(*places[[0, 1, 2, 0]].T, color="#adb5bd", linewidth=1)
            nearest, drawn = points.argmax(axis=1), points @ places
            for corner, (name, place) in enumerate(zip(corners, places, strict=True)):
                axis.plot(*drawn[nearest == corner].T, ".", markersize=3, alpha=0.5)
                axis.annotate(name, place, (0, 8 if corner == 2 else -14), textcoords="offset points", ha="center")
            axis.set(title=title, aspect="equal", xlim=(-0.1, 1.1), ylim=(-0.12, 1.0))
            axis.title.set_size(11)
            axis.axis("off")
    return path


def plot_densities(path: Path, samples: Mapping[str, np.ndarray], x_label: str) -> Path:
    """Draws the density of each sample over bins that all of them share.

    Args:
        path (`Path`): PNG file to write.
        samples (`Mapping[str, np.ndarray]`): label -> values.
        x_label (`str`): what the values are.
    """
    bins = np.histogram_bin_edges(np.concatenate(list(samples.values())), bins=80)
    with _figure(path, 1, 6.5, 3.6) as (axis,):
        for label, values in samples.items():
            axis.hist(values, bins, density=True, histtype="step", linewidth=1.6, label=label)
        axis.set(xlabel=x_label, ylabel="density")
        axis.legend(frameon=False)
    return path


def plot_reliability(path: Path, bins: Mapping[str, Any]) -> Path:
    """Draws the quality that was measured over the confidence, and the line on which both are the same.

    Args:
        path (`Path`): PNG file to write.
        bins (`Mapping[str, Any]`): `confidences` and `qualities`, 0-1, and `counts` of the bins; `error`.
    """
    sizes = 300 * np.sqrt(np.array(bins["counts"]) / sum(bins["counts"]))
    with _figure(path, 1, 4.2, 4) as (axis,):
        axis.plot([0, 1], [0, 1], "--", color="#adb5bd", zorder=1)
        axis.scatter(bins["confidences"], bins["qualities"], sizes, color="#0b7285", zorder=2)
        axis.set(xlabel="confidence", ylabel="measured quality", xlim=(0, 1), ylim=(0, 1))
        axis.set_title(f"expected calibration error {bins['error']:.3f}", fontsize=11)
    return path


def plot_tradeoffs(
    path: Path, panels: Mapping[str, Mapping[str, tuple[float, float]]], y_label: str, *, low: Sequence[str] = ()
) -> Path:
    """Draws quality against speed: a panel for each measure of speed, every point with its number, names beside.

    A broken line joins the points that no other one beats in both. Names that begin with the same word, up to a `_`,
    have one colour.

    Args:
        path (`Path`): PNG file to write.
        panels (`Mapping[str, Mapping[str, tuple[float, float]]]`): label of x -> name -> x > 0 and y; all have the
            same names.
        y_label (`str`): what y is; more is better.
        low (`Sequence[str]`, *optional*): the labels of x where less is better.
    """
    from matplotlib import ticker

    names = list(next(iter(panels.values())))
    kinds = list(dict.fromkeys(name.split("_")[0] for name in names))
    with _figure(path, len(panels) + 1, 4.2, max(3.6, 1 + 0.22 * len(names))) as axes:
        for axis, (x_label, points) in zip(axes, panels.items(), strict=False):
            axis.plot(
                *zip(*_unbeaten(points.values(), -1 if x_label in low else 1), strict=True), "--", color="#adb5bd"
            )
            for number, name in enumerate(names, start=1):
                axis.plot(*points[name], "o", color=f"C{kinds.index(name.split('_')[0])}", markersize=5)
                axis.annotate(str(number), points[name], (4, 4), textcoords="offset points", fontsize=9)
            axis.set_xscale("log")
            axis.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
            axis.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
            axis.xaxis.set_minor_locator(ticker.NullLocator())
            axis.set(xlabel=x_label, ylabel=y_label)
        axes[-1].axis("off")
        listed = "\n".join(f"{number}  {name}" for number, name in enumerate(names, start=1))
        axes[-1].text(0, 1, listed, va="top", fontsize=9, transform=axes[-1].transAxes)
    return path


def _unbeaten(points: Iterable[tuple[float, float]], sign: int) -> list[tuple[float, float]]:
    """The points than which none is better in x (more, or less with a sign of -1) and y at once, the best y last."""
    best: list[tuple[float, float]] = []
    for point in sorted(points, key=lambda point: (-sign * point[0], -point[1])):
        if not best or point[1] > best[-1][1]:
            best.append(point)
    return best


def plot_curves(
    path: Path, x: Sequence[float], curves: Mapping[str, Sequence[float]], x_label: str, y_label: str
) -> Path:
    """Draws curves over a logarithmic x axis.

    Args:
        path (`Path`): PNG file to write.
        x (`Sequence[float]`): the points of all curves.
        curves (`Mapping[str, Sequence[float]]`): label -> a value for each point.
        x_label (`str`): what x is.
        y_label (`str`): what y is.
    """
    with _figure(path, 1, 6, 3.6) as (axis,):
        for label, values in curves.items():
            axis.plot(x, values, marker="o" if len(set(values)) > 1 else None, label=label)
        axis.set_xscale("log")
        axis.set(xlabel=x_label, ylabel=y_label)
        axis.legend(frameon=False)
    return path


def write_report(folder: Path, template: str, **values: Any) -> Path:
    """Renders a Markdown template to report.md, and that to report.html.

    Args:
        folder (`Path`): where the pages go.
        template (`str`): name of the template, without `.md.jinja`.
        **values: what the template uses; a name that is missing is an error.

    Returns:
        `Path`: report.html.
    """
    text = _render(f"{template}.md.jinja", **values)
    title = text.split("\n", 1)[0].lstrip("# ")
    page = _render("page.html.jinja", title=title, body=markdown.markdown(text, extensions=["tables"]))
    for name, content in (("report.md", text), ("report.html", page)):
        with atomic_path(folder / name) as temporary:
            temporary.write_text(content, encoding="utf-8")
    return folder / "report.html"


def text_cell(text: str) -> str:
    """Writes text of a corpus into a cell of a table, where none of it is Markdown or HTML."""
    return " ".join(text.splitlines()).translate(_MARKUP)


def template_environment() -> jinja2.Environment:
    """Makes what renders Markdown templates; a name that one uses and nobody gave is an error."""
    return jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )


def _render(template: str, **values: Any) -> str:
    source = importlib.resources.files(__package__) / "templates" / template
    return template_environment().from_string(source.read_text(encoding="utf-8")).render(values)
