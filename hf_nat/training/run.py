"""One training run: corpus, tokenizer, model and trainer from three groups of arguments."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from statistics import mean
from typing import Any

from datasets import Dataset
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
    set_seed,
)
from transformers.integrations.deepspeed import unset_hf_deepspeed_config
from transformers.utils import logging

from ..base.bounds import require_choice
from ..base.folders import atomic_contents
from ..base.utils import environment, write_json
from ..data.encoding import encode_corpus
from ..data.tokenizer import corpus_texts, load_tokenizer, train_tokenizer
from .arguments import DataArguments, ModelArguments, NATSeq2SeqTrainingArguments
from .averaging import average_checkpoints, list_checkpoints
from .early_stopping import StopWithoutProgress
from .infeasible import REMEDY, count_infeasible_pairs
from .model import build_model
from .resuming import require_state
from .sharding import set_weights
from .trainer import CrossEntropyLoss, NATSeq2SeqTrainer, ValidationText


logger = logging.get_logger(__name__)


def train(
    model_args: ModelArguments,
    data_args: DataArguments,
    training_args: NATSeq2SeqTrainingArguments,
    *,
    callbacks: Sequence[TrainerCallback] = (),
) -> dict[str, Any]:
    """Trains a teacher or a student and leaves a folder that `from_pretrained` loads.

    `output_dir` ends up with the weights (the last, the best or the mean of several), tokenizer, `run.json` (every
    argument as resolved) and `metrics.json` (which checkpoints' weights, validation loss, BLEU with signature, pairs
    and share of the target tokens that a model leaves out, updates, seconds, environment). A run that was killed goes
    on from its last complete checkpoint; killed after the last update, it only evaluates and saves again.

    Args:
        model_args (`ModelArguments`): which model is trained, and where it starts from.
        data_args (`DataArguments`): corpus and tokenizer.
        training_args (`NATSeq2SeqTrainingArguments`): how.
        callbacks (`Sequence[TrainerCallback]`, *optional*): further callbacks of the trainer.

    Returns:
        The content of `metrics.json`.

    Raises:
        ValueError: for an unknown model type or size, a corpus without usable rows, an evaluation without validation
            rows, a row that is longer than the model's positions, or a loss or weights that are not finite.
    """
    require_validation(data_args, training_args)
    output_dir = Path(str(training_args.output_dir))
    # Before the model is built: the Trainer sets the seed too, but only once it is given one.
    set_seed(training_args.seed)
    tokenizer = _tokenizer(model_args, data_args, training_args)
    # ZeRO-3 cuts the model into pieces later; a teacher to start from must be whole.
    unset_hf_deepspeed_config()
    model = build_model(model_args, tokenizer, label_smoothing=training_args.label_smoothing)
    _leave_out_added_tokens(tokenizer, model)
    num_parameters = model.num_parameters()
    train_set, validation_set, validation_text = _data_sets(data_args, training_args, tokenizer)
    for rows in filter(None, (train_set, validation_set)):
        _require_positions(model, rows)
    infeasible = count_infeasible_pairs(model, train_set, validation_set)
    if infeasible.get("num_infeasible_pairs") == len(train_set):
        raise ValueError(
            f"A training pair must fit into the canvas of the model, got none of {len(train_set)}. {REMEDY}"
        )
    trainer = NATSeq2SeqTrainer(
        model=model,
        args=training_args,
        train_dataset=train_set,
        eval_dataset=validation_set,
        processing_class=tokenizer,
        # A model whose config smooths the labels computes its loss itself.
        compute_loss_func=None
        if hasattr(model.config, "label_smoothing")
        else CrossEntropyLoss(training_args.label_smoothing),
        validation_text=validation_text if training_args.bleu_on_eval else None,
        callbacks=[*_callbacks(training_args), *callbacks],
    )
    if trainer.is_world_process_zero():
        arguments = dataclasses.asdict(model_args) | dataclasses.asdict(data_args) | training_args.to_sanitized_dict()
        record = {
            "arguments": arguments,
            "local_inputs": _local_inputs(model_args, data_args),
            "num_parameters": num_parameters,
            "environment": environment(),
        }
        write_json(output_dir / "run.json", record)
    checkpoint = _checkpoint_to_resume(training_args)
    if checkpoint is not None:
        require_state(checkpoint)
    trainer.train(resume_from_checkpoint=checkpoint)
    weights_of = _load_average(trainer) if training_args.average_checkpoints else _loaded(trainer)
    trainer.require_finite_weights()
    scores = {} if validation_set is None else trainer.evaluate()
    trainer.save_model()
    trainer.save_state()
    metrics = {
        "model_type": model.config.model_type,
        "num_parameters": num_parameters,
        **infeasible,
        **_metrics(trainer, scores),
        "weights_of": weights_of,
    }
    if trainer.is_world_process_zero():
        write_json(output_dir / "metrics.json", metrics)
    return metrics


def _local_inputs(model_args: ModelArguments, data_args: DataArguments) -> list[str]:
    """Names those of corpora and first models that lie here, which elsewhere may look like ids of the Hub."""
    corpora = [data_args.corpus] if isinstance(data_args.corpus, str) else data_args.corpus
    names = [corpus.partition("#")[0] for corpus in corpora]
    names += filter(None, (model_args.init_from_teacher, model_args.init_from))
    return [name for name in dict.fromkeys(names) if Path(name).exists()]


def _metrics(trainer: NATSeq2SeqTrainer, scores: Mapping[str, float]) -> dict[str, Any]:
    """Collects what `metrics.json` says of a finished training, given its last validation."""
    return {
        **_validation_scores(scores, trainer.bleu_signature),
        **trainer.totals.summary(),
        **history(trainer.state.log_history),
        "num_updates": trainer.state.global_step,
        "epochs": trainer.state.epoch,
        "num_train_pairs": len(trainer.train_dataset),
        "num_processes": trainer.accelerator.num_processes,
        "distribution": trainer.distribution,
        "seed": trainer.args.seed,
        "best_checkpoint": Path(trainer.state.best_model_checkpoint or "").name or None,
        "environment": environment(),
    }


def require_validation(data_args: DataArguments, training_args: NATSeq2SeqTrainingArguments) -> None:
    """Raises ValueError if a run evaluates without rows to do it on, or chooses by a score that it does not take."""
    validates = data_args.validation_split or data_args.validation_share is not None
    if not validates and training_args.eval_strategy != "no":
        raise ValueError(
            "`eval_strategy` must be no without a `validation_split` and a `validation_share`, got "
            f"{str(training_args.eval_strategy)!r}. Give one of them, or leave `eval_strategy` out."
        )
    metric = training_args.best_metric
    if not metric.startswith("share_"):  # Which of them there are the model knows.
        require_choice("metric_for_best_model", metric, ("loss", "bleu"), remedy="An evaluation measures no other.")
    if metric == "bleu" and not training_args.bleu_on_eval:
        raise ValueError(
            f"`metric_for_best_model: {training_args.metric_for_best_model}` must come with `bleu_on_eval: true`, got "
            "false. Set it, or use `metric_for_best_model: loss`."
        )


def history(logs: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Returns what metrics.json holds of the course of a run.

    Args:
        logs (`Sequence[Mapping[str, float]]`): `log_history` of `trainer_state.json`.

    Returns:
        `dict[str, Any]`: `validation`, epoch, loss (nats per target token) and BLEU of each evaluation, and each
        `share_...` of the target tokens (such as those of infeasible pairs, 0-1), its mean over the last epoch.
    """
    points: dict[float, dict[str, float]] = {}
    # What follows the summary of the training is the evaluation of the weights that are kept; it stands apart.
    for log in takewhile(lambda log: "train_runtime" not in log, logs):
        point = points.setdefault(log["step"], {"epoch": log["epoch"]})
        point |= {name: log[name] for name in ("eval_loss", "eval_bleu") if name in log}
    last = [log for log in logs if log["epoch"] > logs[-1]["epoch"] - 1]
    names = dict.fromkeys(name for log in last for name in log if name.startswith("share_"))
    return {
        "validation": [point for point in points.values() if len(point) > 1],
        **{name: mean(log[name] for log in last if name in log) for name in names},
    }


def _validation_scores(scores: Mapping[str, float], signature: str | None) -> dict[str, Any]:
    """Returns what metrics.json holds of the last evaluation, nothing where there was none."""
    if not scores:
        return {}
    return {
        "eval_loss": scores["eval_loss"],
        "eval_bleu": scores.get("eval_bleu"),
        "eval_bleu_signature": signature,
        **{name: share for name, share in scores.items() if name.startswith("eval_share_")},
    }


def _tokenizer(
    model_args: ModelArguments, data_args: DataArguments, training_args: NATSeq2SeqTrainingArguments
) -> PreTrainedTokenizerBase:
    """Loads the tokenizer, else that of the model to start from.

    Without either it trains a joint one on the training split (main process first) and keeps it.
    """
    given = data_args.tokenizer or model_args.start
    if given:
        return load_tokenizer(given)
    folder = Path(str(training_args.output_dir))
    with training_args.main_process_first(desc="training the tokenizer"):
        if not (folder / "tokenizer.json").is_file():
            texts = corpus_texts(data_args.load_train(), **data_args.languages)
            tokenizer = train_tokenizer(texts, data_args.vocab_size)
            # The file by which a later run knows that all are there comes last.
            with atomic_contents(folder, ["tokenizer.json"]) as written:
                tokenizer.save_pretrained(written)
    return load_tokenizer(folder)


def _leave_out_added_tokens(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> None:
    """Unsets a mask and a BOS that `load_tokenizer` added and the model has no embedding for, as one of OPUS-MT.

    The Trainer would write the id of BOS into the model's config, where it is none of the vocabulary.
    """
    embedding: Any = model.get_input_embeddings()
    for name in ("mask_token", "bos_token"):
        if getattr(tokenizer, f"{name}_id") >= embedding.weight.shape[0]:
            setattr(tokenizer, name, None)


def _data_sets(
    data_args: DataArguments, training_args: NATSeq2SeqTrainingArguments, tokenizer: PreTrainedTokenizerBase
) -> tuple[Dataset, Dataset | None, ValidationText | None]:
    """Encodes both splits; over-long training pairs leave, validation pairs are cut but all stay."""
    limits = {name: getattr(data_args, name) for name in ("max_source_length", "max_target_length")}
    with training_args.main_process_first(desc="encoding the corpus"):
        train_rows, validation_rows = data_args.load_splits()
        train_set, _ = encode_corpus(train_rows, tokenizer, **data_args.languages, **limits)
        if validation_rows is None:
            return train_set, None, None
        validation_set, _ = encode_corpus(
            validation_rows, tokenizer, **data_args.languages, **limits, unusable="truncate"
        )
    pairs = validation_rows["translation"]
    text = ValidationText(
        sources=[pair[data_args.source_lang] for pair in pairs],
        references=[pair[data_args.target_lang] for pair in pairs],
        target_lang=data_args.target_lang,
    )
    return train_set, validation_set, text


def _require_positions(model: PreTrainedModel, rows: Dataset) -> None:
    """Raises where a sentence is longer than what the model reads or writes: better now than in an hour."""
    positions = getattr(model.config, "max_position_embeddings", None)
    most = {"input_ids": positions, "labels": getattr(model.config, "longest_target", positions)}
    for column, side in (("input_ids", "source"), ("labels", "target")):
        limit = most[column]
        if limit is None or max(rows["length"][:]) <= limit:  # That of the longer side, which is there already.
            continue
        if (longest := max(map(len, rows[column]))) > limit:
            raise ValueError(
                f"A {side} must have at most the {limit} tokens that the model has positions for, got one of "
                f"{longest}. Lower `max_{side}_length`, or raise `max_position_embeddings` in `model_config`."
            )


def _callbacks(training_args: NATSeq2SeqTrainingArguments) -> list[TrainerCallback]:
    if training_args.early_stopping_patience is None:
        return []
    return [
        StopWithoutProgress(
            f"eval_{training_args.best_metric}",
            training_args.early_stopping_patience,
            training_args.early_stopping_threshold,
            training_args.min_train_epochs,
            bool(training_args.greater_is_better),
        )
    ]


def _checkpoint_to_resume(training_args: NATSeq2SeqTrainingArguments) -> str | None:
    """The checkpoint to go on from: one of this folder that is named, else its last complete one, else the named one.

    Where only models are saved the folder has none: the optimizer would begin anew in the middle of a run.
    """
    named = training_args.foreign_checkpoint
    wanted = training_args.resume_from_checkpoint
    if wanted not in (None, "last") and named is None:
        return wanted
    complete = [] if training_args.save_only_model else list_checkpoints(str(training_args.output_dir))
    return str(complete[-1]) if complete else named


def _loaded(trainer: NATSeq2SeqTrainer) -> list[str]:
    """Names the checkpoint that the parent has loaded at the end, none where the last weights stay."""
    best = trainer.state.best_model_checkpoint
    return [Path(best).name] if best and trainer.args.load_best_model_at_end else []


def _load_average(trainer: NATSeq2SeqTrainer) -> list[str]:
    """Puts the mean of the run's last, or best, checkpoints into the trainer's model, and names them."""
    chosen, wanted = trainer.averaged_checkpoints(), trainer.args.average_checkpoints
    if len(chosen) < wanted:
        logger.warning(f"There are only {len(chosen)} of the {wanted} checkpoints to average.")
    logger.info(f"Averaging {', '.join(folder.name for folder in chosen)}.")
    set_weights(trainer.accelerator.unwrap_model(trainer.model), average_checkpoints(chosen))
    return [folder.name for folder in chosen]
