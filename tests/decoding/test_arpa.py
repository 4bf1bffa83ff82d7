"""ARPA files: what is written is read again, and what is damaged is told by its line."""

from __future__ import annotations

import io
import math
import re

import numpy as np
import pytest

from hf_nat.decoding.arpa import arpa_lines, read_arpa
from hf_nat.decoding.ngrams import NGrams, estimate


LINES = [
    "\\data\\",
    "ngram 1=4",
    "ngram 2=2",
    "",
    "\\1-grams:",
    "-1.5\t<unk>",
    "0\t<s>\t-0.5",
    "-1\t</s>",
    "-0.25\ta 0.5",
    "",
    "\\2-grams:",
    "-0.125\t<s> a",
    "-0.75 a </s>",
    "",
    "\\end\\",
]


def read(text: str) -> tuple[list[str], list[NGrams]]:
    return read_arpa(io.BytesIO(text.encode(errors="surrogateescape")))


def test_what_is_written_is_read_again() -> None:
    sentences = [["a", "b", "a", "c"], ["b", "a", "b"], ["a", "ü\u3000", "日本", "d"], ["c", "c"]]
    vocabulary, orders = estimate(sentences, 4)
    found, read_orders = read("\n".join(arpa_lines(vocabulary, orders)))
    assert found == vocabulary and len(read_orders) == 4
    for one, other in zip(orders, read_orders, strict=True):
        assert np.array_equal(one.words, other.words)
        is_start = (one.words == [1]).all(axis=1)  # `<s>` is never asked for
        assert other.log_probs[~is_start] == pytest.approx(one.log_probs[~is_start], rel=1e-6)
        assert other.backoffs == pytest.approx(one.backoffs, rel=1e-6, abs=1e-6)


def test_any_blanks_and_long_words_are_read() -> None:
    word = "y" * 3_000_000
    lines = [*LINES[:8], f"-0.25 \r {word}\t\x0b0.5", *LINES[9:11], f"-0.125\t<s>\r{word}", f"-0.75 {word} </s>"]
    vocabulary, (ones, twos) = read("\n".join([*lines, *LINES[13:]]))
    assert vocabulary[3] == word and ones.backoffs[3] == pytest.approx(0.5 * math.log(10))
    assert twos.words.tolist() == [[1, 3], [3, 2]]


def test_an_order_may_be_empty() -> None:
    lines = [*LINES[:3], "ngram 3=0", *LINES[3:-1], "\\3-grams:", "", LINES[-1]]
    assert [grams.words.shape for grams in read("\n".join(lines))[1]] == [(4, 1), (2, 2), (0, 3)]


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_every_way_to_write_a_file(ending: str) -> None:
    vocabulary, (ones, twos) = read(ending.join(["", "a comment", "", *LINES[:3], "", *LINES[3:], "", "more"]))
    assert read("\ufeff" + ending.join(LINES))[0] == vocabulary
    assert vocabulary == ["<unk>", "<s>", "</s>", "a"]
    assert (ones.backoffs / math.log(10)).tolist() == pytest.approx([0, -0.5, 0, 0.5])
    assert twos.words.tolist() == [[1, 3], [3, 2]] and twos.backoffs.tolist() == [0, 0]
    assert (twos.log_probs / math.log(10)).tolist() == pytest.approx([-0.125, -0.75])


@pytest.mark.parametrize(
    ("number", "line", "message"),
    [
        (1, "data", "it has no line `\\data\\`"),
        (3, "ngram 3=2", "line 3 must be of the 2-grams, up to 10, got 'ngram 3=2'"),
        (3, "ngram 2=" + "9" * 20, "a line `\\1-grams:` is missing: line 3 is 'ngram 2=999"),
        (2, "ngram 1=-4", "a line `\\end\\` is missing: line 2 is 'ngram 1=-4'"),
        (2, "ngram 1=3", "a line `\\2-grams:` is missing: line 9 is '-0.25"),
        (
            2,
            "ngram 1=5",
            "line 10 must be a log-probability, at most 0, 1 of the words and perhaps a back-off weight, got ''",
        ),
        (3, "ngram 2=90", "it must have 90 2-grams, got 4"),
        (5, "1-grams:", "a line `\\1-grams:` is missing: line 5 is '1-grams:'"),
        (8, "", "line 8 must be a log-probability"),
        (7, "-inf\t<s>", "line 7 must be a log-probability"),
        (9, "-1\ta\tnan", "line 9 must be a log-probability"),
        (9, "-1e308\ta", "line 9 must be a log-probability"),
        (9, "0.5\ta", "line 9 must be a log-probability"),
        (9, "-1_0\ta", "line 9 must be a log-probability"),
        (9, "-1\t\udcff", "line 9 must be a log-probability"),
        (12, "x <s> a", "line 12 must be a log-probability, at most 0, 2 of the words, got 'x <s> a'"),
        (12, "-1 <s> a -7", "line 12 must be a log-probability"),
        (12, "-1 <s> b", "line 12 must be a log-probability"),
        (12, "-1 <s> a\r-1 a </s>", "line 12 must be a log-probability"),
        (12, "\ufeff-1 <s> a", "line 12 must be a log-probability"),
        (12, "-1 a", "line 12 must be a log-probability"),
        (13, "-1 a </s> 1 2", "line 13 must be a log-probability"),
        (15, "", "a line `\\end\\` is missing: it ends"),
    ],
)
def test_damage_is_told_by_its_line(number: int, line: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        read("\n".join([*LINES[: number - 1], line, *LINES[number:]]))


def test_orders_have_a_limit() -> None:
    sizes = [f"ngram {n}=0" for n in range(1, 2000)]
    with pytest.raises(ValueError, match="line 12 must be of the 11-grams, up to 10, got 'ngram 11=0'"):
        read("\n".join(["\\data\\", *sizes, *(f"\\{n}-grams:" for n in range(1, 2000)), "\\end\\"]))


def test_a_model_without_words_is_refused() -> None:
    with pytest.raises(ValueError, match="it must have a word, got none"):
        read("\\data\\\n\\end\\")
