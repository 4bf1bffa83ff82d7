"""What counts of an input: its content, or its commit on the Hub; not its name, its place or its age."""

from __future__ import annotations

import os
import shutil
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, NamedSplit

from hf_nat.base.utils import write_json
from hf_nat.steps.fingerprints import corpus_fingerprint, model_fingerprint, optional_model, tokenizer_fingerprint


PAIRS = [{"en": "a", "de": "b"}, {"en": "", "de": "c d"}]


def rows(pairs: list[dict[str, str]] = PAIRS, **columns: list[Any]) -> Dataset:
    return Dataset.from_dict({"translation": pairs, **columns})


def of(corpus: Dataset, **changes: Any) -> str:
    return corpus_fingerprint(corpus, **{"source_lang": "en", "target_lang": "de", **changes})


def test_the_sentence_pairs_of_a_corpus_count_and_nothing_else() -> None:
    same = of(rows())
    assert of(rows([dict(reversed(pair.items())) for pair in PAIRS])) == same
    assert of(rows(extra=[1, 2])) == same
    assert of(rows([{**pair, "fr": "x"} for pair in PAIRS])) == same
    assert of(rows().select([0, 1])) == same
    others = [
        rows(PAIRS[::-1]),
        rows(PAIRS[:1]),
        rows([{"en": "a", "de": "b "}, PAIRS[1]]),
        rows([{"en": "", "de": "b"}, {"en": "a", "de": "c d"}]),
        rows([{"en": pair["de"], "de": pair["en"]} for pair in PAIRS]),
    ]
    found = [of(other) for other in others] + [of(rows(), source_lang="de", target_lang="en")]
    assert same not in found and found[-1] == found[-2]
    assert len(set(found)) == len(others)


def test_columns_count_where_they_are_asked_for_and_there() -> None:
    one, two = rows(id=[1, 2]), rows(id=[1, 3])
    assert of(one) == of(two) == of(rows(), columns=["id"])
    assert len({of(one, columns=["id"]), of(two, columns=["id"]), of(one)}) == 3


def test_a_corpus_of_the_hub_is_its_commit_part_split_and_ends() -> None:
    commit = "0123456789abcdef" * 2 + "01234567"

    def downloaded(
        commit: str, split: str = "train", pairs: list[dict[str, str]] = PAIRS, part: str = "de-en"
    ) -> Dataset:
        corpus = rows(pairs)
        corpus._info.config_name = part
        corpus._info.download_checksums = {f"hf://datasets/owner/name@{commit}/data/train-00000.parquet": {}}
        corpus._split = NamedSplit(split)
        return corpus

    assert of(downloaded(commit)).startswith(f"owner/name@{commit}:de-en:train:2:")
    others = [
        downloaded(commit[::-1]),
        downloaded(commit, "test"),
        downloaded(commit, pairs=PAIRS[:1]),
        downloaded(commit, pairs=[PAIRS[0], {"en": "", "de": "another column"}]),
        downloaded(commit, part="de-fr"),
    ]
    assert len({of(other) for other in [*others, downloaded(commit)]}) == 6
    assert of(downloaded(commit, pairs=[])) == f"owner/name@{commit}:de-en:train:0:{sha256(b'[]').hexdigest()[:16]}"
    # A branch says nothing about the content: then the pairs count.
    assert of(downloaded("main")) == of(rows())


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    write_json(folder / "config.json", {"d_model": 16})
    write_json(folder / "generation_config.json", {"num_beams": 1, "eos_penalty": 0.5})
    for name in ("model.safetensors", "tokenizer.json", "training_args.bin", "README.md", "run.json"):
        (folder / name).write_text(name)
    return folder


def test_the_files_of_a_checkpoint_count_by_their_content(checkpoint: Path, tmp_path: Path) -> None:
    same = model_fingerprint(checkpoint)
    assert same.keys() == {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"}
    moved = shutil.copytree(checkpoint, tmp_path / "elsewhere")
    for path in moved.iterdir():
        os.utime(path, (1, 1))
    for name in ("training_args.bin", "README.md", "run.json", "step.json"):
        (moved / name).write_text("changed")
    assert model_fingerprint(moved) == model_fingerprint(str(moved)) == same == optional_model(str(moved))
    (moved / "model.safetensors").write_text("model.safetensorz")
    assert {name for name in same if model_fingerprint(moved)[name] != same[name]} == {"model.safetensors"}
    assert optional_model(None) is None


def test_of_a_tokenizer_its_own_files_count(checkpoint: Path) -> None:
    same = tokenizer_fingerprint(checkpoint)
    assert same.keys() == {"tokenizer.json"}
    (checkpoint / "model.safetensors").write_text("trained on")
    write_json(checkpoint / "generation_config.json", {"num_beams": 5})
    assert tokenizer_fingerprint(checkpoint) == same
    (checkpoint / "tokenizer.json").write_text("another")
    assert tokenizer_fingerprint(checkpoint) != same


def test_a_key_of_the_generation_config_may_not_count(checkpoint: Path) -> None:
    path = checkpoint / "generation_config.json"
    without, all_of_it = model_fingerprint(checkpoint, but_for={"eos_penalty"}), model_fingerprint(checkpoint)
    write_json(path, {"eos_penalty": 3.0, "num_beams": 1, "_from_model_config": True})
    assert model_fingerprint(checkpoint, but_for={"eos_penalty"}) == without
    assert model_fingerprint(checkpoint) != all_of_it
    write_json(path, {"num_beams": 1})
    assert model_fingerprint(checkpoint, but_for={"eos_penalty"}) == without
    write_json(path, {"eos_penalty": 0.5, "num_beams": 2})
    assert model_fingerprint(checkpoint, but_for={"eos_penalty"}) != without
    path.unlink()
    assert "generation_config.json" not in model_fingerprint(checkpoint, but_for={"eos_penalty"})


def test_values_of_a_column_that_json_does_not_know_count_too() -> None:
    days = [rows(day=[datetime(2020, 1, day), datetime(2020, 1, 9)]) for day in (1, 2)]
    one, two = (of(corpus, columns=["day"]) for corpus in days)
    assert one != two
