from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from transformers import BartConfig, BartForConditionalGeneration, MarianConfig, MarianMTModel, PreTrainedTokenizerFast

from hf_nat.data.tokenizer import train_tokenizer
from hf_nat.distillation import DistillArguments


SOURCES = [
    "a dog runs",
    "two men walk over the street",
    "",
    "the cat sleeps",
    "a woman reads a red book in the park",
    "hello",
    "two dogs run",
    "the woman walks",
    "a red street",
    "hello hello",
    "the men in the park",
]


@pytest.fixture
def file_bytes() -> Callable[[Path], dict[str, bytes]]:
    """Reads every file of a distilled corpus but those that tell times."""

    def read(folder: Path) -> dict[str, bytes]:
        paths = (
            path for path in folder.rglob("*") if path.is_file() and path.name not in ("metrics.json", "README.md")
        )
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}

    return read


@pytest.fixture
def sources() -> list[str]:
    """The training sources of `corpus`; the first also serve as validation and test."""
    return SOURCES


@pytest.fixture
def corpus(tmp_path: Path) -> str:
    """A corpus of 11 training pairs, 3 validation and 2 test pairs, as files and not by memory."""
    for split, sources in (("train", SOURCES), ("dev", SOURCES[:3]), ("eval", SOURCES[3:5])):
        rows = [{"translation": {"en": source, "xx": f"real {source}"}, "extra": 7} for source in sources]
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(tmp_path / "{split}.jsonl")


@pytest.fixture
def arguments(corpus: str, tmp_path: Path) -> Callable[..., DistillArguments]:
    """Builds arguments for `corpus`: shards of 3 rows, outputs of at most 12 tokens."""

    def build(output_dir: str = "distilled", **changes: Any) -> DistillArguments:
        defaults = {
            "teacher": "the teacher",
            "corpus": corpus,
            "source_lang": "en",
            "target_lang": "xx",
            **({} if "source" in changes else {"validation_split": "dev", "test_split": "eval"}),
            "max_new_tokens": 12,
            "backend": "torch",
            "shard_size": 3,
        }
        return DistillArguments(output_dir=str(tmp_path / output_dir), **{**defaults, **changes})

    return build


@pytest.fixture
def unsure_teacher(copy_teacher: MarianMTModel) -> MarianMTModel:
    """The teacher with flatter distributions, so that samples vary."""
    teacher = copy.deepcopy(copy_teacher)
    with torch.no_grad():
        teacher.model.shared.weight *= 0.7
    return teacher


@pytest.fixture
def second(copy_teacher: MarianMTModel, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> str:
    """Another teacher of the vocabulary, of another size, as a folder."""
    torch.manual_seed(5)
    sizes = {"d_model": 24, "encoder_layers": 1, "decoder_layers": 3, "init_std": 0.5}
    model = MarianMTModel(MarianConfig(**{**copy_teacher.config.to_dict(), **sizes}))
    model.save_pretrained(tmp_path / "second")
    tiny_tokenizer.save_pretrained(tmp_path / "second")
    return str(tmp_path / "second")


@pytest.fixture
def third(sentences: list[str], tmp_path: Path) -> str:
    """A teacher of another architecture and vocabulary, as a folder."""
    torch.manual_seed(6)
    tokenizer = train_tokenizer(sentences, 60)
    special = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    config = BartConfig(
        vocab_size=len(tokenizer), d_model=16, encoder_layers=1, decoder_layers=1, max_position_embeddings=64,
        decoder_start_token_id=tokenizer.bos_token_id, forced_bos_token_id=None, init_std=0.5, **special, **heads,
    )  # fmt: skip
    BartForConditionalGeneration(config).save_pretrained(tmp_path / "third")
    tokenizer.save_pretrained(tmp_path / "third")
    return str(tmp_path / "third")


@pytest.fixture
def rows() -> Callable[[Path], list[dict[str, Any]]]:
    """Reads the training rows of a distilled corpus."""

    def read(folder: Path) -> list[dict[str, Any]]:
        return [row for path in sorted(folder.glob("data/train-*.parquet")) for row in pq.read_table(path).to_pylist()]

    return read
