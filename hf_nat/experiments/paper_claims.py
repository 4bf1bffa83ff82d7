"""The claims of the paper, and how each is taken from the results of the runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from .converged_claims import (
    EffectsOfRuns,
    distillation_helps,
    first_of,
    gain_of,
    in_study,
    preferences,
    strategies,
    weak_gain_more,
    whole,
)
from .effects import Effect, Effects, EffectsBySeed, Row, between, over_seeds
from .matrix_report import REAL, names
from .multimodality_report import CONCATENATED, DISTILLED, RANDOM


@dataclass(frozen=True)
class Claim:
    """A claim of the paper and how it is tested.

    Args:
        text (`str`): what the paper claims.
        source (`str`): its section, table or figure.
        measured (`str`): the difference that is taken.
        files (`Sequence[str]`): JSON files that it needs, in the folder of the results.
        effects (`Callable`): from their contents to the effects by name; the claim is confirmed if every one is.
        size (`float`, *optional*): how large the paper found the effect; only its sign is judged.
        known (`str`, *optional*): what was tested to explain it and what was not, for as long as it is not confirmed.
        study (`str`, *optional*): the study whose converged results, of each seed, `effects` are taken from where
            there are any; then `converged_effects` is left out.
        converged_effects (`Callable`, *optional*): from the converged runs that there are to the effects. Where there
            are any, they take the place of `effects`.
        converged_known (`str`, *optional*): what takes the place of `known` then.
    """

    text: str
    source: str
    measured: str
    files: Sequence[str]
    effects: Callable[..., Mapping[str, Effect]]
    size: float | None = None
    known: str = ""
    study: str = ""
    converged_effects: EffectsOfRuns | None = None
    converged_known: str = ""

    @property
    def effects_of_converged_runs(self) -> EffectsOfRuns | None:
        """What takes the place of `effects` where there are converged runs; None where none are looked for."""
        return in_study(self.study, _each_seed(self.effects)) if self.study else self.converged_effects


def _corpora(measures: Row) -> dict[str, Row]:
    return {row["name"]: row for row in measures["corpora"]}


def _steps(order: Sequence[str], difference: Callable[[str, str], Effect]) -> dict[str, Effect]:
    """The effects of every step of an order that the paper claims to rise."""
    return {f"{second} over {first}": difference(second, first) for first, second in pairwise(order)}


def _bleu(*runs: Row) -> dict[int, Row]:
    """The test BLEU of the runs of seeds 1, 2 and so on."""
    return {seed: run["scores"]["bleu"] for seed, run in enumerate(runs, start=1)}


def _of_student(study: Row, student: str, corpus: str) -> dict[int, Row]:
    """The test BLEU of a student on a corpus, by seed."""
    rows = (row for row in study["students"] if (row["name"], row["corpus"]) == (student, corpus))
    return {row["seed"]: row["test"]["scores"]["bleu"] for row in rows}


def _difference(measures: Row, larger: str, smaller: str, key: str, unit: str = "nats") -> Effect:
    """The difference of two corpora of `hf-nat analyze` or of a study."""
    corpora = _corpora(measures)
    return between(corpora[larger], corpora[smaller], key, unit, measures.get("differences", ()))


def _simpler_than_real(measures: Row) -> dict[str, Effect]:
    return {name: _difference(measures, REAL, name, "complexity") for name in _corpora(measures) if name != REAL}


def _monotonic(measures: Row) -> dict[str, Effect]:
    return {name: _difference(measures, name, REAL, "reordering", "") for name in _corpora(measures) if name != REAL}


def _weaker_teacher(measures: Row, weak: str = "nano", strong: str = "mini") -> dict[str, Effect]:
    return {
        f"C, {strong} over {weak}": _difference(measures, strong, weak, "complexity"),
        f"F, {weak} over {strong}": _difference(measures, weak, strong, "faithfulness"),
    }


def _stronger_closer(measures: Row, weak: str = "nano", strong: str = "mini") -> dict[str, Effect]:
    return {f"{strong} over {weak}": _difference(measures, strong, weak, "training_bleu", "BLEU")}


def _of_ends(effects: Callable[[Row, str, str], Mapping[str, Effect]]) -> Effects:
    """Effects of the corpora of the weakest teacher of a study and the strongest, its first and last distilled one."""

    def found(study: Row) -> Mapping[str, Effect]:
        weak, *_, strong = (name for name in _corpora(study) if name != REAL)
        return effects(study, weak, strong)

    return found


def _strategies(measures: Row) -> dict[str, Effect]:
    order = ("beam", "greedy", "top-k", "sampling")
    return _steps(order, lambda more, less: _difference(measures, more, less, "complexity"))


def _strategies_bleu(study: Row) -> dict[str, Effect]:
    student = names(study["students"], "name")[0]
    order = ("sampling", "top-k", "greedy", "beam")
    return _steps(order, lambda b, a: over_seeds(_of_student(study, student, b), _of_student(study, student, a)))


def _one_seed(effects: EffectsBySeed) -> Effects:
    return lambda study: effects({1: study})


def _each_seed(effects: Effects) -> EffectsBySeed:
    """Effects that are found within a study, for each seed of it."""
    return lambda studies: {
        f"{name}, seed {seed}": effect for seed, study in studies.items() for name, effect in effects(study).items()
    }


def _born_again(key: str, sign: int) -> Effects:
    def effects(study: Row) -> dict[str, Effect]:
        """Compares the measure of each iteration with that of the one before, so that the claim is above 0."""
        rows = [row["measures"] for row in study["iterations"]]
        pairs = pairwise(rows) if sign > 0 else ((after, before) for before, after in pairwise(rows))
        differences = study.get("differences", ())
        return {
            f"iteration {i}": between(more, less, key, differences=differences)
            for i, (less, more) in enumerate(pairs, start=1)
        }

    return effects


def _born_again_bleu(system: str, margin: float | None = None) -> EffectsBySeed:
    def effects(studies: Mapping[int, Row]) -> dict[str, Effect]:
        """Compares the test BLEU of each iteration that all seeds have with that of the first."""
        found = {seed: [row[system]["test"]["bleu"] for row in study["iterations"]] for seed, study in studies.items()}
        first, *later = ({seed: of[i] for seed, of in found.items()} for i in range(min(map(len, found.values()))))
        return {f"iteration {i}": over_seeds(score, first, margin=margin) for i, score in enumerate(later, start=1)}

    return effects


_SEEDED = ("vanilla_nat", "cmlm")
_STUDENTS = ("flowseq", "iterative_nat", "insertion_transformer", "levenshtein_transformer")
_RUNS = "multi30k/results/systems"
_STUDENT_FILES = [
    *(f"{_RUNS}/{n}_{t}{seed}.json" for n in _SEEDED for seed in ("", "_seed2") for t in ("distilled", REAL)),
    *(f"{_RUNS}/{name}_{targets}.json" for name in _STUDENTS for targets in ("distilled", REAL)),
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
    weak, weak_real, strong, strong_real = (_bleu(runs[i], runs[i + 2]) for i in (0, 1, 4, 5))
    return {"vanilla NAT over CMLM": over_seeds(weak, weak_real, than=(strong, strong_real))}


def _preferences(study: Row) -> dict[str, Effect]:
    """How much more the last student gains than the first by the most complex corpus instead of the simplest."""
    corpora = sorted((r for r in study["corpora"] if r["name"] != REAL), key=lambda row: row["complexity"])
    simple, rich = corpora[0]["name"], corpora[-1]["name"]
    weak, *_, strong = names(study["students"], "name")
    gain, other = ((_of_student(study, s, rich), _of_student(study, s, simple)) for s in (strong, weak))
    return {f"{strong} over {weak}": over_seeds(*gain, than=other)}


def _interpolated_corpus(measures: Row) -> dict[str, Effect]:
    return {"F lower": _difference(measures, "mini", "interpolation", "faithfulness")}


def _interpolated_student(study: Row) -> dict[str, Effect]:
    return {
        student: over_seeds(_of_student(study, student, "interpolation"), _of_student(study, student, "beam"))
        for student in names(study["students"], "name")
    }


def _runs(better: str, worse: str) -> Callable[[Row, Row], dict[str, Effect]]:
    return lambda one, other: {f"{better} over {worse}": over_seeds(_bleu(one), _bleu(other))}


def _most_wins(metric: str, data_set: str) -> Effects:
    def effects(study: Row) -> dict[str, Effect]:
        """Returns for each (a, b) how many points more than half of the models the data set wins."""
        found = {}
        for result in study["results"]:
            won = result["wins"][metric][data_set]
            rate, low, high = (100 * (share - 0.5) for share in (won["rate"], *won["interval"]))
            found[f"a = b = {result['a']}, {100 * won['rate']:.0f} % won"] = Effect(
                rate, "points over half", low, high, "Wilson's"
            )
        return found

    return effects


def _in_words(study: Row) -> Row:
    """The corpora of several target languages, measured in words, as `hf-nat analyze` records corpora."""
    corpora = [row["words"] for row in study["corpora"]]
    return {"corpora": corpora, "differences": study.get("differences", {}).get("words", ())}


def _multi_target(study: Row) -> dict[str, Effect]:
    measures = _in_words(study)
    corpora = _corpora(measures)
    single = max(study["settings"]["target_langs"], key=lambda lang: corpora[lang]["complexity"])
    return {
        "all together over random": _difference(measures, CONCATENATED, RANDOM, "complexity"),
        "random over the most complex pair": _difference(measures, RANDOM, single, "complexity"),
    }


def _selected_by_teacher(study: Row) -> dict[str, Effect]:
    return {"random over distilled": _difference(_in_words(study), RANDOM, DISTILLED, "complexity")}


def _concentrated(*pairs: tuple[str, str]) -> Effects:
    def effects(study: Row) -> dict[str, Effect]:
        """Compares the concentration of the outputs of each pair of systems."""
        systems = {row["name"]: row for row in study["systems"]}
        return {
            f"{more} over {less}": between(systems[more], systems[less], "concentration", "") for more, less in pairs
        }

    return effects


_WORDS, _BPE = (f"multi30k/results/measures/converged_{tokens}.json" for tokens in ("words", "bpe"))
_BORN_AGAIN = "multi30k/results/nano/born_again.json"
_CAPACITY = "multi30k/results/capacity/capacity.json"
_MULTIMODALITY = "multi30k/results/multimodality/multimodality.json"
_ON_ALL, _ON_RANDOM, _ON_DISTILLED = (f"NAT, {corpus}" for corpus in (CONCATENATED, RANDOM, DISTILLED))
_HMM = "hmm/results/paper/hmm.json"
CLAIMS: tuple[Claim, ...] = (
    Claim(
        "An AT model keeps to one target language, a NAT model of the same data mixes them",
        "section 3.1, Figure 1",
        "concentration of p(language | output)",
        [_MULTIMODALITY],
        _concentrated(("AT", _ON_ALL)),
        study="multimodality",
    ),
    Claim(
        "A NAT model mixes languages less if it learns one for each sentence, drawn at random",
        "section 3.1, Figure 1",
        "concentration of p(language | output)",
        [_MULTIMODALITY],
        _concentrated((_ON_RANDOM, _ON_ALL)),
        known="Tested by exact calculation on the toy corpus (`toy/results/languages.json`): for a new source that "
        "tells nothing of its language, both corpora have the same best one-pass model (concentration 0.59, a "
        "mean over words that are equally probable), so that no gain is left once both have been learned. "
        "Random selection helps as soon as the source tells something of its language, which decides such ties "
        "(0.71 at 5 %, 0.91 at 30 %), and for a source that is learned by heart (0.91 if it was seen once, 0.80 "
        "if 20 times). Trained models need not be the best ones: after 500 updates on the toy corpus, with one "
        "seed and on new sources, random selection has 0.59 and all languages together 0.54 "
        "(`toy/results/multimodality.json`), a gain as the paper's. Whether it goes with more updates was not "
        "measured. Here the test sentences are new and the draw is independent of the source; the small loss is "
        "of one seed. Whether Europarl's sources recur or tell their language was not measured.",
        study="multimodality",
    ),
    Claim(
        "A NAT model mixes languages least if it learns what an AT model chose",
        "section 3.1, Figure 1",
        "concentration of p(language | output)",
        [_MULTIMODALITY],
        _concentrated((_ON_DISTILLED, _ON_RANDOM), (_ON_DISTILLED, _ON_ALL)),
        study="multimodality",
    ),
    Claim(
        "All target languages together are more complex than one drawn for each sentence, and that than a single one",
        "section 3.1, Table 1",
        "C(d) in words",
        [_MULTIMODALITY],
        _multi_target,
        study="multimodality",
    ),
    Claim(
        "What an AT model makes of all target languages is simpler than a random selection",
        "section 3.1, Table 1",
        "C(d) in words",
        [_MULTIMODALITY],
        _selected_by_teacher,
        study="multimodality",
    ),
    Claim(
        "Distillation lowers the complexity of the corpus",
        "section 4.2, Figure 3",
        "C(d) in words, real less distilled",
        [_WORDS],
        _simpler_than_real,
    ),
    Claim(
        "Distilled targets are more monotonic",
        "section 4.2, Figure 3",
        "fuzzy reordering score, distilled less real",
        [_WORDS],
        _monotonic,
    ),
    Claim(
        "A weaker teacher makes a simpler and less faithful corpus",
        "section 4.2, Figure 3",
        "C(d) and F(d) in words of the corpora of two teachers that have converged",
        [_WORDS],
        _weaker_teacher,
        converged_effects=in_study("capacity", whole(_of_ends(_weaker_teacher))),
    ),
    Claim(
        "The corpus of a stronger teacher is nearer to the real one",
        "section 4.2, Figure 3",
        "training BLEU of the corpora of two teachers that have converged",
        [_WORDS],
        _stronger_closer,
        converged_effects=in_study("capacity", whole(_of_ends(_stronger_closer))),
    ),
    Claim(
        "Complexity rises from beam search to greedy search, top-10 sampling and sampling",
        "section 4.3, Table 3",
        "C(d) in BPE tokens",
        [_BPE],
        _strategies,
        converged_effects=in_study("decoding", whole(_strategies)),
    ),
    Claim(
        "A vanilla NAT does better from sampling to top-10 sampling, greedy search and beam search",
        "section 4.3, Table 3",
        "test BLEU of a vanilla NAT",
        ["multi30k/results/decoding/decoding.json"],
        _strategies_bleu,
        known="The order is the paper's by every metric and with either seed; these results hold no statistics of "
        "sentences, without which there is no interval. Samples of this teacher, of size nano, are worse than the "
        "real targets. The teacher of size mini gives the same order (`multi30k/results/strategies`).",
        converged_effects=first_of(in_study("decoding", whole(_strategies_bleu)), strategies),
    ),
    Claim(
        "Every student does better on distilled targets",
        "section 4.4, Figure 4",
        "test BLEU, distilled less real",
        _STUDENT_FILES,
        _distillation_helps,
        known="Every student gains, with one seed or two, after 3 epochs; longer training was not tested with these.",
        converged_effects=distillation_helps,
    ),
    Claim(
        "Weak students gain more by distillation",
        "section 4.4, Figure 4",
        "gain in test BLEU by distillation, weakest on real targets less strongest",
        _STUDENT_FILES[:8],
        _weak_gain_more,
        known="The four students that are weakest on real data gain about twice as much as CMLM and InsT, the two "
        "best. That is after 3 epochs; longer training was not tested with these.",
        converged_effects=weak_gain_more,
    ),
    Claim(
        "Weak students prefer simpler corpora, strong ones more faithful ones",
        "section 4.4, Figure 4",
        "gain in test BLEU by the most complex corpus over the simplest, strongest less weakest student",
        [_CAPACITY],
        _preferences,
        known="After 3 epochs the weak student does better on the corpus of the larger teacher and the strong one on "
        "the other; LevT, the paper's strongest, is the weakest on real targets here. Neither longer training nor a "
        "second seed was tested with these.",
        converged_effects=first_of(in_study("capacity", whole(_preferences)), preferences),
        converged_known="Both students do better on the corpus of the larger teacher, vanilla NAT even more so. Two "
        "things speak for it there: students start from that teacher's blocks, and the rule that ends a training "
        "ended that of vanilla NAT on the simpler corpus after 12 epochs, on the other after 22. Neither was tested "
        "alone, nor was a second seed.",
    ),
    Claim(
        "Born-again teachers make simpler and simpler corpora",
        "section 5.1, Figure 5",
        "C(d) in words, iteration by iteration",
        [_BORN_AGAIN],
        _born_again("complexity", -1),
        study="born_again",
    ),
    Claim(
        "Born-again teachers make less and less faithful corpora",
        "section 5.1, Figure 5",
        "F(d) in words, iteration by iteration",
        [_BORN_AGAIN],
        _born_again("faithfulness", 1),
        known="F rises with every iteration, and by less each time; only the last step touches 0, by the widest "
        "interval that two separate ones allow. The paired one, more iterations and teachers that have converged were "
        "not tested: these are of size nano.",
        study="born_again",
    ),
    Claim(
        "A vanilla NAT gains by born-again teachers (2 BLEU after six)",
        "section 5.1, Figure 5",
        "test BLEU less that of iteration 0",
        [_BORN_AGAIN],
        _one_seed(_born_again_bleu("student")),
        size=2.0,
        known="The student gains in the first iteration, and nothing that one seed can show after it. These results "
        "hold no statistics of sentences, without which there is no interval; a second seed, six iterations and "
        "teachers that have converged were not tested: these are of size nano.",
        converged_effects=in_study("born_again", _born_again_bleu("student")),
        converged_known="One iteration, of size mini, with one seed; both students start from the first teacher's "
        "blocks and end by the same rule. On `val` the student of iteration 1 is 0.7 below that of iteration 0. More "
        "iterations and a second seed were not tested.",
    ),
    Claim(
        "The teacher's own BLEU hardly changes when it is born again",
        "section 5.1, Figure 5",
        "test BLEU less that of iteration 0; confirmed within 1 BLEU either way",
        [_BORN_AGAIN],
        _one_seed(_born_again_bleu("teacher", margin=1.0)),
        known="This teacher, of size nano, loses at every iteration, and the corpora of the later ones hold 1.7 to "
        "2.3 times as many flags as the first, of lengths rather than of loops. Whether that is the cause was not "
        "tested, by leaving them out for instance, nor were a teacher that has converged and a second seed. These "
        "results hold no statistics of sentences, without which there is no interval.",
        converged_effects=in_study("born_again", _born_again_bleu("teacher", margin=1.0)),
        converged_known="One iteration, of size mini, with one seed. The rule of all runs ended the training of the "
        "first teacher after 30 epochs, that of the one that is born again after 13; as many epochs for both were not "
        "tested, nor was a second seed.",
    ),
    Claim(
        "A vanilla NAT gains by the best of 3 experts (1.21 BLEU)",
        "section 5.2, Figure 6",
        "test BLEU",
        [
            "multi30k/results/nano/systems/vanilla_nat_experts.json",
            "multi30k/results/nano/systems/vanilla_nat_beam.json",
        ],
        _runs("experts", "plain teacher"),
        size=1.21,
        known="The difference is less than the 0.45 BLEU between two seeds of a vanilla NAT of size mini on distilled "
        "targets (`multi30k/results/systems`). The mixture had 4 epochs where the teacher had 6, and made a more "
        "complex and less faithful corpus; whether it would not after as many epochs was not tested, nor was a second "
        "seed. These results hold no statistics of sentences, without which there is no interval.",
        converged_effects=gain_of("vanilla_nat", "experts", "distilled"),
    ),
    Claim(
        "Interpolation makes a more faithful corpus",
        "section 5.3, Table 4",
        "F(d) in words, beam less interpolation",
        [_WORDS],
        _interpolated_corpus,
    ),
    Claim(
        "Interpolation helps a strong student",
        "section 5.3, Table 4",
        "test BLEU of LevT",
        ["multi30k/results/interpolation/interpolation.json"],
        _interpolated_student,
        known="LevT does worse with either seed, as CMLM did, after 3 epochs and of size nano. That students of this "
        "size are too weak to want more than the simpler corpus is a guess: larger ones and longer training were not "
        "tested. These results hold no statistics of sentences, without which there is no interval.",
        converged_effects=gain_of("levenshtein_transformer", "interpolation", "distilled"),
    ),
    Claim(
        "D_tok wins by token accuracy (97.6 % of the HMMs)",
        "appendix D",
        "share of 50 HMMs that D_tok wins against D_real and D_seq",
        [_HMM],
        _most_wins("token_accuracy", "tok"),
    ),
    Claim(
        "D_seq wins by sequence accuracy (98.5 % of the HMMs)",
        "appendix D",
        "share of 50 HMMs that D_seq wins against D_real and D_tok",
        [_HMM],
        _most_wins("sequence_accuracy", "seq"),
    ),
)
