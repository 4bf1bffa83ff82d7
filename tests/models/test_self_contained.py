"""Checkpoints have a life of their own: files, code and settings, however saved, and without this package."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import fine_tune_checkpoints
import pytest
import torch
from nat_model_tester import MODEL_TYPES, tiny_model
from test_modeling_moe_marian import tiny_moe
from transformers import (
    AutoModelForSeq2SeqLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    pipeline,
)


PROGRAM = Path(__file__).with_name("fine_tune_checkpoints.py")
FILES = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
STUDENT_SETTINGS = [{}, {"collapse_repeats": False}]
MIXTURE_SETTINGS = [{}, {"expert": 0}, {"num_beams": 2}]
GLANCING = {"glancing_ratio": 0.5, "glancing_end_ratio": 0.1, "glancing_steps": 4}
VARIANTS = [*MODEL_TYPES, "ctc_nat-glancing", "moe_marian", "moe_marian-learned-soft"]


def build(variant: str, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """A student or a mixture with the tokenizer's vocabulary, whose settings are not the defaults."""
    special = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "eos", "bos")}
    name, *kinds = variant.split("-")
    if name in MODEL_TYPES:
        fields = GLANCING if kinds else {}
        model: PreTrainedModel = tiny_model(
            name, vocab_size=len(tokenizer), mask_token_id=tokenizer.mask_token_id, **special, **fields
        )
        model.generation_config.collapse_repeats = True
    else:
        model = tiny_moe(
            vocab_size=len(tokenizer), **special, **dict(zip(("prior", "assignment"), kinds, strict=False))
        )
        model.generation_config.expert = 1
    return model


def saved_by_trainer(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    arguments = Seq2SeqTrainingArguments(output_dir=str(folder), use_cpu=True, report_to=[])
    Seq2SeqTrainer(model, arguments, processing_class=tokenizer).save_model()


def saved_by_hand(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def run_apart(place: Path, *command: str) -> str:
    """Runs Python on its own, with a Hugging Face cache of its own, and returns what it printed."""
    environment = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(place / "home"), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, "-I", *command], env=environment, capture_output=True, text=True, cwd=place
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "checkpoint"


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("save", [saved_by_hand, saved_by_trainer])
def test_checkpoint_holds_all_that_it_needs(
    variant: str, save: Callable, tiny_tokenizer: PreTrainedTokenizerFast, folder: Path
) -> None:
    model = build(variant, tiny_tokenizer)
    save(model, tiny_tokenizer, folder)
    names = {path.name for path in folder.iterdir()} - {"training_args.bin"}
    code = {name for name in names if name.endswith(".py")}
    assert names == FILES | code
    auto_map = json.loads((folder / "config.json").read_text())["auto_map"]
    assert set(auto_map) == {"AutoConfig", "AutoModelForSeq2SeqLM"}
    assert {f"{reference.split('.')[0]}.py" for reference in auto_map.values()} <= code
    settings = json.loads((folder / "generation_config.json").read_text())
    assert settings["expert" if "moe" in variant else "collapse_repeats"] == 1


def test_checkpoints_are_compared_tuned_saved_and_loaded_where_the_package_is_missing(
    tiny_tokenizer: PreTrainedTokenizerFast, sentences: list[str], tmp_path: Path
) -> None:
    folders = []
    for variant in VARIANTS:
        model, folder = build(variant, tiny_tokenizer), tmp_path / variant
        saved_by_hand(model, tiny_tokenizer, folder)
        settings = MIXTURE_SETTINGS if "moe" in variant else STUDENT_SETTINGS
        output = fine_tune_checkpoints.outputs(model, tiny_tokenizer, sentences, settings)
        torch.save({"sentences": sentences, "settings": settings, "outputs": output}, folder / "expected.pt")
        folders.append(str(folder))
    run_apart(tmp_path, str(PROGRAM), *folders)
    for folder in folders:  # what was tuned without the package is this package's again where it is there
        tuned = AutoModelForSeq2SeqLM.from_pretrained(f"{folder}-tuned")
        assert type(tuned).__module__.startswith("hf_nat.models.")
        if "glancing" in folder:  # The schedule went on, one step for each of two updates.
            assert tuned.glancing.num_batches == 2


TRANSLATE = """
import json
import sys
sys.modules['hf_nat'] = None
from transformers import pipeline
translate = pipeline("nat-translation", model=sys.argv[1], trust_remote_code=True)
print(json.dumps(translate(sys.argv[2:], batch_size=2, max_length=12)))
"""


@pytest.mark.parametrize("variant", ["cmlm", "moe_marian"])
def test_pipeline_translates_here_and_where_the_package_is_missing(
    variant: str, tiny_tokenizer: PreTrainedTokenizerFast, sentences: list[str], folder: Path, tmp_path: Path
) -> None:
    model = build(variant, tiny_tokenizer)
    saved_by_hand(model, tiny_tokenizer, folder)
    translate = pipeline("nat-translation", model=str(folder))
    outputs = (
        model.generate(**tiny_tokenizer(text, return_tensors="pt", return_token_type_ids=False), max_length=12)
        for text in sentences
    )
    expected = [{"translation_text": tiny_tokenizer.decode(ids, skip_special_tokens=True)} for (ids,) in outputs]
    assert len({row["translation_text"] for row in expected}) > 1
    assert translate(sentences[0], max_length=12) == expected[:1]
    assert translate(sentences, max_length=12) == [[row] for row in expected]
    assert translate(sentences, max_length=12, batch_size=2) == [[row] for row in expected]
    long = " ".join(sentences * 9)
    with pytest.raises((ValueError, IndexError)):
        translate(long)
    assert translate(long, truncation=True)
    translate.save_pretrained(tmp_path / "pipeline")
    printed = run_apart(tmp_path, "-c", TRANSLATE, str(tmp_path / "pipeline"), *sentences)
    assert json.loads(printed) == [[row] for row in expected]
