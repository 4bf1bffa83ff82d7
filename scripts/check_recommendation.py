"""Checks what `hf-nat recommend` said of corpora against what the students then did that were trained on them.

    python scripts/check_recommendation.py runs/recommend/recommendation.json beam=results/ctc_nat_distilled.json \
        mbr=results/ctc_nat_mbr.json [--metric chrf]

A result is a metrics.json that `hf-nat evaluate` wrote, given with the candidate's name; those of several seeds have
the same name and count by their mean. Of every two candidates with a result the table says which one the
recommendation ranks first, if any, and whether its student was the better one; the last line says of how many pairs
it was right, with Wilson's 95 % interval of the share. Pairs that share a corpus are not independent, so the interval
is rather too narrow.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from statistics import mean
from typing import Any

from hf_nat.base.reporting import Table
from hf_nat.base.utils import read_record
from hf_nat.experiments.hmm_report import wilson_interval


def check_recommendation(
    recommendation: Mapping[str, Any], results: Mapping[str, Sequence[Mapping[str, Any]]], metric: str = "bleu"
) -> str:
    """Returns the table of all pairs in Markdown, and the line that counts them.

    Args:
        recommendation (`Mapping[str, Any]`): what recommendation.json holds.
        results (`Mapping[str, Sequence[Mapping[str, Any]]]`): by candidate, the metrics of its students.
        metric (`str`, *optional*, defaults to `"bleu"`): score by which a student is better; high is good.

    Raises:
        ValueError: if a result is of no candidate, there are fewer than 2, or they were scored by different rules.
    """
    ranks = {entry["name"]: entry["rank"] for entry in recommendation["recommendation"]["ranking"]}
    if unknown := sorted(results.keys() - ranks.keys()):
        raise ValueError(f"Results must be of the candidates {sorted(ranks)}, got one of {unknown[0]!r}.")
    if len(results) < 2:
        raise ValueError(f"Results must be of at least 2 candidates, got {sorted(results)}. Give NAME=FILE for each.")
    for name, own in results.items():
        if lacking := [metrics for metrics in own if metric not in metrics["scores"]]:
            raise ValueError(
                f"`metric` must be one that every student was scored by, got {metric!r}, which {name!r} lacks, with "
                f"{sorted(lacking[0]['scores'])}. Evaluate it again with this metric."
            )
    scored = {name: [metrics["scores"][metric] for metrics in own] for name, own in results.items()}
    if len(signatures := {score["signature"] for own in scored.values() for score in own}) > 1:
        raise ValueError(f"All students must be scored alike, got {sorted(signatures)}. Evaluate them again.")
    scores = {name: mean(score["score"] for score in own) for name, own in scored.items()}
    rows, verdicts = [], []
    for first, second in combinations(sorted(scores, key=lambda name: (ranks[name], name)), 2):
        difference = scores[first] - scores[second]
        if ranks[first] == ranks[second]:
            said, verdict = "neither", "nothing said"
        else:
            said, verdict = first, "right" if difference > 0 else "wrong" if difference < 0 else "equal scores"
        verdicts.append(verdict)
        rows.append(
            [first, second, said, f"{scores[first]:.2f}", f"{scores[second]:.2f}", f"{difference:+.2f}", verdict]
        )
    table = Table(["one", "other", "ranked first", f"{metric} of one", "of the other", "difference", "verdict"], rows)
    return f"{table.markdown()}\n\n{_counted(verdicts)}"


def _counted(verdicts: Sequence[str]) -> str:
    right, ordered = verdicts.count("right"), verdicts.count("right") + verdicts.count("wrong")
    others = f"of the {len(verdicts) - ordered} other pairs it said nothing, or the scores are equal."
    if not ordered:
        return f"Ordered: no pair; {others}"
    low, high = wilson_interval(right, ordered)
    share = f"{100 * right / ordered:.0f} %, 95 % interval {100 * low:.0f} to {100 * high:.0f} %"
    return f"Ordered rightly: {right} of {ordered} pairs ({share}); {others}"


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recommendation", type=Path, help="recommendation.json of `hf-nat recommend`")
    parser.add_argument("results", nargs="+", help="NAME=metrics.json, a candidate and the scores of its student")
    parser.add_argument("--metric", default="bleu", help="score by which students are compared; default: bleu")
    args = parser.parse_args(argv)
    results: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for text in args.results:
        name, is_named, file = text.partition("=")
        if not is_named:
            parser.error(f"a result must be NAME=FILE, got {text!r}")
        results[name].append(read_record(file, {"scores": dict}))
    record = read_record(args.recommendation, {"recommendation": dict})
    print(check_recommendation(record, results, args.metric))


if __name__ == "__main__":
    main()
