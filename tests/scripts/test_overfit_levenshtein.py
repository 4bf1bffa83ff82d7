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


def config() -> LevenshteinTransformerConfig:
    return LevenshteinTransformerConfig(
        vocab_size=12, d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=64, decoder_ffn_dim=64, dropout=0.0, label_smoothing=0.0,
        placeholder_label_smoothing=0.0, num_placeholder_bins=8, pad_token_id=PAD, bos_token_id=1, eos_token_id=EOS,
        mask_token_id=3,
    )  # fmt: skip


def test_all_heads_learn_a_fixed_draw_by_heart_and_later_rounds_are_counted() -> None:
    torch.manual_seed(1)
    model = LevenshteinTransformerForConditionalGeneration(config())
    batch = script["_batch"](PAIRS, PAD)
    before = script["losses"](model, [batch])
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(120):
        torch.manual_seed(1)  # the draw of `losses`
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    after = script["losses"](model, [batch])
    assert all(after[head] < 0.05 < before[head] for head in ("placeholder", "word", "deletion"))
    for _, length, deleted, inserted in script["edits"](model, [batch], 10):
        assert 0 <= inserted <= length and deleted >= 0
    assert all(row[2:] == (0, 0) for row in script["edits"](model, [batch], 1))


def test_the_losses_measured_on_the_way_change_no_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = script["_batch"](PAIRS, PAD)
    finals = []
    for measure in (script["losses"], lambda model, batches: {}):
        monkeypatch.setitem(script["train"].__globals__, "losses", measure)
        torch.manual_seed(7)
        model = LevenshteinTransformerForConditionalGeneration(config())
        curve = script["train"](model, [batch], num_epochs=5)
        assert [row["epoch"] for row in curve] == [1, 2, 3, 4, 5]
        finals.append(model.deletion_head.weight)
    assert torch.equal(*finals)
