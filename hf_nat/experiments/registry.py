"""The studies that `hf-nat experiment` runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from .born_again import BornAgain, BornAgainArguments
from .claims import ClaimsArguments, claims
from .distillation_studies import capacity, decoding, experts, interpolation
from .hmm import HMM, HMMArguments
from .matrix import MatrixArguments
from .multimodality import Multimodality, MultimodalityArguments


class Experiment(NamedTuple):
    """A study: it resumes what a killed run left, and leaves JSON, plots, report.md and report.html in one folder.

    Args:
        arguments (`type`): dataclass of its keys.
        run (`Callable[[Any], Path]`): takes an instance, returns the path of report.html.
    """

    arguments: type
    run: Callable[[Any], Path]


def multimodality(args: MultimodalityArguments) -> Path:
    """Which of three target languages AT and NAT models choose (Figure 1, Table 1)."""
    return Multimodality(args).run()


def born_again(args: BornAgainArguments) -> Path:
    """Teachers that learn from the teacher before (section 5.1, Figure 5)."""
    return BornAgain(args).run()


def hmm(args: HMMArguments) -> Path:
    """Bi-LSTMs on the labels of random hidden Markov models (appendix D.2)."""
    return HMM(args).run()


EXPERIMENTS = {
    "multimodality": Experiment(MultimodalityArguments, multimodality),
    "capacity": Experiment(MatrixArguments, capacity),
    "decoding": Experiment(MatrixArguments, decoding),
    "born-again": Experiment(BornAgainArguments, born_again),
    "experts": Experiment(MatrixArguments, experts),
    "interpolation": Experiment(MatrixArguments, interpolation),
    "hmm": Experiment(HMMArguments, hmm),
    "claims": Experiment(ClaimsArguments, claims),
}
EXPERIMENTS["report"] = EXPERIMENTS["claims"]  # the name that it had before
