#!/usr/bin/env python
"""How the estimate of complexity C(d) comes to its true value on the toy corpus, where p(y|x) is known.

    python scripts/toy_complexity.py --output_dir configs/toy/results/complexity

Draws corpora of growing size and estimates C(d) from the links of the aligner, and from the true ones. What separates
the first from the exact value is estimation and alignment, what separates the second is estimation alone.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from hf_nat.alignment import align
from hf_nat.base.reporting import Table, plot_curves
from hf_nat.base.utils import environment, write_json
from hf_nat.data import ToyTask
from hf_nat.metrics import corpus_complexity


def estimate(task: ToyTask, size: int, seed: int) -> dict[str, Any]:
    """Estimates C(d) of one corpus in both ways, in nats."""
    rng = random.Random(f"{seed} {size}")
    sources = [task.sample_source(rng) for _ in range(size)]
    targets = [task.translate(source, task.sample_mode(rng)) for source in sources]
    source_words, target_words = ([text.split() for text in side] for side in (sources, targets))
    links = {"aligned": align(source_words, target_words), "true_links": map(task.align, sources, targets)}
    return {
        "size": size,
        "seed": seed,
        **{kind: corpus_complexity(source_words, target_words, found).value for kind, found in links.items()},
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Writes results.json and complexity.png, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", type=int, default=[100, 300, 1000, 3000, 10_000, 30_000])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--output_dir", required=True)
    args = parser.parse_args(argv)
    task, folder = ToyTask(), Path(args.output_dir)
    estimates = [estimate(task, size, seed) for size in args.sizes for seed in args.seeds]
    write_json(
        folder / "results.json",
        {"exact": task.complexity(), "estimates": estimates, "environment": environment()},
    )
    means = {
        kind: [mean(row[kind] for row in estimates if row["size"] == size) for size in args.sizes]
        for kind in ("aligned", "true_links")
    }
    exact = [task.complexity()] * len(args.sizes)
    curves = {"links of the aligner": means["aligned"], "true links": means["true_links"], "exact": exact}
    plot_curves(folder / "complexity.png", args.sizes, curves, "sentence pairs", "complexity C (nats)")
    rows = [[f"{size:,}", *(f"{curve[i]:.4f}" for curve in curves.values())] for i, size in enumerate(args.sizes)]
    print(Table(["pairs", *curves], rows).markdown())


if __name__ == "__main__":
    main()
