"""Claims about students that have converged, from as many of their runs as there are.

A run is a file of its name: `<student>_<targets>.json`, with `_seed2` or `_seed3` behind it for other seeds. The
targets are `real`, `distilled` (by beam search), `distilled_nano`, from a weaker teacher, of size nano, `experts`, by
the best of a mixture, and by other strategies of the teacher `sampling`, `top-k`, `greedy` and `interpolation`. With
`_teacher2` behind them a run is one of the second teacher: students of different teachers are not compared. Of studies
there are `born_again`, `multimodality`, `capacity` and `decoding`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise, product
from pathlib import Path
from statistics import mean

from ..base.utils import read_json
from .effects import Effect, Effects, EffectsBySeed, Row, over_seeds
from .matrix_report import REAL


FOLDERS = ("multi30k_gpu/results", "multi30k/results/converged")  # of runs, the paper's sizes before size mini
_STUDENTS = (
    "vanilla_nat",
    "vanilla_nat_glancing",
    "flowseq",
    "iterative_nat",
    "insertion_transformer",
    "ctc_nat",
    "ctc_nat_glancing",
    "da_transformer",
    "cmlm",
    "levenshtein_transformer",
)
# How a teacher decodes, from the strategy that the paper finds worst for a vanilla NAT to the best.
_STRATEGIES = ("sampling", "top-k", "greedy", "distilled")
_TEACHERS = ("", "_teacher2")  # what stands behind the targets
_SEEDS = {1: "", 2: "_seed2", 3: "_seed3"}  # what the name of a run ends with


class ConvergedRuns:
    """The results of converged runs that there are, read when a claim asks for them.

    Args:
        results_dir (`Path`): folder of the JSON files that all runs left.
        folder (`str`): which of `FOLDERS` in it.
    """

    def __init__(self, results_dir: Path, folder: str) -> None:
        self._results_dir, self._folder = results_dir, folder
        self._read: dict[str, Row] = {}

    @property
    def files(self) -> list[str]:
        """The files that were read, by their place in the folder."""
        return list(self._read)

    def by_seed(self, *names: str) -> list[dict[int, Row]]:
        """Returns the results of each of these runs by the seeds that all of them have."""
        files = [{seed: f"{self._folder}/{name}{end}.json" for seed, end in _SEEDS.items()} for name in names]
        common = [seed for seed in _SEEDS if all((self._results_dir / of[seed]).is_file() for of in files)]
        return [{seed: self._result(of[seed]) for seed in common} for of in files]

    def _result(self, file: str) -> Row:
        if file not in self._read:
            self._read[file] = read_json(self._results_dir / file)
        return self._read[file]


EffectsOfRuns = Callable[[ConvergedRuns], Mapping[str, Effect]]


def _bleu(
    runs: ConvergedRuns, *targets: str, students: Sequence[str] = _STUDENTS, teachers: Sequence[str] = _TEACHERS[:1]
) -> dict[str, list[dict[int, Row]]]:
    """The test BLEU of each student by seed, on all these targets; only students with a seed that has them all.

    They are of the first of `teachers` that has them.
    """
    found: dict[str, list[dict[int, Row]]] = {}
    for name, teacher in product(students, teachers):
        results = runs.by_seed(*(f"{name}_{target}{teacher}" for target in targets))
        if results[0]:
            found.setdefault(name, [{seed: run["scores"]["bleu"] for seed, run in of.items()} for of in results])
    return found


def distillation_helps(runs: ConvergedRuns) -> dict[str, Effect]:
    """The gain of each student by distillation; nothing for fewer than two, which are not "every" one."""
    pairs = _bleu(runs, "distilled", REAL, teachers=_TEACHERS)
    if len(pairs) < 2:
        return {}
    return {name: over_seeds(distilled, real) for name, (distilled, real) in pairs.items()}


def strategies(runs: ConvergedRuns) -> dict[str, Effect]:
    """What a vanilla NAT gains from each strategy of a teacher to the next; nothing before all were tried."""
    scores = _bleu(runs, *_STRATEGIES, students=["vanilla_nat"], teachers=_TEACHERS)
    return {
        f"{better} over {worse}": over_seeds(more, less)
        for of in scores.values()
        for (worse, better), (less, more) in zip(pairwise(_STRATEGIES), pairwise(of), strict=True)
    }


def gain_of(student: str, better: str, worse: str) -> Callable[[ConvergedRuns], dict[str, Effect]]:
    """What a student gains by one kind of targets over another."""

    def effects(runs: ConvergedRuns) -> dict[str, Effect]:
        scores = _bleu(runs, better, worse, students=[student])
        return {f"{better} over {worse}": over_seeds(*of) for of in scores.values()}

    return effects


def in_study(name: str, effects: EffectsBySeed) -> EffectsOfRuns:
    """Effects from the results of a study by seed."""

    def found(runs: ConvergedRuns) -> Mapping[str, Effect]:
        (studies,) = runs.by_seed(name)
        return effects(studies) if studies else {}

    return found


def whole(effects: Effects) -> EffectsBySeed:
    """Effects of a study that has all its seeds in one file."""
    return lambda studies: effects(studies[min(studies)])


def first_of(*alternatives: EffectsOfRuns) -> EffectsOfRuns:
    """The effects of the first of these that has any."""
    return lambda runs: next(filter(None, (effects(runs) for effects in alternatives)), {})


def _weakest_and_strongest(pairs: Mapping[str, list[dict[int, Row]]], by: int) -> tuple[str, str] | None:
    """The students with the lowest and the highest mean BLEU on the targets of number `by`.

    None for fewer than 2, or where these two have no seed in common.
    """
    ranked = sorted(pairs, key=lambda name: mean(row["score"] for row in pairs[name][by].values()))
    if len(ranked) < 2 or not pairs[ranked[0]][by].keys() & pairs[ranked[-1]][by].keys():
        return None
    return ranked[0], ranked[-1]


def weak_gain_more(runs: ConvergedRuns) -> dict[str, Effect]:
    """How much more the student that is weakest on real targets gains than the strongest one."""
    pairs = _bleu(runs, "distilled", REAL)
    ends = _weakest_and_strongest(pairs, by=1)
    if ends is None:
        return {}
    weak, strong = ends
    return {f"{weak} over {strong}": _over(pairs[weak], pairs[strong])}


def preferences(runs: ConvergedRuns) -> dict[str, Effect]:
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
