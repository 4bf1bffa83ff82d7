from __future__ import annotations

import gzip
import json
import os
import re

import pytest
from datasets import Dataset, IterableDataset, Translation

from hf_nat.data import load_corpus
from hf_nat.data.text_files import read_lines


PAIRS = [("a cat", "eine Katze"), ("", "leer"), ("two  dogs", "zwei Hunde"), ("naïve", "naïv")]
LANGUAGES = {"source_lang": "en", "target_lang": "de"}
ROWS = [{"id": i, "translation": {"en": en, "de": de}} for i, (en, de) in enumerate(PAIRS)]


def write(path, data, compress=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    data = data if isinstance(data, bytes) else data.encode()
    path.write_bytes(gzip.compress(data) if compress else data)
    return path


def write_text(folder, suffix="", pairs=PAIRS, split="train"):
    sides = zip(*pairs, strict=True)
    return [
        write(folder / f"{split}.{lang}{suffix}", "".join(f"{line}\n" for line in side), bool(suffix))
        for lang, side in zip(("en", "de"), sides, strict=True)
    ]


def write_json_lines(path, rows):
    return write(path, "".join(json.dumps(row) + "\n" for row in rows), path.suffix == ".gz")


def write_parquet(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    Dataset.from_list(rows).to_parquet(path)
    return path


def make_corpus(form, folder):
    if form in ("text", "text.gz"):
        write_text(folder, form.removeprefix("text"))
        return str(folder / f"{{split}}.{{lang}}{form.removeprefix('text')}")
    if form == "two files":
        return write_text(folder)
    if form in ("jsonl", "jsonl.gz"):
        return write_json_lines(folder / f"corpus.{form}", ROWS)
    if form == "jsonl glob":
        write_json_lines(folder / "1.jsonl", ROWS[:1])
        write_json_lines(folder / "2.jsonl", ROWS[1:])
        return folder / "*.jsonl"
    if form == "parquet":
        return write_parquet(folder / "corpus.parquet", ROWS)
    if form == "parquet glob":
        write_parquet(folder / "train-0.parquet", ROWS[:2])
        write_parquet(folder / "train-1.parquet", ROWS[2:])
        write_parquet(folder / "test-0.parquet", ROWS[:1])
        return str(folder / "{split}-*.parquet")
    write_parquet(folder / "data" / "train-00000-of-00001.parquet", ROWS)
    write_parquet(folder / "data" / "test-00000-of-00001.parquet", ROWS[:1])
    return str(folder)


FORMS = ["text", "text.gz", "two files", "jsonl", "jsonl.gz", "jsonl glob", "parquet", "parquet glob", "folder"]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_rows(form, tmp_path):
    dataset = load_corpus(make_corpus(form, tmp_path), "train", **LANGUAGES)
    assert isinstance(dataset, Dataset)
    assert [(row["en"], row["de"]) for row in dataset["translation"]] == PAIRS
    assert isinstance(dataset.features["translation"], Translation)
    assert set(dataset.features["translation"].languages) == {"en", "de"}
    if "text" not in form and form != "two files":
        assert dataset["id"][:] == [0, 1, 2, 3]


@pytest.mark.parametrize("form", FORMS)
def test_a_stream_gives_the_rows_of_the_dataset(form, tmp_path):
    corpus = make_corpus(form, tmp_path)
    stream = load_corpus(corpus, "train", **LANGUAGES, streaming=True)
    assert isinstance(stream, IterableDataset)
    assert list(stream) == list(load_corpus(corpus, "train", **LANGUAGES))


def test_lines_end_at_newline_only(tmp_path):
    source = write(tmp_path / "x.en", b"\xef\xbb\xbfone\x0btwo\r\nthree\rfour\x1c\nlast")
    target = write(tmp_path / "x.de", "eins\u2028zwei\n\x85\r\n\ufeffende".encode())
    dataset = load_corpus([source, target], **LANGUAGES)
    assert [row["en"] for row in dataset["translation"]] == ["one\x0btwo", "three\rfour\x1c", "last"]
    assert [row["de"] for row in dataset["translation"]] == ["eins\u2028zwei", "\x85", "\ufeffende"]


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
@pytest.mark.parametrize("streaming", [False, True])
def test_other_languages_go_and_other_columns_stay(form, streaming, tmp_path):
    rows = [
        {"score": 0.5, "flags": ["x"], "translation": {"cs": "pes", "de": "Hund", "en": "dog"}},
        {"score": None, "flags": [], "translation": {"cs": None, "de": "Uhr", "en": "clock"}},
    ]
    path = tmp_path / f"corpus.{form}"
    (write_json_lines if form == "jsonl" else write_parquet)(path, rows)
    loaded = list(load_corpus(path, **LANGUAGES, streaming=streaming))
    assert [row["translation"] for row in loaded] == [{"en": "dog", "de": "Hund"}, {"en": "clock", "de": "Uhr"}]
    assert [(row["score"], row["flags"]) for row in loaded] == [(0.5, ["x"]), (None, [])]


def test_an_edited_file_is_read_again_even_with_its_old_size_and_time(tmp_path):
    paths = write_text(tmp_path)
    times = os.stat(paths[0])
    assert load_corpus(paths, **LANGUAGES)[0]["translation"]["en"] == "a cat"
    write(paths[0], paths[0].read_bytes().replace(b"a cat", b"a hat"))
    os.utime(paths[0], ns=(times.st_atime_ns, times.st_mtime_ns))
    assert load_corpus(paths, **LANGUAGES)[0]["translation"]["en"] == "a hat"


def test_equal_content_gives_an_equal_fingerprint(tmp_path):
    paths = write_text(tmp_path)
    first = load_corpus(paths, **LANGUAGES)._fingerprint
    os.utime(paths[0])
    assert load_corpus(paths, **LANGUAGES)._fingerprint == first


def test_a_split_may_be_a_slice_of_a_folder(tmp_path):
    corpus = make_corpus("folder", tmp_path)
    assert len(load_corpus(corpus, "train[1:3]", **LANGUAGES)) == 2
    assert len(load_corpus(corpus, "train+test", **LANGUAGES)) == 5


def test_a_folder_with_several_configs_needs_its_name(tmp_path):
    for config in ("en-de", "en-fr"):
        write_parquet(tmp_path / config / "train.parquet", ROWS)
    configs = "".join(f"- config_name: {name}\n  data_files: {name}/*.parquet\n" for name in ("en-de", "en-fr"))
    write(tmp_path / "README.md", f"---\nconfigs:\n{configs}---\n")
    assert len(load_corpus(tmp_path, **LANGUAGES, config_name="en-de")) == 4
    with pytest.raises(ValueError, match=r"`config_name` must be one of \['en-de', 'en-fr'\].*got None"):
        load_corpus(tmp_path, **LANGUAGES)
    with pytest.raises(ValueError, match=r"`config_name` must be one of \['en-de', 'en-fr'\].*got 'en-cs'"):
        load_corpus(tmp_path, **LANGUAGES, config_name="en-cs")


@pytest.mark.parametrize("form", ["text", "parquet glob", "folder"])
def test_unknown_split_names_the_splits_there_are(form, tmp_path):
    corpus = make_corpus(form, tmp_path)
    splits = "['train']" if form == "text" else "['test', 'train']"
    remedy = "Name the split to read by `split`, or `train_split`, `validation_split`"
    with pytest.raises(ValueError, match=re.escape(f"`split` must be one of {splits}") + f".*got 'dev'. {remedy}"):
        load_corpus(corpus, "dev", **LANGUAGES)


@pytest.mark.parametrize("longer", [0, 1])
@pytest.mark.parametrize("streaming", [False, True])
def test_unequal_line_counts_name_both_counts_and_the_line(longer, streaming, tmp_path):
    paths = write_text(tmp_path)
    paths[longer].write_bytes(paths[longer].read_bytes() + b"one\nmore\n")
    counts = [4, 4]
    counts[longer] = 6
    message = f"got {counts[0]} lines in `{paths[0]}` and {counts[1]} in `{paths[1]}`: line 5 of `{paths[longer]}`"
    with pytest.raises(ValueError, match=re.escape(message)):
        list(load_corpus(paths, **LANGUAGES, streaming=streaming))


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_invalid_utf8_names_file_line_and_byte(suffix, tmp_path):
    paths = write_text(tmp_path, suffix)
    write(paths[1], b"gut\nschl\xfcssel\n\n\n", bool(suffix))
    with pytest.raises(ValueError, match=re.escape(f"`{paths[1]}` line 2 must be UTF-8, got byte 0xfc at column 5")):
        load_corpus(paths, **LANGUAGES)


def test_a_packed_line_that_would_fill_the_memory_is_named(tmp_path):
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"a\n" + b"c" * 2**24 + b"\r\n" + b"b" * (2**24 + 1)))
    lines = read_lines(str(tmp_path / "a.gz"))
    assert next(lines) == "a" and len(next(lines)) == 2**24
    with pytest.raises(ValueError, match=r"a.gz` line 3 must have at most 16,777,216 bytes"):
        next(lines)


def test_damaged_gzip_is_named(tmp_path):
    paths = write_text(tmp_path, ".gz")
    paths[0].write_bytes(paths[0].read_bytes()[:-9])
    with pytest.raises(ValueError, match=re.escape(f"`{paths[0]}` is a damaged gzip file")):
        load_corpus(paths, **LANGUAGES)


@pytest.mark.parametrize(("form", "name"), [("parquet glob", "train-1"), ("folder", "data/test-00000-of-00001")])
def test_damaged_parquet_shard_is_named(form, name, tmp_path):
    corpus = make_corpus(form, tmp_path)
    shard = tmp_path / f"{name}.parquet"
    shard.write_bytes(shard.read_bytes()[:-20])
    with pytest.raises(ValueError, match=re.escape(f"`{shard}` must be a parquet file, but it is damaged")):
        load_corpus(corpus, **LANGUAGES)


@pytest.mark.parametrize("form", ["jsonl", "parquet", "folder"])
def test_missing_language_lists_the_keys_there_are(form, tmp_path):
    corpus = make_corpus(form, tmp_path)
    with pytest.raises(ValueError, match=r"must have the language 'fr', got \['de', 'en'\] in "):
        load_corpus(corpus, source_lang="en", target_lang="fr")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"translation": {"en": "x"}}, r"must have the language 'de', got \['en'\] in `{path}` line 3"),
        ({"translation": {"en": "x", "de": None}}, "must be text in 'de', got None in `{path}` line 3"),
        ({"translation": {"en": "x", "de": 3}}, "must be text in 'de', got 3 in `{path}` line 3"),
        ({"text": "x"}, "must hold one sentence per language, got None in `{path}` line 3"),
        (["x"], "`{path}` line 3 must be one JSON object, got"),
    ],
)
def test_faulty_json_line_is_named(row, message, tmp_path):
    path = write_json_lines(tmp_path / "corpus.jsonl", [*ROWS[:2], row])
    with pytest.raises(ValueError, match=message.format(path=re.escape(str(path)))):
        load_corpus(path, **LANGUAGES)


def test_broken_json_is_named(tmp_path):
    path = write(tmp_path / "corpus.jsonl", json.dumps(ROWS[0]) + "\n{oops\n")
    with pytest.raises(ValueError, match=re.escape(f"`{path}` line 2 must be one JSON object")):
        load_corpus(path, **LANGUAGES)


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("languages", [{"en", "de"}, {"en", "de", "cs"}])
def test_null_sentence_in_parquet_names_the_row(languages, streaming, tmp_path):
    rows = [{"translation": dict.fromkeys(languages, "x")} for _ in range(4)]
    rows[2]["translation"] = {**rows[2]["translation"], "de": None}
    path = tmp_path / "corpus.parquet"
    dataset = Dataset.from_list(rows)
    dataset.cast_column("translation", Translation(sorted(languages))).to_parquet(path)
    with pytest.raises(ValueError, match="must be text in 'de', got None in split 'train' of .*, row 2"):
        list(load_corpus(path, **LANGUAGES, streaming=streaming))


def test_a_corpus_without_translation_column_lists_its_columns(tmp_path):
    path = write_parquet(tmp_path / "corpus.parquet", [{"text": "x", "label": 1}])
    with pytest.raises(ValueError, match=r"must have a `translation` column, or .*, got \['label', 'text'\]"):
        load_corpus(path, **LANGUAGES)


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("form", ["two files", "jsonl", "parquet"])
def test_empty_split_is_an_error(form, streaming, tmp_path):
    if form == "two files":
        corpus = [write(tmp_path / f"x.{lang}", b"") for lang in ("en", "de")]
    elif form == "jsonl":
        corpus = write(tmp_path / "x.jsonl", b"")
    else:
        corpus = tmp_path / "x.parquet"
        Dataset.from_list(ROWS).select([]).to_parquet(corpus)
    with pytest.raises(ValueError, match=r"must hold at least one sentence, but there is none in .*x\."):
        list(load_corpus(corpus, **LANGUAGES, streaming=streaming))


@pytest.mark.parametrize("corpus", ["missing/{lang}.txt", "missing/x.jsonl", "./missing/folder/x", ["a.en", "a.de"]])
def test_missing_files_are_named(corpus):
    name = "missing" if isinstance(corpus, str) else "a.en"
    with pytest.raises(FileNotFoundError, match=f"there is no `.*{name}"):
        load_corpus(corpus, **LANGUAGES)


def test_a_single_text_file_asks_for_the_other(tmp_path):
    paths = write_text(tmp_path)
    with pytest.raises(ValueError, match=re.escape(f"got `{paths[0]}`. For parallel text give two files")):
        load_corpus(paths[0], **LANGUAGES)
    with pytest.raises(ValueError, match="must name two text files.*got .*train.en"):
        load_corpus(paths[:1], **LANGUAGES)


def test_equal_languages_are_an_error(tmp_path):
    with pytest.raises(ValueError, match="must differ, got 'en' for both"):
        load_corpus(write_text(tmp_path), source_lang="en", target_lang="en")
