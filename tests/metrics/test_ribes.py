from __future__ import annotations

import math
import random

import pytest
from nltk.translate.ribes_score import corpus_ribes
from sacrebleu.metrics.base import Metric

from hf_nat.metrics.ribes import RIBES, rank_alignment


def score(hypothesis: str, *references: str, **options) -> float:
    return RIBES(**options).sentence_score(hypothesis, list(references)).score / 100


def alignment_by_strings(hypothesis: list[str], reference: list[str]) -> list[int]:
    """The definition read literally: every word is a character, every context a substring to be counted."""
    codes = {word: chr(0x4E00 + k) for k, word in enumerate(dict.fromkeys(hypothesis + reference))}
    hyp, ref = ("".join(codes[word] for word in words) for words in (hypothesis, reference))

    def once(text: str) -> bool:
        return all(sum(side.startswith(text, k) for k in range(len(side))) == 1 for side in (hyp, ref))

    ranks = []
    for i in range(len(hyp)):
        if hyp[i] not in ref:
            continue
        contexts = [hyp[i]]
        for window in range(1, len(hyp)):
            contexts += [hyp[i - window : i + 1] if window <= i else None]
            contexts += [hyp[i : i + window + 1] if i + window < len(hyp) else None]
        for k, context in enumerate(contexts):
            if context and once(context):
                ranks.append(ref.index(context) + (len(context) - 1 if k % 2 else 0))
                break
    return ranks


@pytest.mark.parametrize(
    ("hypothesis", "reference", "ranks"),
    [
        # The second he: "because he" (rank 7) is tried ahead of "he was" (rank 0, as the paper prints it).
        (
            "he read the book because he was interested in world history",
            "he was interested in world history because he read the book",
            [7, 8, 9, 10, 6, 7, 1, 2, 3, 4, 5],
        ),
        ("Bob hit John yesterday", "John hit Bob yesterday", [2, 1, 0, 3]),
        ("the book was read by the boy", "the boy read the book", [3, 4, 2, 0, 1]),
        # Both contexts of the second a are unique and disagree: the words before it win.
        ("b a c a d", "b a d a c", [0, 1, 4, 1, 2]),
        ("a a", "a b a", []),
    ],
)
def test_rank_alignment_of_the_papers_examples_and_of_ties(hypothesis, reference, ranks):
    assert rank_alignment(hypothesis.split(), reference.split()) == ranks
    assert alignment_by_strings(hypothesis.split(), reference.split()) == ranks


def test_rank_alignment_equals_counting_substrings_on_repetitive_text():
    rng = random.Random(0)
    lengths = set()
    for _ in range(400):
        reference, hypothesis = ([rng.choice("abcd") for _ in range(rng.randint(1, 9))] for _ in range(2))
        ranks = rank_alignment(hypothesis, reference)
        assert ranks == alignment_by_strings(hypothesis, reference)
        lengths.add(len(ranks))
    assert len(lengths) > 5


def test_words_repeated_without_end_are_ranked_all_the_same():
    assert rank_alignment(["."] * 500, ["."] * 499 + ["x"]) == []
    # The dots are told apart by the run of them from the start or to the end, the nearer of the two.
    assert rank_alignment(["x", *["."] * 499], ["x", *["."] * 499]) == list(range(500))


def test_score_by_hand():
    # 5 of 7 words match with ranks 3 4 2 0 1: 2 of 10 pairs ascend; the hypothesis is the longer side.
    assert score("the book was read by the boy", "the boy read the book") == pytest.approx(0.2 * (5 / 7) ** 0.25)
    # Ranks 0 1 2, all ascending, precision 1, 3 words against 5.
    expected = math.exp(1 - 5 / 3) ** 0.10
    assert score("a b c", "a b c d e") == pytest.approx(expected)
    assert score("a b c", "a b c d e", beta=1.0) == pytest.approx(expected**10)


def test_corpus_score_equals_nltks_on_permuted_sentences():
    rng = random.Random(1)
    words = [f"w{k}" for k in range(30)]
    references = [rng.sample(words, rng.randint(2, 12)) for _ in range(50)]
    hypotheses = [rng.sample(reference, len(reference)) + rng.sample(words, 2) for reference in references]
    lines = [[" ".join(sentence) for sentence in side] for side in (hypotheses, references)]
    ours = RIBES().corpus_score(lines[0], [lines[1]]).score
    assert ours == pytest.approx(100 * corpus_ribes([[reference] for reference in references], hypotheses))
    assert 20 < ours < 80


@pytest.mark.parametrize(
    ("hypothesis", "reference", "expected"),
    [
        ("", "a b", 0.0),
        ("a b", "", 0.0),
        ("", "", 0.0),
        ("a b c", "a b c", 1.0),
        ("a b c", "d e f", 0.0),
        # One matched word is no rank correlation, unless it is all there is to match.
        ("a c", "a b", 0.0),
        ("a", "a", 1.0),
        ("a b c", "a", (1 / 3) ** 0.25),
        ("a a", "a", 0.0),
        ("a", "a b", 0.0),
    ],
)
def test_degenerate_sentences_are_defined(hypothesis, reference, expected):
    assert score(hypothesis, reference) == pytest.approx(expected)


def test_case_is_ignored_unless_asked_for():
    assert score("Ein HUND", "ein Hund") == 1.0
    assert score("Ein HUND", "ein Hund", lowercase=False) == 0.0


def test_best_reference_counts():
    assert score("a b c", "c b a", "a b c", "a c b") == 1.0


def test_is_a_sacrebleu_metric_with_a_signature():
    metric = RIBES(lowercase=False)
    metric.corpus_score(["a b"], [["a b"]])
    assert isinstance(metric, Metric)
    assert metric.get_signature().format().startswith("nrefs:1|case:mixed|alpha:0.25|beta:0.1|tok:none|def:RIBES.py")


@pytest.mark.parametrize("name", ["alpha", "beta"])
def test_negative_exponent_is_an_error(name):
    with pytest.raises(ValueError, match=f"`{name}` must be >= 0, got -0.5"):
        RIBES(**{name: -0.5})
