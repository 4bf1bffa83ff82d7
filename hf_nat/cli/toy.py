"""`hf-nat toy`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..base.config import load_config, option
from ..data.toy import DEFAULT_SIZES, ToyTask, generate_toy_corpus


@dataclass
class ToyArguments:
    """Where the toy corpus goes, and how large it is."""

    output_dir: str = option("runs/toy/corpus", "folder to write, in Hub layout")
    train: int = option(DEFAULT_SIZES["train"], "training pairs")
    validation: int = option(DEFAULT_SIZES["validation"], "validation pairs")
    test: int = option(DEFAULT_SIZES["test"], "test pairs")
    multi_target: bool = option(False, "give every target language, not one at random")
    seed: int = option(1, "seed of the sentences and their modes")


def run(argv: Sequence[str]) -> None:
    """Generates the toy corpus of the default task."""
    (args,) = load_config((ToyArguments,), argv, prog="hf-nat toy")
    task = ToyTask()
    sizes = {"train": args.train, "validation": args.validation, "test": args.test}
    folder = generate_toy_corpus(args.output_dir, task, sizes=sizes, seed=args.seed, multi_target=args.multi_target)
    print(f"{folder}: {args.train} training pairs, true complexity {task.complexity():.4f} nats")
