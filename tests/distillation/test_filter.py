"""Filtering: a brute-force oracle, what it must leave alone, and folders that are not what they should be."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, load_dataset
from marian_tokenizers import save_marian_tokenizer

from hf_nat.base.utils import read_json, sha256_file, write_json
from hf_nat.data import load_corpus, tokenize
from hf_nat.distillation import FilterArguments
from hf_nat.distillation import filter as filter_module
from hf_nat.distillation.filter_arguments import DEFAULT_DROP
from hf_nat.distillation.filter_columns import MeasuredCorpus
from hf_nat.distillation.filter_rules import FILTER_COLUMNS
from hf_nat.distillation.flags import FLAGS, HARMLESS
from hf_nat.distillation.pair_measures import length_ratios
from hf_nat.distillation.shards import corpus_features, plan_shards
from hf_nat.steps import Filter, distill
from hf_nat_cli import main


NUM_ROWS = 103
SHARD_SIZE = 10


def make_row(row: int, draw: random.Random) -> dict[str, Any]:
    """A row with up to three flags, unrelated to its text, and sometimes without a score or a word."""
    texts = {lang: " ".join(draw.choices(["ab", "c", "def"], k=draw.randrange(9))) for lang in ("en", "xx")}
    score = None if draw.random() < 0.2 else draw.choice([-0.25, -0.7, -1.2, -3.0])
    flags = [flag for flag in FLAGS if draw.random() < 0.15]
    return {"id": row, "translation": texts, "real_target": f"real {row}", "teacher_score": score, "flags": flags}


@pytest.fixture
def distilled(tmp_path: Path) -> Path:
    """A corpus of 11 training shards with every flag, in the layout and with the manifest of a distillation."""
    folder, draw = tmp_path / "corpus", random.Random(1)
    counts = {"train": NUM_ROWS, "validation": 4, "test": 3}
    features = corpus_features("en", "xx")
    shards = plan_shards(folder, counts, SHARD_SIZE)
    for shard in shards:
        is_real = {} if shard.split == "train" else {"teacher_score": None, "flags": []}
        rows = [make_row(row, draw) | is_real for row in range(shard.start, shard.stop)]
        # Sources of the fourth shard are all blank, so that no row of it may be left.
        rows = [row | {"flags": ["empty_source"]} if shard.start == 30 else row for row in rows]
        shard.path.parent.mkdir(parents=True, exist_ok=True)
        Dataset.from_list(rows, features=features).to_parquet(shard.path)
    flags = [flag for row in read_rows(folder) for flag in row["flags"]]
    manifest = {
        **{"teacher": "runs/teacher", "teacher_sha256": "ab" * 32, "tokenizer_sha256": "cd" * 32},
        **{"corpus": "runs/real", "corpus_sha256": {"train": "ef" * 32}, "config_name": None, "license": None},
        **{"source_lang": "en", "target_lang": "xx", "strategy": "beam", "decoding": {"num_beams": 5}, "seed": 1},
        "counts": counts,
        "flag_counts": {flag: flags.count(flag) for flag in FLAGS},
        "shards": {shard.path.relative_to(folder).as_posix(): sha256_file(shard.path) for shard in shards},
    }
    write_json(folder / "manifest.json", manifest)
    return folder


def read_rows(folder: Path, split: str = "train") -> list[dict[str, Any]]:
    return [row for path in sorted(folder.glob(f"data/{split}-*")) for row in pq.read_table(path).to_pylist()]


def ratio(row: dict[str, Any]) -> float:
    short, long = sorted(len(text.split()) for text in row["translation"].values())
    return 1 if long == 0 else float("inf") if short == 0 else long / short


def reasons_of(row: dict[str, Any], args: FilterArguments) -> list[str]:
    """Oracle: why a row goes, one row at a time."""
    reasons = [flag for flag in args.drop if flag in row["flags"]]
    score = row["teacher_score"]
    if args.min_score is not None and score is not None and round(score, 4) < args.min_score:
        reasons.append("min_score")
    if args.max_length_ratio is not None and ratio(row) > args.max_length_ratio:
        reasons.append("max_length_ratio")
    return reasons


def without_measures(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in FILTER_COLUMNS}


def filter_into(corpus: Path, output_dir: Path, **rule: Any) -> Path:
    return Filter(FilterArguments(corpus=str(corpus), output_dir=str(output_dir), **rule)).run()


RULES = [
    {},
    {"drop": ["looping"]},
    {"drop": list(FLAGS), "min_score": -1.2},
    {"drop": ["none"], "min_score": -0.7},
    {"drop": ["none"], "max_length_ratio": 1.0},
    {"min_score": -0.5, "max_length_ratio": 2.0},
]


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_rows_and_counts_are_those_of_the_oracle(distilled: Path, tmp_path: Path, rule: dict[str, Any]) -> None:
    args = FilterArguments(corpus=str(distilled), output_dir=str(tmp_path / "new"), **rule)
    folder = Filter(args).run()
    before = read_rows(distilled)
    reasons = [reasons_of(row, args) for row in before]
    kept = [row for row, why in zip(before, reasons, strict=True) if not why]
    assert 0 < len(kept) < len(before)
    assert [without_measures(row) for row in read_rows(folder)] == kept, (
        "kept rows must stay as they are, in their order and with their ids"
    )
    manifest = read_json(folder / "manifest.json")
    (applied,) = manifest["filters"]
    counted = [reason for why in reasons for reason in why]
    assert applied["reasons"] == {
        **{flag: counted.count(flag) for flag in FLAGS if flag in args.drop},
        **{name: counted.count(name) for name in ("min_score", "max_length_ratio") if name in rule},
    }
    assert (applied["num_rows"], applied["num_dropped"]) == (NUM_ROWS, NUM_ROWS - len(kept))
    flags = [flag for row in kept for flag in row["flags"]]
    assert manifest["flag_counts"] == {flag: flags.count(flag) for flag in FLAGS}
    assert manifest["counts"] == {"train": len(kept), "validation": 4, "test": 3}
    assert manifest["shards"] == {
        path.relative_to(folder).as_posix(): sha256_file(path) for path in folder.glob("data/*")
    }
    unchanged = read_json(distilled / "manifest.json").keys() - {"counts", "flag_counts", "shards"}
    assert all(manifest[key] == read_json(distilled / "manifest.json")[key] for key in unchanged)


def test_by_default_only_sound_translations_stay(distilled: Path, tmp_path: Path) -> None:
    filter_into(distilled, tmp_path / "new")
    flags = {flag for row in read_rows(tmp_path / "new") for flag in row["flags"]}
    assert flags == set(HARMLESS)
    assert set(DEFAULT_DROP) | flags == set(FLAGS)


def test_validation_and_test_are_the_same_bytes_and_so_is_a_shard_that_loses_nothing(
    distilled: Path, tmp_path: Path
) -> None:
    folder = filter_into(distilled, tmp_path / "new", drop=["looping"])
    names = sorted(path.name for path in distilled.glob("data/*"))
    assert sorted(path.name for path in folder.glob("data/*")) == names
    for name in names:
        looping = any("looping" in row["flags"] for row in pq.read_table(distilled / "data" / name).to_pylist())
        assert ((distilled / "data" / name).read_bytes() == (folder / "data" / name).read_bytes()) is not looping
        assert looping is False or name.startswith("train")


def test_same_arguments_give_the_same_bytes_and_a_second_run_touches_nothing(
    distilled: Path, tmp_path: Path, file_bytes: Callable[[Path], dict[str, bytes]]
) -> None:
    folders = [filter_into(distilled, tmp_path / name) for name in ("one", "two")]
    assert file_bytes(folders[0]) == file_bytes(folders[1])
    times = {path: path.stat().st_mtime_ns for path in folders[0].rglob("*")}
    # The order in which flags are given says nothing.
    filter_into(distilled, folders[0], drop=list(reversed(DEFAULT_DROP)))
    assert {path: path.stat().st_mtime_ns for path in folders[0].rglob("*")} == times


def test_filter_of_a_filter_keeps_the_history_and_equals_both_rules_at_once(distilled: Path, tmp_path: Path) -> None:
    first = filter_into(distilled, tmp_path / "first", drop=["looping"])
    second = filter_into(first, tmp_path / "second", drop=["truncated"])
    both = filter_into(distilled, tmp_path / "both", drop=["looping", "truncated"])
    assert read_rows(second) == read_rows(both)
    history = read_json(second / "manifest.json")["filters"]
    assert [applied["rule"] for applied in history] == [{"drop": ["looping"]}, {"drop": ["truncated"]}]
    assert history[1]["corpus_manifest_sha256"] == sha256_file(first / "manifest.json")
    assert history[1]["num_rows"] == read_json(first / "manifest.json")["counts"]["train"]


def test_length_ratio_counts_the_tokens_that_are_asked_for(
    distilled: Path, tmp_path: Path, tiny_tokenizer: Any
) -> None:
    tiny_tokenizer.save_pretrained(tmp_path / "tokenizer")
    kept = {}
    for tokens in ("space", str(tmp_path / "tokenizer")):
        args = FilterArguments(
            corpus=str(distilled),
            output_dir=str(tmp_path / f"new{len(kept)}"),
            drop=["none"],
            max_length_ratio=1.2,
            tokens=tokens,
        )
        kept[tokens] = [row["id"] for row in read_rows(Filter(args).run())]
    assert kept["space"] != kept[str(tmp_path / "tokenizer")]
    rule = read_json(tmp_path / "new1/manifest.json")["filters"][0]["rule"]
    assert rule["tokenizer_sha256"] == sha256_file(tmp_path / "tokenizer/tokenizer.json")


def test_each_side_is_cut_by_its_own_rules(distilled: Path, tmp_path: Path) -> None:
    pairs = [row["translation"] for row in read_rows(distilled)]
    # Sources are whole words for one side's rules, and letters for those of the other.
    words = sorted({word for pair in pairs for word in pair["en"].split()})
    save_marian_tokenizer(tmp_path / "tokenizer", [" ".join(words)] * 20, ["".join(words)], vocab_size=200)
    tokens = str(tmp_path / "tokenizer")
    args = FilterArguments(
        corpus=str(distilled), output_dir=str(tmp_path / "new"), drop=["none"], columns=["length_ratio"], tokens=tokens
    )
    measured = [row["length_ratio"] for row in read_rows(Filter(args).run())]
    sides = [tokenize([pair[lang] for pair in pairs], tokens, is_target=lang == "xx") for lang in ("en", "xx")]
    assert measured == pytest.approx(length_ratios(*map(list, sides)))
    as_sources = tokenize([pair["xx"] for pair in pairs], tokens)
    assert list(as_sources) != list(tokenize([pair["xx"] for pair in pairs], tokens, is_target=True))


def test_a_copy_is_one_whatever_rules_a_tokenizer_has_for_targets(distilled: Path, tmp_path: Path) -> None:
    pairs = [row["translation"] for row in read_rows(distilled)]
    words = sorted({word for pair in pairs for text in pair.values() for word in text.split()})
    save_marian_tokenizer(tmp_path / "tokenizer", [" ".join(words)] * 20, ["".join(words)], vocab_size=400)
    rates = {}
    for tokens in ("space", "moses", str(tmp_path / "tokenizer")):
        new = str(tmp_path / f"new{len(rates)}")
        columns = FilterArguments(
            corpus=str(distilled), output_dir=new, drop=["none"], columns=["copy_rate"], tokens=tokens
        )
        rates[tokens] = [row["copy_rate"] for row in read_rows(Filter(columns).run())]
    by_words, *others = rates.values()
    assert 1 in by_words
    for rate in others:
        assert all(other == 1 for words, other in zip(by_words, rate, strict=True) if words == 1)


@pytest.mark.parametrize("languages", [("en", "fr"), ("fr", "en"), ("en", "zh"), ("zh", "de")])
def test_a_copy_is_one_whatever_rules_a_language_has_for_words(
    languages: tuple[str, str], distilled: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = dict(zip(("source_lang", "target_lang"), languages, strict=True))
    args = FilterArguments(
        corpus=str(distilled), output_dir=str(tmp_path / "new"), drop=["none"], columns=["copy_rate"], tokens="moses"
    )
    columns = MeasuredCorpus(args, read_json(distilled / "manifest.json") | own)
    texts = ["j'ai l'ami d'Anne, it's O'Neil's", "I don't think it's the dog's fault", "我们去 school"]
    copies = [dict.fromkeys(languages, text) for text in texts]
    assert columns._measure(pa.table({"translation": copies}), None)["copy_rate"].tolist() == [1, 1, 1]
    # Text in the script of its own language is nothing to warn of.
    pair = {lang: "我们今天晚上一起去学校看电影。" if lang == "zh" else "a dog" for lang in languages}
    columns._measure(pa.table({"translation": [pair]}), None)
    assert not caplog.records


def test_command_prints_and_cards_every_count(
    distilled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["filter", f"--corpus={distilled}", f"--output_dir={tmp_path / 'new'}", "--min_score=-1"]) == 0
    printed, card = capsys.readouterr().out, (tmp_path / "new/README.md").read_text(encoding="utf-8")
    manifest = read_json(tmp_path / "new/manifest.json")
    (applied,) = manifest["filters"]
    assert f"{manifest['counts']['train']} of {NUM_ROWS} training pairs stay" in printed
    assert f"left out: {applied['num_dropped']} (" in printed
    for reason, count in applied["reasons"].items():
        assert f"{count} {reason}" in printed
        assert f"| `{reason}` | {count} |" in card
    assert f"{manifest['flag_counts']['kept_real']} kept_real" in printed.splitlines()[-1]
    assert f"{applied['num_dropped']} of {NUM_ROWS} training rows went" in card
    assert "`min_score=-1.0`" in card
    assert applied["corpus_manifest_sha256"] in card


def test_filtered_folder_loads_and_its_push_is_planned(
    distilled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = tmp_path / "new"
    assert main(["filter", f"--corpus={distilled}", f"--output_dir={new}"]) == 0
    kept = read_rows(new)
    assert load_dataset(str(new), split="train", cache_dir=str(tmp_path / "cache")).to_list() == kept
    for streaming in (False, True):
        rows = load_corpus(new, "train", source_lang="en", target_lang="xx", streaming=streaming)
        assert [row["id"] for row in rows] == [row["id"] for row in kept]
    assert len(load_corpus(new, "test", source_lang="en", target_lang="xx")) == 3
    assert main(["push", f"--folder={new}", "--repo_id=owner/name", "--dry_run"]) == 0
    assert "in 17 files: dataset repository owner/name" in capsys.readouterr().out


@pytest.mark.parametrize("rule", [{}, {"columns": ["copy_rate", "language_posterior", "source_rank"]}], ids=str)
def test_memory_does_not_grow_with_the_corpus(distilled: Path, tmp_path: Path, rule: dict[str, Any]) -> None:
    """The same shard 4 and 40 times; text of 2 MB in each."""
    rows = [make_row(row, random.Random(row)) | {"real_target": "x" * 20_000 + str(row)} for row in range(100)]
    path, manifest = tmp_path / "shard.parquet", read_json(distilled / "manifest.json")
    Dataset.from_list(rows, features=corpus_features("en", "xx")).to_parquet(path)
    peaks = []
    for number in (4, 40):
        folder, names = tmp_path / f"corpus{number}", [f"train-{i:05d}-of-{number:05d}.parquet" for i in range(number)]
        (folder / "data").mkdir(parents=True)
        for name in names:
            shutil.copy(path, folder / "data" / name)
        shards = dict.fromkeys((f"data/{name}" for name in names), sha256_file(path))
        write_json(folder / "manifest.json", manifest | {"counts": {"train": 100 * number}, "shards": shards})
        before = pa.default_memory_pool()
        pool = pa.proxy_memory_pool(before)
        pa.set_memory_pool(pool)
        try:
            filter_into(folder, tmp_path / f"new{number}", **rule)
        finally:
            pa.set_memory_pool(before)
        peaks.append(pool.max_memory())
    assert 2e6 < peaks[1] < 1.5 * peaks[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--drop", "loopy"], "`drop` must be one of ['empty_source'"),
        (["--drop", "none", "looping"], "or none alone, got 'none'"),
        (["--drop", "none"], "A filter must have a rule, got none"),
        (["--max_length_ratio=0.5"], "`max_length_ratio` must be >= 1, got 0.5"),
        (["--max_length_ratio=nan"], "`max_length_ratio` must be a finite number >= 1, got nan"),
        (["--min_score=0"], "must keep at least 1 training row, got 0 of 103"),
    ],
)
def test_rules_that_make_no_sense(
    distilled: Path, tmp_path: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row | {"teacher_score": -1.0} for row in read_rows(distilled)]
    path = next(iter(sorted(distilled.glob("data/train-*"))))
    if options == ["--min_score=0"]:
        manifest = read_json(distilled / "manifest.json")
        for old in distilled.glob("data/train-*"):
            old.unlink()
            del manifest["shards"][f"data/{old.name}"]
        Dataset.from_list(rows, features=corpus_features("en", "xx")).to_parquet(path)
        manifest["shards"][f"data/{path.name}"] = sha256_file(path)
        write_json(distilled / "manifest.json", manifest)
    assert main(["filter", f"--corpus={distilled}", f"--output_dir={tmp_path / 'new'}", *options]) == 2
    assert message in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus"], "a refusal must leave nothing behind"


def test_corpus_must_be_what_its_manifest_says(distilled: Path, tmp_path: Path) -> None:
    args = FilterArguments(corpus=str(distilled), output_dir=str(tmp_path / "new"))
    shard = distilled / "data/train-00004-of-00011.parquet"
    content = shard.read_bytes()
    for damaged in (content[:-1], content[:40] + bytes([content[40] ^ 1]) + content[41:]):
        shard.write_bytes(damaged)
        with pytest.raises(ValueError, match="train-00004-of-00011.parquet` must have the SHA-256"):
            Filter(args).run()
    shard.unlink()
    with pytest.raises(ValueError, match="got no file"):
        Filter(args).run()
    assert not (tmp_path / "new").exists()
    (distilled / "manifest.json").unlink()
    args = FilterArguments(corpus=str(distilled), output_dir=str(tmp_path / "other"))
    with pytest.raises(ValueError, match="`corpus` must be a folder with a manifest.json"):
        Filter(args).run()
    assert not (tmp_path / "other").exists()


def occupied_by_a_file(folder: Path, distilled: Path) -> None:
    folder.parent.mkdir(exist_ok=True)
    folder.write_text("mine")


def occupied_by_notes(folder: Path, distilled: Path) -> None:
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")


def occupied_by_another_rule(folder: Path, distilled: Path) -> None:
    filter_into(distilled, folder, drop=["looping"])


def occupied_by_a_distillation(folder: Path, distilled: Path) -> None:
    shutil.copytree(distilled, folder)


def occupied_by_another_corpus(folder: Path, distilled: Path) -> None:
    filter_into(distilled, folder)
    write_json(distilled / "manifest.json", read_json(distilled / "manifest.json") | {"seed": 2})


OCCUPATIONS = [
    occupied_by_a_file,
    occupied_by_notes,
    occupied_by_another_rule,
    occupied_by_a_distillation,
    occupied_by_another_corpus,
]


@pytest.mark.parametrize("occupy", OCCUPATIONS)
def test_folder_that_holds_something_else_is_refused_and_kept(
    distilled: Path, tmp_path: Path, occupy: Callable[[Path, Path], None]
) -> None:
    new = tmp_path / "new"
    occupy(new, distilled)
    before = {path: path.read_bytes() for path in [new, *new.rglob("*")] if path.is_file()}
    with pytest.raises(ValueError, match=r"`(output_dir|rule\..*|corpus)` must be (new|a folder|the same)"):
        filter_into(distilled, new)
    assert {path: path.read_bytes() for path in [new, *new.rglob("*")] if path.is_file()} == before


def test_corpus_itself_is_no_output_folder_but_an_empty_one_is(distilled: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`output_dir` must not be the corpus itself"):
        FilterArguments(corpus=str(distilled), output_dir=f"{distilled}/../corpus")
    (tmp_path / "new").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "new")
    assert read_rows(filter_into(distilled, tmp_path / "link"))


def test_damage_to_a_finished_filter_is_repaired(
    distilled: Path, tmp_path: Path, file_bytes: Callable[[Path], dict[str, bytes]]
) -> None:
    folder = filter_into(distilled, tmp_path / "new")
    before = file_bytes(folder)
    shard = next((folder / "data").glob("train-00002-*"))
    shard.write_bytes(shard.read_bytes()[:-1])
    assert file_bytes(filter_into(distilled, folder)) == before


def test_real_distillation_is_filtered(
    copy_teacher: Any, tiny_tokenizer: Any, arguments: Callable[..., Any], tmp_path: Path
) -> None:
    folder = distill(copy_teacher, tiny_tokenizer, arguments("distilled"))
    counts = read_json(folder / "manifest.json")["flag_counts"]
    assert counts["empty_source"] == 1, "the corpus has a blank source"
    new = filter_into(folder, tmp_path / "new", drop=["empty_source"])
    assert [row["id"] for row in read_rows(new)] == [0, 1, *range(3, 11)]


def test_interruption_leaves_nothing(distilled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(filter_module, "shard_entries", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
        filter_into(distilled, tmp_path / "new")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["step.json"]
    assert filter_into(distilled, tmp_path / "new", drop=["looping"]), "what made nothing binds nobody"


@pytest.mark.slow
@pytest.mark.parametrize("rule", [{}, {"max_copy_rate": 0.5, "worst_score": 0.1, "max_per_source": 1}], ids=str)
def test_killed_at_random_moments_it_leaves_all_or_nothing(
    distilled: Path, tmp_path: Path, file_bytes: Callable[[Path], dict[str, bytes]], rule: dict[str, Any]
) -> None:
    whole = file_bytes(filter_into(distilled, tmp_path / "whole", **rule))
    program = (
        "import sys, json\nfrom hf_nat.distillation import FilterArguments\nfrom hf_nat.steps import Filter\n"
        "print('ready', flush=True)\nFilter(FilterArguments(**json.loads(sys.argv[1]))).run()\n"
    )
    job = json.dumps({"corpus": str(distilled), "output_dir": str(tmp_path / "killed"), **rule})
    seed = random.randrange(2**32)
    print(f"moments of seed {seed}")
    draw, seen = random.Random(seed), set()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for _ in range(5):
        process = subprocess.Popen([sys.executable, "-c", program, job], env=environment, stdout=subprocess.PIPE)
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        time.sleep(draw.uniform(0, 0.12))
        process.kill()
        process.wait()
        process.stdout.close()
        seen.add((tmp_path / "killed/manifest.json").exists())
        if True in seen:
            shutil.rmtree(tmp_path / "killed", ignore_errors=True)
    assert False in seen, "every kill came too late"
    filter_into(distilled, tmp_path / "killed", **rule)
    assert file_bytes(tmp_path / "killed") == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus", "killed", "whole"]
