from __future__ import annotations

from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from hf_nat.data import tokenize


TEXTS = ["Ein Hund, der z.B. schläft.", "", "  Zwei\tMänner "]


def test_blanks_are_space_and_tab_alone() -> None:
    assert list(tokenize([*TEXTS, "a\u00a0b c\u2003d"])) == [
        ["Ein", "Hund,", "der", "z.B.", "schläft."],
        [],
        ["Zwei", "Männer"],
        ["a\u00a0b", "c\u2003d"],
    ]


def test_moses_words_are_lower_cased() -> None:
    assert list(tokenize(TEXTS, "moses", "de")) == [
        ["ein", "hund", ",", "der", "z.b.", "schläft", "."],
        [],
        ["zwei", "männer"],
    ]


def test_moses_words_of_a_script_without_spaces_are_characters() -> None:
    texts = iter(["我有iPhone 15。"] * 150)
    for lang in ("zh", "zho_Hans"):
        assert list(tokenize(["我有iPhone 15。"], "moses", lang)) == [["我", "有", "iphone", "15", "。"]]
    assert len(list(tokenize(texts, "moses", "zh"))) == 150


def test_moses_needs_a_language() -> None:
    with pytest.raises(ValueError, match='`lang` must be a language code for the tokens "moses"'):
        tokenize(TEXTS, "moses")


def test_pieces_are_those_of_the_tokenizer_without_eos(
    tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    tiny_tokenizer.save_pretrained(tmp_path)
    texts = ["a dog runs", "", "hello"] * 700
    pieces = list(tokenize(iter(texts), str(tmp_path)))
    assert pieces[:3] == [tiny_tokenizer.tokenize("a dog runs"), [], tiny_tokenizer.tokenize("hello")]
    assert pieces == pieces[:3] * 700
