"""A distilled corpus as distillation leaves it, without a teacher."""

from __future__ import annotations

from pathlib import Path

from datasets import Dataset

from hf_nat.base.utils import sha256_file, write_json
from hf_nat.distillation.shards import corpus_features


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
