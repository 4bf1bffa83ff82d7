"""The keys of a training run's YAML file."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import Any, Literal

import torch
from datasets import Dataset
from transformers import Seq2SeqTrainingArguments
from transformers.integrations import get_available_reporting_integrations
from transformers.utils import logging

from ..config import option
from ..data.arguments import CorpusArguments, first_rows
from ..models import TEACHER_CONFIGS


logger = logging.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class ModelArguments:
    """Which model is trained, and where it starts from.

    Raises:
        ValueError: if a start is given twice, or together with a key that it decides.
    """

    model_type: str = option("marian", "marian or moe_marian (AT teachers) or the model_type of a NAT architecture")
    size: str | None = option(None, "preset of hf_nat.models.SIZES: nano, mini, tiny, small, base (the default), big")
    model_config: dict[str, Any] | None = option(None, "fields of the model's config that differ from the preset")
    init_from_teacher: str | None = option(None, "AT model whose weights a NAT model starts from (blocks that match)")
    init_from: str | None = option(None, "checkpoint of the same architecture to go on from, any seq2seq model")

    def __post_init__(self) -> None:
        if self.init_from and self.init_from_teacher:
            raise ValueError(
                f"Only one start can be given, got init_from={self.init_from!r} and "
                f"init_from_teacher={self.init_from_teacher!r}. Leave one of them out."
            )
        for start, decided in (("init_from_teacher", ("size",)), ("init_from", ("size", "model_config"))):
            for name in decided:
                if getattr(self, start) and getattr(self, name):
                    raise ValueError(
                        f"`{name}` must be left out with `{start}`, whose model decides it, got "
                        f"{getattr(self, name)!r}."
                    )
        if self.init_from_teacher and self.model_type in TEACHER_CONFIGS:
            raise ValueError(
                f"`init_from_teacher` must be left out for a teacher, got {self.init_from_teacher!r}. Use `init_from` "
                "to go on training one."
            )


@dataclass(frozen=True, kw_only=True)
class DataArguments(CorpusArguments):
    """The corpus, its languages and its tokenizer.

    Raises:
        ValueError: if a size is below 1.
    """

    train_split: str = option("train", "split to train on")
    validation_split: str = option("validation", "split to validate on; always real targets")
    tokenizer: str | None = option(None, "tokenizer folder or Hub id; without it a joint BPE is trained on the corpus")
    vocab_size: int = option(8000, "entries of a tokenizer that is trained, special tokens included")
    max_source_length: int = option(250, "tokens; longer training pairs are left out, counted and logged")
    max_target_length: int = option(250, "tokens; longer training pairs are left out, counted and logged")
    max_train_samples: int | None = option(None, "use only the first rows")
    max_validation_samples: int | None = option(None, "use only the first rows")

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes = ("vocab_size", "max_source_length", "max_target_length")
        for name in (*sizes, "max_train_samples", "max_validation_samples"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"`{name}` must be >= 1, got {value}.")

    def load_splits(self) -> tuple[Dataset, Dataset]:
        """Loads the rows to train on and those to validate on."""
        return (
            first_rows(self.load(self.train_split), self.max_train_samples),
            first_rows(self.load(self.validation_split), self.max_validation_samples),
        )


@dataclass
class NATSeq2SeqTrainingArguments(Seq2SeqTrainingArguments):
    """Seq2SeqTrainingArguments with token-budget batches and the paper's recipe as defaults.

    Defaults that differ from the parent (paper, appendix A): `learning_rate` 5e-4, `adam_beta2` 0.98, `adam_epsilon`
    1e-8, `lr_scheduler_type` inverse_sqrt, `warmup_steps` 4000, no gradient clipping, TensorBoard logs. One process
    uses one device.

    Raises:
        ValueError: without `output_dir`, or if `report_to` names a tracker that is not installed.
    """

    max_tokens: int = option(4000, "token budget of one batch on one process: rows x longest row, source or target")
    pad_to_multiple_of: int | None = option(None, "pad batches to such lengths: fewer shapes to compile")
    label_smoothing: float = option(0.1, "label smoothing of the word loss, for teachers and students alike")
    bleu_on_eval: bool = option(True, "translate the validation split at each evaluation and log eval_bleu")
    early_stopping_patience: int | None = option(
        None, "stop once the best score of `metric_for_best_model` has not risen over so many evaluations"
    )
    early_stopping_threshold: float = option(0.2, "by how much it must rise over them, in its own unit")
    min_train_epochs: int = option(0, "epochs that are trained before a run may stop early")
    average_checkpoints: int = option(0, "final weights are the mean of this many checkpoints; 0 keeps the best one")
    average_by: Literal["last", "best"] = option("last", "which checkpoints are averaged: last ones or best metric")
    learning_rate: float = option(5e-4, "peak learning rate")
    adam_beta2: float = option(0.98, "second moment decay of Adam")
    lr_scheduler_type: str = option("inverse_sqrt", "learning-rate schedule")
    warmup_steps: float = option(4000, "updates of linear warm-up")
    max_grad_norm: float = option(0.0, "gradient clipping; 0 switches it off")
    ddp_find_unused_parameters: bool | None = option(False, "look for parameters without a gradient in each update")
    logging_nan_inf_filter: bool = option(False, "hide losses that are not finite; here they end the run")
    report_to: str | None = option("tensorboard", "where logs go: tensorboard, wandb, trackio, none")
    logging_steps: float = option(100, "updates between two log lines")
    resume_from_checkpoint: str | None = option(None, "checkpoint folder, or `last` for the last one of output_dir")

    def __post_init__(self) -> None:
        if self.output_dir is None:
            raise ValueError("`output_dir` must be given, got none: a model is trained into a folder of its own.")
        if self.disable_tqdm is None:
            self.disable_tqdm = not sys.stderr.isatty()
        # Without an accelerator the processes of a launcher would otherwise believe, each, that they are alone.
        self.use_cpu = self.use_cpu or ("LOCAL_RANK" in os.environ and not torch.accelerator.is_available())
        super().__post_init__()
        missing = sorted({*(self.report_to or ())} - {*get_available_reporting_integrations()})
        if missing:
            raise ValueError(
                f"`report_to` must name installed trackers, got {missing[0]!r}. pip install {missing[0]}."
            )
        if self.early_stopping_patience is not None:
            self._check_early_stopping(self.early_stopping_patience)
        if self.n_gpu > 1:
            logger.warning(f"One process trains on one of {self.n_gpu} GPUs: scripts/launch.sh starts one for each.")
            self._n_gpu = 1
        # Without an accelerator there is nothing to pin memory for, and torch says so at every pass.
        self.dataloader_pin_memory = self.dataloader_pin_memory and torch.accelerator.is_available()

    def _check_early_stopping(self, patience: int) -> None:
        if patience < 1:
            raise ValueError(
                f"`early_stopping_patience` must be >= 1, got {patience}. Leave it out for no early stop."
            )
        if self.metric_for_best_model is None or self.eval_strategy == "no":
            raise ValueError(
                "`early_stopping_patience` must come with `metric_for_best_model` and an `eval_strategy`, got "
                f"{self.metric_for_best_model!r} and {str(self.eval_strategy)!r}."
            )
