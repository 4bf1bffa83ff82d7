"""The benchmark of terms cuts them as it says, and scores what the model itself had to say."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
from nat_model_tester import save, tiny_student

from hf_nat.base.utils import read_json
from hf_nat.data.tokenizer import train_tokenizer


NOUNS = [("dogs", "hunde"), ("cats", "katzen"), ("books", "buecher"), ("streets", "strassen"), ("parks", "gaerten")]
VERBS = [("sleep", "schlafen"), ("fall", "fallen"), ("burn", "brennen")]
TRAIN = [(f"the {noun} {verb}", f"die {Noun} {Verb}") for noun, Noun in NOUNS for verb, Verb in VERBS] * 4
TEST = [("the dogs sleep", "die hunde schlafen"), ("the", "die"), ("the cats burn", "die katzen brennen")]


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "benchmark_terms.py"))


def test_terms_are_rare_words_with_their_reference(script) -> None:
    cut = script["cut_terms"]
    assert cut(TEST, TRAIN, 50, 2) == [["hunde", "schlafen"], [], ["katzen", "brennen"]]
    assert cut(TEST, TRAIN, 12, 2) == [["hunde"], [], ["katzen"]]
    assert cut(TEST, TRAIN, 50, 1) == [["hunde"], [], ["katzen"]]
    assert cut(TEST, TRAIN, 0, 2) == [[], [], []]


def test_every_term_is_taken_out_once(script) -> None:
    assert script["without_terms"]("die hunde, hunde bellen", ["hunde", "katzen"]) == "die , hunde bellen"


def test_the_rest_is_scored_without_the_terms(script) -> None:
    references = ["der große hund schläft heute im park", "eine katze"]
    terms = [["hund"], []]
    outputs = {True: references, False: ["der große hundehalter schläft heute im park", "eine katze"]}
    result = script["measure"](outputs.__getitem__, references, terms, 2, "de")
    assert result["with_terms"]["bleu"] == pytest.approx(100) and result["with_terms"]["share_of_terms"] == 1
    assert result["with_terms"]["bleu_of_the_rest"] == pytest.approx(100)
    assert result["without_terms"]["bleu"] < 90 and result["without_terms"]["share_of_terms"] == 0


def test_both_ways_are_scored_and_timed(script, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for split, pairs in (("train", TRAIN), ("test", TEST)):
        for side, lang in enumerate(("en", "de")):
            (tmp_path / f"{split}.{lang}").write_text("".join(f"{pair[side]}\n" for pair in pairs))
    tokenizer = train_tokenizer([text for pair in TRAIN for text in pair], vocab_size=80)
    save(tmp_path / "model", tiny_student("levenshtein_transformer", tokenizer), tokenizer)
    options = ["--source_lang=en", "--target_lang=de", "--repeats=1", "--max_iterations=2"]
    places = [f"--model={tmp_path / 'model'}", f"--corpus={tmp_path}/{{split}}.{{lang}}"]
    script["main"]([*places, *options, f"--output={tmp_path / 'terms.json'}"])
    result = read_json(tmp_path / "terms.json")
    assert (result["num_terms"], result["num_with_terms"], result["num_sentences"]) == (4, 2, 3)
    assert result["with_terms"]["share_of_terms"] == 1 > result["without_terms"]["share_of_terms"]
    assert "4 terms in 2 of 3 sentences" in capsys.readouterr().out
