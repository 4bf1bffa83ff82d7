"""How a teacher decodes: one entry per strategy, from its keys to the arguments of `translate`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from math import isfinite
from typing import Any

from transformers import LogitsProcessorList

from ..base.config import option
from ..base.languages import find_language
from ..data.arguments import CorpusArguments
from ..decoding import require_between
from ..models.generation_nat import MAX_BEAMS
from .sampling import RowSampler


@dataclass(frozen=True, kw_only=True)
class StrategyArguments(CorpusArguments):
    """By which strategy a teacher decodes the sources of a corpus.

    Raises:
        ValueError: if the strategy is unknown, a number out of its range, or a beam has fewer outputs than candidates.
    """

    strategy: str = option("beam", "how the teacher decodes: beam, greedy, interpolation, sampling or top-k")
    num_beams: int = option(5, "beam size of the strategies `beam` and `interpolation`")
    length_penalty: float = option(1.0, "beam scores are divided by length ** length_penalty, EOS counted")
    expert: int | None = option(None, "mixture of experts: the one that decodes, from 0; default: the checkpoint's")
    top_k: int = option(10, "`top-k`: tokens that are drawn from")
    num_candidates: int = option(3, "`interpolation`: best outputs of the beam among which BLEU chooses")
    max_new_tokens: int = option(200, "longest output in tokens, EOS counted; an output that reaches it is flagged")
    max_length_a: float = option(2.0, "longest output as well: max_length_a * (source tokens) + max_length_b tokens")
    max_length_b: int = option(20, "see max_length_a; source tokens are rounded up to a multiple of 8")
    seed: int = option(1, "seed of a strategy that draws random numbers")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.strategy not in STRATEGIES:
            raise ValueError(f"`strategy` must be one of {sorted(STRATEGIES)}, got {self.strategy!r}.")
        for name, limit in {"num_beams": MAX_BEAMS, "num_candidates": MAX_BEAMS}.items():
            require_between(name, getattr(self, name), 1, limit)
        for name, least in {"top_k": 1, "max_new_tokens": 1, "max_length_b": 1, "seed": 0}.items():
            require_between(name, getattr(self, name), least)
        if not isfinite(self.length_penalty):
            raise ValueError(f"`length_penalty` must be a finite number, got {self.length_penalty}.")
        if not 0 <= self.max_length_a < float("inf"):
            raise ValueError(f"`max_length_a` must be >= 0 and finite, got {self.max_length_a}.")
        if self.strategy == "interpolation" and self.num_candidates > self.num_beams:
            raise ValueError(
                f"`num_candidates` must be <= `num_beams`, got {self.num_candidates} and {self.num_beams}."
            )

    @property
    def samples(self) -> bool:
        """Whether the strategy draws random numbers."""
        return STRATEGIES[self.strategy](self)["do_sample"]

    @property
    def bleu_tokens(self) -> str:
        """What sacrebleu calls the tokens of the target language."""
        return find_language(self.target_lang).sacrebleu_tokenizer()

    def decoding_parameters(self) -> dict[str, Any]:
        """Returns what the outputs depend on, as the manifest records it."""
        expert = {} if self.expert is None else {"expert": self.expert}
        lengths = {name: getattr(self, name) for name in ("max_new_tokens", "max_length_a", "max_length_b")}
        return {**lengths, **expert, **STRATEGIES[self.strategy](self)}

    def translate_kwargs(self, numbers: Sequence[int], real_targets: Sequence[str]) -> dict[str, Any]:
        """Returns the arguments of `translate` that decode sources of a corpus.

        Args:
            numbers (`Sequence[int]`): number of each source, which together with the seed decides what it samples.
            real_targets (`Sequence[str]`): real target of each source, for the strategy that reads it.
        """
        parameters = self.decoding_parameters()
        if parameters.pop("choice", None) is not None:
            parameters["choose"] = Nearest(real_targets, self.bleu_tokens)
        if parameters.pop("do_sample"):
            # One draw more than the output is long: a forced first token takes one, and has no choice.
            parameters["processors"] = RowSamplers(
                self.seed, numbers, self.max_new_tokens + 1, parameters.pop("top_k")
            )
        return {**parameters, "do_sample": False}


@dataclass(frozen=True)
class Nearest:
    """Chooses the candidate with the highest sentence BLEU, of equal ones the first, whose model score is higher.

    Args:
        real_targets (`Sequence[str]`): real target of each row.
        tokens (`str`): sacrebleu's name of the tokens that BLEU counts.
    """

    real_targets: Sequence[str]
    tokens: str

    def __call__(self, row: int, candidates: Sequence[str]) -> int:
        """Returns the number of the candidate."""
        from sacrebleu.metrics import BLEU

        bleu = BLEU(tokenize=self.tokens, effective_order=True)
        scores = [bleu.sentence_score(text, [self.real_targets[row]]).score for text in candidates]
        return scores.index(max(scores))


@dataclass(frozen=True)
class RowSamplers:
    """Makes the sampler of a batch; see `RowSampler`."""

    seed: int
    numbers: Sequence[int]
    max_new_tokens: int
    top_k: int | None

    def __call__(self, rows: Sequence[int]) -> LogitsProcessorList:
        """Returns the sampler of the sources at these places."""
        return LogitsProcessorList(
            [RowSampler(self.seed, [self.numbers[row] for row in rows], self.max_new_tokens, self.top_k)]
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


def _interpolation(args: StrategyArguments) -> dict[str, Any]:
    """Of the best outputs of the beam, the one nearest to the real target by sentence BLEU, over sacrebleu's tokens.

    Source: Kim & Rush 2016, section 3.3 (sequence-level interpolation); Zhou, Gu & Neubig 2020, section 5.3.
    """
    choice = f"sentence BLEU, tok:{args.bleu_tokens}, smooth:exp, eff:yes, sacrebleu {metadata.version('sacrebleu')}"
    return {**_beam(args), "num_return_sequences": args.num_candidates, "choice": choice}


STRATEGIES: dict[str, Callable[[StrategyArguments], dict[str, Any]]] = {
    "beam": _beam,
    "greedy": lambda args: {"do_sample": False, "num_beams": 1},
    "sampling": lambda args: {"do_sample": True, "num_beams": 1, "top_k": None},
    "top-k": lambda args: {"do_sample": True, "num_beams": 1, "top_k": args.top_k},
    "interpolation": _interpolation,
}
