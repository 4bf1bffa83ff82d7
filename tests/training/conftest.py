import json

import pytest

from hf_nat.base.utils import read_json
from hf_nat.data.toy import ToyTask, generate_toy_corpus
from hf_nat.steps import Train


@pytest.fixture(scope="session")
def toy_corpus(tmp_path_factory):
    """A toy corpus of 400 training pairs."""
    folder = tmp_path_factory.mktemp("toy") / "corpus"
    return generate_toy_corpus(folder, ToyTask(num_words=12), sizes={"train": 400, "validation": 20, "test": 20})


@pytest.fixture(scope="session")
def run_keys(toy_corpus):
    """Keys of a tiny run; keyword arguments override them."""

    def keys(output_dir, **changes):
        config = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "max_position_embeddings": 64}
        if changes.get("model_type") == "flowseq":
            config["flow_steps"] = [1, 1]  # the published flow takes as long as all other models together
        return {
            "model_type": "marian",
            "size": None if {"init_from", "init_from_teacher"} & changes.keys() else "nano",
            "model_config": config,
            "corpus": str(toy_corpus),
            "source_lang": "src",
            "target_lang": "tgt",
            "vocab_size": 120,
            "max_source_length": 60,
            "max_target_length": 60,
            "output_dir": str(output_dir),
            "max_tokens": 200,
            "max_steps": 12,
            "warmup_steps": 4,
            "logging_steps": 1,
            "save_strategy": "steps",
            "save_steps": 6,
            "report_to": "none",
            "disable_tqdm": True,
            "use_cpu": True,
            **changes,
        }

    return keys


@pytest.fixture(scope="session")
def run_options(run_keys):
    """The same keys as options of `hf-nat train`."""

    def options(output_dir, **changes):
        keys = {key: value for key, value in run_keys(output_dir, **changes).items() if value is not None}
        return [f"--{key}={json.dumps(value) if isinstance(value, dict) else value}" for key, value in keys.items()]

    return options


@pytest.fixture
def tiny_run(run_keys, tmp_path):
    """Trains with `run_keys`, by default into the folder `run`; returns the metrics."""

    def run(output_dir=None, **changes):
        step = Train.from_config(**run_keys(output_dir or tmp_path / "run", **changes))
        return read_json(step.run() / "metrics.json")

    return run
