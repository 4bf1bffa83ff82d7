"""p(language | output) against Equation 2 written out, and how concentrated points of a simplex are."""

from __future__ import annotations

import random

import numpy as np
import pytest

from hf_nat.metrics import LanguagePosterior, concentration


CORPORA = {"de": [["ein", "."], ["das", "."]], "fr": [["un", "."], ["un", "ein", "."], ["le"]]}


def test_posterior_of_a_small_corpus_by_hand() -> None:
    posterior = LanguagePosterior.from_corpora(CORPORA)
    assert posterior.languages == ("de", "fr")
    # "ein": 1/4 of the German and 1/6 of the French tokens.
    assert posterior.by_token["ein"] == pytest.approx([0.6, 0.4])
    assert posterior.by_token["."] == pytest.approx([0.6, 0.4])
    assert posterior.by_token["un"] == pytest.approx([0, 1])
    points = posterior([["un", "un", "ein"], ["never", "seen"], [], ["das"]])
    assert points == pytest.approx(np.array([[0.2, 0.8], [0.5, 0.5], [0.5, 0.5], [1, 0]]))


def test_unknown_tokens_do_not_count_and_their_share_is_told() -> None:
    posterior = LanguagePosterior.from_corpora(CORPORA)
    sentences = [["un", "never", "ein", "seen"], ["un", "ein"], [], ["das", "seen"]]
    points = posterior(sentences)
    assert points == pytest.approx(np.array([[0.3, 0.7], [0.3, 0.7], [0.5, 0.5], [1, 0]]))
    assert posterior.unknown_share(iter(sentences)) == 3 / 8
    assert posterior.unknown_share([[]]) == posterior.unknown_share([]) == 0


def test_posterior_of_random_corpora_is_equation_2() -> None:
    draw = random.Random(0)
    for _ in range(20):
        corpora = {
            lang: [[draw.choice("abcdefg") for _ in range(draw.randrange(1, 6))] for _ in range(draw.randrange(1, 9))]
            for lang in "xyz"
        }
        posterior = LanguagePosterior.from_corpora(corpora)
        tokens = {lang: [token for sentence in rows for token in sentence] for lang, rows in corpora.items()}
        outputs = [sentence for rows in corpora.values() for sentence in rows]
        for sentence, point in zip(outputs, posterior(outputs), strict=True):
            expected = []
            for lang in "xyz":
                p = {other: [tokens[other].count(y) / len(tokens[other]) for y in sentence] for other in "xyz"}
                terms = [p[lang][t] / 3 / sum(p[other][t] / 3 for other in "xyz") for t in range(len(sentence))]
                expected.append(sum(terms) / len(sentence))
            assert point == pytest.approx(expected)


def test_order_of_sentences_and_tokens_is_of_no_account() -> None:
    posterior = LanguagePosterior.from_corpora(CORPORA)
    turned = LanguagePosterior.from_corpora(
        {lang: [row[::-1] for row in rows[::-1]] for lang, rows in CORPORA.items()}
    )
    assert posterior([["ein", "un", "."]]) == pytest.approx(turned([[".", "ein", "un"]]))


def test_concentration() -> None:
    assert concentration(np.eye(3)) == (1.0, None)
    assert concentration(np.full((4, 3), 1 / 3))[0] == pytest.approx(1 / 3)
    mean, (low, high) = concentration(np.array([[0.5, 0.5], [0.9, 0.1], [0.3, 0.7]]), num_bootstrap=200)
    assert mean == pytest.approx(0.7)
    assert 0.5 <= low < mean < high <= 0.9


def test_nothing_to_count_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least 1 language"):
        LanguagePosterior.from_corpora({})
    with pytest.raises(ValueError, match="got none of 'fr'"):
        LanguagePosterior.from_corpora({"de": [["ein"]], "fr": [[]]})
    with pytest.raises(ValueError, match="must have a sentence"):
        concentration(LanguagePosterior.from_corpora(CORPORA)([]))
