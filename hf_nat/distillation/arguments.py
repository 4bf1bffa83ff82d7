"""The keys of a distillation's YAML file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from datasets import Dataset

from ..base.config import option
from ..data.arguments import first_rows
from ..decoding import LoadingArguments, SentenceSplitter
from .strategies import StrategyArguments


BACKENDS = ("auto", "torch", "ct2")
# What CTranslate2 calls the precision of weights and arithmetic.
COMPUTE_TYPES = ("float32", "float16", "bfloat16", "int8", "int8_float32", "int8_float16", "int8_bfloat16")
LONG_SOURCE = ("error", "real", "truncate")


@dataclass(frozen=True, kw_only=True)
class DistillArguments(StrategyArguments, LoadingArguments):
    """Which corpus is rewritten by which teacher, and how it decodes.

    Raises:
        ImportError: if sentences are to be split and sentencex is not installed.
        ValueError: if the strategy, the policy or the backend is unknown, a size is below 1, a beam has fewer outputs
            than candidates, the backend has no such strategy or precision, or `interpolation` shall split sentences.
    """

    teacher: str = field(metadata={"help": "checkpoint folder or Hub id of a seq2seq model; named in the manifest"})
    output_dir: str = field(metadata={"help": "folder of the distilled corpus, in Hub layout"})
    teacher_revision: str | None = option(None, "branch, tag or commit of a teacher on the Hub")
    backend: str = option(
        "auto", "what decodes: torch, ct2 (CTranslate2, for MarianMT teachers), or auto: ct2 where it can, else torch"
    )
    compute_type: str = option("float32", f"ct2: precision, one of {', '.join(COMPUTE_TYPES)}")
    train_split: str = option("train", "split whose targets the teacher writes")
    validation_split: str | None = option("validation", "split to copy with its real targets; null for none")
    test_split: str | None = option("test", "split to copy with its real targets; null for none")
    max_batch_tokens: int | None = option(
        None, "source tokens per batch, padding counted; default: 4096; on a CPU 1024, by ct2 512"
    )
    long_source: str = option(
        "truncate",
        "source longer than the teacher's positions: cut it (truncate), keep the real target (real), or error",
    )
    split_sentences: bool = option(
        False, "rows are documents: split each source into sentences, decode these one by one, join the outputs"
    )
    shard_size: int = option(1000, "rows per file; a killed run loses at most the files it was working on")
    max_samples: int | None = option(None, "distill only the first rows of the training split")
    license: str | None = option(None, "license of the corpus, as the Hub spells it; goes into the manifest and card")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.long_source not in LONG_SOURCE:
            raise ValueError(f"`long_source` must be one of {list(LONG_SOURCE)}, got {self.long_source!r}.")
        if self.backend not in BACKENDS:
            raise ValueError(f"`backend` must be one of {list(BACKENDS)}, got {self.backend!r}.")
        if self.backend == "ct2" and self.samples:
            raise ValueError(
                f"`backend` must be torch for the strategy {self.strategy!r}, got 'ct2': CTranslate2 draws for all "
                "rows from one stream, so that a row's sample would depend on the others."
            )
        if self.split_sentences and self.strategy == "interpolation":
            raise ValueError(
                "`split_sentences` must be false for the strategy 'interpolation', got true: which sentence of a real "
                "target belongs to one of the source is not known. Use `strategy: beam`."
            )
        _ = self.splitter
        allowed = ("float32",) if self.backend == "torch" else COMPUTE_TYPES
        if self.compute_type not in allowed:
            raise ValueError(
                f"`compute_type` must be one of {list(allowed)} for the backend {self.backend!r}, got "
                f"{self.compute_type!r}."
            )
        for name in ("max_batch_tokens", "shard_size", "max_samples"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"`{name}` must be >= 1, got {value}.")

    @property
    def splitter(self) -> SentenceSplitter | None:
        """What splits the sources, None where each is a sentence."""
        return SentenceSplitter(self.source_lang, self.target_lang) if self.split_sentences else None

    @property
    def splits(self) -> dict[str, str]:
        """The corpus' names of the splits, by those that they have in the distilled corpus."""
        names = {"train": self.train_split, "validation": self.validation_split, "test": self.test_split}
        return {split: name for split, name in names.items() if name}

    def load_splits(self) -> dict[str, Dataset]:
        """Loads the splits by the names that they have in the distilled corpus."""
        splits = {split: self.load(name) for split, name in self.splits.items()}
        return {**splits, "train": first_rows(splits["train"], self.max_samples)}

    def settings(self) -> dict[str, Any]:
        """Returns what the rows depend on beside teacher and corpus, as the manifest records it.

        What is left to the machine, `backend: auto` and `max_batch_tokens`, is chosen before.
        """
        backend = {"backend": self.backend} | ({} if self.backend == "torch" else {"compute_type": self.compute_type})
        splitter = {} if self.splitter is None else {"split_sentences": self.splitter.name}
        kept = ("strategy", "long_source", "max_batch_tokens", "shard_size", "seed")
        return {
            **self.languages,
            **{name: getattr(self, name) for name in kept},
            **splitter,
            "decoding": {**self.decoding_parameters(), **self.input_options, **backend},
        }
