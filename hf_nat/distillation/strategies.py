"""How a teacher decodes: one entry per strategy, from the arguments of a distillation to those of `generate`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from .arguments import DistillArguments


def _beam(args: DistillArguments) -> dict[str, Any]:
    """Beam search that ends once `num_beams` outputs are finished; with `length_penalty` 1 the best mean wins."""
    return {"num_beams": args.num_beams, "length_penalty": args.length_penalty, "early_stopping": True}


def _greedy(args: DistillArguments) -> dict[str, Any]:
    return {"num_beams": 1}


STRATEGIES: dict[str, Callable[[DistillArguments], dict[str, Any]]] = {"beam": _beam, "greedy": _greedy}


def decoding_parameters(args: DistillArguments) -> dict[str, Any]:
    """Returns the arguments of `generate` for `args.strategy`; the teacher's `generation_config` gives the rest."""
    return {"do_sample": False, "max_new_tokens": args.max_new_tokens, **STRATEGIES[args.strategy](args)}
