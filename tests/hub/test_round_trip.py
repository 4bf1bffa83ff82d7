"""What was pushed comes back byte for byte in a fresh process, by `from_pretrained` and `load_dataset`."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from datasets import Dataset
from hub_server import TOKEN, Fault, Repository

from hf_nat.base.utils import sha256_file
from hf_nat.hub.push import PushArguments, push


pytestmark = pytest.mark.usefixtures("logged_in")
LOAD_MODELS = """
import sys
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer
for checkpoint in sys.argv[1:]:
    tokenizer = AutoTokenizer.from_pretrained(checkpoint, trust_remote_code=True)
    model = AutoModelForSeq2SeqLM.from_pretrained(checkpoint, trust_remote_code=True)
    print(len(tokenizer), model.generate(**tokenizer(["a man reads"], return_tensors="pt")).tolist())
"""
LOAD_CORPORA = """
import json
import sys
from datasets import load_dataset
for name in sys.argv[2:]:
    corpus = load_dataset(sys.argv[1], name)
    stream = load_dataset(sys.argv[1], name, streaming=True)
    assert stream["train"].features == corpus["train"].features
    for split in corpus:
        assert list(stream[split]) == list(corpus[split])
    print(json.dumps({split: list(corpus[split]) for split in corpus}))
"""
READ_FIRST_ROW = """
import sys
from datasets import load_dataset
from hf_nat.data import load_corpus
stream = load_dataset(sys.argv[1], "beam", split="train", streaming=True)
print(next(iter(stream))["translation"]["en"])
stream = load_corpus(sys.argv[1], source_lang="de", target_lang="en", config_name="beam", streaming=True)
print(next(iter(stream))["translation"]["de"])
"""
READ_PARTS = """
import json
import sys
from hf_nat.data import load_corpus
for name in sys.argv[1:]:
    for streaming in (True, False):
        rows = load_corpus(name, source_lang="en", target_lang="de", streaming=streaming)
        print(json.dumps([[row["translation"]["en"], row.get("n"), row.get("mixed")] for row in rows]))
"""


def download(hub, cache: Path, script: str, *argv: str) -> list[str]:
    """Runs a script that loads from the Hub in a fresh process, and returns the lines that it printed."""
    variables = {"HF_ENDPOINT": hub.url, "HF_HOME": str(cache), "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1"}
    online = {"HF_HUB_OFFLINE": "0", "HF_DATASETS_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "0"}
    process = subprocess.run(
        [sys.executable, "-c", script, *argv], env=os.environ | variables | online, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    return process.stdout.splitlines()


def checksums(folder: Path, pattern: str) -> set[str]:
    """The contents of the files that match, by their SHA-256."""
    return {sha256_file(path) for path in folder.rglob(pattern) if path.is_file()}


def test_models_translate_as_before_and_weights_are_the_same_bytes(
    hub, tmp_path: Path, model_folder: Path, student_folders: list[Path]
) -> None:
    folders = [model_folder, *student_folders]
    for folder in folders:
        push(PushArguments(str(folder), f"owner/{folder.name}"))
    hub.faults += [
        Fault("GET /owner/teacher/resolve/.*/model.safetensors", cut_after=1000),
        Fault("GET /owner/cmlm/resolve/.*/model.safetensors", status=429, headers={"Retry-After": "0"}),
    ]
    checkpoints = [*map(str, folders), *(f"owner/{folder.name}" for folder in folders)]
    printed = download(hub, tmp_path / "cache", LOAD_MODELS, *checkpoints)
    assert len(printed) == 2 * len(folders)
    assert printed[len(folders) :] == printed[: len(folders)]
    assert [fault.times for fault in hub.faults] == [0, 0]
    weights = [
        request.sent for request in hub.log if re.match("GET /owner/teacher/.*/model.safetensors", request.line)
    ]
    assert weights == [1000, (model_folder / "model.safetensors").stat().st_size]
    assert checksums(tmp_path / "cache", "*") >= {sha256_file(folder / "model.safetensors") for folder in folders}


def test_corpora_come_back_with_their_configurations(
    hub, tmp_path: Path, corpus_folder: Path, greedy_folder: Path
) -> None:
    push(PushArguments(str(corpus_folder), "owner/m30k", config_name="beam"))
    push(PushArguments(str(greedy_folder), "owner/m30k", config_name="greedy", private=False))
    hub.faults.append(Fault("GET /datasets/owner/m30k/resolve/.*/beam/train-00000-of-00002.parquet", cut_after=1000))
    printed = download(hub, tmp_path / "cache", LOAD_CORPORA, "owner/m30k", "beam", "greedy")
    assert hub.faults[0].times == 0
    for line, folder in zip(printed, (corpus_folder, greedy_folder), strict=True):
        shards = {split: sorted((folder / "data").glob(f"{split}-*")) for split in ("train", "validation", "test")}
        assert json.loads(line) == {
            split: [row for path in paths for row in Dataset.from_parquet(str(path), cache_dir=str(tmp_path))]
            for split, paths in shards.items()
        }
        assert checksums(tmp_path / "cache", "*") >= checksums(folder, "*.parquet")


def test_streaming_asks_for_ranges_of_the_split_it_needs(hub, tmp_path: Path, corpus_folder: Path) -> None:
    push(PushArguments(str(corpus_folder), "owner/corpus", config_name="beam"))
    hub.log.clear()
    assert download(hub, tmp_path / "cache", READ_FIRST_ROW, "owner/corpus") == ["a dog 0", "beam"]
    requests = [request for request in hub.log if re.match("GET .*parquet", request.line)]
    names = {Path(request.line).name for request in requests}
    # Beside the first shard `datasets` may open the next one ahead of need, but none of another split.
    assert "train-00000-of-00002.parquet" in names and all(name.startswith("train-") for name in names)
    for _ in range(3000):
        if all(request.status is not None for request in requests):
            break
        threading.Event().wait(0.01)  # The reader has ended, perhaps before such an answer.
    assert all(request.status == 206 and request.range is not None for request in requests)


def test_parts_that_differ_in_columns_come_as_a_stream_and_as_a_whole(hub, tmp_path: Path) -> None:
    rows = [{"n": 1, "mixed": 1}, {"n": 2.5, "mixed": "x"}, {"n": None, "more": [1]}]
    rows = [{"en": f"a{number}", "de": f"b{number}", **row} for number, row in enumerate(rows)]
    tables: dict[str, list[bytes]] = {"jsonl": [json.dumps(row).encode() + b"\n" for row in rows], "parquet": []}
    for row in rows:
        Dataset.from_list([row]).to_parquet(tmp_path / "part")
        tables["parquet"].append((tmp_path / "part").read_bytes())
    for form, parts in tables.items():
        name = f"datasets/owner/{form}"
        hub.repositories[name] = Repository(private=True, sdk=None, branches={})
        hub.commits[""] = {}
        hub.commit(name, "main", {f"data/train-{i}.{form}": part for i, part in enumerate(parts)}, "parts")
    printed = download(hub, tmp_path / "cache", READ_PARTS, "owner/jsonl", "owner/parquet")
    numbers, nothing = [1, 2.5, None], [None, None, None]
    expected = [(numbers, [1, "x", None]), (numbers, nothing), (numbers, nothing), (numbers, nothing)]
    assert [json.loads(line) for line in printed] == [
        [[f"a{i}", *values] for i, values in enumerate(zip(*columns, strict=True))] for columns in expected
    ]
