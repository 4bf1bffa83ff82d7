"""A Hub of one test, and the folders that a run leaves: a teacher, students, a distilled corpus."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import transformers.utils.hub
from distilled_corpus import write_corpus
from hub_server import TOKEN, HubServer
from huggingface_hub import constants
from nat_model_tester import save, tiny_student
from transformers import GenerationConfig, MarianConfig, MarianMTModel

from hf_nat.base.utils import write_json
from hf_nat.data.tokenizer import train_tokenizer
from hf_nat.models import ARCHITECTURES


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, waits: list[float]) -> Iterator[HubServer]:
    """A Hub on the loopback interface as the only one that this process knows, with nobody logged in."""
    server = HubServer()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(transformers.utils.hub, "_hf_api", None)  # it would keep the Hub of an earlier test
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants._HF_DEFAULT_ENDPOINT, server.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for name in ("HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT"):  # A machine may stop for longer than 10 s.
        monkeypatch.setattr(constants, name, 300)
        monkeypatch.setenv(name, "300")
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
    save(folder, model, tokenizer)
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
    for name in ARCHITECTURES:
        save(tmp_path / name, tiny_student(name, tokenizer), tokenizer)
    return [tmp_path / name for name in ARCHITECTURES]


@pytest.fixture
def corpus_folder(tmp_path: Path) -> Path:
    """A corpus distilled by beam search."""
    return write_corpus(tmp_path / "distilled", "beam")


@pytest.fixture
def greedy_folder(tmp_path: Path) -> Path:
    """The same, distilled greedily."""
    return write_corpus(tmp_path / "distilled_greedy", "greedy")
