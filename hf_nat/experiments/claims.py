"""What the paper claims and what was measured: every claim is a row, every number comes from a committed JSON file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise, product
from pathlib import Path
from statistics import mean
from typing import Any

from ..config import option
from ..reporting import Table, write_report
from ..utils import read_json, write_json
from .matrix_report import REAL, names, scores_of


CONFIRMED, NOT_CONFIRMED, NOT_TESTED = "confirmed", "not confirmed", "not tested at this scale"
Row = Mapping[str, Any]


@dataclass
class ClaimsArguments:
    """Where the results lie, and where the page goes."""

    results_dir: str = option("configs", "folder of the JSON files that the runs left")
    output_dir: str = option("runs/claims", "folder of report.md, report.html and claims.json")


@dataclass(frozen=True)
class Effect:
    """How large an effect is, positive in the direction that the paper claims.

    Args:
        value (`float`): the effect.
        unit (`str`): what it is measured in.
        low (`float`, *optional*): lower end of its interval; there is none where there is a single run.
        high (`float`, *optional*): upper end.
    """

    value: float
    unit: str
    low: float | None = None
    high: float | None = None

    @property
    def verdict(self) -> str:
        """Confirmed where the whole interval is on the claimed side; without an interval nothing is."""
        return CONFIRMED if self.low is not None and self.low > 0 else NOT_CONFIRMED

    def __str__(self) -> str:
        interval = "no interval" if self.low is None else f"{self.low:+.3g} to {self.high:+.3g}"
        return f"{self.value:+.3g} {self.unit}".rstrip() + f" ({interval})"


@dataclass(frozen=True)
class Claim:
    """A claim of the paper and how it is tested.

    Args:
        text (`str`): what the paper claims.
        source (`str`): its section, table or figure.
        measured (`str`): the difference that is taken, and where its interval comes from.
        files (`Sequence[str]`): JSON files that it needs, in the folder of the results.
        effects (`Callable`): from their contents to the effects by name; the claim is confirmed if every one is.
    """

    text: str
    source: str
    measured: str
    files: Sequence[str]
    effects: Callable[..., Mapping[str, Effect]]


def claims(args: ClaimsArguments) -> Path:
    """Every claim of the paper beside what the committed runs show.

    Args:
        args (`ClaimsArguments`): folders.

    Returns:
        `Path`: the HTML page; `claims.json` holds its rows.
    """
    folder, rows = Path(args.output_dir), list(judge(Path(args.results_dir)))
    write_json(folder / "claims.json", rows)
    effects = [effect_lines(row) for row in rows]
    return write_report(
        folder, "claims", table=claims_table(rows), rows=rows, effects=effects, verdicts=verdicts(rows)
    )


def judge(results_dir: Path) -> Iterator[dict[str, Any]]:
    """Yields a row for each claim: what it says, the effects, and the verdict."""
    for claim in CLAIMS:
        paths = [results_dir / name for name in claim.files]
        there = all(path.is_file() for path in paths)
        effects = claim.effects(*map(read_json, paths)) if there else {}
        confirmed = all(effect.verdict == CONFIRMED for effect in effects.values())
        yield {
            **{key: value for key, value in asdict(claim).items() if key != "effects"},
            "effects": {name: asdict(effect) for name, effect in effects.items()},
            "verdict": NOT_TESTED if not effects else CONFIRMED if confirmed else NOT_CONFIRMED,
        }


def verdicts(rows: Sequence[Row]) -> dict[str, int]:
    """Counts the claims by verdict."""
    found = [row["verdict"] for row in rows]
    return {verdict: found.count(verdict) for verdict in (CONFIRMED, NOT_CONFIRMED, NOT_TESTED)}


def claims_table(rows: Sequence[Row]) -> Table:
    """Makes the table of the claims and their verdicts."""
    cells = []
    for number, row in enumerate(rows, start=1):
        same_side = row["effects"] and all(effect["value"] > 0 for effect in row["effects"].values())
        hint = ", but on the claimed side" if row["verdict"] == NOT_CONFIRMED and same_side else ""
        cells.append([str(number), f"{row['text']} ({row['source']})", f"{row['verdict']}{hint}"])
    return Table(["", "claim", "verdict"], cells)


def effect_lines(row: Row) -> list[str]:
    """Prints the effects of a claim."""
    return [f"{name}: {Effect(**effect)}" for name, effect in row["effects"].items()]


def between(larger: Row, smaller: Row, key: str, unit: str = "nats") -> Effect:
    """The difference of a measure of two corpora; its interval is the widest that theirs allow."""
    value = larger[key] - smaller[key]
    if f"{key}_interval" not in larger:
        return Effect(value, unit)
    (low, high), (other_low, other_high) = larger[f"{key}_interval"], smaller[f"{key}_interval"]
    return Effect(value, unit, low - other_high, high - other_low)


def over_seeds(better: Sequence[float], worse: Sequence[float], unit: str = "BLEU") -> Effect:
    """The difference of two means; its interval is the range over all pairs of seeds, with two of each at least."""
    value = mean(better) - mean(worse)
    if min(len(better), len(worse)) < 2:
        return Effect(value, unit)
    differences = [one - other for one, other in product(better, worse)]
    return Effect(value, unit, min(differences), max(differences))


def _corpora(measures: Row) -> dict[str, Row]:
    return {row["name"]: row for row in measures["corpora"]}


def _steps(order: Sequence[str], difference: Callable[[str, str], Effect]) -> dict[str, Effect]:
    """The effects of every step of an order that the paper claims to rise."""
    return {f"{second} over {first}": difference(second, first) for first, second in pairwise(order)}


def _bleu(*runs: Row) -> list[float]:
    return [run["scores"]["bleu"]["score"] for run in runs]


def _simpler_than_real(measures: Row) -> dict[str, Effect]:
    corpora = _corpora(measures)
    return {name: between(corpora[REAL], row, "complexity") for name, row in corpora.items() if name != REAL}


def _monotonic(measures: Row) -> dict[str, Effect]:
    corpora = _corpora(measures)
    return {n: between(row, corpora[REAL], "reordering", "") for n, row in corpora.items() if n != REAL}


def _weaker_teacher(study: Row) -> dict[str, Effect]:
    corpora = _corpora(study)
    strong, weak = corpora["mini"], corpora["nano"]
    return {"C lower": between(strong, weak, "complexity"), "F higher": between(weak, strong, "faithfulness")}


def _stronger_closer(study: Row) -> dict[str, Effect]:
    corpora = _corpora(study)
    return {"mini over nano": between(corpora["mini"], corpora["nano"], "training_bleu", "BLEU")}


def _strategies(key: str) -> Callable[[Row], dict[str, Effect]]:
    def effects(measures: Row) -> dict[str, Effect]:
        corpora = _corpora(measures)
        order = ("beam", "greedy", "top-k", "sampling")
        return _steps(order, lambda more, less: between(corpora[more], corpora[less], key))

    return effects


def _strategies_bleu(study: Row) -> dict[str, Effect]:
    student = names(study["students"], "name")[0]
    order = ("sampling", "top-k", "greedy", "beam")
    return _steps(order, lambda b, a: over_seeds(scores_of(study, student, b), scores_of(study, student, a)))


def _born_again(key: str, sign: int) -> Callable[[Row], dict[str, Effect]]:
    def effects(study: Row) -> dict[str, Effect]:
        rows = [row["measures"] for row in study["iterations"]]
        pairs = pairwise(rows) if sign > 0 else ((after, before) for before, after in pairwise(rows))
        return {f"iteration {i}": between(more, less, key) for i, (less, more) in enumerate(pairs, start=1)}

    return effects


def _born_again_student(study: Row) -> dict[str, Effect]:
    scores = [row["student"]["test"]["bleu"]["score"] for row in study["iterations"]]
    return {f"iteration {i}": over_seeds([score], scores[:1]) for i, score in enumerate(scores[1:], start=1)}


def _born_again_teacher(study: Row) -> dict[str, Effect]:
    scores = [row["teacher"]["test"]["bleu"]["score"] for row in study["iterations"]]
    return {f"iteration {i}": over_seeds([score], scores[:1]) for i, score in enumerate(scores[1:], start=1)}


_SEEDED = ("vanilla_nat", "cmlm")
_STUDENTS = ("flowseq", "iterative_nat", "insertion_transformer", "levenshtein_transformer")
_STUDENT_FILES = [
    *(f"multi30k/results/{n}_{t}{seed}.json" for n in _SEEDED for seed in ("", "_seed2") for t in ("distilled", REAL)),
    *(f"multi30k/results/{name}_{targets}.json" for name in _STUDENTS for targets in ("distilled", REAL)),
]


def _distillation_helps(*runs: Row) -> dict[str, Effect]:
    effects = {}
    for i, name in enumerate(_SEEDED):
        first, first_real, second, second_real = runs[4 * i : 4 * i + 4]
        effects[name] = over_seeds(_bleu(first, second), _bleu(first_real, second_real))
    for i, name in enumerate(_STUDENTS):
        distilled, real = runs[8 + 2 * i : 10 + 2 * i]
        effects[name] = over_seeds(_bleu(distilled), _bleu(real))
    return effects


def _weak_gain_more(*runs: Row) -> dict[str, Effect]:
    weak, strong = ([_bleu(a)[0] - _bleu(b)[0] for a, b in (runs[i : i + 2], runs[i + 2 : i + 4])] for i in (0, 4))
    return {"vanilla NAT over CMLM": over_seeds(weak, strong)}


def _preferences(study: Row) -> dict[str, Effect]:
    """How much more the last student gains than the first by the most complex corpus instead of the simplest."""
    corpora = sorted((r for r in study["corpora"] if r["name"] != REAL), key=lambda row: row["complexity"])
    students = names(study["students"], "name")

    def gains(student: str) -> list[float]:
        rich, simple = (scores_of(study, student, corpora[i]["name"]) for i in (-1, 0))
        return [a - b for a, b in zip(rich, simple, strict=True)]

    return {f"{students[-1]} over {students[0]}": over_seeds(gains(students[-1]), gains(students[0]))}


def _interpolated_corpus(measures: Row) -> dict[str, Effect]:
    corpora = _corpora(measures)
    return {"F lower": between(corpora["beam"], corpora["interpolation"], "faithfulness")}


def _interpolated_student(study: Row) -> dict[str, Effect]:
    return {
        student: over_seeds(scores_of(study, student, "interpolation"), scores_of(study, student, "beam"))
        for student in names(study["students"], "name")
    }


def _runs(better: str, worse: str) -> Callable[[Row, Row], dict[str, Effect]]:
    return lambda one, other: {f"{better} over {worse}": over_seeds(_bleu(one), _bleu(other))}


def _most_wins(metric: str, data_set: str) -> Callable[[Row], dict[str, Effect]]:
    def effects(study: Row) -> dict[str, Effect]:
        found = {}
        for result in study["results"]:
            won = result["wins"][metric][data_set]
            rate, low, high = (100 * (share - 0.5) for share in (won["rate"], *won["interval"]))
            found[f"a = b = {result['a']}, {100 * won['rate']:.0f} % won"] = Effect(
                rate, "points over half", low, high
            )
        return found

    return effects


def _multi_target(study: Row) -> dict[str, Effect]:
    words = {row["name"]: row["words"] for row in study["corpora"]}
    single = max((words[lang] for lang in study["settings"]["target_langs"]), key=lambda row: row["complexity"])
    chosen = words["random selection"]
    return {
        "all together over random": between(words["concatenated"], chosen, "complexity"),
        "random over the most complex pair": between(chosen, single, "complexity"),
    }


def _selected_by_teacher(study: Row) -> dict[str, Effect]:
    words = {row["name"]: row["words"] for row in study["corpora"]}
    return {"random over distilled": between(words["random selection"], words["distilled"], "complexity")}


def _concentrated(*pairs: tuple[str, str]) -> Callable[..., dict[str, Effect]]:
    def effects(study: Row) -> dict[str, Effect]:
        systems = {row["name"]: row for row in study["systems"]}
        return {
            f"{more} over {less}": between(systems[more], systems[less], "concentration", "") for more, less in pairs
        }

    return effects


_WORDS, _BPE, _NANO = (f"multi30k/{name}.json" for name in ("measures/words", "measures/bpe", "nano/measures"))
_BORN_AGAIN = "multi30k/nano/born_again.json"
_CAPACITY = "multi30k/capacity/capacity.json"
_MULTIMODALITY = "multi30k/multimodality/multimodality.json"
_ON_ALL, _ON_RANDOM, _ON_DISTILLED = (f"NAT, {corpus}" for corpus in ("concatenated", "random selection", "distilled"))
_HMM = "hmm/paper/hmm.json"
_BOOTSTRAP = "from the bootstrap intervals of both"
CLAIMS: tuple[Claim, ...] = (
    Claim(
        "An AT model keeps to one target language, a NAT model of the same data mixes them",
        "section 3.1, Figure 1",
        f"concentration of p(language | output), {_BOOTSTRAP}",
        [_MULTIMODALITY],
        _concentrated(("AT", _ON_ALL)),
    ),
    Claim(
        "A NAT model mixes languages less if it learns one for each sentence, drawn at random",
        "section 3.1, Figure 1",
        f"concentration of p(language | output), {_BOOTSTRAP}",
        [_MULTIMODALITY],
        _concentrated((_ON_RANDOM, _ON_ALL)),
    ),
    Claim(
        "A NAT model mixes languages least if it learns what an AT model chose",
        "section 3.1, Figure 1",
        f"concentration of p(language | output), {_BOOTSTRAP}",
        [_MULTIMODALITY],
        _concentrated((_ON_DISTILLED, _ON_RANDOM), (_ON_DISTILLED, _ON_ALL)),
    ),
    Claim(
        "All target languages together are more complex than one drawn for each sentence, and that than a single one",
        "section 3.1, Table 1",
        f"C(d) in words, {_BOOTSTRAP}",
        [_MULTIMODALITY],
        _multi_target,
    ),
    Claim(
        "What an AT model makes of all target languages is simpler than a random selection",
        "section 3.1, Table 1",
        f"C(d) in words, {_BOOTSTRAP}",
        [_MULTIMODALITY],
        _selected_by_teacher,
    ),
    Claim(
        "Distillation lowers the complexity of the corpus",
        "section 4.2, Figure 3",
        f"C(d) in words, real less distilled, {_BOOTSTRAP}",
        [_WORDS],
        _simpler_than_real,
    ),
    Claim(
        "Distilled targets are more monotonic",
        "section 4.2, Figure 3",
        "fuzzy reordering score, distilled less real; no interval is measured",
        [_WORDS],
        _monotonic,
    ),
    Claim(
        "A weaker teacher makes a simpler and less faithful corpus",
        "section 4.2, Figure 3",
        f"C(d) and F(d) in words of teachers of size mini and nano, {_BOOTSTRAP}",
        [_CAPACITY],
        _weaker_teacher,
    ),
    Claim(
        "The corpus of a stronger teacher is nearer to the real one",
        "section 4.2, Figure 3",
        "training BLEU of the corpora of teachers of size mini and nano; no interval is measured",
        [_CAPACITY],
        _stronger_closer,
    ),
    Claim(
        "Complexity rises from beam search to greedy search, top-10 sampling and sampling",
        "section 4.3, Table 3",
        f"C(d) in BPE tokens, {_BOOTSTRAP}",
        [_BPE],
        _strategies("complexity"),
    ),
    Claim(
        "A vanilla NAT does better from sampling to top-10 sampling, greedy search and beam search",
        "section 4.3, Table 3",
        "test BLEU of a vanilla NAT, over seeds",
        ["multi30k/decoding/decoding.json"],
        _strategies_bleu,
    ),
    Claim(
        "Every student does better on distilled targets",
        "section 4.4, Figure 4",
        "test BLEU, distilled less real; over two seeds of vanilla NAT and CMLM, one of the others",
        _STUDENT_FILES,
        _distillation_helps,
    ),
    Claim(
        "Weak students gain more by distillation",
        "section 4.4, Figure 4",
        "gain in test BLEU of vanilla NAT less that of CMLM, over two seeds",
        _STUDENT_FILES[:8],
        _weak_gain_more,
    ),
    Claim(
        "Weak students prefer simpler corpora, strong ones more faithful ones",
        "section 4.4, Figure 4",
        "gain in test BLEU by the most complex corpus over the simplest, strongest less weakest student, over seeds",
        [_CAPACITY],
        _preferences,
    ),
    Claim(
        "Born-again teachers make simpler and simpler corpora",
        "section 5.1, Figure 5",
        f"C(d) in words, iteration by iteration, {_BOOTSTRAP}",
        [_BORN_AGAIN],
        _born_again("complexity", -1),
    ),
    Claim(
        "Born-again teachers make less and less faithful corpora",
        "section 5.1, Figure 5",
        f"F(d) in words, iteration by iteration, {_BOOTSTRAP}",
        [_BORN_AGAIN],
        _born_again("faithfulness", 1),
    ),
    Claim(
        "A vanilla NAT gains 2 BLEU by born-again teachers",
        "section 5.1, Figure 5",
        "test BLEU less that of iteration 0, one seed",
        [_BORN_AGAIN],
        _born_again_student,
    ),
    Claim(
        "The teacher's own BLEU hardly changes when it is born again",
        "section 5.1, Figure 5",
        "test BLEU less that of iteration 0, one seed; a loss is negative",
        [_BORN_AGAIN],
        _born_again_teacher,
    ),
    Claim(
        "A vanilla NAT gains 1.21 BLEU by the best of 3 experts",
        "section 5.2, Figure 6",
        "test BLEU, one seed",
        ["multi30k/nano/results/vanilla_nat_experts.json", "multi30k/nano/results/vanilla_nat_beam.json"],
        _runs("experts", "plain teacher"),
    ),
    Claim(
        "Interpolation makes a more faithful corpus",
        "section 5.3, Table 4",
        f"F(d) in words, beam less interpolation, {_BOOTSTRAP}",
        [_NANO],
        _interpolated_corpus,
    ),
    Claim(
        "Interpolation helps a strong student",
        "section 5.3, Table 4",
        "test BLEU of LevT, over seeds",
        ["multi30k/interpolation/interpolation.json"],
        _interpolated_student,
    ),
    Claim(
        "D_tok wins by token accuracy (97.6 % of the HMMs)",
        "appendix D",
        "share of 50 HMMs that D_tok wins against D_real and D_seq, Wilson's interval",
        [_HMM],
        _most_wins("token_accuracy", "tok"),
    ),
    Claim(
        "D_seq wins by sequence accuracy (98.5 % of the HMMs)",
        "appendix D",
        "share of 50 HMMs that D_seq wins against D_real and D_tok, Wilson's interval",
        [_HMM],
        _most_wins("sequence_accuracy", "seq"),
    ),
)
