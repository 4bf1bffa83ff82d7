from __future__ import annotations

import pytest
from datasets import Dataset

from hf_nat.evaluation.errors import translation_errors
from hf_nat.metrics.error_rates import dropped_words, length_errors, repeated_words, unknown_words


def words(*texts: str) -> list[list[str]]:
    return [text.split() for text in texts]


def test_a_word_is_repeated_where_it_follows_itself():
    assert repeated_words(words("a a a b", "b a", "", "c")) == pytest.approx(100 * 2 / 7)  # never across sentences
    assert repeated_words(words("", "")) == 0


def test_lengths_count_the_sentences_whose_reference_has_a_word():
    found = length_errors(words("a", "a b", "", "", "a b c"), words("a b c", "a b c d", "a", "", "a"))
    assert found == {"empty": 25.0, "short": 25.0, "length_ratio": 6 / 9}  # 2 of 4 words are not short
    assert length_errors([[]], [[]]) == {"empty": 0.0, "short": 0.0, "length_ratio": 0.0}
    with pytest.raises(ValueError):
        length_errors(words("a"), [])


def test_unknown_words_hold_a_letter():
    assert unknown_words(words("a x1 , 17", "b"), {"a", "b"}) == pytest.approx(100 / 3)
    assert unknown_words(words(", 17"), set()) == 0


def test_a_content_word_without_a_link_is_dropped():
    sources, links = words("the dog , ran", "a cat"), [[(1, 0), (2, 1)], []]
    assert dropped_words(sources, links, {"the", "a"}) == pytest.approx(100 * 2 / 3)  # ran, cat
    assert dropped_words(sources, links, {"the", "a", "dog", "ran", "cat"}) == 0


def test_translations_are_measured_beside_their_references():
    # So many nouns that none makes up more than a thousandth of the text; `sees` is a function word.
    pairs = [
        {"translation": {"en": f"noun{i} sees noun{(i + step) % 800}", "de": f"wort{i} sieht wort{(i + step) % 800}"}}
        for i in range(800)
        for step in (1, 2, 5)
    ]
    found = translation_errors(
        ["noun1 sees noun7", "noun3 sees noun9"],
        ["Wort1 sieht Wort7", "Wort3 sieht Wort9"],
        ["Wort1 Wort1 sieht", "Wort3 sieht Wort9wort"],
        source_lang="en",
        target_lang="de",
        training_rows=Dataset.from_list(pairs),
    )
    assert found["references"] == {
        **dict.fromkeys(("repeated_words", "empty", "short", "unknown_words", "dropped_words"), 0.0),
        "length_ratio": 1.0,
    }
    rates = found["translations"]
    assert rates["repeated_words"] == rates["unknown_words"] == pytest.approx(100 / 6)
    assert rates["dropped_words"] == 25  # noun7; the unknown word takes the place of noun9
    assert (rates["empty"], rates["short"], rates["length_ratio"]) == (0, 0, 1)
