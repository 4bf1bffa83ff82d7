"""Corpora as people have them: tables with columns of their own, pipes, strange names, names that mean nothing."""

from __future__ import annotations

import csv
import gc
import gzip
import json
import os
import sys
import tempfile
import threading
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, Translation
from huggingface_hub.errors import OfflineModeIsEnabled

from hf_nat.data import load_corpus
from hf_nat.data.arguments import CorpusArguments
from hf_nat.data.corpora import _load_from_hub, _Wanted
from hf_nat.data.locations import local_or_hub, same_rows_for_every_split
from hf_nat.data.text_files import regular_files


PAIRS = [("a cat", "eine Katze"), ("", "leer"), ('say "no",\ttwice', "zwei; Mal"), ("naïve\nline", "naïv")]
LANGUAGES = {"source_lang": "en", "target_lang": "de"}


def rows_of(columns: tuple[str, str], **others: Any) -> list[dict[str, Any]]:
    return [dict(zip(columns, pair, strict=True)) | {"id": row} | others for row, pair in enumerate(PAIRS)]


def write_table(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Writes a table in the form that the suffix tells."""
    path.parent.mkdir(parents=True, exist_ok=True)
    form = path.name.removesuffix(".gz").rsplit(".", 1)[1]
    if form == "parquet":
        Dataset.from_list(rows).to_parquet(path)
        return path
    with gzip.open(path, "wt", encoding="utf-8") if path.suffix == ".gz" else path.open("w", encoding="utf-8") as file:
        if form == "jsonl":
            file.writelines(json.dumps(row) + "\n" for row in rows)
        else:
            writer = csv.DictWriter(file, list(rows[0]), dialect="excel" if form == "csv" else "excel-tab")
            writer.writeheader()
            writer.writerows(rows)
    return path


def texts(rows: Any) -> list[tuple[str, str]]:
    return [(row["translation"]["en"], row["translation"]["de"]) for row in rows]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("columns", [("source", "target"), ("en", "de"), ("Quelle", "translation")])
@pytest.mark.parametrize("form", ["jsonl", "csv", "csv.gz", "tsv", "parquet", "folder", "folder of csv"])
def test_two_columns_make_the_pairs(form: str, columns: tuple[str, str], streaming: bool, tmp_path: Path) -> None:
    named = {} if "translation" not in columns else {"source_column": columns[0], "target_column": columns[1]}
    corpus = tmp_path / f"corpus.{form}"
    if form.startswith("folder"):
        corpus = tmp_path / "folder"
        write_table(corpus / "train.csv" if "csv" in form else corpus / "data/train-0.parquet", rows_of(columns))
    else:
        write_table(corpus, rows_of(columns))
    rows = load_corpus(corpus, **LANGUAGES, streaming=streaming, **named)
    assert texts(rows) == PAIRS
    assert [str(row["id"]) for row in rows] == ["0", "1", "2", "3"]
    assert all(set(row) == {"translation", "id"} for row in rows)
    if not streaming:
        assert rows.features["translation"] == Translation(["en", "de"])


def test_a_translation_comes_before_columns_unless_these_are_named(tmp_path: Path) -> None:
    rows = [{"translation": {"en": "x", "de": "y"}, "source": "a", "target": "b"}]
    for form in ("jsonl", "parquet"):
        path = write_table(tmp_path / f"corpus.{form}", rows)
        assert list(load_corpus(path, **LANGUAGES)) == rows
        named = load_corpus(path, **LANGUAGES, source_column="source", target_column="target")
        assert list(named) == [{"translation": {"en": "a", "de": "b"}}]


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_a_column_that_is_not_there_lists_those_that_are(form: str, tmp_path: Path) -> None:
    path = write_table(tmp_path / f"corpus.{form}", rows_of(("src", "tgt")))
    with pytest.raises(
        ValueError, match=r"must have a `translation` column, or .*, got \['id', 'src', 'tgt'\].*`source_column`"
    ):
        load_corpus(path, **LANGUAGES)
    with pytest.raises(ValueError, match=r"`target_column` must be one of \['id', 'src', 'tgt'\] .*, got 'target'"):
        load_corpus(path, **LANGUAGES, source_column="src", target_column="target")


def test_columns_come_in_twos_and_not_for_text_files() -> None:
    for columns in ({"source_column": "a"}, {"target_column": "a"}, {"source_column": "a", "target_column": "a"}):
        with pytest.raises(ValueError, match="must be given together and differ"):
            load_corpus("x.csv", **LANGUAGES, **columns)
    with pytest.raises(ValueError, match="`source_column` must be left out for text files"):
        load_corpus("a,b", **LANGUAGES, source_column="a", target_column="b")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("source,target\na,b\nx,y,z\n", "line 3 must have 2 fields as the first line has, got 3"),
        ("source,target\na\n", "line 2 must have 2 fields as the first line has, got 1"),
        ('source,target\na,"b\nc,d\n', "line 3 must be quoted as the csv module has it"),
        ('source,target\na,"b" c\n', "line 2 must be quoted as the csv module has it"),
        ("source,source\na,b\n", "line 1 must name each column once"),
        ("source,target\n", "must hold at least one sentence"),
        ("", "must hold at least one sentence"),
    ],
)
def test_a_csv_that_breaks_a_rule_is_named_with_its_line(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match=message) as raised:
        load_corpus(path, **LANGUAGES)
    assert f"`{path}`" in str(raised.value)


def test_lines_of_a_csv_are_those_of_the_csv_module(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes('\ufeffsource,target\r\n"a\r\nb","c ""d"""\r\n\r\nNA,007'.encode())
    assert texts(load_corpus(path, **LANGUAGES)) == [("a\nb", 'c "d"'), ("NA", "007")]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("form", ["jsonl", "folder"])
def test_a_column_that_nobody_uses_does_not_decide(
    form: str, streaming: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows: list[dict[str, Any]] = [{"translation": {"en": f"{i}", "de": f"{i}"}, "late": None} for i in range(1200)]
    rows += [{"translation": {"en": "x", "de": "y"}, "late": "text", "mixed": 1, "number": 1, "rare": [1]}]
    rows += [{"translation": {"en": "x", "de": "y"}, "mixed": "one", "number": 2.5, "bad": "\ud800", "big": 2**70}]
    path = write_table(tmp_path / "folder/train.jsonl", rows)
    loaded = list(load_corpus(path.parent if form == "folder" else path, **LANGUAGES, streaming=streaming))
    assert texts(loaded) == texts(rows)
    assert loaded[1200]["late"] == "text" and loaded[1200]["rare"] == [1] and loaded[1201]["number"] == 2.5
    if not streaming:
        assert set(loaded[0]) == {"translation", "late", "number", "rare"}
        notes = [f"The column `{name}` of the corpus is left out: its values" for name in ("mixed", "bad", "big")]
        assert [message.split(" have")[0] for message in caplog.messages] == notes
        assert loaded[0] == {"translation": {"en": "0", "de": "0"}, "late": None, "number": None, "rare": None}


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("form", ["glob", "folder"])
def test_parts_with_other_columns_load_with_those_they_share(form: str, streaming: bool, tmp_path: Path) -> None:
    pair = {"translation": {"en": "x", "de": "y"}}
    parts = [
        {**pair, "number": 1, "mixed": 1, "score": 0.5, "nothing": None},
        {**pair, "number": 2.5, "mixed": "one", "nothing": "text", "more": [1]},
        {"nothing": None, "mixed": 3, "translation": {"de": "y", "en": "x"}, "number": 3},
    ]
    for index, row in enumerate(parts):
        write_table(tmp_path / f"data/train-{index}.parquet", [row])
    write_table(tmp_path / "data/test-0.parquet", [{**pair, "other": 1}])
    corpus = tmp_path if form == "folder" else tmp_path / "data/train-*.parquet"
    rows = load_corpus(corpus, **LANGUAGES, streaming=streaming)
    assert list(rows) == [{**pair, "number": n, "nothing": t} for n, t in ((1.0, None), (2.5, "text"), (3.0, None))]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("form", ["parquet", "jsonl"])
def test_parts_of_a_repository_load_with_what_they_share(form: str, streaming: bool, tmp_path: Path) -> None:
    for index, others in enumerate(({"n": 1, "mixed": 1}, {"n": 2.5, "mixed": "x"}, {"n": None, "mixed": 0.5})):
        write_table(tmp_path / f"data/train-{index}.{form}", [{"en": "x", "de": "y", **others}])
    write_table(tmp_path / f"data/test-0.{form}", [{"en": "x", "de": "y"}])
    # `load_dataset` takes a folder as it takes a repository of the Hub.
    for split, numbers in {"train": [1, 2.5, None], "train[1:]": [2.5, None]}.items():
        if split == "train" or (form == "parquet" and not streaming):
            rows = list(_load_from_hub(_Wanted(str(tmp_path), split, ("en", "de"), None, streaming), None, None))
            assert texts(rows) == [("x", "y")] * len(numbers) and [row["n"] for row in rows] == numbers
            assert streaming or form == "jsonl" or "mixed" not in rows[0]


def test_a_slice_of_rows_that_do_not_fit_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "train-0.jsonl").write_text('{"en": "x", "de": "y"}\n')
    (tmp_path / "train-1.jsonl").write_text('{"en": "x", "de": "y", "more": 1}\n')
    with pytest.raises(ValueError, match="must have columns of one type in split 'train\\[:1\\]' of") as raised:
        load_corpus(tmp_path, "train[:1]", **LANGUAGES)
    assert "\n" not in str(raised.value)


def test_parts_with_other_languages_load_with_those_asked_for(tmp_path: Path) -> None:
    write_table(tmp_path / "1.parquet", [{"translation": {"en": "x", "de": "y"}}])
    write_table(tmp_path / "2.parquet", [{"translation": {"cs": "z", "en": "x", "de": "y"}}])
    assert texts(load_corpus(tmp_path / "*.parquet", **LANGUAGES)) == [("x", "y")] * 2


def feed(path: Path, data: bytes) -> threading.Thread:
    thread = threading.Thread(target=path.write_bytes, args=(data,), daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("streaming", [False, True])
def test_pipes_are_read_once_and_give_their_rows_again(streaming: bool, tmp_path: Path) -> None:
    paths = [tmp_path / "pipe.en", tmp_path / "pipe.de"]
    lines = ["a" * 999, "ä" * 499 + "b"]
    for path in paths:
        os.mkfifo(path)

    def fill() -> None:
        # As `tee` does: both at once, and more than a pipe holds.
        with open(paths[0], "w") as first, open(paths[1], "w") as second:
            for _ in range(300):
                for file, line in zip((first, second), lines, strict=True):
                    file.write(f"{line}\n")

    threading.Thread(target=fill, daemon=True).start()
    for _ in range(2):
        rows = load_corpus(paths, **LANGUAGES, streaming=streaming)
        for _ in range(2):
            assert texts(rows) == [tuple(lines)] * 300


def test_copies_of_pipes_that_are_read_side_by_side_all_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = threading.Barrier(2, timeout=5)

    @cache
    def slow() -> tempfile.TemporaryDirectory[str]:
        with suppress(threading.BrokenBarrierError):
            made.wait(1)  # Two threads that come here both make one.
        return tempfile.TemporaryDirectory()

    monkeypatch.setattr(sys.modules["hf_nat.data.text_files"], "_scratch", slow)
    paths = [str(tmp_path / name) for name in ("a", "b")]
    for path in paths:
        os.mkfifo(path)
        threading.Thread(target=Path(path).write_text, args=("x\n",), daemon=True).start()
    copies = regular_files(paths)
    gc.collect()
    assert [Path(copy).read_text() for copy in copies] == ["x\n", "x\n"]


def test_descriptors_of_a_shell_are_files(tmp_path: Path) -> None:
    ends = [os.pipe() for _ in range(2)]
    for (_, write_end), text in zip(ends, (b"x\n", gzip.compress(b"y\n")), strict=True):
        os.write(write_end, text)
        os.close(write_end)
    corpus = ",".join(f"/dev/fd/{read_end}" for read_end, _ in ends)
    assert texts(load_corpus(corpus, **LANGUAGES)) == [("x", "y")]


def test_a_fault_in_a_pipe_is_named_by_the_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    feed(tmp_path / "pipe.jsonl", b"{oops\n")
    with pytest.raises(ValueError, match=f"`{tmp_path}/pipe.jsonl` line 1 must be one JSON object"):
        load_corpus(tmp_path / "pipe.jsonl", **LANGUAGES)


def test_blank_lines_of_jsonl_are_no_rows(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('\n{"en": "a", "de": "b"}\n  \n{"en": "c", "de": "d"}\n\n')
    for streaming in (False, True):
        rows = load_corpus(path, streaming=streaming, **LANGUAGES)
        assert [row["translation"] for row in rows] == [{"en": "a", "de": "b"}, {"en": "c", "de": "d"}]
    path.write_text("\n\n")
    with pytest.raises(ValueError, match="at least one sentence"):
        load_corpus(path, **LANGUAGES)


@pytest.mark.parametrize(
    "name", ["data[1].{form}", "a,b.{form}", "x{{split}}.{form}", "x{{lang}}.{form}", "*.{form}", "a b'?.{form}"]
)
@pytest.mark.parametrize("form", ["parquet", "jsonl", "csv"])
def test_a_file_that_exists_is_taken_by_its_name(name: str, form: str, tmp_path: Path) -> None:
    path = write_table(tmp_path / "d[ir],{split}" / name.format(form=form), rows_of(("source", "target")))
    write_table(path.with_name(f"data1.{form}"), rows_of(("source", "target"))[:1])
    for corpus in (path, str(path)):
        assert texts(load_corpus(corpus, "dev", **LANGUAGES)) == PAIRS
        assert same_rows_for_every_split(corpus)


@pytest.mark.parametrize("folder", ["d[1]", "a,b", "{split}", "x.jsonl"])
def test_a_folder_that_exists_is_taken_by_its_name(folder: str, tmp_path: Path) -> None:
    write_table(tmp_path / folder / "train[1].parquet", rows_of(("source", "target")))
    assert texts(load_corpus(str(tmp_path / folder), **LANGUAGES)) == PAIRS
    assert not same_rows_for_every_split(tmp_path / folder)


def test_two_files_with_commas_and_brackets(tmp_path: Path) -> None:
    for name, text in (("a,b[1].{split}.en", "x"), ("c,d.de", "y")):
        (tmp_path / name).write_text(f"{text}\n")
    assert texts(load_corpus(f"{tmp_path}/a,b[1].{{split}}.en,{tmp_path}/c,d.de", **LANGUAGES)) == [("x", "y")]
    with pytest.raises(ValueError, match="must name two text files.*got .*'b'"):
        load_corpus("a,b,c", **LANGUAGES)


@pytest.mark.parametrize("corpus", [["{split}.en", "x.de"], "{split}.{lang}", "{split}.csv", "runs/corpus", "wmt14"])
def test_files_that_tell_the_split_differ_between_splits(corpus: Any) -> None:
    assert not same_rows_for_every_split(corpus)


@pytest.mark.parametrize("corpus", [["x.en", "x.de"], "x.en,x.de", "x.{lang}", "x.csv", "*.parquet", "x.jsonl.gz"])
def test_files_that_tell_no_split_serve_for_every_one(corpus: Any) -> None:
    assert same_rows_for_every_split(corpus)


PATHS = ["a/b/c", "./x", "../x", "/x", "~/x", "x.jsonl/", "data.txt", "owner/corpus.csv", "here/corpus", "a b", "x/"]


@pytest.mark.parametrize("name", PATHS)
def test_a_mistyped_path_is_not_asked_of_the_hub(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    monkeypatch.setattr("hf_nat.data.corpora.get_dataset_config_names", None)
    with pytest.raises(FileNotFoundError, match=f"there is no `{name}"):
        load_corpus(name, **LANGUAGES)
    with (
        pytest.raises(FileNotFoundError, match=f"`model` must be .* there is no `{name}"),
        local_or_hub(name, "model"),
    ):
        pytest.fail("The Hub was asked.")


@pytest.mark.parametrize("name", ["wmt14", "owner/corpus", "google/t5-v1.1-base", "Helsinki-NLP/opus-mt-en-de"])
def test_a_name_of_either_kind_tells_both_readings(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    message = f"there is no `{tmp_path}/{name}`, and the Hub does not give `{name}`: "
    with pytest.raises(OSError, match=message):
        load_corpus(name, **LANGUAGES)
    with pytest.raises(OSError, match=f"`model` must be .*{message}Offline"), local_or_hub(name, "model"):
        raise OfflineModeIsEnabled("Offline.\nMore.")


def test_what_goes_wrong_in_a_folder_that_exists_is_told_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="^disk$"), local_or_hub(tmp_path, "model"):
        raise OSError("disk")


def test_columns_are_keys_of_every_command_that_reads_a_corpus(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("number,english,german\n1,a house,ein Haus\n2,a car,ein Auto\n")
    columns = {"source_column": "english", "target_column": "german"}
    args = CorpusArguments(corpus=str(path), source_lang="en", target_lang="de", **columns)
    assert args.load("train")["translation"][0] == {"en": "a house", "de": "ein Haus"}
    assert CorpusArguments(**args.place) == args
    elsewhere = CorpusArguments(corpus="folder", **args.in_hub_layout)
    assert (elsewhere.source_column, elsewhere.target_column, elsewhere.source_lang) == (None, None, "en")
