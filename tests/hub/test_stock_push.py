"""transformers' own ways to push a student leave the files of `save_pretrained` on the Hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hub_server import HubServer
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, Seq2SeqTrainer, Seq2SeqTrainingArguments


pytestmark = pytest.mark.usefixtures("logged_in")
BY_HUB = {".gitattributes", "README.md", "training_args.bin"}


@pytest.fixture
def students(student_folders: list[Path], tmp_path: Path) -> list[tuple[Any, Any, Path]]:
    """Models, tokenizers and folders in which their own `save_pretrained` has written them once more."""
    loaded = []
    for path in student_folders:
        model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)
        folder = tmp_path / "again" / path.name
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        loaded.append((model, tokenizer, folder))
    return loaded


def check(hub: HubServer, folder: Path) -> None:
    """Compares a repository with the folder of its name."""
    pushed = {path: data for path, data in hub.files(f"models/owner/{folder.name}").items() if path not in BY_HUB}
    there = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert pushed.keys() == there.keys()
    # The Trainer switches the cache off, which these models do not have.
    configs = [json.loads(files.pop("config.json")) for files in (pushed, there)]
    assert configs[0] | {"use_cache": None} == configs[1] | {"use_cache": None}
    assert [path for path in there if pushed[path] != there[path]] == []


def test_push_to_hub_of_model_and_tokenizer(hub: HubServer, students: list[tuple[Any, Any, Path]]) -> None:
    for model, tokenizer, folder in students:
        model.push_to_hub(f"owner/{folder.name}", private=True)
        tokenizer.push_to_hub(f"owner/{folder.name}")
        check(hub, folder)


def test_push_to_hub_of_the_trainer(hub: HubServer, students: list[tuple[Any, Any, Path]], tmp_path: Path) -> None:
    for model, tokenizer, folder in students:
        arguments = Seq2SeqTrainingArguments(
            output_dir=str(tmp_path / "trained" / folder.name),
            hub_model_id=f"owner/{folder.name}",
            push_to_hub=True,
            use_cpu=True,
            report_to=[],
        )
        Seq2SeqTrainer(model, arguments, processing_class=tokenizer).push_to_hub()
        check(hub, folder)
