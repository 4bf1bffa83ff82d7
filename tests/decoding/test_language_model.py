"""n-gram language models against the back-off rule in plain Python, and in the beams that they take part in."""

from __future__ import annotations

import bz2
import copy
import gzip
import lzma
import math
import os
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from nat_model_tester import save, tiny_student
from transformers import PreTrainedTokenizerFast

from hf_nat.decoding import DecodingArguments, NGramLanguageModel, load_model, translate
from hf_nat.steps.split import decoding_inputs, decoding_settings


UNKNOWN = "<unk>"
# From an n-gram to its log-probability and its back-off weight, both to base 10.
NGrams = dict[tuple[str, ...], tuple[float, float]]


def write_arpa(path: Path, ngrams: NGrams) -> Path:
    order = max(map(len, ngrams))
    lines = ["\\data\\", *(f"ngram {n}={sum(len(key) == n for key in ngrams)}" for n in range(1, order + 1))]
    for n in range(1, order + 1):
        lines += ["", f"\\{n}-grams:"]
        for key, (log10, backoff) in ngrams.items():
            if len(key) == n:
                lines.append("\t".join([str(log10), " ".join(key), *([str(backoff)] if n < order else [])]))
    path.write_text("\n".join([*lines, "", "\\end\\", ""]), encoding="utf-8")
    return path


def backed_off(ngrams: NGrams, context: tuple[str, ...], word: str) -> float:
    """Log-probability to base 10, as the form is defined."""
    word = word if (word,) in ngrams else UNKNOWN
    if (*context, word) in ngrams:
        return ngrams[*context, word][0]
    return ngrams.get(context, (0.0, 0.0))[1] + backed_off(ngrams, context[1:], word)


@pytest.fixture
def ngrams(tiny_tokenizer: PreTrainedTokenizerFast, sentences: list[str]) -> NGrams:
    """Trigrams of the sentences' pieces, with numbers that are no distribution but all different."""
    found: NGrams = {(UNKNOWN,): (-3.0, 0.0), ("<s>",): (-99.0, -0.31), ("</s>",): (-1.5, 0.0)}
    for sentence in sentences[:4]:
        words = ["<s>", *tiny_tokenizer.tokenize(sentence), "</s>"]
        for n in (1, 2, 3):
            for start in range(len(words) - n + 1):
                key = tuple(words[start : start + n])
                found.setdefault(key, (-0.1 - 0.013 * len(found), -0.05 - 0.007 * len(found)))
    return found


@pytest.fixture
def model(tmp_path: Path, ngrams: NGrams, tiny_tokenizer: PreTrainedTokenizerFast) -> NGramLanguageModel:
    return NGramLanguageModel(write_arpa(tmp_path / "lm.arpa", ngrams), tiny_tokenizer)


def test_scores_are_those_of_the_back_off_rule(model, ngrams, tiny_tokenizer, sentences) -> None:
    for sentence in [*sentences, "two dogs", "red book hello hello cat"]:
        pieces = tiny_tokenizer.tokenize(sentence)
        ids, words = tiny_tokenizer.convert_tokens_to_ids(pieces), ["<s>", *pieces, "</s>"]
        for i, token in enumerate([*ids, tiny_tokenizer.eos_token_id]):
            context = tuple(words[: i + 1])[-2:]
            known = tuple(word if (word,) in ngrams else UNKNOWN for word in context)
            expected = backed_off(ngrams, known, words[i + 1]) * math.log(10)
            assert model(tuple(ids[:i]), token) == pytest.approx(expected, rel=1e-5), (sentence, i)


def test_a_model_from_which_n_grams_were_cut_backs_off_as_the_rule_says(ngrams, tmp_path, tiny_tokenizer, sentences):
    longest = {key[:-1] for key in ngrams if len(key) == 3}
    # Some bigrams are gone that are the end of a trigram, but the context of none.
    cut = [key for key in ngrams if len(key) == 2 and key not in longest][::2]
    kept = {key: value for key, value in ngrams.items() if key not in cut}
    assert any((word, *key) in kept for key in cut for (word, *_) in ngrams)
    model = NGramLanguageModel(write_arpa(tmp_path / "cut.arpa", kept), tiny_tokenizer)
    for sentence in sentences:
        words = ["<s>", *tiny_tokenizer.tokenize(sentence), "</s>"]
        ids = tiny_tokenizer.convert_tokens_to_ids(words[1:-1])
        for i, token in enumerate([*ids, tiny_tokenizer.eos_token_id]):
            known = tuple(word if (word,) in kept else UNKNOWN for word in words[: i + 1])[-2:]
            expected = backed_off(kept, known, words[i + 1]) * math.log(10)
            assert model(tuple(ids[:i]), token) == pytest.approx(expected), (sentence, i)


def test_unigrams_alone_are_a_model(ngrams, tmp_path, tiny_tokenizer, sentences) -> None:
    ones = {key: value for key, value in ngrams.items() if len(key) == 1 and key != (UNKNOWN,)}
    model = NGramLanguageModel(write_arpa(tmp_path / "ones.arpa", ones), tiny_tokenizer)
    pieces = tiny_tokenizer.tokenize(sentences[0])
    ids = tuple(tiny_tokenizer.convert_tokens_to_ids(pieces))
    assert model(ids[:2], ids[2]) == pytest.approx(ones[(pieces[2],)][0] * math.log(10))
    # KenLM's value where `<unk>` is missing.
    assert model(ids[:2], 10_000) == pytest.approx(-100 * math.log(10))


def test_an_n_gram_without_its_context_or_there_twice_is_told(ngrams, tmp_path, tiny_tokenizer) -> None:
    trigram = next(key for key in ngrams if len(key) == 3)
    without = {key: value for key, value in ngrams.items() if key != trigram[:-1]}
    with pytest.raises(ValueError, match=f"the context '{' '.join(trigram[:-1])}' of one of its 3-grams must be"):
        NGramLanguageModel(write_arpa(tmp_path / "without.arpa", without), tiny_tokenizer)
    text = write_arpa(tmp_path / "twice.arpa", ngrams).read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if " ".join(trigram) in line)
    (tmp_path / "twice.arpa").write_text(
        text.replace("\\end\\", "")
        .replace(
            f"ngram 3={sum(len(key) == 3 for key in ngrams)}", f"ngram 3={sum(len(key) == 3 for key in ngrams) + 1}"
        )
        .rstrip()
        + f"\n{line}\n\\end\\",
        encoding="utf-8",
    )
    with pytest.raises(ValueError, match="each n-gram must be there once, got '.*' twice"):
        NGramLanguageModel(tmp_path / "twice.arpa", tiny_tokenizer)


def test_the_binary_form_of_kenlm_is_told(tmp_path, tiny_tokenizer) -> None:
    (tmp_path / "lm.bin").write_bytes(b"mmap lm http://kheafield.com/code format version 5\n\0" + bytes(100))
    with pytest.raises(ValueError, match="is KenLM's binary form; give the ARPA file that it was made from"):
        NGramLanguageModel(tmp_path / "lm.bin", tiny_tokenizer)


def test_token_beyond_the_tokenizer_is_unknown(model, ngrams) -> None:
    expected = (ngrams[("<s>",)][1] + ngrams[(UNKNOWN,)][0]) * math.log(10)
    assert model((), 10_000) == pytest.approx(expected)
    assert model((10_000,), 10_001) == pytest.approx(ngrams[(UNKNOWN,)][0] * math.log(10))


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_a_packed_file_is_the_same_model(pack, model, tmp_path, ngrams, tiny_tokenizer) -> None:
    path = write_arpa(tmp_path / "packed.arpa", ngrams)
    path.write_bytes(pack(path.read_bytes()))
    packed = NGramLanguageModel(path, tiny_tokenizer)
    assert [packed((5, 6), token) for token in range(20)] == [model((5, 6), token) for token in range(20)]


def test_a_tokenizer_without_eos_and_a_word_of_two_spellings_are_refused(tmp_path, ngrams, tiny_tokenizer) -> None:
    path = write_arpa(tmp_path / "lm.arpa", ngrams | {("<UNK>",): (-1.0, 0.0)})
    with pytest.raises(ValueError, match="`<unk>` and `<UNK>` are one word, got both"):
        NGramLanguageModel(path, tiny_tokenizer)
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.eos_token = None
    with pytest.raises(ValueError, match="must be of a tokenizer with an EOS token, got one without"):
        NGramLanguageModel(path, tokenizer)


def test_file_of_other_words_is_refused(tmp_path, tiny_tokenizer) -> None:
    words: NGrams = dict.fromkeys([(UNKNOWN,), ("<s>",), ("</s>",), ("<s>", "</s>")], (-1.0, 0.0))
    pieces = [tiny_tokenizer.convert_ids_to_tokens(number) for number in range(5, 8)]
    foreign = words | {(word,): (-1.0, 0.0) for word in (*pieces, "dogdog")} | {("dogdog", "dogdog"): (-1.0, 0.0)}
    for ngrams, message in (
        (words, "must know pieces of .*, got a model of other words"),
        (foreign, "must be an n-gram model of the tokenizer's pieces, got one with the word 'dogdog'"),
    ):
        path = write_arpa(tmp_path / "words.arpa", ngrams)
        for pack in (bytes, gzip.compress):
            path.write_bytes(pack(path.read_bytes()))
            with pytest.raises(ValueError, match=f"`language_model` {message}"):
                NGramLanguageModel(path, tiny_tokenizer)


def test_characters_that_the_tokenizer_spells_out_are_no_words_of_others(tmp_path, ngrams, tiny_tokenizer) -> None:
    path = write_arpa(tmp_path / "lm.arpa", ngrams | dict.fromkeys([("é",), ("日本語",)], (-1.0, 0.0)))
    assert NGramLanguageModel(path, tiny_tokenizer)((), tiny_tokenizer.unk_token_id) == pytest.approx(
        NGramLanguageModel(write_arpa(tmp_path / "plain.arpa", ngrams), tiny_tokenizer)(
            (), tiny_tokenizer.unk_token_id
        )
    )


def test_what_is_no_file_of_n_grams_is_told_with_the_remedy(tmp_path, ngrams, tiny_tokenizer) -> None:
    whole = write_arpa(tmp_path / "lm.arpa", ngrams).read_bytes()
    noise, packed = np.random.default_rng(0).bytes(2000), bz2.compress(whole)
    broken = packed[:60] + bytes([packed[60] ^ 255]) + packed[61:]
    for number, data in enumerate(
        (b"", noise, whole[:-100], gzip.compress(whole)[:-20], b"some other text\n" * 500, broken)
    ):
        path = tmp_path / f"{number}.arpa"
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"Make it anew with `hf-nat language-model`\.$") as caught:
            NGramLanguageModel(path, tiny_tokenizer)
        assert "`language_model` must be an n-gram model in ARPA" in str(caught.value)
        assert not any(part in str(caught.value) for part in ("threw", "Byte:", "..", " ."))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="pipe` must be a plain file, got a folder, pipe or device"):
        NGramLanguageModel(tmp_path / "pipe", tiny_tokenizer)


@pytest.mark.parametrize(
    ("model_type", "beam"),
    [("ctc_nat", {"ctc_beam_size": 8}), ("da_transformer", {"graph_decoding": "beam", "graph_beam_size": 8})],
)
def test_options_of_a_command_reach_the_beam(model_type, beam, tmp_path, ngrams, tiny_tokenizer, sentences) -> None:
    save(tmp_path / "student", tiny_student(model_type, tiny_tokenizer, max_position_embeddings=64), tiny_tokenizer)
    path = str(write_arpa(tmp_path / "lm.arpa", ngrams))
    plain, fused = DecodingArguments(**beam), DecodingArguments(**beam, language_model=path, lm_weight=8.0)
    loaded, tokenizer = load_model(tmp_path / "student", device="cpu")
    assert fused.options(loaded) == beam | {"language_model": path, "lm_weight": 8.0}
    texts = [
        [t.text for t in translate(loaded, tokenizer, sentences, **decoding.generate_kwargs(loaded))]
        for decoding in (plain, fused)
    ]
    assert texts[0] != texts[1]
    known = {key[0] for key in ngrams if len(key) == 1}
    share = [sum(p in known for t in side for p in tokenizer.tokenize(t)) for side in texts]
    total = [sum(len(tokenizer.tokenize(t)) for t in side) for side in texts]
    # What the model knows is more of what is written.
    assert share[1] * total[0] > share[0] * total[1]


def test_translate_takes_a_file_too(tmp_path, ngrams, model, tiny_tokenizer, sentences) -> None:
    student, options = tiny_student("ctc_nat", tiny_tokenizer), {"ctc_beam_size": 4, "lm_weight": 8.0}
    path = write_arpa(tmp_path / "lm.arpa", ngrams)
    expected = translate(student, tiny_tokenizer, sentences, language_model=model, **options)
    assert translate(student, tiny_tokenizer, sentences, language_model=path, **options) == expected
    with pytest.raises(ValueError, match="`language_model` must be a function of prefix and token, .* got 3"):
        translate(student, tiny_tokenizer, sentences, language_model=3, **options)


def test_a_step_knows_the_file_by_its_content(tmp_path, ngrams) -> None:
    assert "language_model" not in decoding_inputs(DecodingArguments())
    inputs = []
    for name, change in product(("a", "b"), (0, 1)):
        (tmp_path / name).mkdir(exist_ok=True)
        path = write_arpa(tmp_path / name / "lm.arpa", ngrams | {("</s>",): (-1.5 - change, 0.0)})
        decoding = DecodingArguments(language_model=str(path), lm_weight=0.1)
        assert decoding_settings(decoding)["decoding"].keys() >= {"lm_weight"}
        assert "language_model" not in decoding_settings(decoding)["decoding"]
        inputs.append(decoding_inputs(decoding)["language_model"])
    assert inputs[0] == inputs[2] and inputs[1] == inputs[3] and inputs[0] != inputs[1]
