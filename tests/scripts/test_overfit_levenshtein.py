from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch

from hf_nat import LevenshteinTransformerConfig, LevenshteinTransformerForConditionalGeneration


ROOT = Path(__file__).parents[2]
script = runpy.run_path(str(ROOT / "scripts/overfit_levenshtein.py"))
EOS, PAD = 2, 0
PAIRS = [([5, 6, EOS], [7, 8, 9, EOS]), ([6, 5, 6, EOS], [9, 8, EOS]), ([7, EOS], [5, 6, 7, 8, EOS])]


@pytest.fixture(scope="module")
def model() -> LevenshteinTransformerForConditionalGeneration:
    torch.manual_seed(1)
    config = LevenshteinTransformerConfig(
        vocab_size=12, d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=64, decoder_ffn_dim=64, dropout=0.0, label_smoothing=0.0,
        placeholder_label_smoothing=0.0, num_placeholder_bins=8, pad_token_id=PAD, bos_token_id=1, eos_token_id=EOS,
        mask_token_id=3,
    )  # fmt: skip
    return LevenshteinTransformerForConditionalGeneration(config)


def test_sentences_are_learned_by_heart_and_later_rounds_change_nothing(
    model: LevenshteinTransformerForConditionalGeneration,
) -> None:
    batch = script["_batch"](PAIRS, PAD)
    before = script["losses"](model, [batch])
    script["train"](model, [batch], 200)
    after = script["losses"](model, [batch])
    assert all(after[head] < 0.2 < before[head] for head in ("placeholder", "word", "deletion"))
    assert list(script["edits"](model, [batch], 10)) == [(True, 3, 0, 0), (True, 2, 0, 0), (True, 4, 0, 0)]
