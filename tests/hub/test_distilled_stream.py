"""A corpus of the Hub that is distilled as a stream: it keeps to the commit that it was begun with."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from hub_server import Repository
from test_round_trip import download

from hf_nat.base.utils import read_json


pytestmark = pytest.mark.usefixtures("logged_in")
DISTILL = """
import json
import sys
from hf_nat.distillation import DistillArguments
from hf_nat.distillation.backends import TorchTeacher
from hf_nat.steps import Distill
decode, left = TorchTeacher.translate, int(sys.argv[1])
def translate(*args, **kwargs):
    global left
    left -= 1
    if left < 0:
        raise KeyboardInterrupt
    return decode(*args, **kwargs)
TorchTeacher.translate = translate
for argument in sys.argv[2:]:
    try:
        Distill(DistillArguments(**json.loads(argument))).run()
        print("finished")
    except (KeyboardInterrupt, ValueError) as error:
        print(type(error).__name__, error)
"""


def parquet(sources: list[str]) -> dict[str, bytes]:
    """The files of a dataset with these sources."""
    buffer = io.BytesIO()
    Dataset.from_list([{"en": source, "de": "real"} for source in sources]).to_parquet(buffer)
    return {"train.parquet": buffer.getvalue()}


def test_a_stream_that_is_interrupted_goes_on_with_its_commit(hub, tmp_path: Path, model_folder: Path) -> None:
    name, sources = "datasets/owner/news", ["a man", "reads", "a book", "in the park", "a man reads"]
    hub.repositories[name] = Repository(False, None, {})
    begun = hub.commit(name, "main", parquet(sources), "begun")
    folder = tmp_path / "distilled"
    keys = {"teacher": str(model_folder), "corpus": "owner/news", "source_lang": "en", "target_lang": "de"}
    keys |= {"validation_split": None, "test_split": None, "output_dir": str(folder), "backend": "torch"}
    keys |= {"strategy": "greedy", "streaming": True, "shard_size": 2, "max_new_tokens": 5}
    assert download(hub, tmp_path / "cache", DISTILL, "1", json.dumps(keys)) == ["KeyboardInterrupt "]
    assert [path.name for path in folder.glob("data/*.parquet")] == ["train-00000.parquet"]
    assert read_json(folder / "step.json")["inputs"]["stream"]["commit"] == begun
    moved = hub.commit(name, "main", parquet(["other", *sources]), "moved")
    runs = [json.dumps(keys), json.dumps(keys | {"corpus_revision": begun})]
    refused, finished = download(hub, tmp_path / "cache", DISTILL, "9", *runs)
    assert "`stream.commit` must be the same" in refused and f"it was {begun!r}, got {moved!r}" in refused
    assert finished == "finished"
    rows = [row for path in sorted(folder.glob("data/*.parquet")) for row in pq.read_table(path).to_pylist()]
    assert [row["translation"]["en"] for row in rows] == sources
