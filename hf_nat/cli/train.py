"""`hf-nat train`."""

from __future__ import annotations

from collections.abc import Sequence

from ..base.config import load_config
from ..steps import DataArguments, ModelArguments, NATSeq2SeqTrainingArguments, Train


def run(argv: Sequence[str]) -> None:
    """Trains the model that the YAML file describes, with its card."""
    step = Train(*load_config((ModelArguments, DataArguments, NATSeq2SeqTrainingArguments), argv, prog="hf-nat train"))
    step.run()
    if step.training.process_index == 0:
        print(step.summary())
