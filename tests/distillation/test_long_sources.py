"""Sources longer than the teacher's positions (64): cut, left with their real target, or refused."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from distillation.strategy_runs import RUNS
from transformers import MarianMTModel, PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

from hf_nat.base.utils import read_json
from hf_nat.cards import write_corpus_card
from hf_nat.data.encoding import encode
from hf_nat.decoding import SentenceSplitter, translate
from hf_nat.distillation import DistillArguments
from hf_nat.steps import distill


LONG_ROWS = (1, 4, 12)


@pytest.fixture
def long_sources(sources: list[str], corpus: str) -> list[str]:
    """Puts rows of more than 64 tokens into the training split of `corpus`; the real target of the last is blank."""
    rows = [*sources, "hello", "the cat sleeps " * 30]
    rows[1], rows[4] = "two men walk over the street " * 20, "hello " * 100
    pairs = [{"en": source, "xx": f"real {number}" if number != 12 else " "} for number, source in enumerate(rows)]
    lines = [json.dumps({"translation": pair, "extra": 7}) + "\n" for pair in pairs]
    Path(corpus.format(split="train")).write_text("".join(lines))
    return rows


@pytest.fixture
def run(
    copy_teacher: MarianMTModel,
    tiny_tokenizer: PreTrainedTokenizerFast,
    long_sources: list[str],
    arguments: Callable[..., DistillArguments],
) -> Callable[..., tuple[list[dict[str, Any]], dict[str, Any]]]:
    """Distills, and returns the training rows and the manifest."""

    def distilled(name: str, **changes: object) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        folder = distill(copy_teacher, tiny_tokenizer, arguments(name, **changes))
        rows = [row for path in sorted(folder.glob("data/train-*")) for row in pq.read_table(path).to_pylist()]
        return rows, read_json(folder / "manifest.json")

    return distilled


def test_truncate_cuts_and_flags_and_is_the_default(
    run, copy_teacher, tiny_tokenizer, long_sources, arguments, caplog
):
    assert arguments().long_source == "truncate"
    with caplog.at_level(logging.WARNING, logger="hf_nat.decoding"):
        rows, manifest = run("cut", strategy="greedy")
    outputs = translate(copy_teacher, tiny_tokenizer, long_sources, num_beams=1, max_new_tokens=12)
    assert [row["translation"]["xx"] for row in rows] == [output.text for output in outputs]
    assert all("truncated" in rows[number]["flags"] for number in LONG_ROWS)
    assert manifest["long_source"] == "truncate"
    assert manifest["flag_counts"]["kept_real"] == 0
    assert "sources to the 64 positions" in caplog.text


@pytest.mark.parametrize("name", [name for name in RUNS if name != "expanded"])
def test_real_keeps_the_real_target_and_the_other_rows_do_not_move(run, name, long_sources, caplog):
    cut, _ = run("cut", **RUNS[name])
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="hf_nat.decoding"):
        kept, manifest = run("kept", **RUNS[name], long_source="real")
    assert "positions" not in caplog.text, "a source that is not decoded is not cut either"
    assert [row["id"] for row in kept] == list(range(len(long_sources)))
    assert [row["translation"]["en"] for row in kept] == long_sources
    for number, (row, before) in enumerate(zip(kept, cut, strict=True)):
        if number not in LONG_ROWS:
            assert row == before
            continue
        assert row["translation"]["xx"] == row["real_target"] == before["real_target"]
        assert row["teacher_score"] is None
        assert row["flags"] == (["empty_output", "kept_real"] if number == 12 else ["kept_real"])
    assert manifest["long_source"] == "real"
    assert manifest["flag_counts"]["kept_real"] == len(LONG_ROWS)


def test_the_card_tells_where_real_targets_were_kept(run, arguments):
    sentence = "were too long for the teacher"
    for policy, is_told in (("real", True), ("truncate", False)):
        run(policy, long_source=policy, strategy="greedy")
        write_corpus_card(arguments(policy).output_dir)
        card = (Path(arguments(policy).output_dir) / "README.md").read_text()
        assert (sentence in card) is is_told


def test_error_names_the_first_row_and_both_lengths_before_any_work(
    run, copy_teacher, tiny_tokenizer, long_sources, arguments, monkeypatch
):
    length = len(encode(tiny_tokenizer, long_sources[1:2])["input_ids"][0])
    monkeypatch.setattr(copy_teacher, "generate", lambda **_: pytest.fail("The model must not be called."))
    message = rf"at most 64 tokens.* row 1 \(from 0\) of the training split has {length}\. Use `long_source: truncate`"
    with pytest.raises(ValueError, match=message):
        run("refused", long_source="error")
    assert not Path(arguments("refused").output_dir).exists()


def test_error_is_the_same_as_truncate_where_no_source_is_long(run, arguments):
    for policy in ("error", "truncate"):
        assert [row["id"] for row in run(policy, long_source=policy, max_samples=1)[0]] == [0]
    assert run("error", long_source="error", max_samples=1)[0] == run("truncate", max_samples=1)[0]


def test_a_source_that_just_fits_is_not_long(run, tiny_tokenizer, long_sources, corpus):
    fitting = "b" * 62  # with its word mark and EOS 64 tokens
    (ids,) = encode(tiny_tokenizer, [fitting])["input_ids"]
    assert len(ids) == 64
    path = Path(corpus.format(split="train"))
    path.write_text(json.dumps({"translation": {"en": fitting, "xx": "y"}, "extra": 7}) + "\n")
    rows, _ = run("error", long_source="error")
    assert rows == run("real", long_source="real")[0]
    path.write_text(json.dumps({"translation": {"en": fitting + "b", "xx": "y"}, "extra": 7}) + "\n")
    with pytest.raises(ValueError, match=r"row 0 \(from 0\) .* has 65"):
        run("longer", long_source="error")


def test_a_teacher_without_positions_takes_every_source(tiny_tokenizer, long_sources, arguments):
    config = T5Config(
        vocab_size=len(tiny_tokenizer),
        d_model=8,
        d_kv=4,
        d_ff=8,
        num_layers=1,
        num_heads=2,
        pad_token_id=0,
        eos_token_id=tiny_tokenizer.eos_token_id,
        decoder_start_token_id=0,
    )
    teacher = T5ForConditionalGeneration(config).eval()
    for policy in ("error", "real"):
        folder = distill(teacher, tiny_tokenizer, arguments(policy, long_source=policy, strategy="greedy"))
        assert read_json(folder / "manifest.json")["flag_counts"]["kept_real"] == 0


def test_another_policy_is_an_error_in_the_same_folder(run):
    run("once", strategy="greedy")
    with pytest.raises(ValueError, match="`long_source` must be the same .* it was 'truncate', got 'real'"):
        run("once", strategy="greedy", long_source="real")


def test_unknown_policy_is_an_error(arguments):
    with pytest.raises(ValueError, match=r"`long_source` must be one of \['error', 'real', 'truncate'\], got 'drop'"):
        arguments(long_source="drop")


DOCUMENT = "a dog runs. " + "The cat sleeps. " * 20 + "Hello."


def test_documents_are_translated_sentence_by_sentence(
    run, copy_teacher, tiny_tokenizer, corpus, arguments, capsys
) -> None:
    sources = ["hello", DOCUMENT, "", "a dog runs"]
    pairs = [{"translation": {"en": source, "xx": "real"}, "extra": 7} for source in sources]
    Path(corpus.format(split="train")).write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    cut, cut_manifest = run("cut", strategy="greedy")
    whole, manifest = run("whole", strategy="greedy", split_sentences=True, long_source="error")
    sentences = SentenceSplitter("en", "xx").split(DOCUMENT)
    outputs = translate(
        copy_teacher, tiny_tokenizer, sentences, num_beams=1, max_new_tokens=12, max_length_a=2.0, max_length_b=20
    )
    assert whole[1]["translation"]["xx"] == " ".join(output.text for output in outputs)
    assert [whole[row] for row in (0, 2, 3)] == [cut[row] for row in (0, 2, 3)]
    assert "cut_source" in cut[1]["flags"] and "cut_source" not in whole[1]["flags"]
    assert cut_manifest["flag_counts"]["cut_source"] == 1 and "split_sentences" not in cut_manifest
    assert manifest["split_sentences"].startswith("sentencex ") and manifest["flag_counts"]["cut_source"] == 0
    card = (Path(arguments("whole").output_dir) / "README.md").read_text()
    assert f"split by {manifest['split_sentences']}, translated one by one" in card
    assert "the teacher read only the beginning" in (Path(arguments("cut").output_dir) / "README.md").read_text()


@pytest.mark.parametrize("policy", ["truncate", "real", "error"])
def test_a_sentence_of_a_document_may_be_too_long_itself(run, corpus, policy) -> None:
    long = f"Hello. {'the cat sleeps ' * 30}. Hello."
    row = {"translation": {"en": long, "xx": "real"}, "extra": 7}
    Path(corpus.format(split="train")).write_text(json.dumps(row) + "\n")
    if policy == "error":
        with pytest.raises(ValueError, match=r"row 0 \(from 0\) of the training split has"):
            run("long", strategy="greedy", split_sentences=True, long_source=policy)
        return
    rows, _ = run("long", strategy="greedy", split_sentences=True, long_source=policy)
    assert ("cut_source" in rows[0]["flags"]) is (policy == "truncate")
    assert (rows[0]["translation"]["xx"] == "real") is (policy == "real")


def test_a_sentence_samples_by_its_row_and_place(unsure_teacher, tiny_tokenizer, arguments, rows, corpus) -> None:
    pairs = [{"translation": {"en": text, "xx": "real"}} for text in ("hello", "Hello. Hello. Hello.", "hello")]
    Path(corpus.format(split="train")).write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    settings = [{"split_sentences": True, "shard_size": 1}, {"split_sentences": True}, {}]
    one, three, unsplit = (
        rows(distill(unsure_teacher, tiny_tokenizer, arguments(f"{index}", strategy="sampling", **changes)))
        for index, changes in enumerate(settings)
    )
    assert one == three
    assert [unsplit[row] for row in (0, 2)] == [one[row] for row in (0, 2)]


def test_interpolation_knows_no_sentences(arguments) -> None:
    with pytest.raises(ValueError, match="`split_sentences` must be false for the strategy 'interpolation'"):
        arguments(strategy="interpolation", split_sentences=True)
