"""A Hub of one test, and the folders that a run leaves: a teacher, students, a distilled corpus."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from datasets import Dataset
from hub_server import TOKEN, HubServer
from huggingface_hub import constants
from transformers import GenerationConfig, MarianConfig, MarianMTModel

from hf_nat.data.tokenizer import train_tokenizer
from hf_nat.distillation.shards import corpus_features
from hf_nat.models import ARCHITECTURES
from hf_nat.utils import sha256_file, write_json


MANIFEST = {
    "teacher": "/somewhere/private/runs/teacher",
    "teacher_sha256": "ab" * 32,
    "tokenizer_sha256": "cd" * 32,
    "corpus_sha256": {"train": "ef" * 32},
    "corpus": "/somewhere/private/multi30k/{split}.{lang}.gz",
    "config_name": None,
    "source_lang": "en",
    "target_lang": "de",
    "license": "cc-by-4.0",
    "strategy": "beam",
    "decoding": {"num_beams": 5, "length_penalty": 1.0, "max_new_tokens": 200},
    "seed": 1,
    "counts": {"test": 1, "train": 3, "validation": 1},
    "flag_counts": {"truncated": 2, "looping": 0},
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, waits: list[float]) -> Iterator[HubServer]:
    """A Hub on the loopback interface as the only one that this process knows, with nobody logged in."""
    server = HubServer()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants._HF_DEFAULT_ENDPOINT, server.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no_token"))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def logged_in(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives this process the token that the Hub accepts."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that were waited between attempts; none of them pass."""
    seconds: list[float] = []
    monkeypatch.setattr(time, "sleep", seconds.append)
    return seconds


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    """A trained and evaluated teacher's folder."""
    folder = tmp_path / "teacher"
    tokenizer = train_tokenizer(["a man reads a book in the park", "ein mann liest im park ein buch"], vocab_size=64)
    special = {name: getattr(tokenizer, name) for name in ("pad_token_id", "eos_token_id", "bos_token_id")}
    sides = {f"{side}_{name}": 1 for side in ("encoder", "decoder") for name in ("layers", "attention_heads")}
    sizes = {"d_model": 16, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "max_position_embeddings": 32}
    start = {"decoder_start_token_id": 0, "forced_eos_token_id": None}
    model = MarianMTModel(MarianConfig(vocab_size=len(tokenizer), **special, **sides, **sizes, **start))
    model.generation_config = GenerationConfig(max_new_tokens=8, num_beams=2, decoder_start_token_id=0, **special)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    environment = {"device": "cpu", "versions": {"torch": "2.13.0", "transformers": "5.23.0"}}
    languages = {"source_lang": "en", "target_lang": "de"}
    corpus = "/somewhere/private/multi30k/{split}.{lang}.gz"
    write_json(
        folder / "run.json",
        {
            "arguments": languages
            | {"model_type": "marian", "size": "nano", "corpus": corpus, "init_from_teacher": None, "init_from": None}
            | {"max_tokens": 2048, "learning_rate": 0.0005, "warmup_steps": 400, "seed": 7, "model_config": None},
            "num_parameters": 15123,
            "environment": environment,
        },
    )
    write_json(
        folder / "metrics.json",
        {"eval_loss": 2.34567, "eval_bleu": 29.3456, "eval_bleu_signature": "nrefs:1|tok:none-moses"}
        | {
            "train_seconds": 99.5,
            "num_updates": 4321,
            "epochs": 11.0,
            "seed": 7,
            "best_checkpoint": "checkpoint-4000",
        },
    )
    scores = {
        "bleu": {"score": 31.4159, "signature": "nrefs:1|case:mixed|tok:none-moses"},
        "chrf": {"score": 55.1872, "signature": "nrefs:1|case:mixed|nc:6|nw:0"},
    }
    write_json(
        folder / "eval-test" / "metrics.json",
        {"model": str(folder), "corpus": corpus, "split": "test", "num_sentences": 1000, "scores": scores, **languages}
        | {"seconds": 40.0, "sentences_per_second": 25.0, "iterations_mean": None, "environment": environment}
        | {"decoding": {"num_beams": 5, "reranker": "/somewhere/private/reranker"}},
    )
    return folder


@pytest.fixture
def student_folders(tmp_path: Path) -> list[Path]:
    """A folder of every student architecture as `save_pretrained` leaves it, its code included."""
    tokenizer = train_tokenizer(["a man reads a book in the park", "ein mann liest im park ein buch"], vocab_size=64)
    special = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "eos", "bos", "mask")}
    sides = {f"{side}_{name}": 1 for side in ("encoder", "decoder") for name in ("layers", "attention_heads")}
    sizes = {"d_model": 16, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "max_position_embeddings": 32}
    for name, (config_class, model_class) in ARCHITECTURES.items():
        model_class(config_class(vocab_size=len(tokenizer), **special, **sides, **sizes)).save_pretrained(
            tmp_path / name
        )
        tokenizer.save_pretrained(tmp_path / name)
    return [tmp_path / name for name in ARCHITECTURES]


def write_corpus(folder: Path, strategy: str) -> Path:
    """Writes a distilled corpus of two training shards, whose targets name the strategy."""
    features = corpus_features("en", "de")
    rows = [
        {"id": i, "translation": {"en": f"a dog {i}", "de": strategy}, "real_target": "der hund", "flags": []}
        for i in range(3)
    ]
    shards = {"train-00000-of-00002": rows[:2], "train-00001-of-00002": rows[2:]}
    (folder / "data").mkdir(parents=True)
    for name, content in (shards | {f"{split}-00000-of-00001": rows[:1] for split in ("validation", "test")}).items():
        columns = {column: [row.get(column) for row in content] for column in features}
        Dataset.from_dict(columns, features=features).to_parquet(folder / "data" / f"{name}.parquet")
    checksums = {f"data/{path.name}": sha256_file(path) for path in sorted((folder / "data").iterdir())}
    write_json(folder / "manifest.json", MANIFEST | {"strategy": strategy, "shards": checksums})
    return folder


@pytest.fixture
def corpus_folder(tmp_path: Path) -> Path:
    """A corpus distilled by beam search."""
    return write_corpus(tmp_path / "distilled", "beam")


@pytest.fixture
def greedy_folder(tmp_path: Path) -> Path:
    """The same, distilled greedily."""
    return write_corpus(tmp_path / "distilled_greedy", "greedy")
