"""Training in real processes: two of them, and one that is killed."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM

from hf_nat.base.utils import read_json


pytestmark = pytest.mark.slow

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
# Without dropout and random masks the processes have nothing of their own to draw.
NO_NOISE = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "max_position_embeddings": 64, "dropout": 0.0}


def losses(run_dir):
    history = read_json(run_dir / "trainer_state.json")["log_history"]
    return {log["step"]: log["loss"] for log in history if "loss" in log}


@pytest.mark.parametrize("model_type", ("marian", "vanilla_nat"))
def test_two_processes_train_as_one_with_accumulation(run_options, tmp_path, model_type):
    one, two = tmp_path / "one", tmp_path / "two"
    # 400 pairs in batches of two processes are about 17 updates: the run is resumed in its second epoch.
    options = {"model_type": model_type, "model_config": NO_NOISE, "max_steps": 60, "save_steps": 15}
    command = [sys.executable, "-m", "hf_nat", "train"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    subprocess.run(
        [*command, *run_options(one, gradient_accumulation_steps=2, **options)], env=ENVIRONMENT, check=True
    )
    subprocess.run([*torchrun, *command[1:], *run_options(two, **options)], env=ENVIRONMENT, check=True)
    assert [read_json(run / "metrics.json")["num_processes"] for run in (one, two)] == [1, 2]
    assert losses(two) == pytest.approx(losses(one), abs=2e-4)
    for name in ("eval_loss", "eval_bleu"):
        values = [read_json(run / "metrics.json")[name] for run in (one, two)]
        assert values[1] == pytest.approx(values[0], abs=1e-3)
    weights = [AutoModelForSeq2SeqLM.from_pretrained(run).state_dict() for run in (one, two)]
    for name in weights[0]:
        torch.testing.assert_close(weights[1][name], weights[0][name], atol=1e-4, rtol=1e-3)

    # A resume in the middle of a later epoch sees the batches that the first run would have seen.
    history = losses(two)
    epoch = read_json(two / "checkpoint-45/trainer_state.json")["epoch"]
    assert epoch > 1 and 0.05 < epoch % 1 < 0.95
    for name in ("checkpoint-60", "metrics.json", "model.safetensors"):
        path = two / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    subprocess.run([*torchrun, *command[1:], *run_options(two, **options)], env=ENVIRONMENT, check=True)
    assert losses(two) == history


def test_killed_run_goes_on_with_the_loss_curve_of_the_uninterrupted_one(run_options, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    options = {"model_type": "cmlm", "max_steps": 400, "save_steps": 50, "bleu_on_eval": False}
    command = [sys.executable, "-m", "hf_nat", "train"]
    subprocess.run([*command, *run_options(whole, **options)], env=ENVIRONMENT, check=True)
    process = subprocess.Popen([*command, *run_options(killed, **options)], env=ENVIRONMENT)
    deadline = time.monotonic() + 120
    while not list(killed.glob("checkpoint-1[05]0")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (killed / "metrics.json").exists()
    subprocess.run([*command, *run_options(killed, **options)], env=ENVIRONMENT, check=True)
    assert losses(killed) == losses(whole)
    one, other = (AutoModelForSeq2SeqLM.from_pretrained(run).state_dict() for run in (whole, killed))
    assert all(torch.equal(one[name], other[name]) for name in one)
