"""Short lists: what they list, and that a graph chooses from them as torch does."""

from __future__ import annotations

import json

import pytest
import torch
from datasets import Dataset

from hf_nat.data.several import pair_features
from hf_nat.data.tokenizer import train_tokenizer
from hf_nat.decoding import encode_sources
from hf_nat.export import ExportArguments
from hf_nat.export.export import load_short_list
from hf_nat.export.shortlist import ShortList, build_short_list
from hf_nat.steps.export import Export


def test_the_lists_of_a_batch_are_joined_in_rising_order() -> None:
    best = torch.full((6, 2), 4)
    best[1], best[2] = torch.tensor([5, 3]), torch.tensor([0, 5])
    short_list = ShortList(best, torch.tensor([4]), vocab_size=7)
    assert short_list(torch.tensor([[3, 3]])).tolist() == [4]
    assert short_list(torch.tensor([[1, 3]])).tolist() == [3, 4, 5]
    assert short_list(torch.tensor([[1, 3], [2, 3]])).tolist() == [0, 3, 4, 5]


@pytest.mark.parametrize("option", [{"shortlist_best": 9}, {"shortlist_frequent": 9}])
def test_options_of_a_list_that_is_not_made_are_refused(option: dict[str, int]) -> None:
    (name,) = option
    with pytest.raises(ValueError, match=f"`{name}` must be left out without `shortlist`, got 9"):
        ExportArguments(model="m", output_dir="o", **option)
    with pytest.raises(ValueError, match=f"`{name}` must be >= 1, got 0"):
        ExportArguments(model="m", output_dir="o", **{name: 0})
    given = ExportArguments(model="m", output_dir="o", shortlist="c", source_lang="a", target_lang="b", **option)
    assert getattr(given, name) == 9


def test_a_token_lists_what_it_is_aligned_with() -> None:
    pairs = [(f"{a} {b}", f"{a.upper()} {b.upper()}") for a in "abcd" for b in "abcd" if a != b] * 3
    tokenizer = train_tokenizer([text for pair in pairs for text in pair], vocab_size=40)
    vocabulary = [token for token in range(len(tokenizer)) if token not in tokenizer.all_special_ids]
    short_list = build_short_list(
        pairs, tokenizer, vocabulary, len(tokenizer), num_best=1, num_frequent=1, kept=[tokenizer.pad_token_id]
    )
    for letter in "abcd":
        (source,), (target,) = (encode_sources(tokenizer, [text]) for text in (letter, letter.upper()))
        listed = short_list(torch.tensor([source[:-1]])).tolist()
        assert target[0] in listed
        assert len(listed) <= 3 and tokenizer.pad_token_id in listed and tokenizer.eos_token_id not in listed


def test_a_corpus_without_pairs_has_a_fingerprint_and_makes_no_list(monkeypatch) -> None:
    rows = Dataset.from_dict({"translation": []}, features=pair_features("a", "b"))
    corpus = {"shortlist": "c", "source_lang": "a", "target_lang": "b"}
    monkeypatch.setattr(ExportArguments, "load_shortlist", lambda self: rows)
    args = ExportArguments(model="m", output_dir="o", **corpus)
    monkeypatch.setattr("hf_nat.steps.export.model_fingerprint", lambda model: {})
    inputs = Export(args).inputs()
    assert len(json.loads(json.dumps(inputs))["shortlist"]) == 64
    with pytest.raises(ValueError, match="`shortlist` must be a corpus with at least 1 pair"):
        load_short_list(args, None, None)
