import json
import shutil

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from hf_nat.inference import load_model, translate
from hf_nat.training.averaging import average_checkpoints, list_checkpoints
from hf_nat.utils import read_json


STUDENTS = ("vanilla_nat", "levenshtein_transformer", "flowseq")


def losses(run_dir):
    history = read_json(run_dir / "trainer_state.json")["log_history"]
    return {
        log["step"]: {name: value for name, value in log.items() if name.startswith("loss")}
        for log in history
        if "loss" in log
    }


@pytest.mark.parametrize("model_type", ("marian", "ctc_nat", *STUDENTS))
def test_run_leaves_a_loadable_folder_with_its_numbers(tiny_run, tmp_path, model_type):
    metrics = tiny_run(model_type=model_type)
    folder = tmp_path / "run"
    model, tokenizer = load_model(folder)
    assert model.config.model_type == model_type
    assert model.config.vocab_size == len(tokenizer)
    assert metrics == read_json(folder / "metrics.json")
    assert metrics["num_updates"] == 12
    assert 0 <= metrics["eval_bleu"] <= 100
    assert "tok:moses" in metrics["eval_bleu_signature"]
    arguments = read_json(folder / "run.json")["arguments"]
    assert (arguments["model_type"], arguments["max_tokens"], arguments["seed"]) == (model_type, 200, 42)
    assert len(translate(model, tokenizer, ["a b", ""])) == 2


@pytest.mark.parametrize("model_type", STUDENTS)
def test_loss_components_are_logged_and_add_up(tiny_run, tmp_path, model_type):
    tiny_run(model_type=model_type, max_steps=4, gradient_accumulation_steps=2)
    logs = losses(tmp_path / "run")
    assert len(logs) == 4
    for log in logs.values():
        assert len(log) > 2
        assert sum(log.values()) == pytest.approx(2 * log["loss"], abs=1e-3)


@pytest.mark.parametrize("model_type", ("marian", "ctc_nat", *STUDENTS))
def test_resumed_run_has_the_losses_of_the_uninterrupted_one(tiny_run, tmp_path, model_type):
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    tiny_run(whole, model_type=model_type, max_tokens=800)
    assert read_json(whole / "trainer_state.json")["epoch"] > 1
    shutil.copytree(whole, resumed)
    shutil.rmtree(resumed / "checkpoint-12")
    metrics = tiny_run(resumed, model_type=model_type, max_tokens=800, resume_from_checkpoint="last")
    assert losses(resumed) == losses(whole)
    assert (metrics["num_updates"], metrics["train_seconds"], metrics["train_loss"]) == (12, None, None)
    one, other = (AutoModelForSeq2SeqLM.from_pretrained(folder).state_dict() for folder in (whole, resumed))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_accumulation_gives_the_gradient_of_the_whole_batch(tiny_run, tmp_path):
    """Loss per token over accumulated batches, however unequal: two half budgets are not simply averaged."""
    tiny_run(tmp_path / "half", model_config='{"d_model": 16, "dropout": 0.0}', gradient_accumulation_steps=2)
    reported = losses(tmp_path / "half")
    # At the start every token costs about ln V; a sum that is not divided would be twice that.
    assert reported[1]["loss"] == pytest.approx(torch.log(torch.tensor(120.0)).item(), rel=0.1)


def test_earlier_run_is_not_trained_over(tiny_run, tmp_path):
    tiny_run(max_steps=6)
    with pytest.raises(ValueError, match=r"must not hold an earlier run, got .*checkpoint-6"):
        tiny_run(max_steps=6)


def test_last_without_a_checkpoint_starts_from_scratch(tiny_run):
    assert tiny_run(max_steps=2, resume_from_checkpoint="last")["num_updates"] == 2


def test_averaged_weights_are_the_mean_of_the_last_checkpoints(tiny_run, tmp_path):
    tiny_run(save_steps=4, average_checkpoints=2)
    folder = tmp_path / "run"
    expected = average_checkpoints(list_checkpoints(folder)[-2:])
    saved = AutoModelForSeq2SeqLM.from_pretrained(folder).state_dict()
    assert [path.name for path in list_checkpoints(folder)[-2:]] == ["checkpoint-8", "checkpoint-12"]
    assert all(torch.equal(saved[name], expected[name]) for name in expected)


def test_best_checkpoints_are_averaged_by_the_metric(tiny_run, tmp_path):
    tiny_run(
        save_steps=4,
        eval_strategy="steps",
        eval_steps=4,
        metric_for_best_model="loss",
        average_checkpoints=1,
        average_by="best",
        learning_rate=0.5,
    )
    folder = tmp_path / "run"
    history = read_json(folder / "trainer_state.json")["log_history"]
    values = {log["step"]: log["eval_loss"] for log in history if "eval_loss" in log and log["step"] in (4, 8, 12)}
    best = min(values, key=values.get)
    expected = average_checkpoints([folder / f"checkpoint-{best}"])
    saved = AutoModelForSeq2SeqLM.from_pretrained(folder).state_dict()
    assert all(torch.equal(saved[name], expected[name]) for name in expected)


@pytest.mark.parametrize("model_type", ("marian", "moe_marian"))
def test_student_starts_from_its_teacher(tiny_run, tmp_path, model_type):
    tiny_run(tmp_path / "teacher", model_type=model_type, max_steps=2)
    tiny_run(
        tmp_path / "student",
        model_type="vanilla_nat",
        model_config="{}",
        init_from_teacher=tmp_path / "teacher",
        tokenizer=tmp_path / "teacher",
        max_steps=1,
        learning_rate=0,
        save_strategy="no",
    )
    teacher, student = (AutoModelForSeq2SeqLM.from_pretrained(tmp_path / name) for name in ("teacher", "student"))
    name = "model.encoder.layers.0.self_attn.q_proj.weight"
    assert torch.equal(student.state_dict()[name], teacher.state_dict()[name])
    vocab_size = len(AutoTokenizer.from_pretrained(tmp_path / "teacher"))
    assert student.config.vocab_size == vocab_size
    assert torch.equal(student.model.shared.weight, teacher.model.shared.weight[:vocab_size])


def test_seed_decides_the_initial_weights(tiny_run, tmp_path):
    for name, seed in (("one", 1), ("same", 1), ("other", 2)):
        torch.rand(3)  # what came before must not matter
        tiny_run(tmp_path / name, max_steps=1, learning_rate=0, save_strategy="no", seed=seed)
    one, same, other = (
        AutoModelForSeq2SeqLM.from_pretrained(tmp_path / name).state_dict()["model.encoder.layers.0.fc1.weight"]
        for name in ("one", "same", "other")
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_unknown_model_type_lists_the_choices(tiny_run):
    with pytest.raises(ValueError, match=r"`model_type` must be one of marian, cmlm, .*, vanilla_nat, got 'bert'"):
        tiny_run(model_type="bert")


def test_two_starts_are_refused(tiny_run):
    with pytest.raises(ValueError, match="got init_from='a' and init_from_teacher='b'"):
        tiny_run(init_from="a", init_from_teacher="b")


def test_tokenizer_is_loadable_without_the_package(tiny_run, tmp_path):
    tiny_run(max_steps=1)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "run")
    assert tokenizer("ba").input_ids[-1] == tokenizer.eos_token_id == 2


def test_pairs_that_do_not_fit_are_reported(tiny_run, tmp_path):
    glancing = {"glancing_ratio": 0.5, "upsample_ratio": 2, "d_model": 16}
    metrics = tiny_run(
        model_type="ctc_nat", max_steps=4, gradient_accumulation_steps=2, model_config=json.dumps(glancing)
    )
    assert 0 < metrics["eval_share_infeasible"] < 1
    history = read_json(tmp_path / "run/trainer_state.json")["log_history"]
    logs = [log for log in history if "loss" in log]
    assert len(logs) == 4
    for name in ("infeasible", "glanced", "correct"):
        assert all(0 <= log[f"share_{name}"] <= 1 for log in logs)
        assert any(log[f"share_{name}"] for log in logs) or name == "correct"
    assert (
        metrics["eval_share_infeasible"] == [log["eval_share_infeasible"] for log in history if "eval_loss" in log][-1]
    )
