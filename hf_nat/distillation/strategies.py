"""How a teacher decodes: one entry per strategy, from the arguments of a distillation to those of `translate`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from importlib import metadata
from typing import TYPE_CHECKING, Any

from transformers import LogitsProcessorList

from .sampling import RowSampler


if TYPE_CHECKING:
    from .arguments import DistillArguments


def _beam(args: DistillArguments) -> dict[str, Any]:
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


def _interpolation(args: DistillArguments) -> dict[str, Any]:
    """Of the best outputs of the beam, the one nearest to the real target by sentence BLEU, over sacrebleu's tokens.

    Source: Kim & Rush 2016, section 3.3 (sequence-level interpolation); Zhou, Gu & Neubig 2020, section 5.3.
    """
    tokens = _bleu_tokens(args)
    choice = f"sentence BLEU, tok:{tokens}, smooth:exp, eff:yes, sacrebleu {metadata.version('sacrebleu')}"
    return {**_beam(args), "num_return_sequences": args.num_candidates, "choice": choice}


STRATEGIES: dict[str, Callable[[DistillArguments], dict[str, Any]]] = {
    "beam": _beam,
    "greedy": lambda args: {"do_sample": False, "num_beams": 1},
    "sampling": lambda args: {"do_sample": True, "num_beams": 1, "top_k": None},
    "top-k": lambda args: {"do_sample": True, "num_beams": 1, "top_k": args.top_k},
    "interpolation": _interpolation,
}


def decoding_parameters(args: DistillArguments) -> dict[str, Any]:
    """Returns what the outputs of `args.strategy` depend on, as the manifest records it."""
    prefix = {} if args.source_prefix is None else {"source_prefix": args.source_prefix}
    backend = {} if args.backend == "torch" else {"backend": args.backend, "compute_type": args.compute_type}
    return {**_generate_kwargs(args), **prefix, **backend}


def translate_kwargs(args: DistillArguments, start: int, real_targets: Sequence[str]) -> dict[str, Any]:
    """Returns the arguments of `translate` that decode consecutive rows of the corpus by `args.strategy`.

    Args:
        args (`DistillArguments`): strategy and parameters.
        start (`int`): number of the first row.
        real_targets (`Sequence[str]`): real target of each row.
    """
    parameters = _generate_kwargs(args)
    if parameters.pop("choice", None) is not None:
        parameters["choose"] = partial(_nearest, real_targets, _bleu_tokens(args))
    if parameters.pop("do_sample"):
        top_k = parameters.pop("top_k")
        parameters["processors"] = partial(_samplers, args.seed, start, args.max_new_tokens, top_k)
    return {**parameters, "do_sample": False}


def _generate_kwargs(args: DistillArguments) -> dict[str, Any]:
    expert = {} if args.expert is None else {"expert": args.expert}
    return {"max_new_tokens": args.max_new_tokens, **expert, **STRATEGIES[args.strategy](args)}


def _bleu_tokens(args: DistillArguments) -> str:
    from ..languages import find_language

    return find_language(args.target_lang).sacrebleu_tokenizer()


def _nearest(real_targets: Sequence[str], tokens: str, row: int, candidates: Sequence[str]) -> int:
    """Chooses the candidate with the highest sentence BLEU, of equal ones the first, whose model score is higher."""
    from sacrebleu.metrics import BLEU

    bleu = BLEU(tokenize=tokens, effective_order=True)
    scores = [bleu.sentence_score(text, [real_targets[row]]).score for text in candidates]
    return scores.index(max(scores))


def _samplers(
    seed: int, start: int, max_new_tokens: int, top_k: int | None, rows: Sequence[int]
) -> LogitsProcessorList:
    # One draw more than the output is long: a forced first token takes one, and has no choice.
    return LogitsProcessorList([RowSampler(seed, [start + row for row in rows], max_new_tokens + 1, top_k)])
