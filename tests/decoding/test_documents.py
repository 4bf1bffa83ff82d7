"""Documents split into sentences that are translated one by one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace

import pytest

from hf_nat.decoding import SentenceSplitter, Translation
from hf_nat_cli import main


def upper(sentences: Sequence[str]) -> list[Translation]:
    return [Translation(text.upper().strip(), -len(text), len(text.split()), False, len(text)) for text in sentences]


@pytest.mark.parametrize(
    ("langs", "document", "expected"),
    [
        (("en", "de"), "A dog. Dr. Smith runs!  Why?", ["A dog.", "Dr. Smith runs!", "Why?"]),
        (("src", "tgt"), "one. Two\n\nThree", ["one.", "Two", "Three"]),
        (("zho_Hans", "en"), "你好。好的！", ["你好。", "好的！"]),
        (("en", "de"), "", [""]),
        (("en", "de"), " \u200b", [" \u200b"]),
        (("en", "de"), "." * 100_000, ["." * 100_000]),
    ],
)
def test_a_document_is_its_sentences(langs: tuple[str, str], document: str, expected: list[str]) -> None:
    assert [text.strip(" ") for text in SentenceSplitter(*langs).split(document)] == [t.strip(" ") for t in expected]


def test_translations_come_in_order_and_are_joined_as_the_target_is_written() -> None:
    documents = ["", "A b. C d.", "x"]
    assert [out.text for out in SentenceSplitter("en", "de").translate(documents, upper)] == ["", "A B. C D.", "X"]
    outputs = SentenceSplitter("en", "ja").translate(["Yes, he ran. No, he did not run."], upper)
    assert outputs[0].text == "YES, HE RAN.NO, HE DID NOT RUN."


def test_numbers_of_a_joined_translation() -> None:
    parts = [
        Translation("a", -1.0, 3, False, 2),
        Translation("", None, 0, False, None),
        Translation("b c", -2.0, 1, True, 5),
    ]
    joined = SentenceSplitter("en", "de").join(parts)
    assert joined == Translation("a b c", -(3 * 1.0 + 1 * 2.0) / 4, 4, True, 5)
    of_teacher = [replace(part, iterations=None) for part in parts]  # which scores EOS too
    assert SentenceSplitter("en", "de").join(of_teacher).score == -(4 * 1.0 + 2 * 2.0) / 6
    assert SentenceSplitter("en", "de").join(parts[:1]) is parts[0]
    drafted = [Translation("a", None, 1, False, None, 2, 3), Translation("b", None, 1, False, None, 1, 0), parts[1]]
    assert SentenceSplitter("en", "de").join(drafted) == Translation("a b", None, 2, False, None, 3, 3)
    assert SentenceSplitter("en", "de").join(parts[1:2] * 2) == Translation("", None, 0, False, None)


@pytest.mark.parametrize(("rounds", "score"), [(1, -1.0), (None, -(4 * 1.0 + 1 * 0.25) / 5)])
def test_a_sentence_that_a_nat_model_drops_makes_no_better_score(rounds: int | None, score: float) -> None:
    dropped = Translation("", -0.25, 0, False, rounds)
    parts = [Translation("a", -1.0, 3, False, rounds), dropped]
    assert SentenceSplitter("en", "de").join(parts) == Translation("a", score, 3, False, rounds)
    assert SentenceSplitter("en", "de").join([dropped, dropped]).score == -0.25


def test_without_the_package_the_remedy_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "sentencex", None)
    options = ["--split_sentences", "--source_lang=en", "--target_lang=de"]
    assert main(["translate", "--model=nowhere/to/be", *options]) == 2
    assert "pip install 'hf_nat[sentences]'" in capsys.readouterr().err


@pytest.mark.parametrize("code", ["english", "xx", "e", "source", "x1", "german_DE", "../en"])
def test_an_unknown_language_is_told(code: str, capsys: pytest.CaptureFixture) -> None:
    for name, other in (("source", "target"), ("target", "source")):
        options = ["--split_sentences", f"--{name}_lang={code}", f"--{other}_lang=de"]
        assert main(["translate", "--model=nowhere/to/be", *options]) == 2
        assert f"`{name}_lang` must be a code of ISO 639" in capsys.readouterr().err
    with pytest.raises(ValueError, match="`source_lang` must be a code of ISO 639"):
        SentenceSplitter(code, "de")
    assert SentenceSplitter("cz", code).split("Ahoj. Dobrý den.") == ["Ahoj. ", "Dobrý den."]


def test_translate_needs_both_languages_and_no_other_way(capsys: pytest.CaptureFixture) -> None:
    assert main(["translate", "--model=x", "--target_lang=de"]) == 2
    assert (
        "`target_lang` must be left out without `split_sentences` or `shortlist`, got 'de'" in capsys.readouterr().err
    )
    assert main(["translate", "--model=x", "--split_sentences", "--source_lang=en"]) == 2
    assert "`split_sentences` must come with `source_lang` and `target_lang`, got 'en' and None" in (
        capsys.readouterr().err
    )
