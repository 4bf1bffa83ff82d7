"""Pushing to a Hub on the loopback interface with the real client, and loading back what arrived."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError
from transformers import MarianMTModel

from hf_nat.config import load_config
from hf_nat.hub.push import PushArguments, push


LOAD_MODEL = """
import sys
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer
for checkpoint in sys.argv[1:]:
    tokenizer = AutoTokenizer.from_pretrained(checkpoint, trust_remote_code=True)
    model = AutoModelForSeq2SeqLM.from_pretrained(checkpoint, trust_remote_code=True)
    print(len(tokenizer), model.generate(**tokenizer(["a man reads"], return_tensors="pt")).tolist())
"""
LOAD_CORPUS = """
import sys
from datasets import load_dataset
corpus = load_dataset(sys.argv[1])
print({split: corpus[split]["translation"][:] for split in corpus})
"""


@pytest.fixture
def hub(fake_hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """The fake Hub as the only one that this process knows, with nobody logged in."""
    monkeypatch.setattr(constants, "ENDPOINT", fake_hub.url)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no_token"))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return fake_hub


@pytest.fixture
def logged_in(hub, hub_token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives this process the token that the fake Hub accepts."""
    monkeypatch.setenv("HF_TOKEN", hub_token)


def download(fake_hub, token: str, cache: Path, script: str, *argv: str) -> str:
    """Runs a script that loads from the fake Hub in a fresh process, and returns what it printed."""
    variables = {"HF_ENDPOINT": fake_hub.url, "HF_HOME": str(cache), "HF_TOKEN": token, "HF_HUB_DISABLE_XET": "1"}
    online = {"HF_HUB_OFFLINE": "0", "HF_DATASETS_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "0"}
    process = subprocess.run(
        [sys.executable, "-c", script, *argv], env=os.environ | variables | online, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


def add_leftovers(folder: Path) -> None:
    """Puts beside a result what a run leaves there and nobody wants to download."""
    for name in (
        "checkpoint-100/model.safetensors",
        "runs/Nov22/events.out.tfevents.1",
        "optimizer.pt",
        "rng_state_0.pth",
        "trainer_state.json",
        "training_args.bin",
        "data/.train-00000-of-00002.parquet.77.tmp",
        ".git/config",
        "eval-test/.cache/x",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("leftover")


def test_push_arguments_come_from_the_command_line() -> None:
    (args,) = load_config(
        [PushArguments], ["--folder", "a", "--repo-id", "b/c", "--repo-type", "dataset", "--dry-run"]
    )
    assert args == PushArguments("a", "b/c", repo_type="dataset", dry_run=True)
    (args,) = load_config([PushArguments], ["--folder", "a", "--repo-id", "b/c", "--private", "false"])
    assert args == PushArguments("a", "b/c", private=False)


def test_dry_run_lists_exactly_what_would_go(model_folder: Path) -> None:
    add_leftovers(model_folder)
    plan = push(PushArguments(str(model_folder), "owner/name", dry_run=True))
    assert plan.url is None
    assert plan.repo_type == "model"
    assert sorted(plan.files) == [
        "README.md",
        "config.json",
        "eval-test/metrics.json",
        "generation_config.json",
        "metrics.json",
        "model.safetensors",
        "run.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert all((model_folder / path).stat().st_size == size for path, size in plan.files.items())
    last = plan.summary().splitlines()[-1]
    assert last.split("bytes")[0].strip() == f"{sum(plan.files.values()):,}"
    assert last.endswith("in 9 files: model repository owner/name")


def test_dry_run_needs_no_token_and_sends_nothing(hub, corpus_folder: Path) -> None:
    assert push(PushArguments(str(corpus_folder), "owner/corpus", dry_run=True)).url is None
    assert hub.requests == []


@pytest.mark.usefixtures("logged_in")
def test_push_model_arrives_whole_in_one_private_commit(hub, model_folder: Path) -> None:
    add_leftovers(model_folder)
    plan = push(PushArguments(str(model_folder), "owner/teacher"))
    assert plan.url is not None
    assert plan.url.startswith(f"{hub.url}/models/owner/teacher/commit/")
    assert len(hub.commits) == 1
    assert hub.private == {"models/owner/teacher": True}
    files = hub.repositories["models/owner/teacher"]["main"]
    assert files == {path: (model_folder / path).read_bytes() for path in plan.files}
    assert 'checkpoint = "owner/teacher"' in files["README.md"].decode()


@pytest.mark.usefixtures("logged_in")
def test_pushed_models_load_and_translate_as_before(
    hub, hub_token: str, tmp_path: Path, model_folder: Path, student_folders: list[Path]
) -> None:
    folders = [model_folder, *student_folders]
    for folder in folders:
        push(PushArguments(str(folder), f"owner/{folder.name}"))
    checkpoints = [*map(str, folders), *(f"owner/{folder.name}" for folder in folders)]
    printed = download(hub, hub_token, tmp_path / "cache", LOAD_MODEL, *checkpoints).splitlines()
    assert len(printed) == 2 * len(folders)
    assert printed[len(folders) :] == printed[: len(folders)]


@pytest.mark.usefixtures("logged_in")
def test_push_corpus_arrives_with_its_splits(hub, hub_token: str, tmp_path: Path, corpus_folder: Path) -> None:
    push(PushArguments(str(corpus_folder), "owner/corpus", private=False))
    assert hub.private == {"datasets/owner/corpus": False}
    row = {"en": "a dog", "de": "ein hund"}
    loaded = download(hub, hub_token, tmp_path / "cache", LOAD_CORPUS, "owner/corpus")
    assert loaded == f"{ {'train': [row] * 3, 'validation': [row], 'test': [row]} }\n"


@pytest.mark.usefixtures("logged_in")
def test_second_push_deletes_shards_that_are_gone(hub, corpus_folder: Path) -> None:
    push(PushArguments(str(corpus_folder), "owner/corpus"))
    files = hub.repositories["datasets/owner/corpus"]["main"]
    files["notes.md"] = b"kept"
    shards = corpus_folder / "data"
    (shards / "train-00001-of-00002.parquet").unlink()
    (shards / "train-00000-of-00002.parquet").rename(shards / "train-00000-of-00001.parquet")
    push(PushArguments(str(corpus_folder), "owner/corpus", commit_message="again"))
    assert [path for path in files if path.startswith("data/train")] == ["data/train-00000-of-00001.parquet"]
    assert files["notes.md"] == b"kept"
    assert len(hub.commits) == 2
    assert hub.commits[1]["entries"][0]["value"]["summary"] == "again"


@pytest.mark.usefixtures("logged_in")
def test_second_push_deletes_weights_that_are_gone(hub, model_folder: Path) -> None:
    push(PushArguments(str(model_folder), "owner/teacher"))
    files = hub.repositories["models/owner/teacher"]["main"]
    model = MarianMTModel.from_pretrained(model_folder)
    (model_folder / "model.safetensors").unlink()
    model.save_pretrained(model_folder, max_shard_size=10_000)
    push(PushArguments(str(model_folder), "owner/teacher"))
    assert "model.safetensors.index.json" in files
    assert "model.safetensors" not in files


@pytest.mark.usefixtures("logged_in")
def test_push_to_a_branch_leaves_main_alone(hub, corpus_folder: Path) -> None:
    push(PushArguments(str(corpus_folder), "owner/corpus", revision="v2"))
    branches = hub.repositories["datasets/owner/corpus"]
    assert branches["main"] == {}
    assert "manifest.json" in branches["v2"]


def test_push_without_token_says_so_before_anything_is_sent(hub, model_folder: Path) -> None:
    with pytest.raises(PermissionError, match=r"push to owner/teacher needs .* Run `hf auth login` or set HF_TOKEN\."):
        push(PushArguments(str(model_folder), "owner/teacher"))
    assert hub.requests == []


def test_push_with_a_refused_token_says_so(hub, model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_nobodysToken")
    with pytest.raises(PermissionError, match=r"refused to write to owner/teacher \(status 401\)"):
        push(PushArguments(str(model_folder), "owner/teacher"))
    assert hub.repositories == {}


def test_push_never_shows_the_token(hub, model_folder: Path, monkeypatch, caplog, capfd) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_nobodysToken")
    caplog.set_level("DEBUG")
    with pytest.raises(PermissionError) as raised:
        push(PushArguments(str(model_folder), "owner/teacher"))
    shown = "".join(traceback.format_exception(raised.value)) + caplog.text + "".join(capfd.readouterr())
    assert "owner/teacher" in shown
    assert "hf_nobodysToken" not in shown


@pytest.mark.usefixtures("logged_in")
def test_push_passes_on_other_failures_of_the_hub(hub, model_folder: Path) -> None:
    hub.broken = True
    with pytest.raises(HfHubHTTPError, match="500"):
        push(PushArguments(str(model_folder), "owner/teacher"))


@pytest.mark.parametrize("repo_id", ["name", "a/b/c", ""])
def test_push_repo_id_without_owner_is_an_error(model_folder: Path, repo_id: str) -> None:
    with pytest.raises(ValueError, match=f"`repo_id` must be owner/name, got '{repo_id}'"):
        push(PushArguments(str(model_folder), repo_id, dry_run=True))


def test_push_malformed_repo_id_is_an_error(model_folder: Path) -> None:
    with pytest.raises(ValueError, match="owner/na me"):
        push(PushArguments(str(model_folder), "owner/na me", dry_run=True))
    assert not (model_folder / "README.md").exists()


def test_push_wrong_repo_type_is_an_error(corpus_folder: Path) -> None:
    with pytest.raises(ValueError, match="`repo_type` must be 'dataset' for .*, got 'model'"):
        push(PushArguments(str(corpus_folder), "owner/name", repo_type="model", dry_run=True))


def test_push_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`folder` must be an existing folder, got '.*nowhere'"):
        push(PushArguments(str(tmp_path / "nowhere"), "owner/name", dry_run=True))


def test_push_folder_that_is_neither_model_nor_corpus_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=rf"{re.escape(repr(str(tmp_path)))} with \['config\.json'\]"):
        push(PushArguments(str(tmp_path), "owner/name", dry_run=True))


def test_push_model_without_tokenizer_is_an_error(model_folder: Path) -> None:
    (model_folder / "tokenizer_config.json").unlink()
    with pytest.raises(ValueError, match=r"must hold the model's tokenizer, got '.*teacher'"):
        push(PushArguments(str(model_folder), "owner/name", dry_run=True))


def test_push_corpus_of_an_unfinished_distillation_is_an_error(corpus_folder: Path) -> None:
    (corpus_folder / "manifest.json").unlink()
    with pytest.raises(ValueError, match=r"manifest\.json or a README\.md, got '.*distilled' with neither"):
        push(PushArguments(str(corpus_folder), "owner/name", dry_run=True))


def test_push_corpus_with_its_own_card_needs_no_manifest(corpus_folder: Path) -> None:
    (corpus_folder / "manifest.json").unlink()
    (corpus_folder / "README.md").write_text("Mine.")
    assert push(PushArguments(str(corpus_folder), "owner/name", dry_run=True)).files["README.md"] == len("Mine.")
