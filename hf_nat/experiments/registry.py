"""The studies that `hf-nat experiment` runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from .born_again import BornAgain, BornAgainArguments
from .claims import ClaimsArguments, claims
from .distillation_studies import CAPACITY, DECODING, EXPERTS, INTERPOLATION
from .hmm import HMM, HMMArguments
from .matrix import Matrix, MatrixArguments
from .multimodality import Multimodality, MultimodalityArguments


class Experiment(NamedTuple):
    """A study: it resumes what a killed run left, and leaves JSON, plots, report.md and report.html in one folder.

    Args:
        arguments (`type`): dataclass of its keys.
        run (`Callable[[Any], Path]`): takes an instance, returns the path of report.html.
        summary (`str`): what it shows, for the help.
    """

    arguments: type
    run: Callable[[Any], Path]
    summary: str


EXPERIMENTS = {
    "multimodality": Experiment(
        MultimodalityArguments,
        lambda args: Multimodality(args).run(),
        "Which of three target languages AT and NAT models choose (Figure 1, Table 1).",
    ),
    "capacity": Experiment(
        MatrixArguments,
        lambda args: Matrix(args, CAPACITY).run(),
        "Students of rising capacity on the corpora of teachers of rising size (Table 2, Figures 3, 4, 7, 8).",
    ),
    "decoding": Experiment(
        MatrixArguments,
        lambda args: Matrix(args, DECODING).run(),
        "The corpora of one teacher by beam search, greedy search and sampling (Table 3).",
    ),
    "born-again": Experiment(
        BornAgainArguments,
        lambda args: BornAgain(args).run(),
        "Teachers that learn from the teacher before (section 5.1, Figure 5).",
    ),
    "experts": Experiment(
        MatrixArguments,
        lambda args: Matrix(args, EXPERTS).run(),
        "The corpora of mixtures of more and more experts (Figure 6).",
    ),
    "interpolation": Experiment(
        MatrixArguments,
        lambda args: Matrix(args, INTERPOLATION).run(),
        "Beam search against the candidate nearest to the real target (Table 4).",
    ),
    "hmm": Experiment(
        HMMArguments,
        lambda args: HMM(args).run(),
        "Bi-LSTMs on the labels of random hidden Markov models (appendix D.2).",
    ),
    "claims": Experiment(ClaimsArguments, claims, "Every claim of the paper beside what the committed runs show."),
}
EXPERIMENTS["report"] = EXPERIMENTS["claims"]  # the name that it had before
