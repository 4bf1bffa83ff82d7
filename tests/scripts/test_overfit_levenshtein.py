from __future__ import annotations

import math
import runpy
from collections import Counter, defaultdict
from itertools import combinations, pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from hf_nat import LevenshteinTransformerConfig, LevenshteinTransformerForConditionalGeneration
from hf_nat.base.utils import read_json


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


TARGETS = [[5, 6, 5, 5, EOS], [5, 6, 7, EOS], [8, 8, EOS]]


def by_enumeration(target: list[int]) -> list[tuple[float, list[int], list[float]]]:
    """Every canvas of a target with its probability and the entropies of its slots, from all that may stay."""
    length, found = len(target) - 1, defaultdict(list)
    for size in range(length + 1):
        for places in combinations(range(length), size):
            canvas = (*(target[place] for place in places), EOS)
            counts = [after - before - 1 for before, after in pairwise((-1, *places, length))]
            found[canvas].append((1 / (length + 1) / math.comb(length, size), counts))
    rows = []
    for canvas, drawn in found.items():
        total, entropies = sum(prob for prob, _ in drawn), []
        for slot in range(len(canvas)):
            shares = Counter()
            for prob, counts in drawn:
                shares[counts[slot]] += prob / total
            entropies.append(-sum(share * math.log(share) for share in shares.values()))
        rows.append((total, list(canvas), entropies))
    return rows


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_placeholders_are_as_uncertain_as_all_that_may_be_missing_says(target: list[int]) -> None:
    for _, canvas, entropies in by_enumeration(target):
        assert script["slot_entropies"](target, canvas) == pytest.approx(entropies, abs=1e-12)


@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_placeholder_floor_is_the_expectation_over_the_roll_in(beta: float) -> None:
    torch.manual_seed(1)
    model = LevenshteinTransformerForConditionalGeneration(config())
    model.config.insertion_roll_in_beta = beta
    batch = script["_batch"]([([5, EOS], target) for target in TARGETS], PAD)
    means = [sum(prob * sum(of) / len(of) for prob, _, of in by_enumeration(target)) for target in TARGETS]
    # Nothing is uncertain of an empty canvas; sentences weigh as many tokens as they have.
    expected = (1 - beta) * sum(len(t) * mean for t, mean in zip(TARGETS, means, strict=True)) / sum(map(len, TARGETS))
    assert script["placeholder_floor"](model, [batch], 600) == pytest.approx(expected, rel=0.1) and means[1] == 0


def test_tables_of_the_page_are_those_of_the_results() -> None:
    folder = ROOT / "configs/multi30k/results"
    page = (folder / "README.md").read_text(encoding="utf-8")
    for name in ("overfit", "overfit_longer"):
        assert script["table"](read_json(folder / f"levenshtein/{name}.json")).markdown() in page


def test_floor_stands_beside_the_loss_and_penalty_reaches_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    model = LevenshteinTransformerForConditionalGeneration(config())
    penalties, generate = [], model.generate
    monkeypatch.setattr(model, "generate", lambda **knobs: penalties.append(knobs["eos_penalty"]) or generate(**knobs))
    monkeypatch.setitem(
        script["measure"].__globals__, "build_model", lambda args, *_, **__: fields.append(args) or model
    )
    fields: list = []
    args = SimpleNamespace(teacher="x", size="nano", num_epochs=1)
    row = script["measure"](args, script["VARIANTS"]["EOS penalty 1"], [script["_batch"](PAIRS, PAD)], None)
    assert penalties == [1.0, 1.0] and "eos_penalty" not in fields[0].model_config
    cells = script["table"]({"variants": {"x": row}}).rows[0]
    assert cells[1] == f"{row['losses']['placeholder']:.3f} ({row['placeholder_floor']:.3f})"
    assert row["placeholder_floor"] == 0  # no target of these holds a token twice


def test_every_variant_is_a_configuration() -> None:
    default = LevenshteinTransformerConfig()
    for options in script["VARIANTS"].values():
        fields = {name: value for name, value in options.items() if name != "eos_penalty"}
        config = LevenshteinTransformerConfig(**fields)
        for name, value in fields.items():
            assert getattr(config, name) == value != getattr(default, name), "a variant changes what it names"


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
