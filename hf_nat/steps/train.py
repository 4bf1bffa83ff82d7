"""The step that trains a teacher or a student."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig, PreTrainedModel, Seq2SeqTrainingArguments
from transformers.utils import SAFE_WEIGHTS_NAME, logging

from ..base.config import resolve
from ..base.processes import main_process_decides, process_state
from ..cards import check_training_corpora
from ..data.locations import is_here
from ..training.arguments import DataArguments, ModelArguments, NATSeq2SeqTrainingArguments
from ..training.model import model_class, model_config
from ..training.run import require_validation, train
from ..training.summary import training_summary
from .fingerprints import corpus_fingerprint, optional_model, tokenizer_fingerprint
from .model import ModelStep


logger = logging.get_logger(__name__)

# Keys of a run that do not bear on its bytes: places, names, logs, the Hub. What has other names lies in `inputs`.
_NO_SETTINGS = {
    *(
        "output_dir",
        "corpus",
        "config_name",
        "source_column",
        "target_column",
        "tokenizer",
        "init_from_teacher",
        "init_from",
        "resume_from_checkpoint",
    ),
    *("run_name", "project", "report_to", "disable_tqdm", "log_level", "log_level_replica", "log_on_each_node"),
    *("logging_dir", "logging_first_step", "logging_steps", "logging_strategy", "logging_nan_inf_filter"),
    *("include_num_input_tokens_seen", "skip_memory_metrics", "dataloader_pin_memory", "deepspeed", "debug"),
    "use_cpu",
    *("train_split", "validation_split", "validation_corpus"),
}
_NO_PREFIXES = ("hub_", "push_to_hub", "trackio_", "dataloader_", "ddp_", "torch_compile", "fsdp", "accelerator_")

# Keys of the parent that are compared by their value, even where it is the default.
_ALWAYS = {
    *("seed", "num_train_epochs", "max_steps", "learning_rate", "warmup_steps", "lr_scheduler_type", "optim"),
    *("gradient_accumulation_steps", "eval_strategy", "eval_steps", "save_strategy", "save_steps", "bf16", "fp16"),
}
# What a run writes before its first update; without an update it is made anew.
_BEFORE_TRAINING = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "run.json")
# What every finished run holds.
_RESULTS = ("metrics.json", SAFE_WEIGHTS_NAME, "config.json", "tokenizer_config.json")
_TRACKED = "runs"  # Folder of TensorBoard.


@dataclass(frozen=True)
class Train(ModelStep):
    """Trains a model; see `hf_nat.training.run.train`.

    Args:
        model (`ModelArguments`): which model, and where it starts from.
        data (`DataArguments`): the corpus and its tokenizer.
        training (`NATSeq2SeqTrainingArguments`): how it is trained, and the output folder.
    """

    name = "train"
    model: ModelArguments
    data: DataArguments
    training: NATSeq2SeqTrainingArguments

    @classmethod
    def from_config(cls, *files: str | Path, **overrides: Any) -> Train:
        """Resolves the YAML files of `hf-nat train`, and keys that take the place of theirs."""
        return cls(*resolve((ModelArguments, DataArguments, NATSeq2SeqTrainingArguments), *files, overrides=overrides))

    @property
    def folder(self) -> Path:
        """The `output_dir` of the training arguments."""
        return Path(str(self.training.output_dir))

    def settings(self) -> dict[str, Any]:
        """Keys that bear on the weights: of the parent class those that were changed, of ours all."""
        # Of the parent's many other keys those that were changed: a new one in another version is then no difference.
        parent = {field.name: field.default for field in dataclasses.fields(Seq2SeqTrainingArguments)}
        own = {field.name for field in dataclasses.fields(self.training)} - parent.keys() | _ALWAYS
        training = {
            field.name: getattr(self.training, field.name)
            for field in dataclasses.fields(self.training)
            if field.init and (field.name in own or getattr(self.training, field.name) != parent[field.name])
        }
        given = dataclasses.asdict(self.model) | dataclasses.asdict(self.data) | training
        return {
            name: value.value if isinstance(value, Enum) else value
            for name, value in given.items()
            if name not in _NO_SETTINGS and not name.startswith(_NO_PREFIXES)
        }

    def inputs(self) -> dict[str, Any]:
        """Fingerprints of corpus, tokenizer and the models that it starts from, and the number of processes."""
        return self._inputs

    @cached_property
    def _inputs(self) -> dict[str, Any]:
        splits = zip(("train", "validation"), self.data.load_splits(), strict=True)
        return {
            "corpus": {
                name: None if rows is None else corpus_fingerprint(rows, **self.data.languages)
                for name, rows in splits
            },
            # A tokenizer is made of all rows, not of the first ones alone.
            "tokenizer_corpus": corpus_fingerprint(self.data.load_train(), **self.data.languages)
            if self.data.max_train_samples is not None and not (self.data.tokenizer or self.model.start)
            else None,
            "tokenizer": None if self.data.tokenizer is None else tokenizer_fingerprint(self.data.tokenizer),
            "init_from_teacher": optional_model(self.model.init_from_teacher, parameter="init_from_teacher"),
            "init_from": optional_model(self.model.init_from, parameter="init_from"),
            "checkpoint": optional_model(self.training.foreign_checkpoint, parameter="resume_from_checkpoint"),
            "num_processes": process_state().num_processes,
        }

    def check_inputs(self, made: Collection[Path] = ()) -> None:
        """Raises for a tokenizer, a start or a validation corpus that is not there; see `Step.check_inputs`."""
        starts = {"init_from_teacher": self.model.init_from_teacher, "init_from": self.model.init_from}
        for name, place in {**starts, "tokenizer": self.data.tokenizer}.items():
            if place is not None and Path(place) not in made:
                is_here(place, name)
        if self.data.validation_corpus is not None and Path(self.data.validation_corpus) not in made:
            self.data.load_validation()

    def is_whole(self) -> bool:
        """Tells whether weights, configuration, tokenizer and metrics are there."""
        return all((self.folder / name).is_file() for name in _RESULTS)

    def made(self) -> list[str]:
        """Returns the names of what binds: what is written before the first update does not."""
        return [name for name in self.contents() if name not in (*_BEFORE_TRAINING, _TRACKED)]

    def discard(self) -> None:
        """Removes tokenizer, record and logs of a run without an update."""
        for name in _BEFORE_TRAINING:
            (self.folder / name).unlink(missing_ok=True)
        shutil.rmtree(self.folder / _TRACKED, ignore_errors=True)

    def prepare(self) -> None:
        """Finds out what would fail, and warns of a validation on the rows of the training.

        Raises:
            FileNotFoundError: if `resume_from_checkpoint` is not there.
            ValueError: if the validation rows are missing where they are needed, or the model cannot be made.
        """
        require_validation(self.data, self.training)
        checkpoint = self.training.resume_from_checkpoint
        if checkpoint not in (None, "last") and not Path(checkpoint).is_dir():
            raise FileNotFoundError(
                "`resume_from_checkpoint` must be the folder of a checkpoint, or `last`, but there is no "
                f"`{checkpoint}`."
            )
        prints = self._inputs["corpus"]
        if self.data.validates_on_train or prints["train"] == prints["validation"]:
            logger.warning(
                f"The validation rows of {self.data.corpus!r} are those that it trains on: their scores say nothing "
                "about new text. Give another `validation_split`, a `validation_corpus` or a `validation_share`."
            )
        _ = self.config  # A model that there is not says so here.
        told = {"corpus": self.data.corpus, "config_name": self.data.config_name}
        main_process_decides(lambda: check_training_corpora(told))

    def work(self) -> None:
        """Trains, from the last checkpoint of a killed run."""
        train(self.model, self.data, self.training)

    def summary(self) -> str:
        """Renders what the finished step measured, a name and a value on each line."""
        return training_summary(self.folder)

    @property
    def config(self) -> PreTrainedConfig:
        """The configuration of the model, but for its vocabulary; no weights are made."""
        return model_config(self.model)

    @property
    def model_class(self) -> type[PreTrainedModel]:
        """The class of the model."""
        return model_class(self.model)
