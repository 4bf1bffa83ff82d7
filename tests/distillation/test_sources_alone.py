"""Sources without targets, in every form, and corpora that are read as they go."""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, load_dataset
from transformers import MarianMTModel, PreTrainedTokenizerFast

from hf_nat.base.utils import read_json
from hf_nat.decoding import translate
from hf_nat.distillation import DistillArguments, FilterArguments
from hf_nat.distillation.backends import TorchTeacher
from hf_nat.steps import Filter, distill


Build = Callable[..., DistillArguments]


@pytest.fixture
def run(copy_teacher: MarianMTModel, tiny_tokenizer: PreTrainedTokenizerFast, arguments: Build) -> Callable[..., Path]:
    """Distills greedily."""
    return lambda name, **changes: distill(
        copy_teacher, tiny_tokenizer, arguments(name, **{"strategy": "greedy", **changes})
    )


@pytest.fixture
def forms(sources: list[str], tmp_path: Path) -> dict[str, dict[str, Any]]:
    """The keys of one list of sources in every form."""
    text = "".join(f"{source}\n" for source in sources)
    (tmp_path / "news.en").write_text(text)
    (tmp_path / "news.train").write_text(text)
    (tmp_path / "news.en.gz").write_bytes(gzip.compress(text.encode()))
    (tmp_path / "part1.txt").write_text("".join(f"{source}\n" for source in sources[:4]))
    (tmp_path / "part2.txt").write_text("".join(f"{source}\n" for source in sources[4:]))
    rows = {
        "text": [{"text": source, "n": 1} for source in sources],
        "pairs": [{"translation": {"en": source, "xx": "real"}} for source in sources],
    }
    for name, own in rows.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in own))
    (tmp_path / "hub").mkdir()
    Dataset.from_list([{"mine": source} for source in sources]).to_parquet(tmp_path / "hub" / "train.parquet")
    Dataset.from_list([{"en": source} for source in sources]).to_csv(tmp_path / "rows.csv")
    return {
        "text": {"source": str(tmp_path / "news.en")},
        "lang": {"source": str(tmp_path / "news.{lang}")},
        "split": {"source": str(tmp_path / "news.{split}")},
        "gz": {"source": str(tmp_path / "news.en.gz")},
        "glob": {"source": str(tmp_path / "part*.txt")},
        "jsonl": {"source": str(tmp_path / "text.jsonl")},
        "pairs": {"source": str(tmp_path / "pairs.jsonl")},
        "csv": {"source": str(tmp_path / "rows.csv")},
        "folder": {"source": str(tmp_path / "hub"), "source_column": "mine"},
    }


def test_every_form_gives_the_same_sources(
    forms: dict[str, dict[str, Any]], arguments: Build, sources: list[str]
) -> None:
    for form, keys in forms.items():
        for streaming in (False, True):
            splits = arguments(corpus=None, streaming=streaming, **keys).load_splits()
            assert [row["translation"] for row in splits["train"]] == [{"en": source} for source in sources], form
            assert splits.keys() == {"train"}


def test_rows_say_that_there_is_no_real_target(
    forms: dict[str, dict[str, Any]],
    run: Callable[..., Path],
    rows: Callable,
    copy_teacher: MarianMTModel,
    tiny_tokenizer: PreTrainedTokenizerFast,
    sources: list[str],
    tmp_path: Path,
) -> None:
    outputs = translate(copy_teacher, tiny_tokenizer, sources, num_beams=1, max_new_tokens=12)
    folder = run("alone", corpus=None, **forms["text"])
    found = rows(folder)
    assert [row["translation"] for row in found] == [
        {"en": source, "xx": output.text} for source, output in zip(sources, outputs, strict=True)
    ]
    assert all(row["real_target"] is None and "source_alone" in row["flags"] for row in found)
    assert rows(run("stream", corpus=None, streaming=True, **forms["folder"])) == found
    manifest = read_json(folder / "manifest.json")
    assert (manifest["counts"], manifest["source_alone"]) == ({"train": 11}, True)
    assert manifest["flag_counts"]["source_alone"] == 11
    card = (folder / "README.md").read_text()
    assert "sources without real targets" in card and "| Sources, without targets | " in card
    splits = load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert splits["train"]["real_target"][:] == [None] * 11
    filtered = Filter(FilterArguments(corpus=str(folder), output_dir=str(tmp_path / "filtered"))).run()
    assert 0 < len(rows(filtered)) < 11, "what has no real target is not suspicious for that"


def test_a_stream_is_the_corpus_in_the_same_bytes(
    run: Callable[..., Path], file_bytes: Callable[[Path], dict[str, bytes]]
) -> None:
    whole, stream = (file_bytes(run(str(streaming), streaming=streaming)) for streaming in (False, True))
    assert whole.keys() == stream.keys()
    assert {name for name in whole if whole[name] != stream[name]} == {"manifest.json", "step.json"}
    few = run("few", streaming=True, max_samples=4)
    assert read_json(few / "manifest.json")["counts"] == {"train": 4, "validation": 3, "test": 2}


@pytest.mark.parametrize("stop_after", [1, 2, 4])
def test_an_interrupted_stream_goes_on_and_its_shards_have_no_total_before_the_end(
    stop_after: int,
    run: Callable[..., Path],
    file_bytes: Callable[[Path], dict[str, bytes]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    whole = file_bytes(run("whole", streaming=True))
    calls, decode = [], TorchTeacher.translate

    def fail(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        if len(calls) > stop_after:
            raise KeyboardInterrupt
        return decode(*args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(TorchTeacher, "translate", fail)
        if stop_after < 4:
            with pytest.raises(KeyboardInterrupt):
                run("resumed", streaming=True)
        else:
            # The last shard is written; the run ends while its files get their names.
            patched.setattr(sys.modules["hf_nat.distillation.streams"], "_with_total", _interrupted_at_second())
            with pytest.raises(KeyboardInterrupt):
                run("resumed", streaming=True)
    names = {path.name for path in (tmp_path / "resumed" / "data").glob("train-*.parquet")}
    if stop_after < 4:
        assert names == {f"train-{index:05d}.parquet" for index in range(stop_after)}
    before = {
        path.stem.partition("-of-")[0]: path.stat().st_mtime_ns
        for path in (tmp_path / "resumed" / "data").glob("*.parquet")
    }
    assert file_bytes(run("resumed", streaming=True)) == whole
    after = {
        path.stem.partition("-of-")[0]: path.stat().st_mtime_ns
        for path in (tmp_path / "resumed" / "data").glob("*.parquet")
    }
    assert before.items() <= after.items(), "what was written is not written again"


def times(folder: Path) -> dict[str, int]:
    """When each shard was written, by its name without the number of all."""
    return {path.stem.partition("-of-")[0]: path.stat().st_mtime_ns for path in folder.glob("data/*.parquet")}


def _interrupted_at_second() -> Callable[[Path, int], Path]:
    named: list[Path] = []

    def name(path: Path, number: int) -> Path:
        named.append(path)
        if len(named) == 2:
            raise KeyboardInterrupt
        return path.with_name(f"{path.stem}-of-{number:05d}.parquet")

    return name


def test_a_damaged_shard_of_a_stream_is_made_again_and_a_whole_one_does_nothing(
    run: Callable[..., Path], file_bytes: Callable[[Path], dict[str, bytes]]
) -> None:
    folder = run("stream", streaming=True)
    whole = file_bytes(folder)
    metrics = (folder / "metrics.json").read_bytes()
    run("stream", streaming=True)
    assert (folder / "metrics.json").read_bytes() == metrics
    lost = folder / "data" / "train-00001-of-00004.parquet"
    lost.write_bytes(b"damaged")
    run("stream", streaming=True)
    assert file_bytes(folder) == whole
    assert read_json(folder / "metrics.json")["num_sentences"] == 3


@pytest.mark.parametrize(
    ("first", "then", "message"),
    [
        (
            {"alone": True, "source_column": "a"},
            {"alone": True, "source_column": "b"},
            "`stream.source_column` must be the same .* it was 'a', got 'b'",
        ),
        (
            {"source_column": "en", "target_column": "a"},
            {"source_column": "en", "target_column": "b"},
            "`stream.target_column` must be the same .* it was 'a', got 'b'",
        ),
        ({}, {"alone": True}, "`stream.source_alone` must be the same .* it was None, got True"),
    ],
    ids=str,
)
def test_a_stream_is_also_its_columns_and_whether_it_has_targets(
    first: dict[str, Any],
    then: dict[str, Any],
    message: str,
    run: Callable[..., Path],
    sources: list[str],
    tmp_path: Path,
) -> None:
    rows = [{"en": source, "xx": "real", "a": f"{source} a", "b": f"{source} b"} for source in sources]
    (tmp_path / "columns.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def stream(alone: bool = False, **columns: str) -> Path:
        place = {"corpus": None, "source": str(tmp_path / "columns.jsonl")}
        if not alone:
            place = {"corpus": place["source"], "validation_split": None, "test_split": None}
        return run("columns", streaming=True, **place, **columns)

    stream(**first)
    with pytest.raises(ValueError, match=message):
        stream(**then)


def test_a_stream_of_the_hub_is_its_dataset_commit_configuration_and_split(
    run: Callable[..., Path], forms: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = sys.modules["hf_nat.steps.distill"]
    arguments, seen = sys.modules["hf_nat.distillation.arguments"], []
    load_corpus, commits = arguments.load_corpus, iter("aaab")

    def load_from_hub(corpus: str, split: str, **options: Any) -> Any:
        seen.append((corpus, split, options.pop("revision"), options["config_name"]))
        return load_corpus(forms["jsonl"]["source"], split, **options | {"config_name": None})

    monkeypatch.setattr(module, "local_files", lambda *args: [])
    monkeypatch.setattr(module, "dataset_commit", lambda dataset, revision: next(commits))
    monkeypatch.setattr(arguments, "load_corpus", load_from_hub)
    hub = {"corpus": None, "source": "owner/name", "config_name": "big", "streaming": True}
    folder = run("of_hub", **hub)
    assert seen == [("owner/name", "train", "a", "big")]
    inputs = read_json(folder / "step.json")["inputs"]
    place = {"config_name": "big", "splits": {"train": "train"}, "max_samples": None, "source_alone": True}
    place |= {"source_column": None, "target_column": None}
    assert inputs["stream"] == {"dataset": "owner/name", "commit": "a", **place}
    run("of_hub", **hub)
    with pytest.raises(ValueError, match="`stream.splits.train` must be the same .* it was 'train', got 'other'"):
        run("of_hub", **hub, train_split="other")
    with pytest.raises(ValueError, match="`stream.commit` must be the same .* it was 'a', got 'b'"):
        run("of_hub", **hub)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": "a"}, "one of `corpus` and `source`, got '.*' and 'a'"),
        ({"corpus": None}, "one of `corpus` and `source`, got None and None"),
        (
            {"corpus": None, "source": "a", "strategy": "interpolation"},
            "`strategy` needs targets",
        ),
        ({"corpus": None, "source": "a", "long_source": "real"}, "`long_source` needs targets"),
        ({"corpus": None, "source": "a", "target_column": "b"}, "`target_column` needs targets"),
    ],
)
def test_what_needs_targets_is_refused(changes: dict[str, Any], message: str, arguments: Build) -> None:
    with pytest.raises(ValueError, match=message):
        arguments(**changes)


def test_missing_columns_and_files_of_sources_are_named(run: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"words": "a dog"}\n')
    with pytest.raises(ValueError, match=r"must have a `translation` column.*the column with the sentences as `sour"):
        run("x", corpus=None, source=str(tmp_path / "rows.jsonl"))
    with pytest.raises(FileNotFoundError, match="there is no"):
        run("x", corpus=None, source=str(tmp_path / "none.txt"))
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(ValueError, match="at least one sentence"):
        run("x", corpus=None, source=str(tmp_path / "empty.txt"))


def test_a_stream_of_a_folder_is_its_files_of_the_split_in_whatever_order_they_lie(
    run: Callable[..., Path], sources: list[str], tmp_path: Path
) -> None:
    def corpus(name: str, order: list[int], *others: str) -> dict[str, Any]:
        folder = tmp_path / name
        folder.mkdir()
        for part in order:
            rows = [{"translation": {"en": source, "xx": "real"}} for source in sources[3 * part : 3 * part + 3]]
            Dataset.from_list(rows).to_parquet(folder / f"train-{part:05d}-of-00002.parquet")
        for other in others:
            (folder / other).write_text("{}")
        return {"corpus": str(folder), "validation_split": None, "test_split": None, "streaming": True}

    folder = run("out", **corpus("one", [0, 1], "measures.json", "step.json"))
    record = read_json(folder / "step.json")
    assert len(record["inputs"]["stream"]["files"]["train"]) == 2
    assert run("out", **corpus("two", [1, 0], "README.md")) == folder
    with pytest.raises(ValueError, match="`stream.files.train` must be the same in every run"):
        run("out", **corpus("three", [0]))
