"""Metrics of the `evaluate` library that are not ours: COMET, MetricX and whatever a folder holds."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from ..base.foreign_code import foreign_code
from ..base.utils import sha256_file


# What `compute` gets from here.
_TEXTS = ("predictions", "references", "sources")
# What lists with a score of each sentence are called.
_LISTS = ("scores", "segments")


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
        """Returns what the metric answers.

        Raises:
            ValueError: if its code fails or ends the program, or the answer is no dictionary.
        """
        inputs = {"predictions": list(predictions), "references": list(references)}
        inputs |= {"sources": list(sources)} if "sources" in self.inputs else {}
        with foreign_code(f"`{self.parameter}` must be metrics that work, but the code of {self.name!r} failed"):
            result = self.module.compute(**inputs, **self.options)
        if not isinstance(result, Mapping):
            raise ValueError(
                f"`{self.parameter}` must answer with a dictionary, got a {type(result).__name__} of {self.name!r}. "
                "Write a module of a few lines around it that does."
            )
        return dict(result)

    @property
    def inputs(self) -> set[str]:
        """The names of what it reads."""
        features = self.module.features
        return set((features[0] if isinstance(features, list) else features).keys())

    def require_inputs(self) -> None:
        """Raises ValueError if it reads something else than translations, or its `compute` takes no such option."""
        if self.inputs - {"sources"} != {"predictions", "references"}:
            raise ValueError(
                f"`{self.parameter}` must read `predictions` and `references`, and `sources` or not, but "
                f"{self.name!r} reads {sorted(self.inputs)}. Write a module of a few lines around it that does."
            )
        parameters = inspect.signature(self.module._compute).parameters.values()
        takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters)
        taken = {parameter.name for parameter in parameters if parameter.kind is not inspect.Parameter.VAR_KEYWORD}
        allowed = taken - set(_TEXTS)
        unknown = [name for name in self.options if name in _TEXTS or not (takes_any or name in allowed)]
        if unknown:
            raise ValueError(
                f"`{self.parameter}` must get options that `compute` of {self.name!r} has, {sorted(allowed)}, got "
                f"{unknown[0]!r}. Leave it out."
            )

    def segments(self, result: Mapping[str, Any], number: int) -> list[float] | None:
        """Returns the scores of so many sentences out of an answer, None where it has no such list.

        A list by another name than `scores` or `segments` is one only beside no number: BLEU's `precisions` are not.

        Raises:
            ValueError: if it has several, and none is called so, or a score is not finite.
        """
        lists = {key: value for key, value in result.items() if _is_numbers(value, number)}
        if not lists or not lists.keys() & set(_LISTS) and _has_number(result):
            return None
        return [self._finite(score) for score in self._one(lists, _LISTS)]

    def number(self, result: Mapping[str, Any]) -> float:
        """Returns the one number of an answer.

        Raises:
            ValueError: if it has none, or several that none is called as the module, `score` or `mean_score`, or it
                is not finite.
        """
        numbers = {key: value for key, value in result.items() if _is_number(value)}
        return self._finite(self._one(numbers, (self.module.name, "score", "mean_score")))

    def score(self, sources: Sequence[str], predictions: Sequence[str], references: Sequence[str]) -> float:
        """Returns the score of a corpus: the one number of the answer, else the mean of its list.

        Raises:
            ValueError: if the answer has neither, or it is not finite.
        """
        result = self.compute(sources, predictions, references)
        segments = None
        if not _has_number(result):
            segments = self.segments(result, len(predictions))
        return self.number(result) if segments is None else fmean(segments)

    def _finite(self, value: Any) -> float:
        try:
            found = float(value)
        except OverflowError:
            found = float("inf")
        if not isfinite(found):
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
        ValueError: if there is no such folder and the Hub is not trusted, the module does not load, or it reads or
            takes something else.
    """
    require_consent(name, parameter, trust_remote_code, others)
    import evaluate  # Slow to import, and seldom wanted.

    with foreign_code(f"`{parameter}` must be a module that loads, got {name!r}"):
        metric = ExternalMetric(evaluate.load(name), options or {}, name, parameter)
    metric.require_inputs()
    return metric


def require_consent(name: str, parameter: str, trust_remote_code: bool, others: Sequence[str] = ()) -> None:
    """Raises ValueError if a module is not on this machine and code of the Hub is not trusted, or has no code."""
    path = Path(name)
    # Without its file `evaluate` would ask the Hub for a module of this name.
    script = path / f"{path.name}.py" if path.is_dir() else path
    if name and path.exists() and not (path.name and script.is_file() and script.suffix == ".py"):
        wanted = f"a file {path.name}.py" if path.is_dir() else "the suffix .py"
        raise ValueError(
            f"`{parameter}` must be the folder of an evaluate module, or its Python file, got {name!r} without "
            f"{wanted}. Give folder and file the same name."
        )
    if not (name and path.exists()) and not trust_remote_code:
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


def _has_number(result: Mapping[str, Any]) -> bool:
    return any(map(_is_number, result.values()))


def _is_numbers(value: Any, length: int) -> bool:
    is_list = isinstance(value, list | tuple | np.ndarray) and len(value) == length
    return is_list and all(map(_is_number, value))
