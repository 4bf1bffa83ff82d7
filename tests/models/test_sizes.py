from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import MarianMTModel

from hf_nat.models import SIZES, marian_config, new_teacher, size_config


TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


@pytest.mark.parametrize(("size", "millions"), [("tiny", 15.93), ("small", 36.57), ("base", 64.94), ("big", 217.96)])
def test_parameter_counts_are_those_of_the_paper(size: str, millions: float) -> None:
    with torch.device("meta"):
        model = MarianMTModel(marian_config(size, vocab_size=40_624, **TOKENS))
    assert model.num_parameters(only_trainable=True) / 1e6 == pytest.approx(millions, abs=0.005)


def test_dropout_is_that_of_the_paper() -> None:
    assert [size_config(size)["dropout"] for size in ("tiny", "small", "base", "big")] == [0.1, 0.1, 0.3, 0.3]


def test_initial_weights_grow_as_the_width_shrinks() -> None:
    expected = {"nano": 0.057, "mini": 0.04, "tiny": 0.028, "small": 0.02, "base": 0.02, "big": 0.02}
    assert {size: size_config(size)["init_std"] for size in SIZES} == expected


def test_size_config_is_a_copy() -> None:
    size_config("nano")["d_model"] = 1
    assert SIZES["nano"]["d_model"] == 64


def test_unknown_size_is_an_error() -> None:
    with pytest.raises(ValueError, match="must be one of nano, mini, tiny, small, base, big, got 'huge'"):
        size_config("huge")


def test_marian_config_overrides_fields_and_rejects_others() -> None:
    config = marian_config("nano", vocab_size=50, dropout=0.25, **TOKENS)
    assert (config.dropout, config.d_model, config.decoder_start_token_id) == (0.25, 64, 0)
    assert config.forced_eos_token_id is None
    with pytest.raises(ValueError, match=r"must be fields of `MarianConfig`, got \['dropuot'\]"):
        marian_config("nano", vocab_size=50, dropuot=0.25, **TOKENS)


@pytest.mark.parametrize(("positions", "cap"), [(1024, 201), (24, 24)])
def test_new_teacher_generates_more_than_20_tokens_also_when_loaded(positions: int, cap: int, tmp_path: Path) -> None:
    teacher = new_teacher(marian_config("nano", vocab_size=50, max_position_embeddings=positions, **TOKENS))
    teacher.save_pretrained(tmp_path)
    loaded = MarianMTModel.from_pretrained(tmp_path)
    assert loaded.generation_config.max_length == cap
    assert loaded.generate(torch.tensor([[5, 6, 2]]), min_new_tokens=cap - 1).shape == (1, cap)
