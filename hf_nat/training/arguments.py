"""The keys of a training run's YAML file."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from math import inf
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import numpy as np
import torch
from datasets import Dataset
from transformers import Seq2SeqTrainingArguments
from transformers.integrations import get_available_reporting_integrations
from transformers.utils import logging

from ..base.bounds import require_choice, require_number
from ..base.config import option, refuse_changed
from ..data.arguments import CorpusArguments, first_rows
from ..data.locations import same_rows_for_every_split
from ..data.several import concatenate_pairs, corpus_place, validation_place
from ..models import ARCHITECTURES, SIZES, TEACHER_CONFIGS


logger = logging.get_logger(__name__)

# Which rows a `validation_share` takes does not follow the seed of a run: runs are compared on the same ones.
_SHARE_SEED = 1
_OWN_BATCHES = "batches are made by tokens: use `max_tokens`"
_OWN_EVALUATION = "each evaluation measures the loss and, with `bleu_on_eval`, BLEU by batches of `max_tokens`"
_OWN_DECODING = "validation decodes as the generation_config of the model says"
_OWN_LOADER = "of the data loader only `dataloader_num_workers` and `dataloader_pin_memory` count"
# Beyond this padding is all of a batch.
_LARGEST_MULTIPLE = 1024
_COMMANDS = "`hf-nat train` trains and evaluates, `hf-nat translate` translates: leave it out"


@dataclass(frozen=True, kw_only=True)
class ModelArguments:
    """Which model is trained, and where it starts from.

    Raises:
        ValueError: for an unknown type or size, or if a start is given twice, or together with a key that it decides.
    """

    model_type: str = option("marian", "marian or moe_marian (AT teachers) or the model_type of a NAT architecture")
    size: str | None = option(None, "preset of hf_nat.models.SIZES: nano, mini, tiny, small, base (the default), big")
    model_config: dict[str, Any] | None = option(None, "fields of the model's config that differ from the preset")
    init_from_teacher: str | None = option(None, "AT model from whose blocks a NAT model, or an AT student, starts")
    layer_selection: Literal["spread", "first", "last"] = option(
        "spread", "layers of that model that a model of another depth (`model_config`) starts from"
    )
    init_from: str | None = option(None, "checkpoint of the same architecture to go on from, any seq2seq model")

    def __post_init__(self) -> None:
        if self.init_from and self.init_from_teacher:
            raise ValueError(
                f"Only one start can be given, got init_from={self.init_from!r} and "
                f"init_from_teacher={self.init_from_teacher!r}. Leave one of them out."
            )
        if not self.init_from:
            known = ["marian", *sorted(({*TEACHER_CONFIGS} - {"marian"}) | {*ARCHITECTURES})]
            remedy = "Use `init_from` to go on training another seq2seq model."
            require_choice("model_type", self.model_type, known, remedy=remedy)
        if self.size is not None:
            require_choice("size", self.size, list(SIZES))
        for start in ("init_from_teacher", "init_from"):
            if getattr(self, start) and self.size:
                raise ValueError(f"`size` must be left out with `{start}`, whose model decides it, got {self.size!r}.")
        if not self.init_from_teacher:
            refuse_changed(self, ("layer_selection",), "without `init_from_teacher`")
        if self.init_from_teacher and self.model_type == "moe_marian":
            raise ValueError(
                f"`init_from_teacher` must be left out for a mixture of experts, got {self.init_from_teacher!r}. Use "
                "`init_from` to go on training one."
            )

    @property
    def start(self) -> str | None:
        """The checkpoint whose weights, and whose tokenizer where no other is given, the run starts from."""
        return self.init_from or self.init_from_teacher


@dataclass(frozen=True, kw_only=True)
class DataArguments(CorpusArguments):
    """The corpus, its languages and its tokenizer.

    Raises:
        ValueError: if a size is below 1, or the validation rows are given twice.
    """

    corpus: str | list[str] = field(  # type: ignore[assignment]
        metadata={
            "help": "Hub id, folder, .parquet/.jsonl/.csv/.tsv file, text pattern with {split} and {lang}, or SRC,TGT;"
            " or a list of corpora, CORPUS#CONFIGURATION for one of several, to train on all; the first is validated "
            "on"
        }
    )
    train_split: str = option("train", "split to train on")
    validation_split: str | None = option("validation", "split to validate on; always real targets; null for none")
    validation_corpus: str | None = option(
        None, "corpus of the validation split, where it is another one; also CORPUS#CONFIGURATION"
    )
    validation_share: float | None = option(
        None, "instead of the split: share of the training rows, between 0 and 1, that is validated on, not trained on"
    )
    tokenizer: str | None = option(None, "tokenizer folder or Hub id; without it a joint BPE is trained on the corpus")
    vocab_size: int = option(8000, "entries of a tokenizer that is trained, special tokens included")
    max_source_length: int = option(250, "tokens; longer training pairs are left out, counted and logged")
    max_target_length: int = option(250, "tokens; longer training pairs are left out, counted and logged")
    num_targets: int | None = option(None, "corpus with several targets of a source: train on so many; default: all")
    max_train_samples: int | None = option(None, "use only the first rows")
    max_validation_samples: int | None = option(None, "use only the first rows")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.corpus or isinstance(self.corpus, list) and self.config_name:
            raise ValueError(
                "`corpus` must name a corpus, or several without `config_name`, got "
                f"{self.corpus!r} and {self.config_name!r}. Write CORPUS#CONFIGURATION in a list."
            )
        sizes = ("vocab_size", "max_source_length", "max_target_length", "num_targets")
        for name in (*sizes, "max_train_samples", "max_validation_samples"):
            require_number(name, getattr(self, name), least=1)
        require_number("validation_share", self.validation_share, above=0, below=1)
        if self.validation_share is None:
            if self.validation_corpus and not self.validation_split:
                raise ValueError("`validation_corpus` must come with a `validation_split`, got none.")
            if not self.validation_split:
                refuse_changed(self, ("max_validation_samples",), "without validation")
            return
        if self.validation_corpus:
            raise ValueError(
                "Only one of `validation_share` and `validation_corpus` can be given, got "
                f"{self.validation_share} and {self.validation_corpus!r}. Leave one of them out."
            )

    def load_splits(self) -> tuple[Dataset, Dataset | None]:
        """Loads the rows to train on and those to validate on, if there are any."""
        validation: Dataset | None = None
        train = self._load_all()
        if self.validation_share is not None:
            train, validation = self._parted(train, self.validation_share)
        else:
            validation = self.load_validation()
        if validation is not None:
            validation = first_rows(validation, self.max_validation_samples)
        return first_rows(train, self.max_train_samples), validation

    def load_validation(self) -> Dataset | None:
        """Loads the validation split, of the corpus that has it; None where there is none."""
        return self._validation_place.load(self.validation_split) if self.validation_split else None

    def load_train(self) -> Dataset:
        """Loads all rows that may be trained on: those that a tokenizer is made for."""
        rows = self._load_all()
        return rows if self.validation_share is None else self._parted(rows, self.validation_share)[0]

    @property
    def _places(self) -> list[DataArguments]:
        """The corpora one by one."""
        if isinstance(self.corpus, str):
            return [self]
        return [replace(self, **corpus_place(text)) for text in self.corpus]

    @property
    def _validation_place(self) -> DataArguments:
        """The corpus of the validation split."""
        return replace(self, **validation_place(self.corpus, self.config_name, self.validation_corpus))

    def _load_all(self) -> Dataset:
        """Loads the rows of all corpora to train on, every target of a source a row."""
        parts = [place.load_pairs(self.train_split, self.num_targets) for place in self._places]
        return parts[0] if len(parts) == 1 else concatenate_pairs(parts, self.source_lang, self.target_lang)

    def _parted(self, rows: Dataset, share: float) -> tuple[Dataset, Dataset]:
        """Parts rows into those to train on and those to validate on: the same in every run, each in their order."""
        chosen = np.random.default_rng(_SHARE_SEED).permutation(len(rows))[: round(share * len(rows))]
        if not 0 < len(chosen) < len(rows):
            raise ValueError(
                f"`validation_share` must leave rows to train and to validate on, got {share} of {len(rows)} rows."
            )
        is_chosen = np.isin(np.arange(len(rows)), chosen)
        return rows.select(np.flatnonzero(~is_chosen)), rows.select(np.flatnonzero(is_chosen))

    @property
    def validates_on_train(self) -> bool:
        """Whether the names of the splits lead to the same rows."""
        if not self.validation_split or self.validation_share is not None or self.validation_corpus:
            return False
        return self.train_split == self.validation_split or same_rows_for_every_split(self._places[0].corpus)


@dataclass
class NATSeq2SeqTrainingArguments(Seq2SeqTrainingArguments):
    """Seq2SeqTrainingArguments with token-budget batches and the paper's recipe as defaults.

    Defaults that differ from the parent (paper, appendix A): `learning_rate` 5e-4, `adam_beta2` 0.98, `adam_epsilon`
    1e-8, `lr_scheduler_type` inverse_sqrt, `warmup_steps` 4000, no gradient clipping, TensorBoard logs. One process
    uses one device.

    Raises:
        ValueError: without `output_dir`, if a number is out of its range, checkpoints are averaged but not saved, or
            `report_to` names a tracker that is not installed.
    """

    # Read by hf_nat.base.config. The fields stay: `auto` in a DeepSpeed file, for one, reads the size of a batch.
    WITHOUT_EFFECT: ClassVar[Mapping[str, str]] = {
        "per_device_train_batch_size": _OWN_BATCHES,
        "per_device_eval_batch_size": _OWN_BATCHES,
        "auto_find_batch_size": "batches are made by tokens: use a smaller `max_tokens`",
        "train_sampling_strategy": "every batch is of like lengths: leave it out",
        "length_column_name": "lengths are counted by the encoder: leave it out",
        "sortish_sampler": "every batch is of like lengths: leave it out",
        "data_seed": "the order of the batches follows `seed`: use that",
        "dataloader_drop_last": "processes get whole rounds of batches: leave it out",
        "dataloader_persistent_workers": _OWN_LOADER,
        "dataloader_prefetch_factor": _OWN_LOADER,
        "dataloader_multiprocessing_context": _OWN_LOADER,
        "dataloader_in_order": _OWN_LOADER,
        "label_smoothing_factor": "use `label_smoothing`",
        "predict_with_generate": "use `bleu_on_eval`",
        "generation_max_length": _OWN_DECODING,
        "generation_num_beams": _OWN_DECODING,
        "eval_accumulation_steps": _OWN_EVALUATION,
        "prediction_loss_only": _OWN_EVALUATION,
        "eval_do_concat_batches": _OWN_EVALUATION,
        "eval_use_gather_object": _OWN_EVALUATION,
        "include_for_metrics": _OWN_EVALUATION,
        "batch_eval_metrics": _OWN_EVALUATION,
        "fp16_full_eval": "evaluation has the precision of training: use `fp16`",
        "bf16_full_eval": "evaluation has the precision of training: use `bf16`",
        "do_train": _COMMANDS,
        "do_eval": "use `eval_strategy`",
        "do_predict": _COMMANDS,
        "average_tokens_across_devices": "losses are per target token of all processes: leave it out",
        "local_rank": "the launcher says which process this is: start it with `scripts/launch.sh`",
    }
    HELP_GROUPS: ClassVar[Mapping[str, Sequence[str]]] = {
        "Length of training, optimizer and schedule": [
            "num_train_epochs",
            "max_steps",
            "learning_rate",
            "lr_scheduler_type",
            "lr_scheduler_kwargs",
            "warmup_steps",
            "optim",
            "optim_args",
            "weight_decay",
            "adam_beta1",
            "adam_beta2",
            "adam_epsilon",
            "max_grad_norm",
            "gradient_accumulation_steps",
        ],
        "Evaluation": [
            "eval_strategy",
            "eval_steps",
            "eval_delay",
            "eval_on_start",
            "metric_for_best_model",
            "greater_is_better",
            "load_best_model_at_end",
        ],
        "Saving and going on": [
            "output_dir",
            "save_strategy",
            "save_steps",
            "save_total_limit",
            "save_only_model",
            "resume_from_checkpoint",
            "push_to_hub",
            "hub_model_id",
            "hub_private_repo",
        ],
        "Logs": [
            "logging_strategy",
            "logging_steps",
            "logging_first_step",
            "report_to",
            "run_name",
            "log_level",
            "disable_tqdm",
        ],
        "Precision, memory and speed": [
            "bf16",
            "fp16",
            "tf32",
            "activation_checkpointing",
            "torch_compile",
            "torch_compile_backend",
            "torch_compile_mode",
            "dataloader_num_workers",
            "use_cpu",
        ],
        "Seeds": ["seed", "full_determinism"],
        "Several processes": [
            "deepspeed",
            "fsdp",
            "fsdp_config",
            "ddp_backend",
            "ddp_timeout",
            "ddp_bucket_cap_mb",
            "ddp_find_unused_parameters",
        ],
    }

    max_tokens: int = option(4000, "token budget of one batch on one process: rows x longest row, source or target")
    pad_to_multiple_of: int | None = option(None, "pad batches to such lengths: fewer shapes to compile")
    label_smoothing: float = option(0.1, "label smoothing of the word loss, for teachers and students alike")
    bleu_on_eval: bool = option(True, "translate the validation split at each evaluation and log eval_bleu")
    early_stopping_patience: int | None = option(
        None, "stop once the best score of `metric_for_best_model` has not risen over so many evaluations"
    )
    early_stopping_threshold: float = option(0.2, "by how much it must rise over them, in its own unit")
    min_train_epochs: int = option(0, "epochs that are trained before a run may stop early")
    average_checkpoints: int = option(0, "final weights are the mean of this many checkpoints; 0: of none")
    average_by: Literal["last", "best"] = option("last", "which checkpoints are averaged: last ones or best metric")
    learning_rate: float = option(5e-4, "peak learning rate")
    adam_beta2: float = option(0.98, "second moment decay of Adam")
    lr_scheduler_type: str = option("inverse_sqrt", "learning-rate schedule")
    warmup_steps: float = option(4000, "updates of linear warm-up")
    max_grad_norm: float = option(0.0, "gradient clipping; 0 switches it off")
    ddp_find_unused_parameters: bool | None = option(False, "look for parameters without a gradient in each update")
    logging_nan_inf_filter: bool = option(False, "hide losses that are not finite; here they end the run")
    report_to: None | str | list[str] = option("tensorboard", "where logs go: tensorboard, wandb, trackio, none")
    # The parent says `str`: "false" would be true.
    fsdp: bool | str | None = option(None, "weights in pieces on the GPUs (FSDP), as fsdp_config says")  # type: ignore[assignment]
    logging_steps: float = option(100, "updates between two log lines")
    resume_from_checkpoint: str | None = option(None, "checkpoint folder, or `last` for the last one of output_dir")

    def __post_init__(self) -> None:
        if self.output_dir is None:
            raise ValueError("`output_dir` must be given, got none: a model is trained into a folder of its own.")
        if self.disable_tqdm is None:
            self.disable_tqdm = not sys.stderr.isatty()
        self.report_to = self.report_to or "none"
        # Without an accelerator the processes of a launcher would otherwise believe, each, that they are alone.
        self.use_cpu = self.use_cpu or ("LOCAL_RANK" in os.environ and not torch.accelerator.is_available())
        self._check_steps()  # The parent rounds them.
        try:
            super().__post_init__()
        except TypeError as error:  # A mapping with a key that accelerate's class lacks.
            raise ValueError(f"`accelerator_config` and `fsdp_config` must have known keys: {error}") from error
        if cast(Any, self.accelerator_config).split_batches:
            raise ValueError("`accelerator_config` must leave out `split_batches`: `max_tokens` is of one process.")
        self._check_numbers()
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

    @property
    def foreign_checkpoint(self) -> str | None:
        """`resume_from_checkpoint`, where it is outside the output folder: an input of the run as others are."""
        wanted = self.resume_from_checkpoint
        if wanted is None or wanted == "last" or Path(wanted).resolve().parent == Path(str(self.output_dir)).resolve():
            return None
        return wanted

    @property
    def best_metric(self) -> str:
        """The score that checkpoints are compared by, without `eval_`: the loss where none is named."""
        return (self.metric_for_best_model or "loss").removeprefix("eval_")

    def _check_steps(self) -> None:
        for name in ("logging", "eval", "save"):
            value, strategy = getattr(self, f"{name}_steps"), getattr(self, f"{name}_strategy")
            by_steps = getattr(strategy, "value", strategy) == "steps"
            require_number(f"{name}_steps", value, above=0 if by_steps else None)

    def _check_numbers(self) -> None:
        require_number("learning_rate", self.learning_rate, above=0, remedy="Use 5e-4, for example.")
        require_number("seed", self.seed, least=0, below=2**32)  # What numpy takes.
        for name in ("max_tokens", "gradient_accumulation_steps"):
            require_number(name, getattr(self, name), least=1)
        for name in ("min_train_epochs", "dataloader_num_workers", "adam_epsilon"):
            require_number(name, getattr(self, name), least=0)
        require_number("pad_to_multiple_of", self.pad_to_multiple_of, least=1, most=_LARGEST_MULTIPLE)
        for name in ("adam_beta1", "adam_beta2"):
            require_number(name, getattr(self, name), least=0, below=1)
        require_number("max_grad_norm", self.max_grad_norm, least=0, remedy="Use 0 for no clipping.")
        require_number("average_checkpoints", self.average_checkpoints, least=0, remedy="Use 0 for no averaging.")
        patience = self.early_stopping_patience
        require_number("early_stopping_patience", patience, least=1, remedy="Leave it out for no early stop.")
        for name in (key.name for key in fields(self) if key.name != "num_train_epochs"):
            if isinstance(value := getattr(self, name), float):
                require_number(name, value)
        # Not `<= 0`: a number of epochs that is none is neither.
        if self.max_steps <= 0 and not 0 < self.num_train_epochs < inf:
            raise ValueError(
                f"`num_train_epochs` must be > 0 where `max_steps` is not, got {self.num_train_epochs} and "
                f"{self.max_steps}. Give one of them."
            )
        if self.max_steps != -1 and self.max_steps < 1:
            raise ValueError(f"`max_steps` must be >= 1, or -1 for whole epochs, got {self.max_steps}.")
        if self.average_checkpoints and self.save_strategy == "no":
            raise ValueError(
                f"`average_checkpoints` must come with a `save_strategy`, got {self.average_checkpoints} and 'no'. "
                "Use `save_strategy: epoch`, or `average_checkpoints: 0`."
            )
        # Beside the last ones the best one stays, beside the best ones the last one.
        others = int(self.average_by == "best" or self.metric_for_best_model is not None)
        limit = self.save_total_limit
        if limit is not None and 0 < self.average_checkpoints > limit - others:
            raise ValueError(
                f"`average_checkpoints` must be <= `save_total_limit`{' - 1' * others}, got "
                f"{self.average_checkpoints} and {limit}: others are deleted. Raise `save_total_limit`."
            )
        if self.average_checkpoints and self.average_by == "best" and self.eval_strategy == "no":
            raise ValueError(
                "`average_by: best` must come with an `eval_strategy`, got 'no'. Use `average_by: last`, or "
                "`eval_strategy: epoch`."
            )

    def _check_early_stopping(self, patience: int) -> None:
        if self.metric_for_best_model is None or self.eval_strategy == "no":
            raise ValueError(
                "`early_stopping_patience` must come with `metric_for_best_model` and an `eval_strategy`, got "
                f"{self.metric_for_best_model!r} and {str(self.eval_strategy)!r}."
            )
