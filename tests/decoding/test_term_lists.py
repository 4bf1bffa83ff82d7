"""Term lists: what they find in a source, and that the text of its translation holds it."""

from __future__ import annotations

from pathlib import Path

import pytest
from nat_model_tester import save, tiny_student

from hf_nat.decoding import TermList, Translator, term_pieces, term_tokens, translate
from hf_nat.decoding.terms import continuation_tokens
from hf_nat_cli import main


TERMS = TermList.from_pairs(
    [
        ("dog", "red dog"),
        ("big dog", "the  cat "),
        ("man", "men"),
        ("a.m.", "park"),
        ("New-York", "street street"),
    ]
)


@pytest.mark.parametrize(
    ("sentence", "found"),
    [
        ("a dog", ["red dog"]),
        ("dogs and a hotdog", []),
        ("the big  dog.", ["the cat"]),
        ("big big dog dog", ["the cat", "red dog"]),
        ("Dog", []),
        ("at 5 a.m. a man", ["park", "men"]),
        ("a.m", []),
        ("New-York, New York", ["street street"]),
        ("", []),
    ],
)
def test_what_a_list_finds(sentence, found):
    assert TERMS(sentence) == found


def test_a_file_of_terms(tmp_path: Path):
    path = tmp_path / "terms.tsv"
    path.write_text("dog\tred dog\r\n\nman\tmen\ndog\tred  dog\n", encoding="utf-8")
    assert TermList.read(str(path))("man dog") == ["men", "red dog"]
    for text, message in (
        ("dog\n", "got 1 fields on line 1"),
        ("\nx\ty\tz\n", "got 3 fields on line 2"),
        ("dog\t \n", "must have a source and a target term in each row"),
        ("\tdog\n", "must have a source and a target term in each row"),
        ("dog\tcat\ndog\tmen\n", "one target, got 'cat' and 'men' for 'dog' in row 2"),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=message):
            TermList.read(str(path))


def test_an_empty_list_finds_nothing():
    assert TermList.from_pairs([])("a dog") == []


def test_tokens_of_terms_are_text(tiny_tokenizer):
    assert tiny_tokenizer.batch_decode(term_tokens(tiny_tokenizer, ["red dog", "men"])) == ["red dog", "men"]
    for term in ("ß", " ", "a ß", "</s>"):
        with pytest.raises(ValueError, match="must be text that the model's tokenizer knows"):
            term_tokens(tiny_tokenizer, [term])
    for terms in ("dog", [None]):
        with pytest.raises(ValueError, match="Target terms must be several texts"):
            term_tokens(tiny_tokenizer, terms)


class Pieces:
    """A tokenizer of some pieces, the first of which is no text."""

    all_special_ids = (0,)

    def __init__(self, *pieces: str | None) -> None:
        self.pieces = ["<unk>", *pieces]

    def __len__(self) -> int:
        return len(self.pieces)

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str | None]:
        return [self.pieces[i] for i in ids]


def test_what_goes_on_with_a_word():
    going_on = ["e", "é", "7x", "_", "<0x41>", "ß", "한", "\u0301", "\u0940ab"]  # the last two begin with a mark
    others = ["▁e", "▁", ",", "-", "▁<0x41>", "<", "が", "犬", "々", "ｱ", "ไ", "…"]
    found = continuation_tokens(Pieces(*going_on, *others), 1 + len(going_on) + len(others) + 2)
    assert found.tolist() == [True] * (1 + len(going_on)) + [False] * len(others) + [True] * 2
    assert continuation_tokens(Pieces(*going_on), 8) is None
    assert continuation_tokens(Pieces("▁e", None), 3).tolist() == [True, False, True]


@pytest.fixture(params=["cmlm", "levenshtein_transformer"])
def model(request, tiny_tokenizer):
    return tiny_student(request.param, tiny_tokenizer, max_position_embeddings=64)


def test_texts_hold_their_terms(model, tiny_tokenizer):
    lines = ["a dog", "the big dog", "", "a man at a.m.", "the street", "dog dog dog"]
    free = translate(model, tiny_tokenizer, lines)
    for max_batch_tokens in (1, 4096):
        held = translate(model, tiny_tokenizer, lines, terms=TERMS, max_batch_tokens=max_batch_tokens)
        for line, translation in zip(lines, held, strict=True):
            for term in TERMS(line):
                assert translation.text.count(term) >= TERMS(line).count(term)
                words = term_pieces(term)
                pieces = term_pieces(translation.text)
                assert words in [pieces[i : i + len(words)] for i in range(len(pieces))], "a term stands whole"
    assert [held[i].text for i in (2, 4)] == [free[i].text for i in (2, 4)]
    stream = Translator(model, tiny_tokenizer, terms=TERMS).stream(lines, window=2)
    assert [translation.text for translation in stream] == [translation.text for translation in held]


def test_a_teacher_has_no_terms(copy_teacher, tiny_tokenizer):
    with pytest.raises(ValueError, match="`terms` must be left out for an autoregressive model"):
        translate(copy_teacher, tiny_tokenizer, ["a dog"], terms=TERMS)


def test_the_command_reads_a_list(model, tiny_tokenizer, tmp_path: Path):
    save(tmp_path / "model", model, tiny_tokenizer)
    (tmp_path / "terms.tsv").write_text("dog\tred dog\n")
    (tmp_path / "in.txt").write_text("a dog runs\nhello\n")
    argv = ["translate", f"--model={tmp_path / 'model'}", f"--input={tmp_path / 'in.txt'}"]
    assert main([*argv, f"--terms={tmp_path / 'terms.tsv'}", f"--output={tmp_path / 'out.txt'}"]) == 0
    assert "red dog" in (tmp_path / "out.txt").read_text().splitlines()[0]
