"""Small models to export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nat_model_tester import save, tiny_student

from hf_nat.data.tokenizer import train_tokenizer


SENTENCES = ["a dog runs", "two men walk over the street", "", "the cat sleeps", "a woman reads a red book"]
# A step of a flow has a dozen Transformer layers, whose trace takes long.
SMALLEST: dict[str, dict[str, Any]] = {"flowseq": {"flow_steps": [1]}}


def checkpoint(folder: Path, model_type: str, knobs: dict[str, Any] | None = None, **fields: Any) -> Path:
    """A tiny model whose weights are large enough for varied outputs, with its own defaults of some knobs."""
    tokenizer = train_tokenizer(SENTENCES * 2, vocab_size=60)
    model = tiny_student(model_type, tokenizer, **SMALLEST.get(model_type, {}) | fields)
    for name, value in (knobs or {}).items():
        setattr(model.generation_config, name, value)
    return save(folder, model, tokenizer)
