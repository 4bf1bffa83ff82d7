"""The keys of a distillation's YAML file."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from datasets import Dataset, IterableDataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..base.bounds import require_choice, require_number
from ..base.config import option, refuse_changed
from ..data.arguments import first_rows
from ..data.corpora import load_corpus
from ..decoding import LoadingArguments, SentenceSplitter, language_pair, load_model
from .judges import load_backward_model
from .source_noise import NOISE_COLUMNS, SourceNoise
from .strategies import CHOOSING, STRATEGIES, StrategyArguments


TEACHER_BACKENDS = ("auto", "torch", "ct2")
# What CTranslate2 calls the precision of weights and arithmetic.
COMPUTE_TYPES = ("float32", "float16", "bfloat16", "int8", "int8_float32", "int8_float16", "int8_bfloat16")
LONG_SOURCE = ("error", "real", "truncate")


@dataclass(frozen=True, kw_only=True)
class DistillArguments(StrategyArguments, LoadingArguments):
    """Which corpus is rewritten by which teacher, and how it decodes.

    Raises:
        ImportError: if sentences are to be split and sentencex is not installed.
        ValueError: if the strategy, the policy or the backend is unknown, a size is below 1, a beam has fewer outputs
            than candidates, the backend has no such strategy or precision, or a strategy that chooses shall split
            sentences.
    """

    corpus: str | None = option(  # type: ignore[assignment]
        None,
        "Hub id, folder, .parquet/.jsonl/.csv/.tsv file, text pattern with {split} and {lang}, or SRC,TGT; or give "
        "`source`",
    )
    source: str | None = option(
        None,
        "instead of `corpus`: sources without targets, as text file or in any form of a corpus; they are the training "
        "split, there is no other",
    )
    corpus_revision: str | None = option(None, "branch, tag or commit of a corpus on the Hub")
    streaming: bool = option(
        False,
        "read the corpus as it goes: for one that is larger than memory, and, as parquet on the Hub, than the disk",
    )
    teacher: str = field(metadata={"help": "checkpoint folder or Hub id of a seq2seq model; named in the manifest"})
    output_dir: str = field(metadata={"help": "folder of the distilled corpus, in Hub layout"})
    ensemble: list[str] | None = option(
        None, "further teachers of the same vocabulary, whose probabilities are averaged with it at each step (torch)"
    )
    union: list[str] | None = option(
        None, "further teachers of any vocabulary, whose candidates are added: for a strategy that chooses"
    )
    union_prefixes: list[str] | None = option(
        None, "`source_prefix` of each teacher in `union`; default: none", may_be_empty=True
    )
    union_languages: list[str] | None = option(
        None,
        "codes SRC:TGT of each teacher in `union` (eng_Latn:deu_Latn), '' for one that has none; default: "
        "model_source_lang and model_target_lang for all that have several",
        may_be_empty=True,
    )
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
    source_noise: dict[str, Any] | None = option(
        None,
        "noise for robust students, as {casing: 0.1, punctuation: 0.1, typos: 0.05, merge: 0.05}: the shares of the "
        "training sources that get it before the teacher decodes them, by the seed; columns keep what they were",
    )
    shard_size: int = option(1000, "rows per file; a killed run loses at most the files it was working on")
    max_samples: int | None = option(None, "distill only the first rows of the training split")
    license: str | None = option(None, "license of the corpus, as the Hub spells it; goes into the manifest and card")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_corpus()
        self._check_teachers()
        require_choice("long_source", self.long_source, LONG_SOURCE)
        require_choice("backend", self.backend, TEACHER_BACKENDS)
        if self.backend == "ct2" and self.draws_samples:
            raise ValueError(
                f"`backend` must be torch for the strategy {self.strategy!r}, got 'ct2': CTranslate2 draws for all "
                "rows from one stream, so that a row's sample would depend on the others."
            )
        if self.split_sentences and self.has_candidates:
            raise ValueError(
                f"`split_sentences` must be false for the strategy {self.strategy!r}, got true: it chooses among "
                "translations of whole sources. Use `strategy: beam`."
            )
        _ = self.splitter, self.noise
        if self.noise and self.long_source == "error":
            raise ValueError(
                "`long_source` must not be error with `source_noise`, which can make a source longer. Use truncate."
            )
        allowed = ("float32",) if self.backend == "torch" else COMPUTE_TYPES
        require_choice("compute_type", self.compute_type, allowed, where=f"for the backend {self.backend!r}")
        for name in ("max_batch_tokens", "shard_size", "max_samples"):
            require_number(name, getattr(self, name), least=1, most=sys.maxsize)

    def _check_corpus(self) -> None:
        if bool(self.corpus) == bool(self.source):
            raise ValueError(
                f"A distillation must have one of `corpus` and `source`, got {self.corpus!r} and {self.source!r}."
            )
        if not self.source:
            return
        needs_targets = {
            "target_column": self.target_column,
            "strategy": STRATEGIES[self.strategy].needs_targets and self.strategy,
            "long_source": self.long_source == "real" and self.long_source,
        }
        copied = [name for name in ("validation_split", "test_split") if getattr(self, name)]
        refuse_changed(self, copied, "with `source`, which is the training split alone")
        for name, value in needs_targets.items():
            if value:
                raise ValueError(f"`{name}` needs targets, which `source` has not, got {value!r}. Leave it out.")

    def _check_teachers(self) -> None:
        if self.union and not self.chooses:
            raise ValueError(
                f"`union` must come with a strategy that chooses among candidates, {', '.join(CHOOSING)}, got "
                f"{self.strategy!r}."
            )
        if self.union and self.ensemble:
            raise ValueError(f"Only one of `ensemble` and `union` can be given, got {self.ensemble} and {self.union}.")
        for name in ("union_prefixes", "union_languages"):
            values, number = getattr(self, name), len(self.union or [])
            if values is not None and len(values) != number:
                raise ValueError(
                    f"`{name}` must be as many as `union`, got {len(values)} and {number}. Write '' for none."
                )
        for pair in filter(None, self.union_languages or ()):
            language_pair("union_languages", pair)
        if self.ensemble and self.backend == "ct2":
            raise ValueError("`backend` must be torch for an `ensemble`, got 'ct2'. Leave it out.")

    @property
    def prefixes(self) -> list[str]:
        """What is put before every source for each teacher in `union`."""
        return self.union_prefixes or [""] * len(self.union or [])

    def load_union(self) -> list[tuple[PreTrainedModel, PreTrainedTokenizerBase]]:
        """Loads the teachers of `union`; see `load_member`."""
        names = self.union or []
        languages: Sequence[str | None] = self.union_languages or [None] * len(names)
        return [self.load_member(*member) for member in zip(names, self.prefixes, languages, strict=True)]

    @property
    def extra_columns(self) -> tuple[str, ...]:
        """Columns of the distilled corpus beside those that every one has; see `corpus_features`."""
        return (
            *super().extra_columns,
            *(("teacher",) if self.union else ()),
            *(NOISE_COLUMNS if self.source_noise else ()),
        )

    def load_member(
        self, name: str, prefix: str = "", languages: str | None = None
    ) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """Loads a teacher of `union`, set to its languages SRC:TGT, by default to the first teacher's if it has any.

        Raises:
            OSError: as `load_model`.
            ValueError: as `load_model` and `LoadingArguments.prepare`.
        """
        model, tokenizer = load_model(name, parameter="union", trust_remote_code=self.trust_remote_code)
        pair: tuple[str | None, str | None] = (None, None)
        if languages:
            pair = language_pair("union_languages", languages)
        elif languages is None and hasattr(tokenizer, "src_lang"):
            pair = (self.model_source_lang, self.model_target_lang)
        told = LoadingArguments(source_prefix=prefix or None, model_source_lang=pair[0], model_target_lang=pair[1])
        told.prepare(model, tokenizer, parameter="union")
        return model, tokenizer

    @property
    def real_corpus(self) -> str:
        """The parallel corpus.

        Raises:
            ValueError: if there are sources alone.
        """
        if not self.corpus:
            raise ValueError(f"`corpus` must be given where real targets are needed, got the sources {self.source!r}.")
        return self.corpus

    @property
    def place_name(self) -> str:
        """The corpus, or the sources, as they were given."""
        return str(self.source or self.corpus)

    def load(self, split: str, **kwargs: Any) -> Any:
        """Loads a split, or sources alone, as `load_corpus` does, with its further arguments."""
        inside = self.inside | ({"target_lang": None} if self.source else {})
        options = {"revision": self.corpus_revision, "streaming": self.streaming, **kwargs}
        return load_corpus(self.place_name, split, **inside, **options)

    def load_backward(self, name: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """Loads the model of the other direction, set to the languages the other way round where it has any.

        Raises:
            OSError: as `load_model`.
            ValueError: as `load_backward_model`.
        """
        own, languages = self.backward_languages, (self.model_source_lang, self.model_target_lang)
        if own is not None:
            languages = language_pair("backward_languages", own)[::-1]
        model, tokenizer = load_backward_model(name, *languages, self.backward_prefix, self.trust_remote_code)
        if not hasattr(tokenizer, "src_lang"):
            refuse_changed(self, ("backward_languages",), f"for `{name}`, a model of one pair of languages")
        return model, tokenizer

    @property
    def splitter(self) -> SentenceSplitter | None:
        """What splits the sources, None where each is a sentence."""
        return SentenceSplitter(self.source_lang, self.target_lang) if self.split_sentences else None

    @property
    def noise(self) -> SourceNoise | None:
        """What changes training sources, None where they stay."""
        if not self.source_noise:
            return None
        return SourceNoise(self.source_noise, self.seed, self.source_lang, self.target_lang)

    @property
    def splits(self) -> dict[str, str]:
        """The corpus' names of the splits, by those that they have in the distilled corpus."""
        if self.source:
            return {"train": self.train_split}
        copied = {"validation": self.validation_split, "test": self.test_split}
        return {"train": self.train_split, **{split: name for split, name in copied.items() if name}}

    def load_splits(self) -> dict[str, Dataset | IterableDataset]:
        """Loads the splits by the names that they have in the distilled corpus; streams of them with `streaming`."""
        splits = {split: self.load(name) for split, name in self.splits.items()}
        if self.streaming and self.max_samples is not None:
            return {**splits, "train": splits["train"].take(self.max_samples)}
        return {**splits, "train": first_rows(splits["train"], self.max_samples)}

    @property
    def _several(self) -> dict[str, Any]:
        """How many teachers decode, and how together, where it is not one."""
        if self.union:
            languages = {"union_languages": self.union_languages} if self.union_languages is not None else {}
            prefixes = {"union_prefixes": self.prefixes} if any(self.prefixes) else {}
            return {"union": 1 + len(self.union), **prefixes, **languages}
        return {"ensemble": 1 + len(self.ensemble)} if self.ensemble else {}

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
            **({"source_noise": dict(self.source_noise)} if self.source_noise else {}),
            "decoding": {**self.decoding_parameters(), **self.input_options, **backend, **self._several},
        }
