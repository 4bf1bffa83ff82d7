"""A checkpoint may hold code and pickles: nothing of it runs unless it is trusted, and weights never."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from hostile.places import fails

from hf_nat.base.utils import sha256_file, write_json
from hf_nat_cli import main


_EVIL = """
from pathlib import Path

from transformers import MarianConfig, MarianMTModel, PreTrainedTokenizerFast

with open({mark!r}, "a") as file:
    file.write("x")


class Config(MarianConfig):
    model_type = "evil"


class Model(MarianMTModel):
    config_class = Config


class Tokenizer(PreTrainedTokenizerFast):
    pass
"""


@pytest.fixture
def evil(sound: Path, place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copies the sound folder, and makes a model and a tokenizer that bring code; returns the file that it writes."""
    shutil.copytree(sound, place, dirs_exist_ok=True)
    mark = tmp_path_factory.mktemp("mark") / "mark"
    for name in ("evil", "evil_tokenizer"):
        shutil.copytree(place / "teacher", place / name)
        (place / name / "evil.py").write_text(_EVIL.format(mark=str(mark)))
    config = json.loads((place / "evil/config.json").read_text())
    auto_map = {"AutoConfig": "evil.Config", "AutoModelForSeq2SeqLM": "evil.Model"}
    write_json(place / "evil/config.json", config | {"model_type": "evil", "auto_map": auto_map})
    path = place / "evil_tokenizer/tokenizer_config.json"
    classes = {"tokenizer_class": "Tokenizer", "auto_map": {"AutoTokenizer": ["evil.Tokenizer", "evil.Tokenizer"]}}
    write_json(path, json.loads(path.read_text()) | classes)
    return mark


@pytest.mark.parametrize(
    "argv",
    [
        ("translate", "--model", "evil"),
        ("translate", "--model", "evil_tokenizer"),
        ("translate", "--model", "student", "--length_beam", "2", "--reranker", "evil"),
        ("translate", "--model", "student", "--ensemble", "evil"),
        ("translate", "--draft", "evil"),
        ("evaluate", "--model", "evil"),
        ("tune", "--model", "evil"),
        ("distill", "--teacher", "evil"),
        ("distill", "--teacher", "evil_tokenizer"),
        ("train", "--tokenizer", "evil_tokenizer"),
        ("train", "--init_from", "evil", "--size", "null", "--model_config", "null"),
        ("train", "--init_from_teacher", "evil", "--size", "null", "--model_config", "null"),
        ("recommend", "--student", "evil"),
        ("align", "--tokens", "evil_tokenizer"),
        ("analyze", "--tokens", "evil_tokenizer"),
    ],
    ids="-".join,
)
def test_code_of_a_checkpoint_is_never_run_nor_asked_for(argv, evil, place, capsys, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda prompt="": pytest.fail(f"asked: {prompt}"))
    command, *options = argv
    line = fails([command, f"{command}.yaml", *options], place, capsys)
    assert "trust_remote_code" in line and not evil.exists()


def test_code_that_is_trusted_is_run_and_recorded(evil, place):
    assert main(["evaluate", "evaluate.yaml", "--model", "evil", "--trust_remote_code"]) == 0
    assert evil.exists()
    metrics = json.loads((place / "run/metrics.json").read_text())
    assert metrics["remote_code"] == {"evil.py": sha256_file(place / "evil/evil.py")}
    options = ["--teacher", "evil", "--trust_remote_code", "--output_dir", "distilled"]
    assert main(["distill", "distill.yaml", *options]) == 0
    manifest = json.loads((place / "distilled/manifest.json").read_text())
    assert manifest["remote_code"] == metrics["remote_code"]


class _Pickled:
    """Creates a file when it is unpickled."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def test_weights_are_never_unpickled(evil, place, capsys):
    (place / "teacher/model.safetensors").unlink()
    torch.save({"model.shared.weight": _Pickled(evil)}, place / "teacher/pytorch_model.bin")
    assert "pytorch_model.bin" in fails(["translate", "translate.yaml"], place, capsys)
    assert not evil.exists()
