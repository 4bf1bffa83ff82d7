"""Metrics of the `evaluate` library that are not ours: COMET, MetricX and whatever a folder holds."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from ..base.utils import sha256_file


@dataclass(frozen=True)
class ExternalMetric:
    """A module of the `evaluate` library.

    Args:
        module (`evaluate.EvaluationModule`): the metric; it gets `sources` too where it asks for them.
        options (`Mapping[str, Any]`): further arguments of its `compute`.
        name (`str`): what errors call it.
        parameter (`str`): name of the option that gave it, for errors.
    """

    module: Any
    options: Mapping[str, Any] = field(default_factory=dict)
    name: str = "the metric"
    parameter: str = "module"

    def compute(self, sources: Sequence[str], predictions: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
        """Returns what the metric answers."""
        features = self.module.features
        names = set((features[0] if isinstance(features, list) else features).keys())
        inputs = {"predictions": list(predictions), "references": list(references)}
        inputs |= {"sources": list(sources)} if "sources" in names else {}
        return self.module.compute(**inputs, **self.options)

    def segments(self, result: Mapping[str, Any], number: int) -> Any:
        """Returns the scores of so many sentences out of an answer, None where it has no such list.

        Raises:
            ValueError: if it has several, and none is called `scores` or `segments`.
        """
        lists = {key: value for key, value in result.items() if _is_numbers(value, number)}
        return self._one(lists, ("scores", "segments")) if lists else None

    def number(self, result: Mapping[str, Any]) -> float:
        """Returns the one number of an answer.

        Raises:
            ValueError: if it has none, or several that none is called as the module, `score` or `mean_score`.
        """
        numbers = {key: value for key, value in result.items() if _is_number(value)}
        return float(self._one(numbers, (self.module.name, "score", "mean_score")))

    def score(self, sources: Sequence[str], predictions: Sequence[str], references: Sequence[str]) -> float:
        """Returns the score of a corpus: the one number of the answer, else the mean of its list.

        Raises:
            ValueError: if the answer has neither, or it is not finite.
        """
        result = self.compute(sources, predictions, references)
        segments = None
        if not any(_is_number(value) for value in result.values()):
            segments = self.segments(result, len(predictions))
        found = self.number(result) if segments is None else fmean(map(float, segments))
        if not np.isfinite(found):
            raise ValueError(f"`{self.parameter}` must give a finite score, got {found} of {self.name}.")
        return found

    def _one(self, found: Mapping[str, Any], preferred: Sequence[str]) -> Any:
        for name in (*preferred, *(found if len(found) == 1 else ())):
            if name in found:
                return found[name]
        raise ValueError(
            f"`{self.parameter}` must answer with one number, or a list `scores`, but {self.name} has "
            f"{sorted(found) or 'no number'}. Write a module of a few lines around it that does."
        )


def load_external_metric(
    name: str,
    options: Mapping[str, Any] | None = None,
    *,
    parameter: str,
    trust_remote_code: bool = False,
    others: Sequence[str] = (),
) -> ExternalMetric:
    """Loads a module of the `evaluate` library, which runs its code; one that is not on this machine only if trusted.

    Args:
        name (`str`): folder or Python file, or the name of a module of the Hub.
        options (`Mapping[str, Any]`, *optional*): arguments of its `compute`.
        parameter (`str`): name of the option that gave it, for errors.
        trust_remote_code (`bool`, *optional*, defaults to `False`): load it from the Hub.
        others (`Sequence[str]`, *optional*): what the option takes beside modules, for errors.

    Raises:
        ValueError: if there is no such folder and the Hub is not trusted, or the module does not load.
    """
    require_consent(name, parameter, trust_remote_code, others)
    import evaluate  # Slow to import, and seldom wanted.

    try:
        module = evaluate.load(name)
    except (ImportError, SyntaxError, TypeError, FileNotFoundError) as error:
        raise ValueError(f"`{parameter}` must be a module that loads, got {name!r}: {error}") from error
    return ExternalMetric(module, options or {}, name, parameter)


def require_consent(name: str, parameter: str, trust_remote_code: bool, others: Sequence[str] = ()) -> None:
    """Raises ValueError if a module is not on this machine and code of the Hub is not trusted."""
    if not os.path.exists(name) and not trust_remote_code:
        choice = f"one of {list(others)} or " if others else ""
        raise ValueError(
            f"`{parameter}` must be {choice}the folder of an evaluate module, got {name!r}, which is not there. A "
            "module of the Hub is code: set `trust_remote_code` if you trust its authors."
        )


def external_identity(name: str) -> dict[str, str]:
    """Returns the SHA-256 of the Python files of a module, a folder or one file; of one of the Hub its name."""
    path = Path(name)
    if path.is_dir():
        return {file.name: sha256_file(file) for file in sorted(path.glob("*.py"))}
    return {path.name: sha256_file(path)} if path.is_file() else {"name": name}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _is_numbers(value: Any, length: int) -> bool:
    is_list = isinstance(value, list | tuple | np.ndarray) and len(value) == length
    return is_list and all(map(_is_number, value))
