"""Runs of a study on a toy corpus, small enough for seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from hf_nat.data.toy import ToyTask, generate_toy_corpus


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy corpus of 200 training pairs."""
    folder = tmp_path_factory.mktemp("toy") / "corpus"
    return generate_toy_corpus(folder, ToyTask(num_words=12), sizes={"train": 200, "validation": 10, "test": 10})


@pytest.fixture
def config(corpus: Path, tmp_path: Path) -> Callable[..., str]:
    """Writes the YAML file of a tiny training run or a distillation."""

    def write(name: str, **changes: object) -> str:
        sides = {f"{side}_layers": 1 for side in ("encoder", "decoder")}
        training = {
            "model_type": "marian",
            "size": "nano",
            "model_config": {"d_model": 16, "max_position_embeddings": 64, **sides},
            "vocab_size": 120,
            "max_source_length": 60,
            "max_target_length": 60,
            "max_tokens": 200,
            "max_steps": 6,
            "warmup_steps": 2,
            "save_strategy": "steps",
            "save_steps": 3,
            "report_to": "none",
            "disable_tqdm": True,
            "use_cpu": True,
        }
        distillation = {"teacher": "any", "strategy": "greedy", "max_new_tokens": 8, "shard_size": 50}
        own = distillation if name == "distill" else training
        places = {"corpus": str(corpus), "source_lang": "src", "target_lang": "tgt", "output_dir": "anywhere"}
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump({**places, **own, **changes}))
        return str(path)

    return write
