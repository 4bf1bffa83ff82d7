"""Teachers and students trained by two processes under every kind of launch, on a CPU (`slow`) and on GPUs (`gpu`).

What is compared with a single process differs in the order in which numbers of single precision are added: by about
1e-7 of a gradient, which Adam can blow up in a dozen updates: to 1e-5 of most weights, and to more of a weight whose
gradient is near zero. What one launch does twice is equal.
"""

import os
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from hf_nat.base.config import load_config
from hf_nat.base.utils import read_json, write_json
from hf_nat.decoding import load_model
from hf_nat.training.arguments import DataArguments, ModelArguments, NATSeq2SeqTrainingArguments
from hf_nat.training.averaging import average_checkpoints
from hf_nat.training.run import train


ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).with_name("launched_runs.py")
# Without dropout and random masks these two draw nothing, and one process can be compared with two.
COMPARABLE = ("marian", "vanilla_nat")
MODELS = (*COMPARABLE, "levenshtein_transformer", "flowseq")
LAUNCHES = {
    "DDP": ["multi_gpu"],
    "FSDP": ["fsdp"],
    "ZeRO-1": ["deepspeed_zero2", "--deepspeed_config_file=configs/deepspeed/zero1.json"],
    "ZeRO-2": ["deepspeed_zero2"],
    "ZeRO-3": ["deepspeed_zero3"],
}
CASES = [
    (name, model_type)
    for name in LAUNCHES
    for model_type in (MODELS if name in ("DDP", "FSDP", "ZeRO-3") else COMPARABLE)
]
DEVICES = [pytest.param("cpu", marks=pytest.mark.slow), pytest.param("gpu", marks=pytest.mark.gpu)]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
ON_CPU = {"CUDA_VISIBLE_DEVICES": "-1", "DS_ACCELERATOR": "cpu"}


def options(run_options, model_type, folder, **changes):
    """Twelve updates; the worst evaluation counts as the best, so that the best checkpoint is not the last."""
    fields = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "max_position_embeddings": 64, "dropout": 0.0}
    if model_type == "flowseq":
        fields |= {"flow_steps": [1, 1], "init_steps": 3, "kl_annealing_steps": 4}
    values = {"model_config": fields, "use_cpu": False, "save_steps": 3, "eval_steps": 3}
    best = {"eval_strategy": "steps", "load_best_model_at_end": True, "greater_is_better": True}
    return run_options(folder, model_type=model_type, **values, **best, **changes)


@pytest.fixture(scope="module", params=DEVICES)
def device(request):
    if request.param == "gpu" and torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    return request.param


@pytest.fixture(scope="module")
def launched(device, run_options, tmp_path_factory):
    """Returns the folder that a launch left: `MODEL` is a run, `MODEL-resumed` one that goes on in its middle."""
    folders = {}

    def launch(name):
        if name.startswith("ZeRO") and find_spec("deepspeed") is None:
            pytest.skip("needs deepspeed: pip install 'hf_nat[deepspeed]'")
        if name in folders:
            return folders[name]
        folder = folders[name] = tmp_path_factory.mktemp(name)
        runs = []
        for model_type in (model_type for case, model_type in CASES if case == name):
            whole, resumed = folder / model_type, folder / f"{model_type}-resumed"
            resume = {"resume_from_checkpoint": whole / "checkpoint-6", "average_checkpoints": 2}
            runs += [options(run_options, model_type, whole), options(run_options, model_type, resumed, **resume)]
        write_json(folder / "runs.json", runs)
        config, *rest = LAUNCHES[name]
        config = "cpu" if (device, config) == ("cpu", "multi_gpu") else config
        command = ["accelerate", "launch", f"--config_file=configs/accelerate/{config}.yaml", *rest]
        command += ["--num_processes=2", "--main_process_port=0", PROGRAM, folder / "runs.json"]
        subprocess.run(command, env=ENVIRONMENT | (ON_CPU if device == "cpu" else {}), cwd=ROOT, check=True)
        return folder

    return launch


@pytest.fixture(scope="module")
def reference(device, launched, run_options, tmp_path_factory):
    """Returns the run that a model's others are compared with: one process that accumulates, or DDP."""
    folder = tmp_path_factory.mktemp("one")

    def run(model_type):
        if model_type not in COMPARABLE:
            return launched("DDP") / model_type
        if not (folder / model_type).exists():
            argv = options(run_options, model_type, folder / model_type, gradient_accumulation_steps=2)
            argv += ["--use_cpu=true"] if device == "cpu" else []
            train(*load_config((ModelArguments, DataArguments, NATSeq2SeqTrainingArguments), argv))
        return folder / model_type

    return run


def logged(folder, key):
    """What was logged on the way; the final weights, the best or a mean, are evaluated after the last step."""
    history = read_json(folder / "trainer_state.json")["log_history"]
    return {log["step"]: log[key] for log in reversed(history) if key in log}


def assert_same_weights(one, other, device):
    assert one.keys() == other.keys()
    tolerance = {"atol": 0, "rtol": 0} if device == "cpu" else {"atol": 1e-5, "rtol": 1e-4}
    for name in one:
        torch.testing.assert_close(one[name], other[name], **tolerance, msg=f"{name}: {{}}".format)


def weights(folder):
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize(("name", "model_type"), CASES)
def test_losses_validation_and_weights_are_those_of_one_process(name, model_type, device, launched, reference):
    run, expected = launched(name) / model_type, reference(model_type)
    metrics = read_json(run / "metrics.json")
    distribution = {"DDP": "MULTI_CPU" if device == "cpu" else "MULTI_GPU"}.get(name, name)
    assert (metrics["num_processes"], metrics["distribution"]) == (2, distribution)
    for key, steps in (("loss", [*range(1, 13)]), ("eval_loss", [3, 6, 9, 12]), ("eval_bleu", [3, 6, 9, 12])):
        assert sorted(logged(run, key)) == steps
        assert logged(run, key) == pytest.approx(logged(expected, key), abs=2e-4)
    one, other = weights(expected / "checkpoint-12"), weights(run / "checkpoint-12")
    assert one.keys() == other.keys(), "tied weights are saved once"
    for key in one:
        torch.testing.assert_close(other[key], one[key], atol=1e-3, rtol=0, msg=f"{key}: {{}}".format)
    # A coupling of a flow starts with zeros: before them the first gradients are rounding errors, of which Adam makes
    # steps.
    steady = [key for key in sorted(one) if not key.startswith("prior.")]
    flat = [torch.cat([tensors[key].flatten() for key in steady]) for tensors in (one, other)]
    assert torch.isclose(*flat, atol=1e-4, rtol=1e-3).float().mean() > 0.999


@pytest.mark.parametrize(("name", "model_type"), CASES)
def test_resumed_run_is_the_uninterrupted_one(name, model_type, device, launched):
    whole, resumed = launched(name) / model_type, launched(name) / f"{model_type}-resumed"
    tolerance = 0 if device == "cpu" else 1e-4
    for key in ("loss", "eval_loss", "eval_bleu"):
        assert logged(resumed, key) == pytest.approx(logged(whole, key), abs=tolerance)
    assert_same_weights(weights(resumed / "checkpoint-12"), weights(whole / "checkpoint-12"), device)


@pytest.mark.parametrize(("name", "model_type"), CASES)
def test_final_weights_are_the_best_checkpoint_or_the_mean_of_the_last(name, model_type, launched):
    whole, resumed = launched(name) / model_type, launched(name) / f"{model_type}-resumed"
    losses = logged(whole, "eval_loss")
    best = read_json(whole / "metrics.json")["best_checkpoint"]
    assert best == f"checkpoint-{max(losses, key=losses.get)}" != "checkpoint-12"
    assert_same_weights(weights(whole), weights(whole / best), "cpu")
    mean = average_checkpoints([resumed / "checkpoint-9", resumed / "checkpoint-12"])
    assert_same_weights(weights(resumed), mean, "cpu")


@pytest.mark.parametrize(("name", "model_type"), [case for case in CASES if case[0] != "DDP"])
def test_saved_weights_are_those_that_the_library_puts_together(name, model_type, launched, tmp_path):
    checkpoint = launched(name) / model_type / "checkpoint-12"
    if name == "FSDP":
        dcp_to_torch_save(checkpoint / "pytorch_model_fsdp_0", tmp_path / "theirs.pt")
        theirs = torch.load(tmp_path / "theirs.pt", weights_only=True)["model"]
    else:
        from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

        theirs = get_fp32_state_dict_from_zero_checkpoint(str(checkpoint))
    for key, tensor in weights(checkpoint).items():
        if name == "ZeRO-1" and key.endswith("embed_positions.weight"):
            continue  # DeepSpeed leaves frozen parameters out of the checkpoints of this stage.
        assert torch.equal(tensor, theirs[key]), key


@pytest.mark.parametrize("model_type", MODELS)
@pytest.mark.parametrize("name", ["FSDP", "ZeRO-3"])
def test_checkpoint_loads_and_carries_its_code(name, model_type, launched, reference):
    run, expected = launched(name) / model_type, reference(model_type)
    for folder in (run, run / "checkpoint-12"):
        model, _ = load_model(folder)
        assert model.config.model_type == model_type
        assert {path.name for path in folder.glob("*.py")} - {"zero_to_fp32.py", "zero_to_torch.py"} == {
            path.name for path in expected.glob("*.py")
        }
        for key in ("architectures", "auto_map"):
            assert read_json(folder / "config.json").get(key) == read_json(expected / "config.json").get(key)


@pytest.mark.slow
@pytest.mark.skipif(torch.accelerator.is_available(), reason="there FSDP works")
def test_fsdp_on_a_cpu_is_refused_and_not_replaced(run_options, tmp_path):
    command = ["accelerate", "launch", "--config_file=configs/accelerate/fsdp.yaml", "--num_processes=2"]
    command += ["--main_process_port=0", "-m", "hf_nat", "train", *run_options(tmp_path / "run", use_cpu=False)]
    result = subprocess.run(command, env=ENVIRONMENT, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode != 0
    assert "hf-nat train: FSDP must have an accelerator, got MULTI_CPU" in result.stderr
