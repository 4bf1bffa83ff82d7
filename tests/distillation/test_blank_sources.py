"""Blank is what has no token, for both backends, with and without a prefix."""

from __future__ import annotations

import pytest

from hf_nat.data import encode, is_blank
from hf_nat.decoding import encode_non_blank, translate
from hf_nat.distillation import DistillArguments
from hf_nat.distillation.backends import load_backend
from hf_nat.distillation.rewriting import Rewriter


# Zero-width space, byte order mark, soft hyphen, no-break space, Hangul filler, direction marks, and what looks empty.
BLANKS = ["", "  ", "\u200b", "\ufeff", "\xad", "\xa0", "\u3164", "\u200e\u200f", "\u2060 \u200d", "\u2800"]


@pytest.mark.parametrize("prefix", [None, "two "])
def test_nothing_visible_is_not_decoded(prefix, copy_teacher, tiny_tokenizer):
    sentences = ["hello", *BLANKS, "a dog\u200b runs"]
    encoded = encode_non_blank(copy_teacher, tiny_tokenizer, sentences, prefix)
    assert encoded.rows == [0, len(sentences) - 1]
    assert encoded.input_ids[0] == encode(tiny_tokenizer, [f"{prefix or ''}hello"])["input_ids"][0]
    outputs = translate(copy_teacher, tiny_tokenizer, sentences, source_prefix=prefix)
    assert [output.num_tokens for output in outputs[1:-1]] == [0] * len(BLANKS) and outputs[0].text


@pytest.mark.parametrize("prefix", [None, "two "])
@pytest.mark.parametrize("backend", ["torch", "ct2"])
def test_both_backends_flag_the_same_rows(prefix, backend, copy_teacher, tiny_tokenizer):
    if backend == "ct2":
        pytest.importorskip("ctranslate2")
    args = DistillArguments(
        corpus="x", source_lang="en", target_lang="de", teacher="x", output_dir="x", strategy="greedy",
        backend=backend, source_prefix=prefix, max_batch_tokens=512,
    )  # fmt: skip
    rewriter = Rewriter(load_backend(copy_teacher, tiny_tokenizer, args), copy_teacher, tiny_tokenizer, args)
    sources = [*BLANKS, "hello"]
    rows = rewriter([{"en": source, "de": "x"} for source in sources], range(len(sources)), 0)
    assert ["empty_source" in flags for flags in rows["flags"]] == [True] * len(BLANKS) + [False]
    assert [pair["en"] for pair in rows["translation"]] == sources
    assert all(is_blank(pair["de"]) and "empty_output" in flags for pair, flags in zip(
        rows["translation"][:-1], rows["flags"][:-1], strict=True
    ))  # fmt: skip
