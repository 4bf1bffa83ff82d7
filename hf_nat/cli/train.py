"""`hf-nat train`."""

from __future__ import annotations

from collections.abc import Sequence

from ..config import load_config
from ..hub.cards import write_model_card
from ..training.arguments import DataArguments, ModelArguments, NATSeq2SeqTrainingArguments
from ..training.run import train
from ..training.summary import training_summary


def run(argv: Sequence[str]) -> None:
    """Trains the model that the YAML file describes, with its card."""
    arguments = load_config((ModelArguments, DataArguments, NATSeq2SeqTrainingArguments), argv, prog="hf-nat train")
    train(*arguments)
    training_args = arguments[2]
    if training_args.process_index == 0:
        write_model_card(training_args.output_dir)
        print(training_summary(training_args.output_dir))
