"""Estimated n-gram models against lmplz, against the rule of Kneser and Ney in plain Python, and against 1."""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from itertools import product

import pytest

from hf_nat.decoding.arpa import arpa_lines
from hf_nat.decoding.ngrams import estimate


# `lmplz -o 3 --discount_fallback`, but for the order of its lines.
TEXT = ["a b a c", "b a b", "a b c d", "c c"]
LMPLZ = """
-0.95424247 <unk> 0|0 <s> -0.30103|-0.75012255 </s> 0|-0.8661064 a -0.30103|-0.8661064 b -0.30103
-0.5831747 c -0.30103|-0.7501225 d -0.30103
-0.6698118 b </s> 0|-0.4699427 c </s> 0|-0.22996666 d </s> 0|-0.497497 <s> a -0.30103|-0.497497 b a -0.30103
-0.7143177 <s> b -0.30103|-0.39643466 a b -0.30103|-0.59251463 <s> c -0.30103|-0.5269187 a c -0.30103
-0.59251463 b c -0.30103|-0.59251463 c c -0.30103|-0.6698117 c d -0.30103
-0.5628663 a b </s>|-0.17428547 a c </s>|-0.17428547 c c </s>|-0.09993647 c d </s>|-0.18109626 <s> b a
-0.48718965 a b a|-0.15447134 <s> a b|-0.3461178 b a b|-0.3994506 b a c|-0.5309967 a b c|-0.20219404 <s> c c
-0.21685107 b c d
""".strip().replace("\n", "|")

Model = dict[tuple[str, ...], tuple[float, float]]


def words_of(lines: list[str]) -> list[list[str]]:
    return [line.split() for line in lines]


def by_words(sentences: list[list[str]], order: int) -> Model:
    """Probability and back-off of each n-gram, both no logarithms."""
    vocabulary, orders = estimate(sentences, order)
    return {
        tuple(vocabulary[word] for word in words): (math.exp(log_prob), math.exp(backoff))
        for grams in orders
        for words, log_prob, backoff in zip(grams.words, grams.log_probs, grams.backoffs, strict=True)
    }


def random_text(seed: int, num_sentences: int = 60) -> list[list[str]]:
    draw = random.Random(seed)
    # Some words are much more frequent than others, so that all counts up to 4 occur.
    return [
        draw.choices("abcdefghijkl", [40, 20, 10, 8, 6, 4, 3, 2, 1, 1, 1, 1], k=draw.randrange(9))
        for _ in range(num_sentences)
    ]


def test_values_are_those_of_lmplz() -> None:
    found = by_words(words_of(TEXT), 3)
    expected = [line.split() for line in LMPLZ.split("|")]
    assert len(found) == len(expected)
    for log_prob, *rest in expected:
        backoff = rest.pop() if rest[-1][-1].isdigit() else "0"
        probability, left = found[tuple(rest)]
        if rest != ["<s>"]:
            assert math.log10(probability) == pytest.approx(float(log_prob), abs=1e-6)
        assert math.log10(left) == pytest.approx(float(backoff), abs=1e-6)


def kneser_ney(sentences: list[list[str]], order: int, context: tuple[str, ...], word: str) -> float:
    """The definition, which counts anew at each call."""
    marked = [["<s>", *words, "</s>"] for words in sentences if words]
    n = len(context) + 1
    seen = Counter(tuple(line[i : i + n]) for line in marked for i in range(len(line) - n + 1))
    before = defaultdict(set)
    for line in marked:
        for i in range(1, len(line) - n + 1):
            before[tuple(line[i : i + n])].add(line[i - 1])
    counts = {gram: seen[gram] if n == order or gram[0] == "<s>" else len(before[gram]) for gram in seen}
    counts.pop(("<s>",), None)
    one, two, three, four = (sum(count == k for count in counts.values()) for k in (1, 2, 3, 4))
    discounts = [0.0, 0.5, 1.0, 1.5]
    if one and two and three:
        share = one / (one + 2 * two)
        discounts = [
            0.0,
            *(k - (k + 1) * share * b / a for k, a, b in ((1, one, two), (2, two, three), (3, three, four))),
        ]
    behind = {gram[-1]: count for gram, count in counts.items() if gram[:-1] == context}
    lower = 1 / (len({word for line in marked for word in line if word != "<s>"}) + 1)
    if context:
        lower = kneser_ney(sentences, order, context[1:], word)
    if not behind:
        return lower
    taken = sum(discounts[min(count, 3)] for count in behind.values())
    count = behind.get(word, 0)
    return (count - discounts[min(count, 3)] + taken * lower) / sum(behind.values())


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("seed", range(2))
def test_values_are_those_of_the_definition(seed: int, order: int) -> None:
    sentences = random_text(seed)
    found = by_words(sentences, order)
    assert {len(gram) for gram in found} == set(range(1, order + 1))
    for gram in random.Random(0).sample(sorted(found), 40 if order > 1 else len(found)):
        if gram != ("<s>",):
            assert found[gram][0] == pytest.approx(kneser_ney(sentences, order, gram[:-1], gram[-1]))


def score(model: Model, context: tuple[str, ...], word: str) -> float:
    """Probability by the back-off rule of ARPA files."""
    if (*context, word) in model:
        return model[*context, word][0]
    return model.get(context, (1.0, 1.0))[1] * score(model, context[1:], word)


@pytest.mark.parametrize("sentences", [random_text(5), random_text(6, 3), [["a"]], words_of(TEXT)])
def test_probabilities_of_all_words_add_up_to_one(sentences: list[list[str]]) -> None:
    model = by_words(sentences, 3)
    vocabulary = [gram[0] for gram in model if len(gram) == 1 and gram != ("<s>",)]
    assert "<unk>" in vocabulary and "</s>" in vocabulary
    contexts = [(), ("<s>",), *(("<s>", word) for word in vocabulary[:3]), *product(vocabulary[2:6], repeat=2)]
    for context in contexts:
        assert sum(score(model, context, word) for word in vocabulary) == pytest.approx(1)


def test_a_file_holds_the_model_as_arpa_does() -> None:
    lines = list(arpa_lines(*estimate(words_of(TEXT), 3)))
    assert lines[:4] == ["\\data\\", "ngram 1=7", "ngram 2=12", "ngram 3=12"] and lines[-1] == "\n\\end\\"
    assert "0\t<s>\t-0.30103" in lines
    values = [line.split("\t") for line in lines if "\t" in line]
    (found,) = (float(log_prob) for log_prob, words, *_ in values if words == "c d </s>")
    assert found == pytest.approx(-0.09993647, abs=1e-6)


def test_text_without_a_model_is_refused() -> None:
    for sentences in ([], [[]]):
        with pytest.raises(ValueError, match="must have a sentence with a word, got none"):
            estimate(sentences, 2)
    with pytest.raises(ValueError, match="`order` must be >= 1 and <= 10, got 0"):
        estimate([["a"]], 0)
    with pytest.raises(ValueError, match="must be none of <unk>, <s>, </s>, got </s> in .'a', '</s>'"):
        estimate([["a", "</s>"]], 2)
    with pytest.raises(ValueError, match="must have no blank in it, got 'a b'"):
        estimate([["c", "a b"]], 2)


def test_a_file_holds_finite_numbers_alone() -> None:
    # Four bigrams seen once, one twice, one three times: one that was seen twice would lose nothing.
    sentences = words_of(["a b e", "a c b e", "a e", "a e", "a e", "a"])
    assert all(0 < value <= 1 for pair in by_words(sentences, 2).values() for value in pair)
    assert not any("inf" in line for line in arpa_lines(*estimate(sentences, 2)))
