from __future__ import annotations

import logging

import pytest
from datasets import Dataset
from tokenizers import processors
from transformers import DataCollatorForSeq2Seq, PreTrainedTokenizerFast

from hf_nat.data import EncodingReport, encode, encode_corpus, has_content, is_blank, train_tokenizer


EOS = 2
# One word is one token.
PAIRS = [
    ("a b c", "c b a"),
    ("", "a"),
    ("a", " \t"),
    ("a b c d", "a"),
    ("a", "a b c d e"),
    (" ", "a b c d e"),
    ("a b", "b a c"),
]
SETTINGS = {"source_lang": "en", "target_lang": "de", "max_source_length": 4, "max_target_length": 5}


@pytest.fixture(scope="module")
def tokenizer():
    letters = ["a b c d e"] * 9
    return train_tokenizer(letters, 5 + 1 + 5 + 5)


@pytest.fixture
def dataset():
    return Dataset.from_list([{"id": i, "translation": {"en": en, "de": de}} for i, (en, de) in enumerate(PAIRS)])


def expected_ids(tokenizer, text):
    return [*tokenizer.convert_tokens_to_ids([f"▁{word}" for word in text.split()]), EOS]


def expected_rows(tokenizer, rows):
    return [(expected_ids(tokenizer, PAIRS[row][0]), expected_ids(tokenizer, PAIRS[row][1])) for row in rows]


def test_encode_gives_ids_mask_and_labels_without_padding(tokenizer):
    encoded = encode(tokenizer, ["a b", " a\t"], ["c", "d e a"])
    assert encoded["input_ids"] == [expected_ids(tokenizer, "a b"), expected_ids(tokenizer, "a")]
    assert encoded["attention_mask"] == [[1, 1, 1], [1, 1]]
    assert encoded["labels"] == [expected_ids(tokenizer, "c"), expected_ids(tokenizer, "d e a")]
    assert set(encode(tokenizer, ["a"])) == {"input_ids", "attention_mask"}


INVISIBLE = [
    "\u200b",
    "\ufeff",
    "\u00ad",
    "\u2060",
    "\u200e\u202c",
    "\x00\x1f",
    "\u3164",
    "\u2800",
    " \u200b\t\u00ad\u3000",
    "",
]


@pytest.mark.parametrize("text", INVISIBLE)
def test_a_sentence_of_which_nothing_can_be_seen_is_empty(text, tokenizer):
    assert is_blank(text)
    encoded = encode(tokenizer, [text, f"a{text}"], [text, "\u4e2d"])
    assert encoded["input_ids"][0] == encoded["labels"][0] == [EOS]
    assert has_content(tokenizer, encoded["input_ids"]) == [False, True]
    # What the tokenizer does not know is text all the same.
    assert (
        has_content(tokenizer, encoded["labels"]) == [False, True] and tokenizer.unk_token_id in encoded["labels"][1]
    )


@pytest.mark.parametrize("text", ["a", "\u200ba", "\u2581", "\u0301", "\U0001f600\ufe0f", "."])
def test_what_can_be_seen_is_not_blank(text):
    assert not is_blank(text)


def test_tokens_that_a_tokenizer_adds_are_no_content(tokenizer):
    backend = type(tokenizer.backend_tokenizer).from_str(tokenizer.backend_tokenizer.to_str())
    # A language before each sentence, which is no special token.
    language = backend.token_to_id("\u2581e")
    backend.post_processor = processors.TemplateProcessing(
        single="\u2581e $A </s>", special_tokens=[("\u2581e", language), ("</s>", EOS)]
    )
    other = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", unk_token="<unk>", pad_token="<pad>")
    ids = encode(other, ["", "\u200b", "a", "\u4e2d"])["input_ids"]
    assert ids[:2] == [[language, EOS]] * 2
    assert has_content(other, ids) == [False, False, True, True]
    # A word mark alone is none either.
    assert has_content(other, [[backend.token_to_id("\u2581"), EOS], []]) == [False, False]
    rows = Dataset.from_list(
        [{"translation": {"en": en, "de": de}} for en, de in (("a", "a"), ("\ufeff", "a"), ("a", ""))]
    )
    _, report = encode_corpus(rows, other, **SETTINGS)
    assert (report.kept, report.empty_source, report.empty_target) == (1, 1, 1)
    with pytest.raises(ValueError, match=r"`max_source_length` must be >= 3 \(one token and those .* adds\), got 2"):
        encode(other, ["a"], max_source_length=2)


def test_an_end_of_sentence_that_is_the_unknown_token_too_is_no_content(tokenizer):
    backend = type(tokenizer.backend_tokenizer).from_str(tokenizer.backend_tokenizer.to_str())
    other = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", unk_token="</s>")
    assert has_content(other, encode(other, ["", "a"])["input_ids"]) == [False, True]


def test_encode_of_nothing_is_nothing(tokenizer):
    assert encode(tokenizer, [], []) == {"input_ids": [], "attention_mask": [], "labels": []}
    assert encode(tokenizer, [""])["input_ids"] == [[EOS]]


@pytest.mark.parametrize("length", [2, 3, 4, 5, 6])
def test_a_cut_sentence_keeps_its_first_tokens_and_eos(length, tokenizer):
    full = expected_ids(tokenizer, "a b c d")
    encoded = encode(tokenizer, ["a b c d"], ["a b c d"], max_source_length=length, max_target_length=length)
    expected = full if length >= 5 else [*full[: length - 1], EOS]
    assert encoded == {"input_ids": [expected], "attention_mask": [[1] * len(expected)], "labels": [expected]}


def test_encoding_leaves_the_tokenizer_as_it_was(tokenizer):
    before = tokenizer.backend_tokenizer.to_str()
    encode(tokenizer, ["a b c d"], max_source_length=2)
    assert tokenizer.backend_tokenizer.to_str() == before


@pytest.mark.parametrize("name", ["max_source_length", "max_target_length"])
def test_encode_refuses_a_maximum_without_room_for_a_token(name, tokenizer):
    with pytest.raises(ValueError, match=rf"`{name}` must be >= 2 \(one token and EOS\), got 1"):
        encode(tokenizer, ["a"], ["a"], **{name: 1})


def test_encode_refuses_unequal_numbers(tokenizer):
    with pytest.raises(ValueError, match="as many as `sources`, got 1 and 2"):
        encode(tokenizer, ["a", "b"], ["a"])


def test_encode_refuses_a_tokenizer_without_eos_at_the_end(tokenizer):
    backend = type(tokenizer.backend_tokenizer).from_str(tokenizer.backend_tokenizer.to_str())
    backend.post_processor = None
    bare = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>")
    with pytest.raises(ValueError, match=r"must end every sequence with EOS \(2\), got \[\d+\] after 'a'"):
        encode(bare, ["a"])


def test_drop_removes_what_cannot_be_trained_on(tokenizer, dataset):
    encoded, report = encode_corpus(dataset, tokenizer, **SETTINGS)
    assert [(row["input_ids"], row["labels"]) for row in encoded] == expected_rows(tokenizer, [0, 6])
    assert encoded.column_names == ["input_ids", "attention_mask", "labels", "length"]
    assert encoded["length"][:] == [4, 4]
    assert report == EncodingReport(total=7, kept=2, empty_source=2, empty_target=1, long_source=1, long_target=2)


def test_truncate_cuts_long_rows_and_keeps_empty_ones(tokenizer, dataset):
    encoded, report = encode_corpus(dataset, tokenizer, **SETTINGS, unusable="truncate")
    expected = [
        (source if len(source) <= 4 else [*source[:3], EOS], target if len(target) <= 5 else [*target[:4], EOS])
        for source, target in expected_rows(tokenizer, range(7))
    ]
    assert [(row["input_ids"], row["labels"]) for row in encoded] == expected
    assert [len(row["attention_mask"]) for row in encoded] == [len(source) for source, _ in expected]
    assert encoded["length"][:] == [max(len(source), len(target)) for source, target in expected]
    assert (report.kept, report.long_source, report.empty_source) == (7, 1, 2)


def test_error_names_the_first_unusable_row(tokenizer, dataset):
    with pytest.raises(ValueError, match=r"row 1 has \['empty_source'\] \(1 source and 2 target tokens\)"):
        encode_corpus(dataset, tokenizer, **SETTINGS, unusable="error")
    with pytest.raises(ValueError, match=r"row 0 has \['empty_source', 'long_target'\]"):
        encode_corpus(dataset.select([5]), tokenizer, **SETTINGS, unusable="error")
    encoded, _ = encode_corpus(dataset.select([0, 6]), tokenizer, **SETTINGS, unusable="error")
    assert len(encoded) == 2


@pytest.mark.parametrize("unusable", ["drop", "truncate"])
def test_a_stream_gives_the_same_rows_without_a_report(unusable, tokenizer, dataset):
    encoded, _ = encode_corpus(dataset, tokenizer, **SETTINGS, unusable=unusable)
    stream, report = encode_corpus(dataset.to_iterable_dataset(), tokenizer, **SETTINGS, unusable=unusable)
    assert list(stream) == list(encoded)
    assert report is None


def test_the_report_is_the_same_from_the_cache_and_is_logged(tokenizer, tmp_path, caplog):
    rows = [{"translation": {"en": en, "de": de}} for en, de in PAIRS]
    Dataset.from_list(rows).save_to_disk(tmp_path)
    reports = []
    for _ in range(2):
        with caplog.at_level(logging.INFO, logger="hf_nat.data.encoding"):
            encoded, report = encode_corpus(Dataset.load_from_disk(tmp_path), tokenizer, **SETTINGS)
        reports.append(report)
    assert encoded.cache_files
    assert reports[0] == reports[1] and reports[0].kept == 2
    assert caplog.text.count("Encoded 2 of 7 rows") == 2


def test_no_row_left_is_an_error(tokenizer, dataset):
    with pytest.raises(ValueError, match="must keep at least one row, got none of 2: .*'empty_source': 1"):
        encode_corpus(dataset.select([1, 4]), tokenizer, **SETTINGS)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"unusable": "flag"}, r"`unusable` must be one of .*'drop'.*got 'flag'"),
        ({"max_source_length": 1}, "`max_source_length` must be >= 2 .*got 1"),
        ({"max_target_length": 0}, "`max_target_length` must be >= 2 .*got 0"),
        ({"max_target_length": -1}, "`max_target_length` must be >= 2 .*got -1"),
    ],
)
def test_encode_corpus_refuses_wrong_settings(wrong, message, tokenizer, dataset):
    with pytest.raises(ValueError, match=message):
        encode_corpus(dataset, tokenizer, **{**SETTINGS, **wrong})


def test_the_rows_collate_with_right_padding(tokenizer, dataset):
    encoded, _ = encode_corpus(dataset.select([0, 6]), tokenizer, **SETTINGS)
    batch = DataCollatorForSeq2Seq(tokenizer)([encoded.remove_columns("length")[i] for i in range(2)])
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
    assert batch["input_ids"].tolist()[1] == [*expected_ids(tokenizer, "a b"), 0]
    assert batch["labels"].tolist() == [expected_ids(tokenizer, "c b a"), expected_ids(tokenizer, "b a c")]
