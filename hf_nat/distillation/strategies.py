"""How a teacher decodes: one entry per strategy, from its keys to the arguments of `translate`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from transformers import LogitsProcessorList

from ..base.bounds import require_choice, require_number
from ..base.config import option, refuse_changed
from ..base.languages import find_language
from ..data.arguments import CorpusArguments
from ..decoding import language_pair
from ..decoding.arguments import MAX_PENALTY
from ..models.generation_settings import MAX_BEAMS
from .judges import UTILITIES, utility_signature
from .sampling import RowSampler


_FEW_CANDIDATES, _MANY_SAMPLES = 3, 16


@dataclass(frozen=True, kw_only=True)
class StrategyArguments(CorpusArguments):
    """By which strategy a teacher decodes the sources of a corpus.

    Raises:
        ValueError: if the strategy is unknown, a number out of its range, a beam has fewer outputs than candidates, a
            judge is missing, or given to a strategy that has none, or an option has no effect with the strategy.
    """

    strategy: str = option(
        "beam",
        "how the teacher decodes: beam, greedy, sampling, top-k or top-p; keep several outputs: n-best; choose among "
        "candidates: interpolation (nearest to the real target), mbr (nearest to all others) or rerank (by a judge)",
    )
    num_beams: int = option(5, "beam size")
    length_penalty: float = option(1.0, "beam scores are divided by length ** length_penalty, EOS counted")
    expert: int | None = option(None, "mixture of experts: the one that decodes, from 0; default: the checkpoint's")
    top_k: int = option(10, "`top-k`: tokens that are drawn from")
    top_p: float = option(0.9, "`top-p`: draw from the fewest tokens that have so much probability together")
    temperature: float = option(1.0, "whatever draws: what logits are divided by; below 1 nearer to greedy search")
    candidates: Literal["beam", "sampling", "top-k", "top-p"] = option(
        "beam", "where candidates come from: the best outputs of the beam, or samples; see num_candidates"
    )
    num_candidates: int | None = option(
        None,
        f"outputs of a source that are kept or chosen among; default: {_FEW_CANDIDATES} for n-best and interpolation, "
        f"else all of the beam, or {_MANY_SAMPLES} samples",
    )
    expand: bool = option(False, "n-best: a row for each output, with its rank, instead of lists in one row")
    utility: str = option("chrf", "mbr: compares candidates: chrf, bleu, or the folder of an `evaluate` module")
    utility_options: dict[str, Any] | None = option(None, "mbr: arguments for the `compute` of that module")
    backward_teacher: str | None = option(None, "rerank: model of the other direction that judges by the source")
    backward_prefix: str | None = option(
        None, "rerank: text put before every candidate for that model", may_be_empty=True
    )
    backward_languages: str | None = option(
        None,
        "rerank: codes SRC:TGT of what that model reads and writes (deu_Latn:eng_Latn); default: "
        "model_target_lang and model_source_lang",
    )
    quality: str | None = option(None, "rerank: a judge of your own, FILE.py:FUNCTION of sources and candidates")
    max_new_tokens: int = option(200, "longest output in tokens, EOS counted; an output that reaches it is flagged")
    max_length_a: float = option(2.0, "longest output as well: max_length_a * (source tokens) + max_length_b tokens")
    max_length_b: int = option(20, "see max_length_a; source tokens are rounded up to a multiple of 8")
    seed: int = option(1, "seed of a strategy that draws random numbers")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("strategy", self.strategy, sorted(STRATEGIES))
        for name in ("num_beams", "num_candidates"):
            require_number(name, getattr(self, name), least=1, most=MAX_BEAMS)
        for name, least in {"max_new_tokens": 1, "max_length_a": 0, "max_length_b": 1, "seed": 0}.items():
            require_number(name, getattr(self, name), least=least)
        require_number("length_penalty", self.length_penalty, least=-MAX_PENALTY, most=MAX_PENALTY)
        RowSampler(0, [0], 1, self.top_k, self.top_p, self.temperature)
        if self.has_candidates:
            self._check_candidates()
        self._check_judge()
        drawn = self.candidates if self.has_candidates else self.strategy
        for kind, name in (("top-k", "top_k"), ("top-p", "top_p")):
            if drawn != kind:
                refuse_changed(self, (name,), f"where nothing is drawn by {kind}")
        if self.utility in UTILITIES:
            refuse_changed(self, ("utility_options",), f"for the utility {self.utility!r}", "A module takes them.")
        without_effect = [
            *(() if self.draws_samples else ("temperature",)),
            *(() if self.has_candidates else ("candidates", "num_candidates")),
            *(() if self.strategy == "mbr" else ("utility", "utility_options")),
            *(() if self.backward_teacher else ("backward_prefix", "backward_languages")),
        ]
        refuse_changed(self, without_effect, f"where it has no effect with the strategy {self.strategy!r}")

    def _check_candidates(self) -> None:
        if self.candidates == "beam" and self.num_outputs > self.num_beams:
            raise ValueError(f"`num_candidates` must be <= `num_beams`, got {self.num_outputs} and {self.num_beams}.")

    def _check_judge(self) -> None:
        judges = [name for name in ("backward_teacher", "quality") if getattr(self, name)]
        if self.backward_languages is not None:
            language_pair("backward_languages", self.backward_languages)
        if self.strategy == "rerank" and len(judges) != 1:
            raise ValueError(
                "The strategy 'rerank' must have one judge, `backward_teacher` or `quality`, got "
                f"{' and '.join(judges) or 'none'}."
            )
        if self.strategy != "rerank" and judges:
            raise ValueError(f"`{judges[0]}` must be left out for the strategy {self.strategy!r}. Use 'rerank'.")
        if self.expand and self.strategy != "n-best":
            raise ValueError(f"`expand` must be left out for the strategy {self.strategy!r}. Use 'n-best'.")

    @property
    def chooses(self) -> bool:
        """Whether a judge chooses among candidates."""
        return STRATEGIES[self.strategy].outputs == "chosen"

    @property
    def has_candidates(self) -> bool:
        """Whether a source has several outputs, of which one is chosen or all are kept."""
        return STRATEGIES[self.strategy].outputs != "one"

    @property
    def num_outputs(self) -> int:
        """Outputs of a source that are kept or chosen among."""
        if not self.has_candidates:
            return 1
        if number := self.num_candidates or STRATEGIES[self.strategy].num_candidates:
            return number
        return self.num_beams if self.candidates == "beam" else _MANY_SAMPLES

    @property
    def draws_samples(self) -> bool:
        """Whether the strategy draws random numbers."""
        return STRATEGIES[self.strategy].decode(self)["do_sample"]

    @property
    def bleu_tokens(self) -> str:
        """What sacrebleu calls the tokens of the target language."""
        return find_language(self.target_lang).sacrebleu_tokenizer()

    def decoding_parameters(self) -> dict[str, Any]:
        """Returns what the outputs depend on, as the manifest records it."""
        expert = {} if self.expert is None else {"expert": self.expert}
        lengths = {name: getattr(self, name) for name in ("max_new_tokens", "max_length_a", "max_length_b")}
        return {**lengths, **expert, **STRATEGIES[self.strategy].decode(self)}

    @property
    def extra_columns(self) -> tuple[str, ...]:
        """Columns of the distilled corpus beside those that every one has; see `corpus_features`."""
        if self.strategy == "n-best":
            return ("rank",) if self.expand else ("targets", "target_scores")
        return ("candidate", "quality") if self.chooses else ()

    def translate_kwargs(self, numbers: Sequence[int], teacher: int = 0) -> dict[str, Any]:
        """Returns the arguments of `translate` that decode sources of a corpus.

        Args:
            numbers (`Sequence[int]`): number of each source, which together with the seed decides what it samples.
            teacher (`int`, *optional*, defaults to 0): number of the teacher among several, which draw other samples;
                an expert is the first one's.
        """
        parameters = self.decoding_parameters()
        for name in ("choice", "expand", *(("expert",) if teacher else ())):
            parameters.pop(name, None)
        if not parameters.pop("do_sample"):
            return {**parameters, "do_sample": False}
        cuts: tuple[str, ...] = ("top_k", "top_p", "temperature")
        draws = {name: parameters.pop(name) for name in cuts if name in parameters}
        # One draw more than the output is long: a forced first token takes one, and has no choice.
        first = teacher * self.num_outputs
        samplers = RowSamplers(self.seed, numbers, self.max_new_tokens + 1, self.num_outputs, first, draws)
        if self.num_outputs == 1:
            return {**parameters, "processors": samplers, "do_sample": False}
        # `generate` makes several outputs only where it samples. What is drawn is the one token that is left.
        one_is_left = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
        return {**parameters, "processors": samplers, **one_is_left}


@dataclass(frozen=True)
class RowSamplers:
    """Makes the sampler of a batch, `num_outputs` rows of a sentence one after the other; see `RowSampler`."""

    seed: int
    numbers: Sequence[int]
    max_new_tokens: int
    num_outputs: int
    first: int
    draws: dict[str, Any]

    def __call__(self, rows: Sequence[int]) -> LogitsProcessorList:
        """Returns the sampler of the sources at these places."""
        numbers = [self.numbers[row] for row in rows for _ in range(self.num_outputs)]
        samples = [self.first + sample for _ in rows for sample in range(self.num_outputs)]
        return LogitsProcessorList(
            [RowSampler(self.seed, numbers, self.max_new_tokens, samples=samples, **self.draws)]
        )


def _beam(args: StrategyArguments) -> dict[str, Any]:
    """Beam search that ends once `num_beams` outputs are finished; with `length_penalty` 1 the best mean wins.

    Batches of other sizes, another backend or machine change the scores in their last bits: where two hypotheses, of a
    step or at the end, are nearer to each other than some 1e-6 of their score, the other one may win. Greedy search is
    the case of one hypothesis. Within one setting the bytes of a corpus never change.
    """
    return {
        "do_sample": False,
        "num_beams": args.num_beams,
        "length_penalty": args.length_penalty,
        "early_stopping": True,
    }


def _sampling(args: StrategyArguments, kind: str) -> dict[str, Any]:
    """Draws from the teacher's distribution, cut off by `kind`; see `RowSampler`."""
    cut: dict[str, Any] = {"top_k": args.top_k if kind == "top-k" else None}
    cut |= {"top_p": args.top_p} if kind == "top-p" else {}
    cut |= {"temperature": args.temperature} if args.temperature != 1.0 else {}
    return {"do_sample": True, "num_beams": 1, **cut}


def _candidates(args: StrategyArguments) -> dict[str, Any]:
    """The best outputs of the beam, or several samples."""
    search = _beam(args) if args.candidates == "beam" else _sampling(args, args.candidates)
    return {**search, "num_return_sequences": args.num_outputs}


def _n_best(args: StrategyArguments) -> dict[str, Any]:
    """All candidates of different texts, by their scores."""
    return {**_candidates(args), "choice": "all of different texts, by their scores", "expand": args.expand}


def _interpolation(args: StrategyArguments) -> dict[str, Any]:
    """Of the candidates, the one nearest to the real target by sentence BLEU, over sacrebleu's tokens.

    Source: Kim & Rush 2016, section 3.3 (sequence-level interpolation); Zhou, Gu & Neubig 2020, section 5.3.
    """
    return {**_candidates(args), "choice": utility_signature("bleu", args.bleu_tokens)}


def _mbr(args: StrategyArguments) -> dict[str, Any]:
    """Of the candidates, the one nearest to all of them; see `ExpectedUtility`."""
    name = args.utility
    known = name in UTILITIES
    utility = utility_signature(name, args.bleu_tokens) if known else f"evaluate module {Path(name).name}"
    options = f" {args.utility_options}" if args.utility_options else ""
    return {**_candidates(args), "choice": f"mean over all candidates: {utility}{options}"}


def _rerank(args: StrategyArguments) -> dict[str, Any]:
    """Of the candidates, the one that a judge prefers."""
    judge = "mean log-probability of the source by the backward teacher"
    if args.backward_prefix:
        judge += f", whose prefix is {args.backward_prefix!r}"
    if args.backward_languages:
        judge += f", from and into {args.backward_languages}"
    return {**_candidates(args), "choice": f"quality by {Path(args.quality).name}" if args.quality else judge}


@dataclass(frozen=True)
class Strategy:
    """How a teacher decodes, and what becomes of its outputs.

    Args:
        decode (`Callable`): from the arguments to those of `generate`, and to what else the manifest says of it.
        outputs (`str`, *optional*, defaults to `"one"`): what a source gets: `"one"` output, `"all"` candidates, or
            the one that a judge has `"chosen"`; `load_judge` loads the judge.
        num_candidates (`int`, *optional*): how many candidates by default; else all of the beam, or many samples.
        needs_targets (`bool`, *optional*, defaults to `False`): whether it reads the real targets.
    """

    decode: Callable[[StrategyArguments], dict[str, Any]]
    outputs: Literal["one", "all", "chosen"] = "one"
    num_candidates: int | None = None
    needs_targets: bool = False


STRATEGIES = {
    "beam": Strategy(_beam),
    "greedy": Strategy(lambda args: {"do_sample": False, "num_beams": 1}),
    "sampling": Strategy(lambda args: _sampling(args, "sampling")),
    "top-k": Strategy(lambda args: _sampling(args, "top-k")),
    "top-p": Strategy(lambda args: _sampling(args, "top-p")),
    "n-best": Strategy(_n_best, "all", _FEW_CANDIDATES),
    "interpolation": Strategy(_interpolation, "chosen", _FEW_CANDIDATES, needs_targets=True),
    "mbr": Strategy(_mbr, "chosen"),
    "rerank": Strategy(_rerank, "chosen"),
}
CHOOSING = tuple(name for name, strategy in STRATEGIES.items() if strategy.outputs == "chosen")
