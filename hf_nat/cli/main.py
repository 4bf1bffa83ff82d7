"""Entry point of `hf-nat` and `python -m hf_nat`."""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Sequence

import datasets
import torch
import transformers


# command -> (module of this package, what it does)
COMMANDS = {
    "toy": ("toy", "generate the toy corpus, a translation task with known modes"),
    "train": ("train", "train an AT teacher or a NAT student"),
    "distill": ("distill", "replace the training targets of a corpus by a teacher's translations"),
    "born-again": ("born_again", "distill again and again: teachers that learn from the teacher before"),
    "filter": ("filter", "leave suspicious rows of a distilled corpus out"),
    "translate": ("translate", "translate a file or standard input"),
    "evaluate": ("evaluate", "translate a test split and score it"),
    "tune": ("tune", "choose the value of a decoding knob on a validation split"),
    "align": ("align", "align the words of a parallel corpus"),
    "analyze": ("analyze", "measure what distillation did to a corpus"),
    "recommend": ("recommend", "rank distilled corpora for a student"),
    "experiment": ("experiment", "re-run a study of the paper, from data to tables and figures"),
    "demo": ("demo", "show in a browser how a student writes, round by round, beside its teacher"),
    "push": ("push", "publish a model, corpus, Space or `evaluate` module on the Hub"),
    "quickstart": ("quickstart", "run the whole path on the toy corpus and write a report"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status: 0, or 2 with a message for input that breaks a rule."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help"):
        print(usage())
        return 0 if argv else 2
    if argv[0] not in COMMANDS:
        print(f"hf-nat: unknown command {argv[0]!r}.\n\n{usage()}", file=sys.stderr)
        return 2
    _set_up_logging()
    command = importlib.import_module(f"{__package__}.{COMMANDS[argv[0]][0]}")
    try:
        command.run(argv[1:])
    except (ValueError, OSError, ImportError) as error:
        print(f"hf-nat {argv[0]}: {error}", file=sys.stderr)
        return 2
    if torch.distributed.is_initialized():
        # The processes of a launcher end together: one that left early would break the others' connections.
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
    return 0


def _set_up_logging() -> None:
    """Sends the package's messages to standard error; progress bars are for terminals only."""
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("hf_nat").setLevel(logging.INFO)
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
        transformers.utils.logging.disable_progress_bar()


def usage() -> str:
    """Lists the commands."""
    lines = [f"  {name:<11} {what}" for name, (_, what) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: hf-nat COMMAND [CONFIG.yaml ...] [--key value ...]",
            "",
            *lines,
            "",
            "`hf-nat COMMAND --help` lists the keys of a command; a YAML file holds the same keys.",
        ]
    )
