"""Effects that the paper claims: how large each is, and what its interval says of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

import numpy as np

from ..metrics import bleu_statistics, hierarchical_bootstrap


CONFIRMED, CONTRADICTED, UNDECIDED, NOT_MEASURED = "confirmed", "contradicted", "undecided", "not measured"
VERDICTS = (CONFIRMED, CONTRADICTED, UNDECIDED, NOT_MEASURED)
STATISTICS = "sentence_statistics"  # of a score: what `bleu_record` made
PAIRED, SEPARATE = "paired bootstrap", "widest"
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Effect:
    """How large an effect is, positive in the direction that the paper claims.

    Args:
        value (`float`): the effect.
        unit (`str`): what it is measured in.
        low (`float`, *optional*): lower end of its 95 % interval; None where there is none.
        high (`float`, *optional*): upper end.
        basis (`str`, *optional*): what the interval comes from, or what it would need.
        margin (`float`, *optional*): the claim is that the effect is no larger than this either way.
    """

    value: float
    unit: str
    low: float | None = None
    high: float | None = None
    basis: str = ""
    margin: float | None = None

    @property
    def verdict(self) -> str:
        """Where the whole interval lies: on the claimed side or inside the margin, on the other one, or across."""
        if self.low is None or self.high is None:
            return NOT_MEASURED
        if self.margin is None:
            return CONFIRMED if self.low > 0 else CONTRADICTED if self.high < 0 else UNDECIDED
        if -self.margin <= self.low and self.high <= self.margin:
            return CONFIRMED
        return CONTRADICTED if self.low > self.margin or self.high < -self.margin else UNDECIDED

    @property
    def as_claimed(self) -> bool:
        """Whether the effect itself is as the paper claims, whatever its interval."""
        return self.value > 0 if self.margin is None else abs(self.value) <= self.margin

    def beside(self, size: float) -> str:
        """Prints a size that the paper reports, and whether it lies inside the interval."""
        if self.low is None or self.high is None:
            return f"the paper: {size:g}"
        return f"the paper: {size:g}, {'inside' if self.low <= size <= self.high else 'outside'} the interval"

    def __str__(self) -> str:
        interval = "no interval" if self.low is None else f"{self.low:+.3g} to {self.high:+.3g}"
        basis = f"; {self.basis}" if self.basis else ""
        return f"{self.value:+.3g} {self.unit}".rstrip() + f" ({interval}{basis})"


Effects = Callable[[Row], Mapping[str, Effect]]  # by name, from the results of a study
EffectsBySeed = Callable[[Mapping[int, Row]], Mapping[str, Effect]]  # from those of each seed


def verdict_of(effects: Sequence[Effect]) -> str:
    """Judges a claim of several effects: the first of these verdicts that one of them has; without one, nothing is."""
    found = {effect.verdict for effect in effects}
    worst = [verdict for verdict in (CONTRADICTED, NOT_MEASURED, UNDECIDED) if verdict in found]
    return worst[0] if worst else CONFIRMED if found else NOT_MEASURED


def between(larger: Row, smaller: Row, key: str, unit: str = "nats", differences: Sequence[Row] = ()) -> Effect:
    """The difference of a measure of two corpora.

    Args:
        larger (`Row`): measures of the corpus that the paper says has more.
        smaller (`Row`): those of the other one.
        key (`str`): which measure.
        unit (`str`, *optional*, defaults to `"nats"`): what it is measured in.
        differences (`Sequence[Row]`, *optional*): what `corpus_differences` recorded. Where it lacks the pair, the
            interval is the widest that the corpora's own allow, which may be much wider than the paired one.
    """
    value = larger[key] - smaller[key]
    for row in differences:
        pair = (row["first"], row["second"])
        if key in row and pair in ((larger["name"], smaller["name"]), (smaller["name"], larger["name"])):
            low, high = row[key]["interval"]
            if pair[0] == smaller["name"]:
                low, high = -high, -low
            return Effect(value, unit, low, high, PAIRED)
    own, other = larger.get(f"{key}_interval"), smaller.get(f"{key}_interval")
    if own is None or other is None:
        return Effect(value, unit)
    (low, high), (other_low, other_high) = own, other
    return Effect(value, unit, low - other_high, high - other_low, SEPARATE)


def over_seeds(
    better: Mapping[int, Row],
    worse: Mapping[int, Row],
    *,
    than: tuple[Mapping[int, Row], Mapping[int, Row]] | None = None,
    margin: float | None = None,
) -> Effect:
    """The difference of two systems' mean BLEU over the seeds of both; its interval resamples seeds and sentences.

    Args:
        better (`Mapping[int, Row]`): the score by seed, with `sentence_statistics` if there is to be an interval.
        worse (`Mapping[int, Row]`): that of the other system.
        than (`tuple`, *optional*): two more, whose difference is taken away.
        margin (`float`, *optional*): see `Effect`.

    Raises:
        ValueError: if no seed is common to all, or they were not scored on the same sentences.
    """
    systems = [better, worse, *(than or ())]
    seeds = sorted(set.intersection(*map(set, systems)))
    if not seeds:
        found = [sorted(system) for system in systems]
        raise ValueError(f"Systems must have a seed in common, got the seeds {found}. Let the study end.")
    scores = [mean(system[seed]["score"] for seed in seeds) for system in systems]
    value = sum(sign * score for sign, score in zip((1, -1, -1, 1), scores, strict=False))
    basis = "1 seed" if len(seeds) == 1 else f"{len(seeds)} seeds"
    if not all(STATISTICS in system[seed] for system in systems for seed in seeds):
        return Effect(value, "BLEU", basis=f"{basis}, no sentence statistics", margin=margin)
    counted = [[bleu_statistics(system[seed][STATISTICS]) for seed in seeds] for system in systems]
    references = {tuple(statistics[:, 1]) for of_seeds in counted for statistics in of_seeds}
    if len(references) > 1:
        raise ValueError(
            f"Systems must be scored on the same sentences, got {sorted(map(len, references))} sentences whose "
            "references differ. Evaluate them again."
        )
    resampled = [hierarchical_bootstrap(np.stack(of_seeds)) for of_seeds in counted]
    difference = resampled[0] - resampled[1]
    if than is not None:
        difference -= resampled[2] - resampled[3]
    return Effect(value, "BLEU", *difference.interval(), basis, margin)
