"""What training takes, and what it refuses before any work."""

import math
from dataclasses import MISSING, fields
from pathlib import Path

import pytest
from transformers import Seq2SeqTrainingArguments
from transformers.trainer_utils import IntervalStrategy, SchedulerType

from hf_nat.base.config import load_config, resolve
from hf_nat.training.arguments import DataArguments, ModelArguments, NATSeq2SeqTrainingArguments


TRAINING = (ModelArguments, DataArguments, NATSeq2SeqTrainingArguments)


def test_every_key_that_a_class_speaks_of_is_a_field_of_its():
    known = {key.name for key in fields(NATSeq2SeqTrainingArguments)}
    named = {name for group in NATSeq2SeqTrainingArguments.HELP_GROUPS.values() for name in group}
    assert named <= known and not named & NATSeq2SeqTrainingArguments.WITHOUT_EFFECT.keys()
    assert NATSeq2SeqTrainingArguments.WITHOUT_EFFECT.keys() <= {key.name for key in fields(Seq2SeqTrainingArguments)}


@pytest.mark.parametrize("name", NATSeq2SeqTrainingArguments.WITHOUT_EFFECT)
def test_option_of_the_trainer_without_effect_is_refused_by_name(name):
    with pytest.raises(ValueError, match=rf"^Command line: `{name}` has no effect here: .*[^.]\.$"):
        load_config(TRAINING, [f"--{name}=1"])


def test_python_users_may_set_what_has_no_effect(tmp_path):
    args = NATSeq2SeqTrainingArguments(output_dir=str(tmp_path), per_device_train_batch_size=3, use_cpu=True)
    assert args.per_device_train_batch_size == 3


def test_every_default_of_training_can_be_given(tmp_path):
    """Every field has a type that a file can give, and takes its default as Python has it."""
    defaults = {
        key.name: key.default
        for key in fields(NATSeq2SeqTrainingArguments)
        if key.init and key.default is not MISSING and key.name not in NATSeq2SeqTrainingArguments.WITHOUT_EFFECT
    }
    (given,) = resolve((NATSeq2SeqTrainingArguments,), overrides=defaults | {"output_dir": "~/x", "use_cpu": True})
    assert given == NATSeq2SeqTrainingArguments(output_dir=f"{Path.home()}/x", use_cpu=True)


def test_values_of_training_arrive_as_written(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(
        "corpus: x\nsource_lang: 1\ntarget_lang: no\nconfig_name: 1.10\n"
        "model_config: {dropout: 1e-1}\neval_strategy: no\nlearning_rate: 1e-3\n"
        f"lr_scheduler_type: linear\nreport_to: none\nuse_cpu: true\noutput_dir: {tmp_path}\nlogging_steps: 3\n"
        "lr_scheduler_kwargs: {a: 1}\nfsdp: false\n",
    )
    model, data, training = load_config(TRAINING, [str(path), "--save_strategy", "no", "--no_bleu_on_eval"])
    assert (data.source_lang, data.target_lang, data.config_name) == ("1", "no", "1.10")
    assert model.model_config == {"dropout": 0.1}
    assert (training.eval_strategy, training.lr_scheduler_type) == (IntervalStrategy.NO, SchedulerType.LINEAR)
    assert (training.learning_rate, training.report_to, training.bleu_on_eval) == (1e-3, [], False)
    assert training.save_strategy == "no" and training.fsdp is False and training.lr_scheduler_kwargs == {"a": 1}


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"learning_rate": 0.0}, "`learning_rate` must be > 0, got 0.0"),
        ({"learning_rate": -1e-3}, "`learning_rate` must be > 0"),
        ({"learning_rate": math.inf}, "`learning_rate` must be a finite number > 0, got inf"),
        ({"learning_rate": math.nan}, "`learning_rate` must be a finite number > 0, got nan"),
        ({"max_tokens": 0}, "`max_tokens` must be >= 1, got 0"),
        ({"gradient_accumulation_steps": 0}, "`gradient_accumulation_steps` must be >= 1, got 0"),
        ({"num_train_epochs": 0.0}, "`num_train_epochs` must be > 0 where `max_steps` is not, got 0.0 and -1"),
        ({"num_train_epochs": math.nan}, "`num_train_epochs` must be > 0"),
        ({"num_train_epochs": -1.0, "max_steps": 0}, "`num_train_epochs` must be > 0"),
        ({"average_checkpoints": -1}, "`average_checkpoints` must be >= 0, got -1"),
        (
            {"average_checkpoints": 3, "save_total_limit": 2},
            "`average_checkpoints` must be <= `save_total_limit`, got 3 and 2",
        ),
        (
            {"average_checkpoints": 2, "save_total_limit": 2, "metric_for_best_model": "loss"},
            "`average_checkpoints` must be <= `save_total_limit` - 1, got 2 and 2",
        ),
        ({"accelerator_config": {"foo": True}}, "`accelerator_config` and `fsdp_config` must have known keys"),
        ({"accelerator_config": {"split_batches": True}}, "must leave out `split_batches`"),
        ({"average_checkpoints": 3, "average_by": "best"}, "`average_by: best` must come with an `eval_strategy`"),
        ({"average_checkpoints": 3, "save_strategy": "no"}, "`average_checkpoints` must come with a `save_strategy`"),
    ],
)
def test_training_arguments_that_cannot_train_are_refused(settings, rule, tmp_path):
    with pytest.raises(ValueError, match=rule):
        NATSeq2SeqTrainingArguments(output_dir=str(tmp_path), use_cpu=True, **settings)


def test_a_number_of_updates_needs_no_epochs(tmp_path):
    args = NATSeq2SeqTrainingArguments(output_dir=str(tmp_path), use_cpu=True, max_steps=1, num_train_epochs=0.0)
    assert (args.max_steps, args.num_train_epochs) == (1, 0.0)
