"""Fixtures that tests of several packages share."""

from __future__ import annotations

import os
from pathlib import Path


# Before anything imports the libraries that read them.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from transformers import MarianConfig, MarianMTModel, PreTrainedTokenizerFast

from hf_nat.base.allocator import keep_freed_memory
from hf_nat.data.tokenizer import train_tokenizer


keep_freed_memory()  # As the commands do.


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """A worker a core for the default tests; none for one file, and for tests that start processes of their own."""
    is_default = config.option.markexpr == "not slow and not gpu"
    is_one_file = [Path(argument.partition("::")[0]).suffix for argument in config.args] == [".py"]
    return min(len(os.sched_getaffinity(0)), 8) if is_default and not is_one_file else 0


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def sentences() -> list[str]:
    """The sentences that `copy_teacher` was trained on."""
    return [
        "a dog runs",
        "two men walk over the street",
        "the cat sleeps",
        "a woman reads a red book in the park",
        "hello",
    ]


@pytest.fixture(scope="session")
def tiny_tokenizer(sentences: list[str]) -> PreTrainedTokenizerFast:
    return train_tokenizer(sentences * 2, vocab_size=80)


@pytest.fixture(scope="session")
def copy_teacher(sentences: list[str], tiny_tokenizer: PreTrainedTokenizerFast) -> MarianMTModel:
    """A tiny Marian model that half a second of training taught to copy: its outputs vary and end."""
    torch.manual_seed(0)
    config = MarianConfig(
        vocab_size=len(tiny_tokenizer),
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        max_position_embeddings=64,
        scale_embedding=True,
        dropout=0.0,
        pad_token_id=tiny_tokenizer.pad_token_id,
        bos_token_id=tiny_tokenizer.bos_token_id,
        eos_token_id=tiny_tokenizer.eos_token_id,
        decoder_start_token_id=tiny_tokenizer.pad_token_id,
        forced_eos_token_id=None,
    )
    model = MarianMTModel(config)
    batch = tiny_tokenizer(sentences, padding=True, return_tensors="pt", return_token_type_ids=False)
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(60):
        model(**batch, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()
