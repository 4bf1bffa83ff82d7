"""The studies that `hf-nat experiment` runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from .born_again import BornAgainArguments, born_again
from .claims import ClaimsArguments, claims
from .distillation_studies import capacity, decoding, experts, interpolation
from .hmm import HMMArguments, hmm
from .matrix import MatrixArguments
from .multimodality import MultimodalityArguments, multimodality


class Experiment(NamedTuple):
    """A study: it resumes what a killed run left, and leaves JSON, plots, report.md and report.html in one folder.

    Args:
        arguments (`type`): dataclass of its keys.
        run (`Callable[[Any], Path]`): takes an instance, returns the path of report.html.
    """

    arguments: type
    run: Callable[[Any], Path]


EXPERIMENTS = {
    "multimodality": Experiment(MultimodalityArguments, multimodality),
    "capacity": Experiment(MatrixArguments, capacity),
    "decoding": Experiment(MatrixArguments, decoding),
    "born-again": Experiment(BornAgainArguments, born_again),
    "experts": Experiment(MatrixArguments, experts),
    "interpolation": Experiment(MatrixArguments, interpolation),
    "hmm": Experiment(HMMArguments, hmm),
    "report": Experiment(ClaimsArguments, claims),
}
