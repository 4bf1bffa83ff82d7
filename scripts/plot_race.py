#!/usr/bin/env python
"""Draws quality against speed from a result of `benchmark_decoding.py --quality`: every system, none picked.

    python scripts/plot_race.py configs/multi30k/results/benchmark/race_cpu.json race_cpu.png

Left quality over the milliseconds of a sentence at the smallest batch size, then over the sentences a second at the
largest one.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hf_nat.base.reporting import plot_tradeoffs
from hf_nat.base.utils import read_record


def race_points(result: dict[str, Any], metric: str = "bleu") -> dict[str, dict[str, tuple[float, float]]]:
    """Returns label of x -> system -> x and score, for `plot_tradeoffs`; the first panel is the latency.

    Args:
        result (`dict[str, Any]`): what `benchmark_decoding.py` wrote.
        metric (`str`, *optional*, defaults to `"bleu"`): the score, `"bleu"` or `"chrf"`.

    Raises:
        ValueError: if a system has no score.
    """
    systems = result["systems"]
    if unscored := sorted(name for name, system in systems.items() if "quality" not in system):
        raise ValueError(f"Every system must have a score, got none of {unscored}. Measure with `--quality`.")
    scores = {name: system["quality"][metric]["score"] for name, system in systems.items()}
    sizes = sorted(result["batch_sizes"], key=int)
    smallest, largest = (result["batch_sizes"][size] for size in (sizes[0], sizes[-1]))
    # A short list of one sentence is another than that of a batch.
    alone = {
        name: systems[name].get(f"quality_batch_{sizes[0]}", {metric: {"score": score}})[metric]["score"]
        for name, score in scores.items()
    }
    return {
        f"milliseconds a sentence, batch {sizes[0]}": {
            name: (smallest[name]["ms_per_batch"] / int(sizes[0]), score) for name, score in alone.items()
        },
        f"sentences a second, batch {sizes[-1]}": {
            name: (largest[name]["sentences_per_second"], score) for name, score in scores.items()
        },
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Reads the JSON file and writes the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=Path, help="JSON file of benchmark_decoding.py")
    parser.add_argument("output", type=Path, help="PNG file to write")
    parser.add_argument("--metric", choices=["bleu", "chrf"], default="bleu")
    args = parser.parse_args(argv)
    panels = race_points(read_record(args.result, {"systems": dict, "batch_sizes": dict}), args.metric)
    label = {"bleu": "BLEU", "chrf": "chrF"}[args.metric]
    plot_tradeoffs(args.output, panels, label, low=[next(iter(panels))])


if __name__ == "__main__":
    main()
