"""What `from_pretrained` of transformers offers to a seq2seq model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from nat_model_tester import MODEL_TYPES, assert_translations, tiny_batch, tiny_model
from torch.testing import assert_close
from transformers import AutoModelForSeq2SeqLM, BitsAndBytesConfig

from hf_nat.models import NATPreTrainedModel


@pytest.fixture(params=MODEL_TYPES)
def model(request: pytest.FixtureRequest, tmp_path: Path) -> NATPreTrainedModel:
    """A model whose copy lies in `tmp_path`."""
    model = tiny_model(request.param)
    model.save_pretrained(tmp_path)
    return model


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(**{name: values.to(model.device) for name, values in tiny_batch().items()}).logits


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 0.1), (torch.bfloat16, 0.5)])
def test_dtype(model: NATPreTrainedModel, dtype: torch.dtype, tolerance: float, tmp_path: Path) -> None:
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path, dtype=dtype)
    assert {parameter.dtype for parameter in loaded.parameters()} == {dtype}
    assert_close(logits(loaded).float(), logits(model), atol=tolerance, rtol=tolerance)
    assert_translations(loaded.generate(tiny_batch()["input_ids"]))
    loaded.save_pretrained(tmp_path / "again")
    assert AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "again").dtype == dtype  # "auto": as it was saved


def test_device_map(model: NATPreTrainedModel, tmp_path: Path) -> None:
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path, device_map="auto")
    assert_close(logits(loaded).cpu(), logits(model), atol=1e-4, rtol=1e-4)
    assert_translations(loaded.generate(tiny_batch()["input_ids"].to(loaded.device)).cpu())


@pytest.mark.gpu
def test_flex_attention_gives_the_same(model: NATPreTrainedModel, tmp_path: Path) -> None:
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path, device_map="auto", attn_implementation="flex_attention")
    assert_close(logits(loaded).cpu(), logits(model), atol=1e-3, rtol=1e-3)


def test_flash_attention_is_an_error(model: NATPreTrainedModel, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not support Flash Attention"):
        AutoModelForSeq2SeqLM.from_pretrained(tmp_path, attn_implementation="flash_attention_2")


def test_weights_of_8_bits(model: NATPreTrainedModel, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes quantises the weights")
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path, quantization_config=BitsAndBytesConfig(load_in_8bit=True))
    assert loaded.model.encoder.layers[0].fc1.weight.dtype == torch.int8
    expected = logits(model)
    assert (logits(loaded) - expected).square().mean() < 0.05 * expected.square().mean()
    assert_translations(loaded.generate(tiny_batch()["input_ids"]))


@pytest.mark.slow
def test_compiled_forward_gives_the_same(model: NATPreTrainedModel) -> None:
    assert_close(logits(torch.compile(model)), logits(model), atol=1e-4, rtol=1e-4)
