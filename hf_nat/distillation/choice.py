"""The judge that the arguments of a distillation ask for: loaded, and identified."""

from __future__ import annotations

import os
from typing import Any

from ..base.utils import sha256_file
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
    if args.strategy == "interpolation":
        return RealTarget(args.bleu_tokens), {}
    if args.strategy == "mbr":
        return _expected_utility(args)
    if args.strategy != "rerank":
        return None, {}
    if args.backward_teacher is not None:
        return _backward_model(args, args.backward_teacher)
    name = str(args.quality)
    if estimator is not None:
        return QualityEstimate(estimator, name), {}
    return QualityEstimate(load_estimator(name), name), {"quality_sha256": sha256_file(estimator_file(name))}


def _expected_utility(args: DistillArguments) -> tuple[Judge, dict[str, Any]]:
    name = args.utility
    if name in UTILITIES:
        return ExpectedUtility(pair_utility(name, args.bleu_tokens)), {}
    here = os.path.exists(name)
    if not here and not args.trust_remote_code:
        raise ValueError(
            f"`utility` must be one of {list(UTILITIES)} or the folder of an evaluate module, got {name!r}. A module "
            "of the Hub is code: set `trust_remote_code` if you trust its authors."
        )
    import evaluate  # Slow to import, and seldom wanted.

    try:
        module = evaluate.load(name)
    except (ImportError, SyntaxError, TypeError) as error:
        raise ValueError(f"`utility` must be a module that loads, got {name!r}: {error}") from error
    sha256 = _folder_sha256(name) if here else {"name": name}
    return ExpectedUtility(EvaluateUtility(module, args.utility_options or {}, name)), {"utility_module": sha256}


def _folder_sha256(name: str) -> dict[str, str]:
    """Returns the SHA-256 of the Python files of a module, a folder or one file."""
    if os.path.isfile(name):
        return {os.path.basename(name): sha256_file(name)}
    return {file: sha256_file(os.path.join(name, file)) for file in sorted(os.listdir(name)) if file.endswith(".py")}


def _backward_model(args: DistillArguments, name: str) -> tuple[Judge, dict[str, Any]]:
    model, tokenizer = args.load_backward(name)
    judge = BackwardModel(model, tokenizer, args.max_batch_tokens or 1024, args.backward_prefix)
    return judge, {"backward_teacher": teacher_identity(model, tokenizer)}
