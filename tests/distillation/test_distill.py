from __future__ import annotations

import copy
import logging
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from datasets import List, Translation, Value, load_dataset

from hf_nat.base.utils import read_json, sha256_file
from hf_nat.data.tokenizer import train_tokenizer
from hf_nat.decoding import translate
from hf_nat.distillation.backends import TorchTeacher
from hf_nat.steps import distill


def load(folder: Path, tmp_path: Path):
    return load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))


def test_rows_keep_order_and_real_target_beside_the_teachers_output(
    copy_teacher, tiny_tokenizer, arguments, sources, tmp_path
):
    folder = distill(copy_teacher, tiny_tokenizer, arguments())
    train = load(folder, tmp_path)["train"]
    decoding = {"num_beams": 5, "length_penalty": 1.0, "early_stopping": True, "max_new_tokens": 12}
    outputs = translate(copy_teacher, tiny_tokenizer, sources, with_scores=True, **decoding)
    assert train["id"][:] == list(range(len(sources)))
    assert [pair["en"] for pair in train["translation"]] == sources
    assert [pair["xx"] for pair in train["translation"]] == [output.text for output in outputs]
    assert train["real_target"][:] == [f"real {source}" for source in sources]
    assert train["teacher_score"][:] == [output.score and pytest.approx(output.score, abs=1e-4) for output in outputs]
    assert train["flags"][2] == ["empty_source", "empty_output"]
    assert [("truncated" in flags) for flags in train["flags"]] == [output.truncated for output in outputs]


def test_folder_loads_as_three_splits_of_which_two_are_real(
    copy_teacher, tiny_tokenizer, arguments, sources, tmp_path
):
    splits = load(distill(copy_teacher, tiny_tokenizer, arguments()), tmp_path)
    assert {split: len(rows) for split, rows in splits.items()} == {"train": 11, "validation": 3, "test": 2}
    for split, expected in (("validation", sources[:3]), ("test", sources[3:5])):
        rows = splits[split]
        assert rows.features == {
            "id": Value("int64"),
            "translation": Translation(["en", "xx"]),
            "real_target": Value("string"),
            "teacher_score": Value("float32"),
            "flags": List(Value("string")),
        }
        assert rows["translation"][:] == [{"en": source, "xx": f"real {source}"} for source in expected]
        assert rows["real_target"][:] == [f"real {source}" for source in expected]
        assert rows["teacher_score"][:] == [None] * len(expected)
        assert rows["flags"][:] == [[]] * len(expected)


def test_shards_are_named_as_the_hub_names_them(copy_teacher, tiny_tokenizer, arguments):
    folder = distill(copy_teacher, tiny_tokenizer, arguments(shard_size=4))
    assert {path.name: pq.read_metadata(path).num_rows for path in (folder / "data").iterdir()} == {
        "train-00000-of-00003.parquet": 4,
        "train-00001-of-00003.parquet": 4,
        "train-00002-of-00003.parquet": 3,
        "validation-00000-of-00001.parquet": 3,
        "test-00000-of-00001.parquet": 2,
    }


def test_manifest_tells_what_the_corpus_was_made_from(copy_teacher, tiny_tokenizer, arguments):
    args = arguments(license="cc-by-4.0")
    folder = distill(copy_teacher, tiny_tokenizer, args)
    manifest = read_json(folder / "manifest.json")
    assert manifest["shards"] == {
        f"data/{path.name}": sha256_file(path) for path in sorted((folder / "data").iterdir())
    }
    assert manifest["counts"] == {"train": 11, "validation": 3, "test": 2}
    rows = [row for path in manifest["shards"] for row in pq.read_table(folder / path)["flags"].to_pylist()]
    assert manifest["flag_counts"]["empty_source"] == 1
    assert manifest["flag_counts"] == {flag: sum(flag in row for row in rows) for flag in manifest["flag_counts"]}
    assert (manifest["teacher"], manifest["corpus"], manifest["license"]) == ("the teacher", args.corpus, "cc-by-4.0")
    assert (manifest["source_lang"], manifest["target_lang"], manifest["strategy"]) == ("en", "xx", "beam")
    assert manifest["decoding"] == {
        "do_sample": False,
        "num_beams": 5,
        "length_penalty": 1.0,
        "early_stopping": True,
        "max_new_tokens": 12,
        "max_length_a": 2.0,
        "max_length_b": 20,
        "backend": "torch",
    }


def test_a_license_that_comes_later_stands_in_manifest_and_card(copy_teacher, tiny_tokenizer, arguments):
    folder = distill(copy_teacher, tiny_tokenizer, arguments())
    before = read_json(folder / "manifest.json")
    assert distill(copy_teacher, tiny_tokenizer, arguments(license="cc-by-4.0")) == folder
    assert read_json(folder / "manifest.json") == before | {"license": "cc-by-4.0"}
    assert "license: cc-by-4.0" in (folder / "README.md").read_text(encoding="utf-8")


def test_metrics_tell_what_this_run_did(copy_teacher, tiny_tokenizer, arguments):
    folder = distill(copy_teacher, tiny_tokenizer, arguments())
    metrics = read_json(folder / "metrics.json")
    assert (metrics["num_sentences"], metrics["num_processes"]) == (11, 1)
    assert metrics["sentences_per_second"] == pytest.approx(11 / metrics["seconds"], rel=0.01)
    distill(copy_teacher, tiny_tokenizer, arguments())
    assert read_json(folder / "metrics.json") == metrics, "a run with nothing to do must not replace the times"


def test_greedy_is_a_strategy(copy_teacher, tiny_tokenizer, arguments, sources):
    folder = distill(copy_teacher, tiny_tokenizer, arguments(strategy="greedy", shard_size=20))
    rows = pq.read_table(folder / "data" / "train-00000-of-00001.parquet").to_pylist()
    outputs = translate(copy_teacher, tiny_tokenizer, sources, num_beams=1, max_new_tokens=12)
    assert [row["translation"]["xx"] for row in rows] == [output.text for output in outputs]


def test_max_samples_and_left_out_splits(copy_teacher, tiny_tokenizer, arguments):
    folder = distill(copy_teacher, tiny_tokenizer, arguments(max_samples=2, validation_split=None, test_split=None))
    assert read_json(folder / "manifest.json")["counts"] == {"train": 2}
    assert [path.name for path in (folder / "data").iterdir()] == ["train-00000-of-00001.parquet"]


@pytest.mark.parametrize("streaming", [False, True])
def test_splits_that_repeat_the_training_rows_are_warned_of(
    copy_teacher, tiny_tokenizer, arguments, corpus, caplog, streaming
):
    distill(copy_teacher, tiny_tokenizer, arguments("apart", strategy="greedy", streaming=streaming))
    assert "say nothing about new text" not in caplog.text
    one_file = {"corpus": corpus.replace("{split}", "dev"), "max_samples": 2, "streaming": streaming}
    distill(copy_teacher, tiny_tokenizer, arguments("copied", strategy="greedy", **one_file))
    assert "Give `validation_split: null` and `test_split: null`" in caplog.text
    assert "say nothing about new text" in caplog.text


def test_an_interrupted_run_resumes_to_the_same_bytes(
    copy_teacher, tiny_tokenizer, arguments, monkeypatch, file_bytes
):
    whole = distill(copy_teacher, tiny_tokenizer, arguments("whole"))
    args = arguments("resumed")
    folder = Path(args.output_dir)
    calls, decode = [], TorchTeacher.translate

    def fail_in_third_shard(*args, **kwargs):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return decode(*args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(TorchTeacher, "translate", fail_in_third_shard)
        with pytest.raises(KeyboardInterrupt):
            distill(copy_teacher, tiny_tokenizer, args)
    first = folder / "data" / "train-00000-of-00004.parquet"
    assert len(list((folder / "data").iterdir())) == 2
    assert not (folder / "manifest.json").exists()
    (folder / "data" / f".{first.name}.123.tmp").write_bytes(b"what a kill leaves")
    written = first.stat().st_mtime_ns

    distill(copy_teacher, tiny_tokenizer, args)
    assert first.stat().st_mtime_ns == written, "a finished shard must not be made again"
    assert file_bytes(folder) == file_bytes(whole)
    assert read_json(folder / "metrics.json")["num_sentences"] == 11 - 6


def test_a_damaged_shard_is_reported_and_made_again(copy_teacher, tiny_tokenizer, arguments, caplog, file_bytes):
    folder = distill(copy_teacher, tiny_tokenizer, arguments())
    expected = file_bytes(folder)
    damaged = folder / "data" / "train-00002-of-00004.parquet"
    short = folder / "data" / "train-00001-of-00004.parquet"
    damaged.write_bytes(damaged.read_bytes()[:100])
    pq.write_table(pq.read_table(short).slice(0, 2), short)
    with caplog.at_level(logging.WARNING):
        distill(copy_teacher, tiny_tokenizer, arguments())
    assert f"{damaged} is damaged" in caplog.text
    assert f"{short} has 2 rows instead of 3" in caplog.text
    assert file_bytes(folder) == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_beams": 4}, "`decoding.num_beams` .* it was 5, got 4"),
        ({"strategy": "greedy"}, "`decoding.early_stopping` .* it was True, got unset"),
        ({"seed": 2}, "`seed` .* it was 1, got 2"),
        ({"shard_size": 4}, "`shard_size` .* it was 3, got 4"),
        ({"max_samples": 5}, "`corpus_sha256.train` .* it was '"),
        ({"test_split": None}, "`corpus_sha256.test` .* got unset"),
    ],
)
def test_a_changed_setting_is_an_error_with_both_values(
    copy_teacher, tiny_tokenizer, arguments, change, message, file_bytes
):
    folder = distill(copy_teacher, tiny_tokenizer, arguments())
    before = file_bytes(folder)
    with pytest.raises(ValueError, match=message):
        distill(copy_teacher, tiny_tokenizer, arguments(**change))
    assert file_bytes(folder) == before


def test_a_changed_teacher_tokenizer_or_corpus_is_an_error(copy_teacher, tiny_tokenizer, arguments, sources, corpus):
    distill(copy_teacher, tiny_tokenizer, arguments())
    other = copy.deepcopy(copy_teacher)
    other.final_logits_bias[0, 5] += 1e-3
    with pytest.raises(ValueError, match="`teacher_sha256` must be the same"):
        distill(other, tiny_tokenizer, arguments())
    other = copy.deepcopy(copy_teacher)
    other.generation_config.no_repeat_ngram_size = 2
    with pytest.raises(ValueError, match="`teacher_generation_config.no_repeat_ngram_size` .* it was unset, got 2"):
        distill(other, tiny_tokenizer, arguments())
    with pytest.raises(ValueError, match="`tokenizer_sha256` must be the same"):
        distill(copy_teacher, train_tokenizer(sources[::2], 60), arguments())
    file = Path(corpus.format(split="train"))
    file.write_text(file.read_text().replace("real hello", "Real hello"))
    with pytest.raises(ValueError, match="`corpus_sha256.train` must be the same"):
        distill(copy_teacher, tiny_tokenizer, arguments())


def test_names_are_not_part_of_what_a_corpus_is_made_from(copy_teacher, tiny_tokenizer, arguments, corpus, tmp_path):
    distill(copy_teacher, tiny_tokenizer, arguments())
    for split in ("train", "dev", "eval"):
        (tmp_path / f"{split}.jsonl").rename(tmp_path / f"moved-{split}.jsonl")
    moved = str(tmp_path / "moved-{split}.jsonl")
    folder = distill(copy_teacher, tiny_tokenizer, arguments(teacher="moved teacher", corpus=moved))
    assert read_json(folder / "manifest.json")["teacher"] == "the teacher", "what is finished is not made again"


def test_padding_left_in_a_tokenizer_does_not_make_it_another(copy_teacher, arguments, sentences):
    tokenizer = train_tokenizer(sentences * 2, 80)
    folder = distill(copy_teacher, tokenizer, arguments())
    made = read_json(folder / "manifest.json")
    tokenizer(sentences, padding="max_length", max_length=40, truncation=True)
    distill(copy_teacher, tokenizer, arguments())
    assert read_json(folder / "manifest.json") == made


def test_shards_of_unknown_origin_are_an_error(copy_teacher, tiny_tokenizer, arguments):
    folder = distill(copy_teacher, tiny_tokenizer, arguments())
    (folder / "step.json").unlink()
    with pytest.raises(ValueError, match=r"must be new, empty, or hold the step\.json .* with README\.md, data"):
        distill(copy_teacher, tiny_tokenizer, arguments())


def test_teacher_in_training_mode_is_put_in_eval_mode(copy_teacher, tiny_tokenizer, arguments):
    teacher = copy.deepcopy(copy_teacher).train()
    distill(teacher, tiny_tokenizer, arguments(max_samples=1))
    assert not teacher.training


def test_unknown_strategy_and_sizes_below_one_are_errors(arguments):
    with pytest.raises(ValueError, match="`strategy` must be one of .*'beam', 'greedy'.*, got 'bean'"):
        arguments(strategy="bean")
    for name in ("num_beams", "max_new_tokens", "max_batch_tokens", "shard_size", "max_samples"):
        with pytest.raises(ValueError, match=f"`{name}` must be >= 1( and <= .*)?, got 0"):
            arguments(**{name: 0})


def test_files_are_a_function_of_the_arguments(copy_teacher, tiny_tokenizer, arguments, file_bytes):
    folders = [distill(copy_teacher, tiny_tokenizer, arguments(name)) for name in ("one", "two")]
    assert file_bytes(folders[0]) == file_bytes(folders[1])
    assert read_json(folders[0] / "manifest.json").keys().isdisjoint({"seconds", "environment", "output_dir"})
