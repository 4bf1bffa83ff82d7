"""Bi-LSTMs that learn labels sampled from hidden Markov models, or the labels of exact decoders in their place."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from ..base.bounds import require_number
from ..base.config import option
from ..base.processes import process_state
from ..base.utils import progress_bar, read_record, write_json
from .bilstm import BiLSTMTaggers, accuracies, train_taggers
from .hidden_markov import HiddenMarkovModels, posteriors, random_hmms, sample, viterbi
from .hmm_report import DATA_SETS, DECODERS, summarize, write_hmm_report
from .study import StudyStep


@dataclass(frozen=True, kw_only=True)
class HMMArguments:
    """How uncertain the random hidden Markov models are, how many, and how large the data and the Bi-LSTMs.

    Raises:
        ValueError: if `a` and `b` are no pairs of positive numbers, or another number is out of range.
    """

    output_dir: str = field(metadata={"help": "folder of the results and the report"})
    a: list[float] = field(
        default_factory=lambda: [0.1], metadata={"help": "upper end of the transition weights; several are a sweep"}
    )
    b: list[float] = field(
        default_factory=lambda: [0.1], metadata={"help": "upper end of the emission weights, one for each `a`"}
    )
    num_hmms: int = option(50, "models of each (a, b); may be raised later")
    num_labels: int = option(8, "labels (hidden states)")
    num_observations: int = option(16, "observation symbols")
    sequence_length: int = option(8, "time steps T")
    num_train: int = option(2000, "sequences of training")
    num_validation: int = option(1000, "sequences on which the epoch is chosen, for each metric")
    num_test: int = option(10_000, "sequences of test")
    hidden_size: int = option(8, "hidden units of each direction of the Bi-LSTM")
    num_train_epochs: int = option(40, "passes over the training data")
    batch_size: int = option(100, "sequences of a batch")
    learning_rate: float = option(0.01, "of Adam")
    chunk_size: int = option(10, "models that are trained together; a killed run loses those of one chunk")
    num_bootstrap: int = option(2000, "samples of the bootstrap that gives the intervals of the differences")
    seed: int = option(1, "of everything that is drawn")

    def __post_init__(self) -> None:
        if not self.a or len(self.a) != len(self.b):
            raise ValueError(f"`a` and `b` must be equally many numbers, got {self.a} and {self.b}.")
        for name, values in (("a", self.a), ("b", self.b), ("learning_rate", [self.learning_rate])):
            for value in values:
                require_number(name, value, above=0)
        for name, value in asdict(self).items():
            if isinstance(value, int):
                require_number(name, value, least=0 if name == "seed" else 1)

    def settings(self) -> dict[str, Any]:
        """Returns all that the scores of a model depend on."""
        return {k: v for k, v in asdict(self).items() if k not in ("output_dir", "num_hmms", "num_bootstrap")}


@dataclass(frozen=True)
class HMM(StudyStep):
    """Trains a Bi-LSTM on each data set of each random HMM.

    HMM i makes the same draws for every (a, b), which only scale them. Its three Bi-LSTMs share initial weights and
    the order of the sequences; they differ in the training labels alone. The epoch is chosen on validation sequences
    with sampled labels, for each metric on its own. Several processes share the chunks. The page, the plots and
    `hmm.json` lie in the folder.

    Args:
        args (`HMMArguments`): uncertainty, sizes and seed.

    Source: Zhou, Gu & Neubig 2020, appendix D.2. It gives neither a and b nor any size; ours are in configs/hmm.
    """

    name = "hmm"
    args: HMMArguments

    def settings(self) -> dict[str, Any]:
        """All that the scores of a model depend on; the number of models may be raised."""
        return self.args.settings()

    def work(self) -> None:
        """Trains the Bi-LSTMs that are left, chunk by chunk, then summarises all and writes results and page."""
        args, state = self.args, process_state()
        chunks = [range(i, min(i + args.chunk_size, args.num_hmms)) for i in range(0, args.num_hmms, args.chunk_size)]
        paths = {
            (a, b, hmms): self.folder / f"a{a}_b{b}/hmms_{hmms[0]:04d}-{hmms[-1]:04d}.json"
            for a, b in zip(args.a, args.b, strict=True)
            for hmms in chunks
        }
        own = [unit for unit in list(paths)[state.process_index :: state.num_processes] if not paths[unit].is_file()]
        with progress_bar(len(own) * args.num_train_epochs, "Bi-LSTMs", unit="epochs") as bar:
            for unit in own:
                write_json(paths[unit], _run_chunk(args, *unit, on_epoch=bar.update))
        state.wait_for_everyone()
        if state.is_main_process:
            results = []
            for a, b in zip(args.a, args.b, strict=True):
                kinds = {"rows": list, "seconds": (int, float)}
                done = [read_record(paths[a, b, hmms], kinds) for hmms in chunks]
                rows = [row for chunk in done for row in chunk["rows"]]
                summary = summarize(rows, args.num_bootstrap, args.seed)
                results.append({"a": a, "b": b, "seconds": sum(chunk["seconds"] for chunk in done), **summary})
            write_hmm_report(self.folder, args.settings(), results)


def _generators(args: HMMArguments, hmms: Sequence[int], purpose: int) -> list[Generator]:
    """Makes a generator for each HMM; its numbers depend on seed, HMM and purpose alone."""
    seeds = [np.random.SeedSequence([args.seed, i, purpose]).generate_state(1, np.uint64) for i in hmms]
    return [Generator().manual_seed(int(seed[0] >> 1)) for seed in seeds]


def _run_chunk(args: HMMArguments, a: float, b: float, hmms: range, on_epoch: Callable[[], Any]) -> dict[str, Any]:
    """Draws HMMs, samples from them, trains the Bi-LSTMs and scores them; a row for each HMM."""
    started = time.perf_counter()
    models = random_hmms(args.num_labels, args.num_observations, a, b, _generators(args, hmms, 0))
    streams = _generators(args, hmms, 1)
    train, validation, test = (
        sample(models, size, args.sequence_length, streams)
        for size in (args.num_train, args.num_validation, args.num_test)
    )
    labels = dict(zip(DATA_SETS, (train[1], *_decode(models, train[0])), strict=True))
    scores = _train_and_test(args, hmms, (train[0], torch.cat(list(labels.values()))), validation, test, on_epoch)
    for decoder, found in zip(DECODERS, _decode(models, test[0]), strict=True):
        for metric, values in accuracies(found, test[1]).items():
            scores[metric][decoder] = values
    scores["label_agreement"] = {
        f"{first}-{second}": accuracies(labels[first], labels[second])["token_accuracy"]
        for first, second in combinations(DATA_SETS, 2)
    }
    rows = [
        {"hmm": i}
        | {name: {system: column[row].item() for system, column in group.items()} for name, group in scores.items()}
        for row, i in enumerate(hmms)
    ]
    return {"rows": rows, "seconds": time.perf_counter() - started}


def _decode(models: HiddenMarkovModels, observations: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the labels of the Bayes classifiers of token and of sequence accuracy."""
    return posteriors(models, observations).argmax(-1), viterbi(models, observations)


def _train_and_test(
    args: HMMArguments,
    hmms: Sequence[int],
    train: tuple[Tensor, Tensor],
    validation: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    on_epoch: Callable[[], Any],
) -> dict[str, dict[str, Tensor]]:
    """Trains on the observations of the HMMs `[G, N, T]` with the labels of all data sets `[3 G, N, T]`.

    Returns:
        By metric and data set the accuracy on test `[G]`, and under `<metric>_epoch` the epoch that was chosen.
    """

    def for_all(values: Tensor) -> Tensor:
        return values.repeat(len(DATA_SETS), 1, 1)

    def by_data_set(values: Tensor) -> dict[str, Tensor]:
        return dict(zip(DATA_SETS, values.unflatten(0, (len(DATA_SETS), -1)), strict=True))

    students = [*hmms] * len(DATA_SETS)
    taggers = BiLSTMTaggers(args.num_observations, args.num_labels, args.hidden_size, _generators(args, students, 2))
    selected = train_taggers(
        taggers,
        (for_all(train[0]), train[1]),
        (for_all(validation[0]), for_all(validation[1])),
        num_epochs=args.num_train_epochs,
        batch_size=args.batch_size,
        learning_rate=args.learning_rate,
        generators=_generators(args, students, 3),
        on_epoch=on_epoch,
    )
    scores = {}
    for metric, chosen in selected.items():
        taggers.load_state_dict(chosen.weights)
        scores[metric] = by_data_set(accuracies(taggers.predict(for_all(test[0])), for_all(test[1]))[metric])
        scores[f"{metric}_epoch"] = by_data_set(chosen.epochs)
    return scores
