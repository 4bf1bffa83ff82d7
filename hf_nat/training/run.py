"""One training run: corpus, tokenizer, model and trainer from three groups of arguments."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import (
    AutoModelForSeq2SeqLM,
    DataCollatorForSeq2Seq,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
    set_seed,
)
from transformers.integrations.deepspeed import unset_hf_deepspeed_config
from transformers.utils import logging

from ..data.corpora import load_corpus
from ..data.encoding import encode_corpus
from ..data.tokenizer import corpus_texts, load_tokenizer, train_tokenizer
from ..models import ARCHITECTURES, TEACHER_CONFIGS, new_teacher, size_config
from ..utils import environment, write_json
from .arguments import DataArguments, ModelArguments, NATSeq2SeqTrainingArguments
from .averaging import average_checkpoints, checkpoint_step, list_checkpoints
from .early_stopping import StopWithoutProgress
from .sharding import set_weights
from .trainer import CrossEntropyLoss, NATSeq2SeqTrainer, ValidationText


logger = logging.get_logger(__name__)


def train(
    model_args: ModelArguments, data_args: DataArguments, training_args: NATSeq2SeqTrainingArguments
) -> dict[str, Any]:
    """Trains a teacher or a student and leaves a folder that `from_pretrained` loads.

    `output_dir` ends up with the weights (best checkpoint, or the mean of several), tokenizer, `run.json` (every
    argument as resolved) and `metrics.json` (validation loss, BLEU with signature, share of the target tokens that a
    model leaves out, updates, seconds, environment).

    Returns:
        The content of `metrics.json`.

    Raises:
        ValueError: for an unknown model type or size, a corpus without usable rows, or an `output_dir` that already
            holds checkpoints when no resume was asked for.
    """
    output_dir = Path(str(training_args.output_dir))
    # Before the model is built: the Trainer sets the seed too, but only once it is given one.
    set_seed(training_args.seed)
    checkpoint = _checkpoint_to_resume(training_args)
    tokenizer = _tokenizer(data_args, training_args)
    # ZeRO-3 cuts the model into pieces later; a teacher to start from must be whole.
    unset_hf_deepspeed_config()
    model = build_model(model_args, tokenizer, label_smoothing=training_args.label_smoothing)
    num_parameters = model.num_parameters()
    train_set, validation_set, validation_text = _data_sets(data_args, training_args, tokenizer)
    trainer = NATSeq2SeqTrainer(
        model=model,
        args=training_args,
        train_dataset=train_set,
        eval_dataset=validation_set,
        processing_class=tokenizer,
        # With the model given, the collator also shifts the labels for an AT model.
        data_collator=DataCollatorForSeq2Seq(
            tokenizer, model=model, pad_to_multiple_of=training_args.pad_to_multiple_of
        ),
        # A model whose config smooths the labels computes its loss itself.
        compute_loss_func=None
        if hasattr(model.config, "label_smoothing")
        else CrossEntropyLoss(training_args.label_smoothing),
        validation_text=validation_text if training_args.bleu_on_eval else None,
        callbacks=_callbacks(training_args),
    )
    if trainer.is_world_process_zero():
        write_json(
            output_dir / "run.json",
            {
                "arguments": _plain(model_args) | _plain(data_args) | training_args.to_sanitized_dict(),
                "num_parameters": num_parameters,
                "environment": environment(),
            },
        )
    result = trainer.train(resume_from_checkpoint=checkpoint)
    speed = trainer.target_tokens_per_second(result.metrics["train_runtime"])
    if training_args.average_checkpoints:
        _load_average(trainer, training_args)
    scores = trainer.evaluate()
    trainer.save_model()
    trainer.save_state()
    metrics = {
        "model_type": model.config.model_type,
        "num_parameters": num_parameters,
        "eval_loss": scores["eval_loss"],
        "eval_bleu": scores.get("eval_bleu"),
        "eval_bleu_signature": trainer.bleu_signature,
        **{name: share for name, share in scores.items() if name.startswith("eval_share_")},
        # Of a resumed run the Trainer knows only what came after the checkpoint.
        "train_loss": None if checkpoint else result.training_loss,
        "train_seconds": None if checkpoint else result.metrics["train_runtime"],
        "target_tokens_per_second": round(speed, 1),
        "num_updates": trainer.state.global_step,
        "epochs": trainer.state.epoch,
        "num_train_pairs": len(train_set),
        "num_processes": trainer.accelerator.num_processes,
        "distribution": trainer.distribution,
        "seed": training_args.seed,
        "best_checkpoint": Path(trainer.state.best_model_checkpoint or "").name or None,
        "environment": environment(),
    }
    if trainer.is_world_process_zero():
        write_json(output_dir / "metrics.json", metrics)
    return metrics


def build_model(
    model_args: ModelArguments, tokenizer: PreTrainedTokenizerBase, *, label_smoothing: float = 0.1
) -> PreTrainedModel:
    """Builds the model of a run: from scratch in a preset size, from a teacher's blocks, or from a checkpoint.

    Args:
        model_args (`ModelArguments`): architecture, size, overrides and start.
        tokenizer (`PreTrainedTokenizerBase`): gives the vocabulary size and the special tokens' ids.
        label_smoothing (`float`, *optional*, defaults to 0.1): put in the config of a model that has it there.

    Raises:
        ValueError: for a model type that is neither a teacher's nor a NAT architecture.
    """
    if model_args.init_from:
        return AutoModelForSeq2SeqLM.from_pretrained(model_args.init_from)
    fields: dict[str, Any] = dict(model_args.model_config or {})  # type: ignore[arg-type]
    special = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "bos", "eos")}
    if model_args.model_type in TEACHER_CONFIGS:
        if model_args.model_type == "moe_marian":
            fields = {"label_smoothing": label_smoothing, **fields}
        teacher_config = TEACHER_CONFIGS[model_args.model_type]
        return new_teacher(teacher_config(model_args.size, vocab_size=len(tokenizer), **special, **fields))
    if model_args.model_type not in ARCHITECTURES:
        known = ["marian", *sorted(({*TEACHER_CONFIGS} - {"marian"}) | {*ARCHITECTURES})]
        raise ValueError(
            f"`model_type` must be one of {', '.join(known)}, got {model_args.model_type!r}. "
            "Use `init_from` to go on training another seq2seq model."
        )
    config_class, model_class = ARCHITECTURES[model_args.model_type]
    fields = {
        "vocab_size": len(tokenizer),
        "mask_token_id": tokenizer.mask_token_id,
        "label_smoothing": label_smoothing,
        **special,
        **fields,
    }
    if model_args.init_from_teacher:
        teacher = AutoModelForSeq2SeqLM.from_pretrained(model_args.init_from_teacher)
        return model_class.from_teacher(teacher, **fields)
    return model_class(config_class(**{**size_config(model_args.size), **fields}))


def _plain(arguments: Any) -> dict[str, Any]:
    """A dataclass's fields as they go into run.json."""
    return dataclasses.asdict(arguments)


def _tokenizer(data_args: DataArguments, training_args: NATSeq2SeqTrainingArguments) -> PreTrainedTokenizerBase:
    """Loads the tokenizer, or trains a joint one on the training split (main process first) and keeps it."""
    if data_args.tokenizer:
        return load_tokenizer(data_args.tokenizer)
    folder = Path(str(training_args.output_dir))
    with training_args.main_process_first(desc="training the tokenizer"):
        if not (folder / "tokenizer.json").is_file():
            texts = corpus_texts(_load(data_args, data_args.train_split), data_args.source_lang, data_args.target_lang)
            train_tokenizer(texts, data_args.vocab_size).save_pretrained(folder)
    return load_tokenizer(folder)


def _load(data_args: DataArguments, split: str) -> Dataset:
    return load_corpus(
        data_args.corpus,
        split,
        source_lang=data_args.source_lang,
        target_lang=data_args.target_lang,
        config_name=data_args.config_name,
    )


def _data_sets(
    data_args: DataArguments, training_args: NATSeq2SeqTrainingArguments, tokenizer: PreTrainedTokenizerBase
) -> tuple[Dataset, Dataset, ValidationText]:
    """Encodes both splits; over-long training pairs leave, validation pairs are cut but all stay."""
    encode = partial(
        encode_corpus,
        tokenizer=tokenizer,
        source_lang=data_args.source_lang,
        target_lang=data_args.target_lang,
        max_source_length=data_args.max_source_length,
        max_target_length=data_args.max_target_length,
    )
    with training_args.main_process_first(desc="encoding the corpus"):
        train_rows = _first(_load(data_args, data_args.train_split), data_args.max_train_samples)
        validation_rows = _first(_load(data_args, data_args.validation_split), data_args.max_validation_samples)
        train_set, _ = encode(train_rows)
        validation_set, _ = encode(validation_rows, unusable="truncate")
    pairs = validation_rows["translation"]
    text = ValidationText(
        sources=[pair[data_args.source_lang] for pair in pairs],
        references=[pair[data_args.target_lang] for pair in pairs],
        target_lang=data_args.target_lang,
    )
    return train_set, validation_set, text


def _first(rows: Dataset, count: int | None) -> Dataset:
    return rows if count is None else rows.select(range(min(count, len(rows))))


def _callbacks(training_args: NATSeq2SeqTrainingArguments) -> list[TrainerCallback]:
    if training_args.early_stopping_patience is None:
        return []
    return [
        StopWithoutProgress(
            f"eval_{str(training_args.metric_for_best_model).removeprefix('eval_')}",
            training_args.early_stopping_patience,
            training_args.early_stopping_threshold,
            training_args.min_train_epochs,
            bool(training_args.greater_is_better),
        )
    ]


def _checkpoint_to_resume(training_args: NATSeq2SeqTrainingArguments) -> str | None:
    """The checkpoint to go on from; a folder with checkpoints is never silently trained over."""
    wanted, output_dir = training_args.resume_from_checkpoint, training_args.output_dir
    complete = list_checkpoints(str(output_dir))
    if wanted == "last":
        if not complete:
            logger.warning(f"{output_dir} has no checkpoint yet: starting from scratch.")
        return str(complete[-1]) if complete else None
    if wanted is None and complete:
        raise ValueError(
            f"`output_dir` must not hold an earlier run, got {complete[-1]}. Give `--resume-from-checkpoint last` to "
            "go on, another `output_dir`, or remove the folder."
        )
    return wanted


def _load_average(trainer: NATSeq2SeqTrainer, training_args: NATSeq2SeqTrainingArguments) -> None:
    """Puts the mean of the run's last, or best, checkpoints into the trainer's model."""
    folders = list_checkpoints(str(training_args.output_dir))
    if training_args.average_by == "best":
        metric = f"eval_{(training_args.metric_for_best_model or 'loss').removeprefix('eval_')}"
        values = {log["step"]: log[metric] for log in trainer.state.log_history if metric in log}
        folders = [folder for folder in folders if checkpoint_step(folder) in values]
        folders.sort(
            key=lambda folder: values[checkpoint_step(folder)] * (1 if training_args.greater_is_better else -1)
        )
    chosen = folders[-training_args.average_checkpoints :]
    logger.info(f"Averaging {', '.join(folder.name for folder in chosen)}.")
    set_weights(trainer.accelerator.unwrap_model(trainer.model), average_checkpoints(chosen))
