"""The keys of a distillation's YAML file."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..config import option
from .strategies import STRATEGIES


BACKENDS = ("torch", "ct2")
# What CTranslate2 calls the precision of weights and arithmetic.
COMPUTE_TYPES = ("float32", "float16", "bfloat16", "int8", "int8_float32", "int8_float16", "int8_bfloat16")
LONG_SOURCE = ("error", "real", "truncate")


@dataclass
class DistillArguments:
    """Which corpus is rewritten by which teacher, and how it decodes.

    Raises:
        ValueError: if the strategy, the policy or the backend is unknown, a size is below 1, a beam has fewer outputs
            than candidates, or the backend has no such strategy or precision.
    """

    teacher: str = field(metadata={"help": "checkpoint folder or Hub id of a seq2seq model; named in the manifest"})
    corpus: str = field(
        metadata={"help": "Hub id, folder, .parquet/.jsonl file, text pattern with {split} and {lang}"}
    )
    source_lang: str = field(metadata={"help": "language key of the source in the `translation` feature"})
    target_lang: str = field(metadata={"help": "language key of the target"})
    output_dir: str = field(metadata={"help": "folder of the distilled corpus, in Hub layout"})
    teacher_revision: str | None = option(None, "branch, tag or commit of a teacher on the Hub")
    teacher_source_lang: str | None = option(None, "multilingual teacher: its code of the source language (eng_Latn)")
    teacher_target_lang: str | None = option(None, "multilingual teacher: its code of the target language (deu_Latn)")
    source_prefix: str | None = option(None, "text put before every source: T5's task, or `>>deu<<` for Marian")
    backend: str = option("torch", "what decodes: torch, or ct2 (CTranslate2), faster for MarianMT teachers")
    compute_type: str = option("float32", f"ct2: precision, one of {', '.join(COMPUTE_TYPES)}")
    config_name: str | None = option(None, "configuration of a Hub corpus")
    train_split: str = option("train", "split whose targets the teacher writes")
    validation_split: str | None = option("validation", "split to copy with its real targets; empty for none")
    test_split: str | None = option("test", "split to copy with its real targets; empty for none")
    strategy: str = option("beam", f"how the teacher decodes: {', '.join(sorted(STRATEGIES))}")
    num_beams: int = option(5, "beam size of the strategies `beam` and `interpolation`")
    length_penalty: float = option(1.0, "beam scores are divided by length ** length_penalty, EOS counted")
    expert: int | None = option(None, "mixture of experts: the one that decodes, from 0; default: the checkpoint's")
    top_k: int = option(10, "`top-k`: tokens that are drawn from")
    num_candidates: int = option(3, "`interpolation`: best outputs of the beam among which BLEU chooses")
    max_new_tokens: int = option(200, "longest output in tokens, EOS counted; an output that reaches it is flagged")
    max_batch_tokens: int = option(4096, "source tokens per batch, padding counted; ct2 on a CPU is fastest with 512")
    long_source: str = option(
        "truncate",
        "source longer than the teacher's positions: cut it (truncate), keep the real target (real), or error",
    )
    shard_size: int = option(1000, "rows per file; a killed run loses at most the files it was working on")
    max_samples: int | None = option(None, "distill only the first rows of the training split")
    seed: int = option(1, "seed of a strategy that draws random numbers")
    license: str | None = option(None, "license of the corpus, as the Hub spells it; goes into the manifest and card")

    def __post_init__(self) -> None:
        if self.strategy not in STRATEGIES:
            raise ValueError(f"`strategy` must be one of {sorted(STRATEGIES)}, got {self.strategy!r}.")
        if self.long_source not in LONG_SOURCE:
            raise ValueError(f"`long_source` must be one of {list(LONG_SOURCE)}, got {self.long_source!r}.")
        if self.backend not in BACKENDS:
            raise ValueError(f"`backend` must be one of {list(BACKENDS)}, got {self.backend!r}.")
        if self.backend == "ct2" and STRATEGIES[self.strategy](self)["do_sample"]:
            raise ValueError(
                f"`backend` must be torch for the strategy {self.strategy!r}, got 'ct2': CTranslate2 draws for all "
                "rows from one stream, so that a row's sample would depend on the others."
            )
        allowed = COMPUTE_TYPES if self.backend == "ct2" else ("float32",)
        if self.compute_type not in allowed:
            raise ValueError(
                f"`compute_type` must be one of {list(allowed)} for the backend {self.backend!r}, got "
                f"{self.compute_type!r}."
            )
        sizes = ("num_beams", "top_k", "num_candidates", "max_new_tokens")
        for name in (*sizes, "max_batch_tokens", "shard_size", "max_samples"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"`{name}` must be >= 1, got {value}.")
        if self.strategy == "interpolation" and self.num_candidates > self.num_beams:
            raise ValueError(
                f"`num_candidates` must be <= `num_beams`, got {self.num_candidates} and {self.num_beams}."
            )
