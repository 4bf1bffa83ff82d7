from __future__ import annotations

import copy
from pathlib import Path

import pytest
from datasets import Dataset
from marian_tokenizers import save_marian_tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import MarianTokenizer, PreTrainedTokenizerFast

from hf_nat.data import corpus_sides, tokenize, tokenizer_checksum


TEXTS = ["Ein Hund, der z.B. schläft.", "", "  Zwei\tMänner "]


def test_blanks_are_spaces_tabs_and_line_ends_alone() -> None:
    assert list(tokenize([*TEXTS, "a\u00a0b c\u2003d"])) == [
        ["Ein", "Hund,", "der", "z.B.", "schläft."],
        [],
        ["Zwei", "Männer"],
        ["a\u00a0b", "c\u2003d"],
    ]
    assert list(tokenize(["a\nb\r\nc \0d"])) == [["a", "b", "c", "d"]]


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
    # A file of one sentence a line can hold them.
    assert [*tokenize(["a\tdog\nruns"], str(tmp_path))] == pieces[:1]


def test_each_side_is_cut_by_its_own_rules(tmp_path: Path) -> None:
    sources, targets = ["a dog runs", "two men walk"], ["EIN HUND LÄUFT", "ZWEI MÄNNER GEHEN"]
    save_marian_tokenizer(tmp_path, sources, targets, vocab_size=40)
    own = MarianTokenizer.from_pretrained(tmp_path)
    corpus = Dataset.from_list([{"translation": {"en": s, "de": t}} for s, t in zip(sources, targets, strict=True)])
    left, right = map(list, corpus_sides(corpus, ("en", "de"), str(tmp_path)))
    assert left == [own.tokenize(text) for text in sources]
    assert right == [own.convert_ids_to_tokens(own(text_target=text)["input_ids"][:-1]) for text in targets]
    assert right != list(tokenize(targets, str(tmp_path))) and "<unk>" not in {*right[0], *right[1]}


def test_what_a_tokenizer_adds_to_every_sentence_is_no_piece_of_it(
    tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    bare = tiny_tokenizer.tokenize("a dog runs")
    bos, eos = tiny_tokenizer.bos_token_id, tiny_tokenizer.eos_token_id
    adding = copy.deepcopy(tiny_tokenizer)  # The tests share theirs.
    adding.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", bos), ("</s>", eos)]
    )
    adding.save_pretrained(tmp_path)
    for is_target in (False, True):
        assert list(tokenize(["a dog runs"], str(tmp_path), is_target=is_target)) == [bare]


def test_any_file_that_cuts_counts_for_the_checksum(tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    assert tokenizer_checksum("space") is None and tokenizer_checksum("moses") is None
    tiny_tokenizer.save_pretrained(tmp_path / "fast")
    save_marian_tokenizer(tmp_path / "marian", TEXTS, TEXTS, vocab_size=40)
    found = {tokenizer_checksum(str(tmp_path / "fast"))}
    for name in ("vocab.json", "source.spm", "target.spm", "tokenizer_config.json"):
        found.add(tokenizer_checksum(str(tmp_path / "marian")))
        with open(tmp_path / "marian" / name, "ab") as file:
            file.write(b" ")
    found.add(tokenizer_checksum(str(tmp_path / "marian")))
    assert len(found) == 6 and None not in found
