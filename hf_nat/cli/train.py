"""`hf-nat train`."""

from __future__ import annotations

from collections.abc import Sequence

from ..config import load_config
from ..hub.cards import write_model_card
from ..training.arguments import DataArguments, ModelArguments, NATSeq2SeqTrainingArguments
from ..training.run import train


def run(argv: Sequence[str]) -> None:
    """Trains the model that the YAML file describes, with its card."""
    arguments = load_config((ModelArguments, DataArguments, NATSeq2SeqTrainingArguments), argv, prog="hf-nat train")
    metrics = train(*arguments)
    training_args = arguments[2]
    if training_args.process_index == 0:
        write_model_card(training_args.output_dir)
        bleu = "" if metrics["eval_bleu"] is None else f", BLEU {metrics['eval_bleu']:.2f}"
        print(f"{training_args.output_dir}: validation loss {metrics['eval_loss']:.3f}{bleu}")
