"""The trainer of teachers and students: Seq2SeqTrainer with token-budget batches and validation BLEU."""

from __future__ import annotations

import inspect
import shutil
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from accelerate.utils import parse_flag_from_env
from datasets import Dataset
from safetensors import SafetensorError
from torch.utils.data import DataLoader
from transformers import (
    DataCollatorForSeq2Seq,
    DataCollatorWithPadding,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Seq2SeqTrainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, EvalLoopOutput

from ..decoding import token_batches, translate
from ..metrics.translation import score_translations
from .arguments import NATSeq2SeqTrainingArguments
from .averaging import by_score, list_checkpoints
from .resuming import reading_checkpoint
from .sampler import TokenBatchSampler
from .sharding import prepare_for_fsdp, whole_model
from .totals import CarriedTotals, Totals


@dataclass(frozen=True)
class ValidationText:
    """The validation split as text: what `eval_bleu` translates and compares.

    Args:
        sources (`Sequence[str]`): source sentences.
        references (`Sequence[str]`): real targets, one per source.
        target_lang (`str`): language of the references, for the Moses tokens of BLEU.
    """

    sources: Sequence[str]
    references: Sequence[str]
    target_lang: str


class CrossEntropyLoss:
    """Label-smoothed cross entropy of an AT model, normalised by the target tokens of the whole update.

    The teacher's counterpart of the losses inside the NAT models, given to the Trainer as `compute_loss_func`.

    Args:
        label_smoothing (`float`): mass spread evenly over the vocabulary, in [0, 1).
    """

    def __init__(self, label_smoothing: float):
        self.label_smoothing = label_smoothing

    def __call__(
        self, outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Returns the summed loss (nats) over `labels [B, T]` that are not -100, divided by `num_items_in_batch`."""
        summed = torch.nn.functional.cross_entropy(
            outputs.logits.flatten(0, 1).float(),
            labels.flatten(),
            ignore_index=-100,
            label_smoothing=self.label_smoothing,
            reduction="sum",
        )
        return summed / (labels.ne(-100).sum() if num_items_in_batch is None else num_items_in_batch)


class NATSeq2SeqTrainer(Seq2SeqTrainer):
    """Seq2SeqTrainer that batches by tokens, logs every part of the loss and measures BLEU on validation.

    The sets need a column `length`, the tokens of the longer of source and target (`hf_nat.encode_corpus` writes it),
    and `args.max_tokens` is the budget of a batch on one process. Without a `data_collator` labels are padded too.
    Losses are normalised by the target tokens of all processes and accumulation steps. Validation decodes as the
    model's `generation_config` says. A model that returns `loss_components` gets each of them in the logs as
    `loss_<name>`, one that returns `token_shares` each of those as `share_<name>` and, on validation, as
    `eval_share_<name>`, a mixture the share of the training sentences of each expert as `expert_share_<k>` and
    `expert_entropy`.

    Args:
        validation_text (`ValidationText`, *optional*): adds `eval_bleu` (tokenised BLEU, 0-100) to each evaluation;
            the sentences are shared out over the processes. Its signature is in `bleu_signature`.
    """

    args: NATSeq2SeqTrainingArguments
    processing_class: PreTrainedTokenizerBase
    train_dataset: Dataset

    def __init__(self, *args: Any, validation_text: ValidationText | None = None, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if isinstance(self.data_collator, DataCollatorWithPadding):
            # The parent's choice leaves labels unpadded. With the model they are also shifted, for an AT model.
            self.data_collator = DataCollatorForSeq2Seq(
                self.processing_class, model=self.model, pad_to_multiple_of=self.args.pad_to_multiple_of
            )
        if parse_flag_from_env("ACCELERATE_USE_FSDP"):
            prepare_for_fsdp(cast(PreTrainedModel, self.model), self.accelerator)
        self.validation_text = validation_text
        self.bleu_signature: str | None = None
        self._num_eval_batches = 0
        self.totals = Totals(self)
        self.add_callback(CarriedTotals(self.totals))

    @property
    def distribution(self) -> str:
        """How the processes train together: NO, MULTI_CPU, MULTI_GPU, FSDP, ZeRO-1, -2, -3, or as accelerate says."""
        if self.is_deepspeed_enabled:
            return f"ZeRO-{self.accelerator.state.deepspeed_plugin.zero_stage}"
        return self.accelerator.distributed_type.value

    def get_train_dataloader(self) -> DataLoader:
        """Returns the training batches: rows x longest row <= `args.max_tokens`, shared out over the processes."""
        lengths = _lengths(self.train_dataset, "train_dataset")
        sampler = TokenBatchSampler(lengths, self.args.max_tokens, seed=self.args.seed)
        if len(sampler) < self.accelerator.num_processes:
            raise ValueError(
                f"`max_tokens` must leave a batch for each of {self.accelerator.num_processes} processes, got "
                f"{len(sampler)} of {self.args.max_tokens} tokens. Lower it, or use fewer processes."
            )
        self.add_callback(_EpochOfSampler(sampler))
        dataset = self._remove_unused_columns(self.train_dataset, description="Training")
        loader = DataLoader(
            dataset,
            batch_sampler=sampler,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
        )
        return self.accelerator.prepare(loader)

    def get_eval_dataloader(self, eval_dataset: Dataset | None = None) -> DataLoader:
        """Returns this process's share of the validation batches, within `args.max_tokens` each.

        Every process gets as many as the others, so that none waits for the rest; `evaluation_loop` knows which are
        repetitions. With `compute_metrics` the batches are the parent's.
        """
        if self.compute_metrics is not None:
            return super().get_eval_dataloader(eval_dataset)
        dataset = cast(Dataset, self.eval_dataset if eval_dataset is None else eval_dataset)
        batches = token_batches(_lengths(dataset, "eval_dataset"), self.args.max_tokens)
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        self._num_eval_batches = len(batches)
        own = [batches[(first + rank) % len(batches)] for first in range(0, len(batches), world)]
        return DataLoader(
            self._remove_unused_columns(dataset, description="Evaluation"),
            batch_sampler=own,
            collate_fn=self.data_collator,
        )

    def evaluation_loop(
        self,
        dataloader: DataLoader,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """Computes the loss per target token of the whole split, whatever the batches and processes.

        What `predict` and `compute_metrics` need, predictions and labels of all rows, the parent collects.
        """
        if self.compute_metrics is not None or description == "Prediction":
            return super().evaluation_loop(
                dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix
            )
        model = self._whole_model()
        # All that is asked of a model that computes its loss itself: logits of the whole canvases may not fit.
        loss_alone = {"skip_logits": True} if "skip_logits" in inspect.signature(model.forward).parameters else {}
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        # Nats, target tokens, rows.
        totals = torch.zeros(3, dtype=torch.float64, device=self.args.device)
        shares: defaultdict[str, torch.Tensor] = defaultdict(lambda: torch.zeros_like(totals[0]))
        for step, inputs in enumerate(dataloader):
            inputs = {**self._prepare_inputs(inputs), **loss_alone}
            labels = inputs["labels"]
            with torch.no_grad(), self.compute_loss_context_manager():
                # The parent multiplies by the number of processes what is divided by the tokens of all of them.
                loss, outputs = self.compute_loss(model, inputs, return_outputs=True, num_items_in_batch=1)
            is_own = step * world + rank < self._num_eval_batches
            if is_own:
                loss = loss.double() / world
                totals += torch.stack([loss, labels.ne(-100).sum().double(), totals.new_tensor(len(labels))])
            for name, value in (getattr(outputs, "token_shares", None) or {}).items():
                shares[name] += value * is_own
            self.control = self.callback_handler.on_prediction_step(self.args, self.state, self.control)
        nats, tokens, rows = self.accelerator.reduce(totals, reduction="sum").tolist()
        metrics = {f"{metric_key_prefix}_loss": nats / tokens}
        for name, total in shares.items():
            share = self.accelerator.reduce(total, reduction="sum").item() / tokens
            metrics[f"{metric_key_prefix}_share_{name}"] = share
        return EvalLoopOutput(np.empty(0), None, metrics, int(rows))

    def _whole_model(self) -> PreTrainedModel:
        """The model in evaluation mode, or a copy where FSDP or ZeRO-3 have left a process only pieces of it."""
        return whole_model(self.accelerator.unwrap_model(self.model)).eval()

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Computes the loss as the parent does, and adds up what the next log line says of it."""
        labels = inputs["labels"]  # The parent takes them out of the inputs.
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True, num_items_in_batch=num_items_in_batch)
        if model.training:
            self.totals.add(labels, outputs)
        return (loss, outputs) if return_outputs else loss

    def training_step(self, model, inputs, num_items_in_batch=None):
        """Trains on a batch as the parent does; a loss that is not finite ends the run.

        Raises:
            ValueError: naming the update and the last checkpoint, which is left as it is.
        """
        loss = super().training_step(model, inputs, num_items_in_batch)
        if not loss.isfinite():
            raise self._not_finite("loss", str(loss.item()))
        return loss

    def require_finite_weights(self) -> None:
        """Raises ValueError where a weight of the model is not finite, naming it."""
        for name, parameter in self.model.named_parameters():  # type: ignore[union-attr]
            if not parameter.isfinite().all():
                raise self._not_finite("weights", f"a value that is not in `{name}`")

    def create_scheduler(self, num_training_steps, optimizer=None):
        """Makes the scheduler as the parent does, with an error that names its options."""
        try:
            return super().create_scheduler(num_training_steps, optimizer)
        except TypeError as error:
            raise ValueError(
                f"`lr_scheduler_kwargs` must be what the `lr_scheduler_type` takes, got "
                f"{self.args.lr_scheduler_kwargs}: {error}"
            ) from error

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        with reading_checkpoint(resume_from_checkpoint):
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _issue_warnings_after_load(self, load_result):
        # Tied and fixed weights are in no checkpoint, and none is missed.
        model: Any = self.model
        unsaved = {*model.all_tied_weights_keys, *(model._keys_to_ignore_on_save or ())}
        missing = [key for key in load_result.missing_keys if key not in unsaved]
        super()._issue_warnings_after_load(load_result._replace(missing_keys=missing))

    def _load_optimizer_and_scheduler(self, checkpoint):
        with reading_checkpoint(checkpoint):
            super()._load_optimizer_and_scheduler(checkpoint)

    def _load_rng_state(self, checkpoint):
        with reading_checkpoint(checkpoint):
            super()._load_rng_state(checkpoint)

    def _save_checkpoint(self, model, trial):
        """Saves a checkpoint as the parent does, unless its weights are lost; the best ones stay to be averaged."""
        self.require_finite_weights()
        folder = Path(str(self.args.output_dir)) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        is_new, limit = not folder.exists(), self.args.save_total_limit
        if averages_best := self.args.average_by == "best" and self.args.average_checkpoints > 0:
            self.args.save_total_limit = None  # The parent would keep the last ones.
        try:
            with self._named_disk_faults(folder):
                super()._save_checkpoint(model, trial)
        except OSError:
            if is_new and self.args.should_save:
                shutil.rmtree(folder, ignore_errors=True)  # Half of it is of no use, and the disk may be full.
            raise
        finally:
            self.args.save_total_limit = limit
        if averages_best and limit is not None and self.args.should_save:
            folders = list_checkpoints(str(self.args.output_dir))
            kept = [*self.averaged_checkpoints(), Path(self.state.best_model_checkpoint or ""), folders[-1]]
            spare = [one for one in folders if one not in kept]
            for old in spare[: max(len(folders) - limit, 0)]:
                shutil.rmtree(old, ignore_errors=True)

    def averaged_checkpoints(self) -> list[Path]:
        """Returns the checkpoints that would be averaged now, the best or newest one last."""
        folders = list_checkpoints(str(self.args.output_dir))
        if self.args.average_by == "best":
            metric, greater_is_better = f"eval_{self.args.best_metric}", bool(self.args.greater_is_better)
            folders = by_score(folders, self.state.log_history, metric, greater_is_better)
        return folders[-self.args.average_checkpoints :]

    @contextmanager
    def _named_disk_faults(self, folder: str | Path) -> Iterator[None]:
        """Turns the several errors of a writer, on a full disk above all, into one that names the folder."""
        try:
            yield
        except (OSError, SafetensorError, RuntimeError) as error:
            # torch says neither more than this nor with an error of its own.
            if isinstance(error, RuntimeError) and "writ" not in str(error):
                raise
            raise OSError(
                f"The model must be saved in {folder}, but it cannot be written: {' '.join(str(error).split())}. "
                f"{self._kept()} Make room, and give the same command again: it goes on from there."
            ) from error

    def _kept(self) -> str:
        checkpoints = list_checkpoints(str(self.args.output_dir))
        return f"The last good checkpoint is {checkpoints[-1]}." if checkpoints else "There is no checkpoint yet."

    def _not_finite(self, what: str, value: str) -> ValueError:
        return ValueError(
            f"The {what} must be finite, got {value} after update {self.state.global_step}. {self._kept()} Use a "
            "lower `learning_rate`, more `warmup_steps` or `max_grad_norm`, in another `output_dir`."
        )

    def _run_epoch(self, **kwargs: Any) -> None:  # type: ignore[override]
        """Trains an epoch, unless a resumed run had its last update: the parent would add one."""
        if self.control.should_training_stop or self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
            return
        super()._run_epoch(**kwargs)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Saves the model, under FSDP and DeepSpeed too, as one process would: a folder that `from_pretrained` loads.

        The parent would save FSDP's classes in place of the model's code, tied weights several times, and, as the
        settings of FSDP and ZeRO-3 may be, no weights at all.
        """
        # That of a checkpoint is guarded with the rest of it.
        with nullcontext() if _internal_call else self._named_disk_faults(output_dir or str(self.args.output_dir)):
            self._save_whole(output_dir, _internal_call)

    def _save_whole(self, output_dir: str | None, _internal_call: bool) -> None:
        if not (self.is_fsdp_enabled or self.is_deepspeed_enabled):
            return super().save_model(output_dir, _internal_call)
        held, self.model = self.model, self._whole_model()
        try:
            self._save(output_dir)
        finally:
            self.model = held
        if self.args.push_to_hub and not _internal_call:
            self.push_to_hub(commit_message="Model save", revision=self.args.hub_revision)

    def _save_rng_state(self, output_dir: str) -> None:
        """Saves this process's last part of a checkpoint, and waits for those of the others.

        Then the main process writes the trainer's state, which marks the checkpoint as complete.
        """
        super()._save_rng_state(output_dir)
        self.totals.take_snapshot()
        self.accelerator.wait_for_everyone()

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Logs, with the means of loss components and token shares and the use of the experts since the last line."""
        if "loss" in logs:
            logs.update(self.totals.since_last_log())
        super().log(logs, start_time)

    def evaluate(
        self,
        eval_dataset: Dataset | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
        **gen_kwargs: Any,
    ) -> dict[str, float]:
        """Returns the parent's metrics and, with `validation_text`, `<prefix>_bleu` (0-100).

        A set that is given for this call has no BLEU: its text is not known.
        """
        started = time.perf_counter()
        metrics = super().evaluate(eval_dataset, ignore_keys, metric_key_prefix, **gen_kwargs)
        if self.validation_text is not None and (eval_dataset is None or eval_dataset is self.eval_dataset):
            bleu = {f"{metric_key_prefix}_bleu": self._validation_bleu(self.validation_text)}
            self.log(bleu)
            metrics.update(bleu)
        self.totals.evaluation_seconds += time.perf_counter() - started
        return metrics

    def _validation_bleu(self, text: ValidationText) -> float:
        """Translates the split, shared out over the processes, and scores it."""
        outputs = translate(
            self._whole_model(),
            self.processing_class,
            text.sources,
            max_batch_tokens=self.args.max_tokens,
            shared=True,
            # Under ZeRO-3 an AT model would by itself wait for the others at every token.
            synced_gpus=False,
        )
        hypotheses = [output.text for output in outputs]
        scores = score_translations(hypotheses, text.references, target_lang=text.target_lang, metrics=("bleu",))
        self.bleu_signature = scores["bleu"].signature
        return scores["bleu"].score


def _lengths(dataset: Dataset, name: str) -> Sequence[int]:
    """The column by which batches are made; raises ValueError where there is none, or no columns to look at."""
    columns = getattr(dataset, "column_names", None)
    if "length" not in (columns or ()):
        raise ValueError(
            f"`{name}` must be a `datasets.Dataset` with a column `length`, the tokens of the longer of source and "
            f"target, got {columns or type(dataset).__name__}. Make it with `encode_corpus`, or add "
            '`max(len(row["input_ids"]), len(row["labels"]))` by `map`.'
        )
    return dataset["length"]


class _EpochOfSampler(TrainerCallback):
    """Tells the sampler the epoch; after a resume in mid-epoch accelerate's wrappers hide it from the Trainer."""

    def __init__(self, sampler: TokenBatchSampler):
        self.sampler = sampler

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Sets the epoch of the sampler, counted from 0."""
        # state.epoch is a sum of fractions: 2.9999999 is the start of epoch 3.
        self.sampler.set_epoch(int((state.epoch or 0.0) + 1e-6))
