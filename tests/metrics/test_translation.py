from __future__ import annotations

import math
from collections import Counter

import pytest
import sacrebleu

from hf_nat.metrics.translation import DEFAULT_METRICS, score_translations


HYPOTHESES = ["Das ist ein Hund, der z.B. schläft.", "Zwei Männer laufen über die Straße."]
REFERENCES = ["Das ist ein Hund, der schläft.", "Zwei Männer gehen über die Straße."]


def bleu_by_hand(hypotheses: list[str], references: list[str]) -> float:
    """BLEU as Papineni et al. define it, without smoothing."""
    log_precision = 0.0
    for n in range(1, 5):
        matches = total = 0
        for hypothesis, reference in zip(hypotheses, references, strict=True):
            pair = hypothesis.split(), reference.split()
            grams = [Counter(zip(*(words[k:] for k in range(n)), strict=False)) for words in pair]
            matches += (grams[0] & grams[1]).total()
            total += grams[0].total()
        log_precision += math.log(matches / total) / 4
    lengths = [sum(len(sentence.split()) for sentence in side) for side in (hypotheses, references)]
    return 100 * math.exp(log_precision + min(0.0, 1 - lengths[1] / lengths[0]))


def test_bleu_of_moses_tokens_is_the_textbook_formula():
    tokens = [
        ["Das ist ein Hund , der z.B. schläft .", "Zwei Männer laufen über die Straße ."],
        ["Das ist ein Hund , der schläft .", "Zwei Männer gehen über die Straße ."],
    ]
    score = score_translations(HYPOTHESES, REFERENCES, target_lang="de", metrics=["bleu"])["bleu"]
    assert score.score == pytest.approx(bleu_by_hand(*tokens), abs=1e-9)


def test_bleu_uses_the_rules_of_the_target_language():
    hypotheses, references = ["Rot bzw. Blau ist hier schön"], ["Rot bzw . Blau ist hier schön"]
    scores = {
        lang: score_translations(hypotheses, references, target_lang=lang, metrics=["bleu"])["bleu"].score
        for lang in ("en", "de", "de_AT")
    }
    assert scores["en"] == pytest.approx(100.0), "English rules split the full stop of an unknown abbreviation"
    assert scores["de"] == scores["de_AT"] < 99.0


def test_13a_chrf_and_ter_are_sacrebleus():
    scores = score_translations(HYPOTHESES, REFERENCES, target_lang="de")
    assert scores["sacrebleu"].score == sacrebleu.corpus_bleu(HYPOTHESES, [REFERENCES]).score
    assert scores["chrf"].score == sacrebleu.corpus_chrf(HYPOTHESES, [REFERENCES]).score
    assert scores["ter"].score == sacrebleu.corpus_ter(HYPOTHESES, [REFERENCES]).score


def test_signatures_name_tokens_beta_and_version():
    scores = score_translations(HYPOTHESES, REFERENCES, target_lang="de")
    assert list(scores) == list(DEFAULT_METRICS) == [score.name for score in scores.values()]
    assert scores["bleu"].signature.startswith("BLEU|nrefs:1|case:mixed|eff:no|tok:moses-de-sacremoses-")
    assert "|tok:13a|" in scores["sacrebleu"].signature
    assert scores["chrf"].signature.startswith("chrF2|")
    assert scores["ter"].signature.startswith("TER|")
    assert all(f"version:{sacrebleu.__version__}" in score.signature for score in scores.values())


@pytest.mark.parametrize(
    ("hypothesis", "reference", "expected"),
    [
        ("a b c d", "a b c d", [100.0, 100.0, 100.0, 0.0]),
        ("a b c d", "e f g h", [0.0, 0.0, 0.0, 100.0]),
        ("", "a b c d", [0.0, 0.0, 0.0, 100.0]),
        ("a", "", [0.0, 0.0, 0.0, 100.0]),
        ("", "", [0.0, 0.0, 0.0, 0.0]),
        (" \t ", "a b c d", [0.0, 0.0, 0.0, 100.0]),
        ("a", "a", [0.0, 0.0, 100.0, 0.0]),
    ],
)
def test_degenerate_sentences_are_defined(hypothesis, reference, expected):
    scores = score_translations([hypothesis], [reference], target_lang="en")
    assert [score.score for score in scores.values()] == pytest.approx(expected)


def test_no_sentence_is_an_error():
    with pytest.raises(ValueError, match="`hypotheses` must hold at least 1 sentence, got 0"):
        score_translations([], [], target_lang="de")


def test_unequal_lengths_are_an_error_with_both_counts():
    with pytest.raises(ValueError, match="got 2 and 1"):
        score_translations(["a", "b"], ["a"], target_lang="de")


def test_unknown_metric_is_an_error():
    with pytest.raises(ValueError, match=r"out of \['bleu', 'chrf', 'sacrebleu', 'ter'\], got 'meteor'"):
        score_translations(["a"], ["a"], target_lang="de", metrics=["bleu", "meteor"])
