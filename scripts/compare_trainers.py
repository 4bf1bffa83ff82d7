#!/usr/bin/env python
"""Training speed of this project's trainer against the stock `Seq2SeqTrainer`, in turns.

    python scripts/compare_trainers.py --output comparison.json
    python scripts/compare_trainers.py --corpus "data/multi30k/{split}.{lang}.gz" --source_lang en --target_lang de \
        --tokenizer runs/teacher --output comparison.json

`NATSeq2SeqTrainer` makes batches by tokens. The stock trainer makes them of a fixed number of rows, the mean of those,
so that all need as many updates for an epoch: at random, or with `train_sampling_strategy: group_by_length`, which
gets the same column of lengths (the longer of source and target). Of its epoch some batches are drawn at random,
because it puts the long ones together. All train the same model, on random tokens in pairs of the same lengths, with
the same optimizer and the same setting of the allocator. What is timed is the loop of the trainer, batches and
optimizer included, but for the first update of a turn: in processor time, that of the kernel included, because other
work on the machine does not change it much. The loss of a student is part of its model; that of `marian` comes from
the trainer: in the stock one from `label_smoothing_factor`.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

import numpy as np
from benchmark_training import (
    EOS,
    LABEL_SMOOTHING,
    MASK,
    add_length_arguments,
    new_trainee,
    pair_lengths,
    require_lengths,
)
from datasets import Dataset
from random_checkpoints import word_tokenizer
from transformers import DataCollatorForSeq2Seq, Seq2SeqTrainer, Seq2SeqTrainingArguments

from hf_nat.base.allocator import keep_freed_memory
from hf_nat.base.reporting import Table
from hf_nat.base.utils import environment, write_json
from hf_nat.models import ARCHITECTURES, SIZES
from hf_nat.training.arguments import NATSeq2SeqTrainingArguments
from hf_nat.training.sampler import TokenBatchSampler
from hf_nat.training.trainer import CrossEntropyLoss, NATSeq2SeqTrainer


OWN = "by tokens"
TRAINERS = (OWN, "random", "group_by_length")
SETTINGS: dict[str, Any] = {
    "learning_rate": 5e-4,
    "adam_beta2": 0.98,
    "max_grad_norm": 0.0,
    "lr_scheduler_type": "constant",
    "warmup_steps": 0,
    "use_cpu": True,
    "eval_strategy": "no",
    "save_strategy": "no",
    "logging_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
}


class Watched:
    """What a trainer becomes whose updates are written down: processor time at their start, tokens, places."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.updates: list[tuple[float, int, int]] = []

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Writes an update down and computes its loss."""
        labels = inputs["labels"]
        places = inputs["input_ids"].numel() + labels.numel()
        tokens = int(inputs["attention_mask"].sum() + labels.ne(-100).sum())
        self.updates.append((time.process_time(), int(labels.ne(-100).sum()), places - tokens))
        return super().compute_loss(model, inputs, *args, **kwargs)  # type: ignore[misc]

    def measured(self) -> dict[str, float]:
        """Returns what all updates but the first and the last took, and how much of their batches was padding."""
        (started, *_), *_, (ended, *_) = self.updates[1:]
        _, targets, padding = zip(*self.updates[1:-1], strict=True)
        return {"seconds": ended - started, "target_tokens": sum(targets), "padding": sum(padding)}


class WatchedStock(Watched, Seq2SeqTrainer):
    """The stock trainer, with some batches of its epoch."""

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Any:
        sampler, size = super()._get_train_sampler(train_dataset), self.args.train_batch_size
        rows = [*sampler]  # type: ignore[misc]
        batches = [rows[start : start + size] for start in range(0, len(rows) - size + 1, size)]
        return sum(random.Random(self.args.seed).sample(batches, self.args.max_steps), [])


class WatchedOwn(Watched, NATSeq2SeqTrainer):
    """This project's trainer."""


def random_pairs(lengths: Sequence[tuple[int, int]], vocab_size: int) -> Dataset:
    """Fills pairs of such lengths with random tokens."""
    rng = np.random.default_rng(0)

    def side(place: int) -> list[list[int]]:
        return [[*rng.integers(MASK + 1, vocab_size, pair[place] - 1).tolist(), EOS] for pair in lengths]

    return Dataset.from_dict({"input_ids": side(0), "labels": side(1), "length": [max(pair) for pair in lengths]})


def new_trainer(system: str, name: str, model: Any, rows: Dataset, args: argparse.Namespace, **places: Any) -> Watched:
    """Builds the trainer of a turn."""
    tokenizer = word_tokenizer(args.vocab_size)
    parts = {
        "model": model,
        "train_dataset": rows,
        "processing_class": tokenizer,
        "data_collator": DataCollatorForSeq2Seq(tokenizer, model=model),
    }
    # The first update warms up, the last one tells when the one before it ended.
    settings = SETTINGS | {"max_steps": args.num_updates + 2} | places
    if system == OWN:
        own = NATSeq2SeqTrainingArguments(**settings, max_tokens=args.max_tokens, label_smoothing=LABEL_SMOOTHING)
        return WatchedOwn(
            **parts, args=own, compute_loss_func=CrossEntropyLoss(LABEL_SMOOTHING) if name == "marian" else None
        )
    stock = Seq2SeqTrainingArguments(
        **settings,
        train_sampling_strategy=system,
        length_column_name="length",
        per_device_train_batch_size=round(len(rows) / len(TokenBatchSampler(rows["length"], args.max_tokens))),
        label_smoothing_factor=LABEL_SMOOTHING if name == "marian" else 0.0,
    )
    return WatchedStock(**parts, args=stock)


def compare(name: str, rows: Dataset, args: argparse.Namespace) -> Iterator[dict[str, list[dict[str, float]]]]:
    """Trains a model with all trainers in turns; another one comes first in each.

    Yields:
        `dict[str, list[dict[str, float]]]`: after each turn, of each trainer what each turn so far took.
    """
    model = new_trainee(name, args).model
    turns: dict[str, list[dict[str, float]]] = {system: [] for system in TRAINERS}
    with tempfile.TemporaryDirectory(prefix="hf_nat-") as folder:
        for turn in range(args.repeats):
            first = turn % len(TRAINERS)
            for system in (*TRAINERS[first:], *TRAINERS[:first]):
                trainer: Any = new_trainer(system, name, model, rows, args, output_dir=folder, seed=turn)
                trainer.train()
                turns[system].append(trainer.measured())
            yield turns


def summary(turns: dict[str, list[dict[str, float]]]) -> dict[str, dict[str, Any]]:
    """Puts turns in figures: medians, `own_against_it` of the ratios of the same turn, `padding` of all."""

    def speeds(system: str) -> list[float]:
        return [turn["target_tokens"] / turn["seconds"] for turn in turns[system]]

    return {
        system: {
            "turns": measured,
            "target_tokens_per_second": median(speeds(system)),
            "own_against_it": median(own / other for own, other in zip(speeds(OWN), speeds(system), strict=True)),
            "padding_per_target_token": sum(turn["padding"] for turn in measured)
            / sum(turn["target_tokens"] for turn in measured),
        }
        for system, measured in turns.items()
    }


def markdown_table(result: dict[str, Any]) -> str:
    """Prints one row per model and trainer."""
    header = ["model", "batches", "target tokens/s", "padding per target token", "by tokens against it"]
    rows = [
        [
            name,
            system,
            f"{row['target_tokens_per_second']:.0f}",
            f"{row['padding_per_target_token']:.2f}",
            f"{row['own_against_it']:.2f}x",
        ]
        for name, systems in sorted(result["models"].items())
        for system, row in sorted(systems.items(), key=lambda item: TRAINERS.index(item[0]))
    ]
    return Table(header, rows).markdown()


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = ["vanilla_nat", "marian", *(name for name in ARCHITECTURES if name != "vanilla_nat")]
    parser.add_argument("--models", nargs="+", choices=known, default=known[:2], metavar="NAME")
    parser.add_argument("--size", choices=SIZES, default="tiny")
    parser.add_argument("--vocab_size", type=int, default=8000)
    parser.add_argument("--max_tokens", type=int, default=4096, help="budget of a batch: rows x longest row")
    parser.add_argument("--num_updates", type=int, default=8, help="timed updates of a turn")
    parser.add_argument("--repeats", type=int, default=3, help="turns of each trainer")
    add_length_arguments(parser)
    parser.add_argument("--output", required=True, help="JSON file to write")
    args = parser.parse_args(argv)
    require_lengths(parser, args)
    if min(args.num_updates, args.repeats) < 1:
        parser.error("--num_updates and --repeats must be >= 1")
    return argparse.Namespace(**vars(args), device="cpu", dtype="float32")


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, writes the JSON file after each turn and prints the table."""
    keep_freed_memory()
    args = parse_arguments(argv)
    rows = random_pairs(pair_lengths(args), args.vocab_size)
    result: dict[str, Any] = {"settings": vars(args), "models": {}}
    for name in args.models:
        for turns in compare(name, rows, args):
            result["models"][name] = summary(turns)
            result["environment"] = environment()
            write_json(args.output, result)
    print(markdown_table(result))


if __name__ == "__main__":
    main()
