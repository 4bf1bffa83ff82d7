"""Claims about students that have converged, from as many of their runs as there are.

A run is a file of its name: `<student>_<targets>.json`, with `_seed2` or `_seed3` behind it for other seeds. The
targets are `real`, `distilled` (by beam search), `distilled_nano`, from a weaker teacher, of size nano, and by other
strategies of the teacher `sampling`, `top-k` and `greedy`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import mean

from .effects import Effect, Row, over_seeds
from .matrix_report import REAL


_FOLDER = "multi30k/results/converged"
_STUDENTS = (
    "vanilla_nat",
    "vanilla_nat_glancing",
    "ctc_nat",
    "ctc_nat_glancing",
    "da_transformer",
    "cmlm",
    "levenshtein_transformer",
)
# How a teacher decodes, from the strategy that the paper finds worst for a vanilla NAT to the best.
STRATEGIES = ("sampling", "top-k", "greedy", "distilled")
_SEEDS = {1: "", 2: "_seed2", 3: "_seed3"}  # what the name of a run ends with


def converged_files(*targets: str) -> list[str]:
    """The results of the converged students that there may be, on some targets."""
    return [
        f"{_FOLDER}/{name}_{target}{end}.json" for name in _STUDENTS for target in targets for end in _SEEDS.values()
    ]


def _bleu(runs: Mapping[str, Row], *targets: str) -> dict[str, list[dict[int, Row]]]:
    """The test BLEU of each student by seed, on all these targets; only students with a seed that has them all."""
    found = {}
    for name in _STUDENTS:
        files = [{seed: f"{_FOLDER}/{name}_{t}{end}.json" for seed, end in _SEEDS.items()} for t in targets]
        scores = [{seed: runs[file]["scores"]["bleu"] for seed, file in of.items() if file in runs} for of in files]
        if set.intersection(*map(set, scores)):
            found[name] = scores
    return found


def distillation_helps(runs: Mapping[str, Row]) -> dict[str, Effect]:
    """The gain of each student by distillation; nothing for fewer than two, which are not "every" one."""
    pairs = _bleu(runs, "distilled", REAL)
    if len(pairs) < 2:
        return {}
    return {name: over_seeds(distilled, real) for name, (distilled, real) in pairs.items()}


def strategies(runs: Mapping[str, Row]) -> dict[str, Effect]:
    """What a vanilla NAT gains from each strategy of the teacher to the next; nothing before all were tried."""
    scores = _bleu(runs, *STRATEGIES).get("vanilla_nat")
    if scores is None:
        return {}
    steps = zip(pairwise(STRATEGIES), pairwise(scores), strict=True)
    return {f"{better} over {worse}": over_seeds(more, less) for (worse, better), (less, more) in steps}


def _weakest_and_strongest(pairs: Mapping[str, list[dict[int, Row]]], by: int) -> tuple[str, str] | None:
    """The students with the lowest and the highest mean BLEU on the targets of number `by`; None for fewer than 2."""
    ranked = sorted(pairs, key=lambda name: mean(row["score"] for row in pairs[name][by].values()))
    return (ranked[0], ranked[-1]) if len(ranked) > 1 else None


def weak_gain_more(runs: Mapping[str, Row]) -> dict[str, Effect]:
    """How much more the student that is weakest on real targets gains than the strongest one."""
    pairs = _bleu(runs, "distilled", REAL)
    ends = _weakest_and_strongest(pairs, by=1)
    if ends is None:
        return {}
    weak, strong = ends
    return {f"{weak} over {strong}": _over(pairs[weak], pairs[strong])}


def preferences(runs: Mapping[str, Row]) -> dict[str, Effect]:
    """How much more the strongest student gains than the weakest by the corpus of the stronger teacher."""
    pairs = _bleu(runs, "distilled", "distilled_nano", REAL)
    ends = _weakest_and_strongest(pairs, by=2)
    if ends is None:
        return {}
    weak, strong = ends
    return {f"{strong} over {weak}": _over(pairs[strong][:2], pairs[weak][:2])}


def _over(gain: Sequence[Mapping[int, Row]], other: Sequence[Mapping[int, Row]]) -> Effect:
    """How much larger one student's gain by the first targets over the second is than another student's."""
    return over_seeds(gain[0], gain[1], than=(other[0], other[1]))
