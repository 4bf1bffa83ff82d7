"""Beam search against that of transformers, from which no sentence leaves."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from transformers import MarianMTModel

from hf_nat.decoding import translate
from hf_nat.decoding.beam_search import beam_search
from hf_nat.models import marian_config, new_teacher


EOS = 2


@pytest.fixture(scope="module")
def teacher() -> MarianMTModel:
    """An untrained teacher that ends its outputs at many lengths."""
    torch.manual_seed(3)
    model = new_teacher(marian_config("nano", vocab_size=40, pad_token_id=0, bos_token_id=1, eos_token_id=EOS)).eval()
    torch.nn.init.normal_(model.model.shared.weight, std=0.1)
    model.final_logits_bias[0, EOS] = 1.5
    model.final_logits_bias[0, 0] = float("-inf")
    return model


def sources() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.tensor([9, 7, 7, 5, 3, 2])
    mask = torch.arange(9) < lengths.unsqueeze(1)
    input_ids = torch.randint(5, 40, mask.shape, generator=generator).masked_fill(~mask, 0)
    return {"input_ids": input_ids, "attention_mask": mask.long()}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_return_sequences": 3},
        {"length_penalty": 0.0},
        {"length_penalty": 2.0, "max_new_tokens": 5},
        {"num_beams": 2, "max_new_tokens": 1},
        {"forced_bos_token_id": 7, "forced_eos_token_id": EOS},
        {"no_repeat_ngram_size": 1, "eos_token_id": [EOS, 9], "num_return_sequences": 4},
    ],
)
def test_outputs_are_those_of_generate(teacher: MarianMTModel, options: dict[str, Any]) -> None:
    settings = {"num_beams": 4, "early_stopping": True, "max_new_tokens": 30, "max_length": None, **options}
    expected = teacher.generate(**sources(), **settings)
    found = teacher.generate(**sources(), **settings, custom_generate=beam_search)
    ends = settings.get("eos_token_id", [EOS])
    for row, other in zip(found.tolist(), expected.tolist(), strict=True):
        assert cut(row, ends) == cut(other, ends)
    assert found.shape[1] == expected.shape[1]


def test_a_checkpoint_without_a_cache_is_searched_too(copy_teacher: MarianMTModel, tiny_tokenizer: Any) -> None:
    found, teacher = [], copy.deepcopy(copy_teacher)
    for use_cache in (True, False):
        teacher.generation_config.use_cache = use_cache
        found.append(translate(teacher, tiny_tokenizer, ["a dog"], num_beams=3, early_stopping=True))
    assert found[0] == found[1]


def cut(row: list[int], ends: list[int]) -> list[int]:
    """A row up to its end: transformers fills what follows with EOS where padding is token 0."""
    return next((row[: i + 1] for i, token in enumerate(row) if token in ends), row)


def test_finished_sentences_leave(teacher: MarianMTModel, monkeypatch: pytest.MonkeyPatch) -> None:
    num_rows, forward = [], teacher.forward

    def counting(**kwargs: Any) -> Any:
        if "decoder_input_ids" in kwargs:
            num_rows.append(len(kwargs["decoder_input_ids"]))
        return forward(**kwargs)

    monkeypatch.setattr(teacher, "forward", counting)
    teacher.generate(
        **sources(), num_beams=4, early_stopping=True, max_new_tokens=30, max_length=None, custom_generate=beam_search
    )
    assert num_rows[0] == 24 and num_rows == sorted(num_rows, reverse=True)
    assert len(set(num_rows)) > 2
