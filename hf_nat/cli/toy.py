"""`hf-nat toy`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..base.config import load_config
from ..data.toy import DEFAULT_SIZES, ToyTask, generate_toy_corpus


@dataclass
class ToyArguments:
    """Where the toy corpus goes, and how large it is."""

    output_dir: str = field(default="runs/toy/corpus", metadata={"help": "folder to write, in Hub layout"})
    train: int = field(default=DEFAULT_SIZES["train"], metadata={"help": "training pairs"})
    validation: int = field(default=DEFAULT_SIZES["validation"], metadata={"help": "validation pairs"})
    test: int = field(default=DEFAULT_SIZES["test"], metadata={"help": "test pairs"})
    multi_target: bool = field(default=False, metadata={"help": "give every target language, not one at random"})
    seed: int = field(default=1, metadata={"help": "seed of the sentences and their modes"})


def run(argv: Sequence[str]) -> None:
    """Generates the toy corpus of the default task."""
    (args,) = load_config((ToyArguments,), argv, prog="hf-nat toy")
    task = ToyTask()
    sizes = {"train": args.train, "validation": args.validation, "test": args.test}
    folder = generate_toy_corpus(args.output_dir, task, sizes=sizes, seed=args.seed, multi_target=args.multi_target)
    print(f"{folder}: {args.train} training pairs, true complexity {task.complexity():.4f} nats")
