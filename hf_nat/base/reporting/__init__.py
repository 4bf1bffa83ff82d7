"""Tables, plots and pages."""

from __future__ import annotations

from .report import (
    Table,
    interval_cell,
    plot_bars,
    plot_curves,
    plot_densities,
    plot_points,
    plot_reliability,
    plot_simplex,
    plot_tradeoffs,
    template_environment,
    text_cell,
    write_report,
)


__all__ = [
    "Table",
    "interval_cell",
    "plot_bars",
    "plot_curves",
    "plot_densities",
    "plot_points",
    "plot_reliability",
    "plot_simplex",
    "plot_tradeoffs",
    "template_environment",
    "text_cell",
    "write_report",
]
