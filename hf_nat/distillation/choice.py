"""The judge that the arguments of a distillation ask for: loaded, and identified."""

from __future__ import annotations

from typing import Any

from ..base.utils import sha256_file
from ..metrics.external import external_identity, load_external_metric
from .arguments import DistillArguments
from .judges import (
    UTILITIES,
    BackwardModel,
    Estimator,
    EvaluateUtility,
    ExpectedUtility,
    Judge,
    QualityEstimate,
    RealTarget,
    estimator_file,
    load_estimator,
    pair_utility,
)
from .manifest import teacher_identity


# A judge, and what identifies it beside the arguments.
_Loaded = tuple[Judge, dict[str, Any]]


def load_judge(args: DistillArguments, estimator: Estimator | None = None) -> tuple[Judge | None, dict[str, Any]]:
    """Loads what chooses among candidates.

    Args:
        args (`DistillArguments`): strategy and judge.
        estimator (`Callable`, *optional*): the function that `args.quality` names, where it is in memory.

    Returns:
        `tuple[Judge | None, dict[str, Any]]`: the judge, None where the strategy does not choose, and what identifies
        it beside the arguments.

    Raises:
        OSError: if there is no such module, file or model.
        ValueError: if it is none, or not trusted.
    """
    if not args.chooses:
        return None, {}
    return _JUDGES[args.strategy](args, estimator)


def _real_target(args: DistillArguments, estimator: Estimator | None) -> _Loaded:
    return RealTarget(args.bleu_tokens), {}


def _of_reranking(args: DistillArguments, estimator: Estimator | None) -> _Loaded:
    if args.backward_teacher is not None:
        return _backward_model(args, args.backward_teacher)
    name = str(args.quality)
    if estimator is not None:
        return QualityEstimate(estimator, name), {}
    return QualityEstimate(load_estimator(name), name), {"quality_sha256": sha256_file(estimator_file(name))}


def _expected_utility(args: DistillArguments, estimator: Estimator | None) -> _Loaded:
    name = args.utility
    if name in UTILITIES:
        return ExpectedUtility(pair_utility(name, args.bleu_tokens)), {}
    trust = args.trust_remote_code
    metric = load_external_metric(
        name, args.utility_options, parameter="utility", trust_remote_code=trust, others=UTILITIES
    )
    return ExpectedUtility(EvaluateUtility(metric)), {"utility_module": external_identity(name)}


def _backward_model(args: DistillArguments, name: str) -> _Loaded:
    model, tokenizer = args.load_backward(name)
    judge = BackwardModel(model, tokenizer, args.max_batch_tokens or 1024, args.backward_prefix)
    return judge, {"backward_teacher": teacher_identity(model, tokenizer)}


# By the strategy that chooses: what loads its judge.
_JUDGES = {"interpolation": _real_target, "mbr": _expected_utility, "rerank": _of_reranking}
