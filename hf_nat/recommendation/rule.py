"""The rule that chooses among distilled corpora by their complexity and faithfulness, and by proxy trainings.

The finding (Zhou, Gu & Neubig 2020, section 4.4): the stronger a student, the more complex, and so the more faithful,
are the targets that it does best with. The rule:

1. A candidate is dominated where another one, or the real corpus, is shown to be better in one measure and not shown
   to be worse in the other. "Shown" means that the bootstrap intervals do not overlap. It ranks behind all that
   dominate it.
2. Those left lie on levels from simple to faithful. Of two levels each is shown to be better in one measure; between
   members of one level nothing is shown.
3. A student has a place on the paper's scale from its simplest teacher's targets (AT-tiny) to its most faithful
   teacher's (AT-big), or a range that the paper leaves open. The levels nearest to it suit the student.

It advises the candidate where exactly one suits. That the place on the paper's scale is the same share of the way
through the levels of these candidates is the rule's assumption, as good as their teachers and strategies span what the
paper's four teachers span.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .paper_students import Student


CONFIDENCES = {
    "confirmed": "the rule and the proxy trainings choose it, each alone",
    "stated": "the rule chooses it, and the paper says which of its teachers is best for this student",
    "inferred": "the rule chooses it by the paper's order of students or of sizes; the paper has not tried it",
    "dominant": "it is the only one that nothing dominates, so that the student does not matter",
    "proxy": "the rule leaves several open, and the proxy trainings choose it among them",
    "unknown": "neither the measures nor the paper decide",
}


@dataclass(frozen=True)
class Candidate:
    """Measures of a distilled corpus.

    Args:
        name (`str`): its name.
        complexity (`float`): C(d) in nats; low is simple.
        complexity_interval (`tuple[float, float]`, *optional*): its bootstrap interval; without one nothing is shown.
        faithfulness (`float`): F(d) in nats; low is faithful, 0 is the real corpus.
        faithfulness_interval (`tuple[float, float]`, *optional*): its bootstrap interval.
    """

    name: str
    complexity: float
    complexity_interval: tuple[float, float] | None
    faithfulness: float
    faithfulness_interval: tuple[float, float] | None


@dataclass(frozen=True)
class Proxies:
    """Outcome of short trainings of the student on each candidate.

    Args:
        scores (`Mapping[str, Sequence[float]]`): BLEU (0-100) on real targets by candidate, one for each seed.
        leaders (`frozenset[str]`): the best candidate, and those that are not shown to be worse.
    """

    scores: Mapping[str, Sequence[float]]
    leaders: frozenset[str]


@dataclass(frozen=True)
class Ranked:
    """A candidate's rank from 1, shared where nothing tells candidates apart, and the reason."""

    name: str
    rank: int
    reason: str


@dataclass(frozen=True)
class Recommendation:
    """What is advised.

    Args:
        advised (`str`, *optional*): the candidate; None if it is unknown which.
        confidence (`str`): a key of `CONFIDENCES`, which says what it means.
        explanation (`str`): what the advice, or its lack, rests on.
        ranking (`tuple[Ranked, ...]`): all candidates, the best first.
        levels (`tuple[tuple[str, ...], ...]`): those that nothing dominates, from simple to faithful.
        suited (`tuple[str, ...]`): those that suit the student by the rule, from simple to faithful.
    """

    advised: str | None
    confidence: str
    explanation: str
    ranking: tuple[Ranked, ...]
    levels: tuple[tuple[str, ...], ...]
    suited: tuple[str, ...]


def recommend(
    candidates: Sequence[Candidate], student: Student, *, real: Candidate | None = None, proxies: Proxies | None = None
) -> Recommendation:
    """Ranks distilled corpora for a student, and advises one where that is justified.

    Proxy trainings choose among what the rule leaves open. Where they contradict the rule, nothing is advised.

    Args:
        candidates (`Sequence[Candidate]`): corpora that were measured in the same way; their order has no effect.
        student (`Student`): the student, see `place_student`.
        real (`Candidate`, *optional*): the real corpus.
        proxies (`Proxies`, *optional*): trainings of the student on every candidate.

    Returns:
        `Recommendation`: advice, confidence, reasons and ranking. By the rule alone, a stronger student is never
        advised a simpler candidate.

    Raises:
        ValueError: if names repeat, a measure is no number, or the proxies are not those of the candidates.

    Source: Zhou, Gu & Neubig 2020, sections 4.4 and 5; the rule is this project's.
    """
    _check(candidates, proxies)
    ordered = sorted(candidates, key=_order)
    rivals = [*([] if real is None else [real]), *ordered]
    dominating = {c.name: next((rival for rival in rivals if _dominates(rival, c)), None) for c in ordered}
    levels = _levels([candidate for candidate in ordered if dominating[candidate.name] is None])
    first, last = (round(place * (len(levels) - 1)) for place in student.place or (0.0, 1.0))
    suited = tuple(name for level in levels[first : last + 1] for name in level)
    left = tuple(name for name in suited if proxies is None or name in proxies.leaders)
    confidence = _confidence(len(candidates), len(levels), suited, left, student, proxies)
    advised = None if confidence == "unknown" else left[0]

    # How many levels a candidate is away from those that suit the student: below 0 for simpler ones.
    offsets = {
        name: min(level - first, 0) + max(level - last, 0) for level, names in enumerate(levels) for name in names
    }

    depths = _depths(rivals)

    def rank_key(candidate: Candidate) -> tuple[int, int, bool]:
        """What candidates are ordered by: depth of dominance, levels from what suits, worse in the proxy trainings."""
        name = candidate.name
        is_beaten = bool(left) and name in suited and name not in left
        return depths[name], abs(offsets.get(name, 0)), is_beaten

    def reason(candidate: Candidate) -> str:
        """Says why a candidate has its rank."""
        _, distance, is_beaten = rank_key(candidate)
        if (rival := dominating[candidate.name]) is not None:
            return _dominance(rival, candidate)
        if distance:
            return "less faithful than suits it" if offsets[candidate.name] < 0 else "more complex than suits it"
        if is_beaten:
            return "suits the student by the rule, but was worse in the proxy trainings"
        return "advised" if candidate.name == advised else "may suit the student"

    keys = [rank_key(candidate) for candidate in ordered]
    ranking = tuple(
        Ranked(candidate.name, 1 + sum(other < key for other in keys), reason(candidate))
        for key, candidate in sorted(zip(keys, ordered, strict=True), key=lambda pair: pair[0])
    )
    explanation = _explain(confidence, candidates, levels, suited, left, student, proxies)
    return Recommendation(advised, confidence, explanation, ranking, levels, suited)


def _check(candidates: Sequence[Candidate], proxies: Proxies | None) -> None:
    names = [candidate.name for candidate in candidates]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"Candidates must be at least 1, with distinct names, got {names}.")
    for candidate in candidates:
        for value in (candidate.complexity, candidate.faithfulness):
            if not math.isfinite(value):
                raise ValueError(f"Measures must be finite numbers, got {value} of `{candidate.name}`.")
    if proxies is not None and not (set(proxies.scores) == set(names) >= proxies.leaders > set()):
        raise ValueError(
            f"`proxies` must be of the candidates {sorted(names)}, got those of {sorted(proxies.scores)}."
        )


def _order(candidate: Candidate) -> tuple[float, float, str]:
    return candidate.complexity, candidate.faithfulness, candidate.name


def _shown(one: Candidate, other: Candidate) -> tuple[bool, bool]:
    """Tells whether `one` is shown to be simpler than the other, and whether to be more faithful."""
    pairs = (
        (one.complexity_interval, other.complexity_interval),
        (one.faithfulness_interval, other.faithfulness_interval),
    )
    simpler, more_faithful = (own is not None and its is not None and own[1] < its[0] for own, its in pairs)
    return simpler, more_faithful


def _dominates(one: Candidate, other: Candidate) -> bool:
    return any(_shown(one, other)) and not any(_shown(other, one))


def _dominance(one: Candidate, other: Candidate) -> str:
    how = {
        (True, True): "is simpler and more faithful",
        (True, False): "is simpler, and not shown to be less faithful",
        (False, True): "is more faithful, and not shown to be more complex",
    }
    return f"dominated: {one.name} {how[_shown(one, other)]}"


def _depths(rivals: Sequence[Candidate]) -> dict[str, int]:
    """How many steps of dominance each of some candidates lies below those that nothing dominates."""
    depths: dict[str, int] = {}
    left = list(rivals)
    while left:
        # Intervals that overlap can make a circle, all of which is alike then.
        free = [one for one in left if not any(_dominates(other, one) for other in left)] or left
        depths |= dict.fromkeys((one.name for one in free), max(depths.values(), default=-1) + 1)
        left = [one for one in left if one not in free]
    return depths


def _levels(front: Sequence[Candidate]) -> tuple[tuple[str, ...], ...]:
    """Joins candidates, none of which dominates another, where nothing is shown between them; simple ones first."""
    levels: list[list[Candidate]] = []
    for candidate in front:
        tied = [level for level in levels if not all(any(_shown(candidate, other)) for other in level)]
        joined = [*(other for level in tied for other in level), candidate]
        levels = [*(level for level in levels if level not in tied), sorted(joined, key=_order)]
    return tuple(tuple(c.name for c in level) for level in sorted(levels, key=lambda level: _order(level[0])))


def _confidence(
    num_candidates: int,
    num_levels: int,
    suited: Sequence[str],
    left: Sequence[str],
    student: Student,
    proxies: Proxies | None,
) -> str:
    if num_candidates < 2 or len(left) != 1:
        return "unknown"
    rule_chooses = len(suited) == 1 and student.place is not None
    if proxies is not None and proxies.leaders == set(left):
        return "confirmed" if rule_chooses else "proxy"
    if rule_chooses:
        return "dominant" if num_levels == 1 else "stated" if student.is_stated else "inferred"
    return "proxy" if len(suited) > 1 else "unknown"


def _explain(
    confidence: str,
    candidates: Sequence[Candidate],
    levels: Sequence[Sequence[str]],
    suited: Sequence[str],
    left: Sequence[str],
    student: Student,
    proxies: Proxies | None,
) -> str:
    """Says in sentences what the advice, or its lack, rests on."""
    if len(candidates) < 2:
        return "There is one candidate, and nothing to compare it with."
    if not levels:
        return "Every candidate is dominated, by the real corpus or by another one."
    sentences = [f"Of the student: {student.evidence}."]
    if student.place is not None:
        if len(levels) == 1:
            sentences.append(f"By the measures alone {_listed(suited)} may suit it.")
        else:
            sentences.append(f"Of {len(levels)} levels from simple to faithful, {_listed(suited)} suits it.")
    if proxies is not None:
        sentences.append(f"Best in the proxy trainings: {_listed(sorted(proxies.leaders))}.")
        if not left:
            sentences.append("They contradict the rule, so nothing is advised.")
    if confidence != "unknown" or not left:
        return " ".join(sentences)
    unsure = [
        c.name for c in sorted(candidates, key=_order) if None in (c.complexity_interval, c.faithfulness_interval)
    ]
    if unsure:
        sentences.append(f"Without intervals nothing is shown of {_listed(unsure)}: measure with `--num_bootstrap`.")
    if len(left) == 1:
        sentences.append(f"Only {left[0]} is not dominated, but nothing says what such a student needs.")
    else:
        among = [len(set(level) & set(left)) for level in levels]
        reasons = ["they are on several levels"] if max(among) < len(left) else []
        reasons += ["their intervals overlap"] if max(among) > 1 else []
        sentences.append(f"Which of {' and '.join(left)} is better is open: {' and '.join(reasons)}.")
        remedy = "longer proxy trainings or more seeds" if proxies else "short trainings, `--proxy_updates 1000`"
        sentences.append(f"Try {remedy}.")
    return " ".join(sentences)


def _listed(names: Sequence[str]) -> str:
    return " or ".join(names)
