from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from huggingface_hub.errors import StrictDataclassFieldValidationError
from nat_model_tester import MODEL_TYPES, TINY

from hf_nat.models import ARCHITECTURES, LengthNATConfig, NATConfig, NATSeq2SeqLMOutput, VanillaNATConfig


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"encoder_attention_heads": 3}, "`encoder_attention_heads` must divide `d_model` = 16, got 3"),
        ({"decoder_attention_heads": 5}, "`decoder_attention_heads` must divide `d_model` = 16, got 5"),
        ({"label_smoothing": 1.0}, r"`label_smoothing` must be in \[0, 1\), got 1.0"),
        ({"mask_token_id": 24}, r"`mask_token_id` must be in \[0, `vocab_size` = 24\), got 24"),
        ({"mask_token_id": 2}, "three different tokens, got .*'mask_token_id': 2"),
    ],
)
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_broken_rule_is_an_error(model_type: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ARCHITECTURES[model_type][0](**{**TINY, **settings})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"length_loss_weight": -0.5}, "`length_loss_weight` must be >= 0, got -0.5"),
        ({"num_length_bins": 1}, "`num_length_bins` must be >= 2, got 1"),
    ],
)
def test_broken_length_rule_is_an_error(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LengthNATConfig(**settings)


@pytest.mark.parametrize(
    ("config_class", "settings", "message"),
    [
        (NATConfig, {"position_embedding_type": "rotary"}, "rotary"),
        (NATConfig, {"d_model": "512"}, "expected int, got str"),
        (LengthNATConfig, {"length_prediction": "ratio"}, "ratio"),
        (VanillaNATConfig, {"source_copy": "copy"}, "copy"),
    ],
)
def test_wrong_type_or_choice_is_an_error(config_class: type, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(StrictDataclassFieldValidationError, match=message):
        config_class(**settings)


def test_evaluation_of_the_stock_trainer_gathers_only_logits() -> None:
    names = {field.name for field in fields(NATSeq2SeqLMOutput)}
    assert names - set(NATConfig.keys_to_ignore_at_inference) == {"loss", "logits"}
