"""The step that makes an n-gram model of the targets that a student learned."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..base.bounds import require_number
from ..base.config import option
from ..base.files import atomic_path
from ..base.processes import process_state
from ..data import corpus_tokens, load_tokenizer
from ..data.arguments import CorpusArguments
from ..data.pretrained import load_pretrained_config
from ..decoding.arpa import arpa_lines
from ..decoding.language_model import LANGUAGE_MODEL_FILE
from ..decoding.ngrams import MAX_ORDER, SPECIAL_WORDS, estimate
from ..models import ARCHITECTURES
from .fingerprints import corpus_fingerprint, tokenizer_fingerprint
from .model import FileInModelStep


@dataclass(frozen=True, kw_only=True)
class LanguageModelArguments(CorpusArguments):
    """Of which text an n-gram model is made, and for which model.

    Raises:
        ValueError: as [`CorpusArguments`], or if `order` is out of range.
    """

    model: str = field(metadata={"help": "checkpoint folder, which gives the tokenizer and gets the n-gram model"})
    split: str = option("train", "split whose targets are counted")
    order: int = option(5, "tokens of the longest n-grams")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("order", self.order, least=1, most=MAX_ORDER)


@dataclass(frozen=True)
class LanguageModel(FileInModelStep):
    """Writes an n-gram model of a corpus' targets, in a model's pieces, into that model's folder.

    A beam search with the model reads it: `--language_model FOLDER`.

    Args:
        args (`LanguageModelArguments`): model, corpus and order.
    """

    name = "language-model"
    args: LanguageModelArguments

    @property
    def file(self) -> Path:
        """The n-gram model."""
        return self.folder / LANGUAGE_MODEL_FILE

    def settings(self) -> dict[str, Any]:
        """Languages and order."""
        return {**self.args.languages, "order": self.args.order}

    def inputs(self) -> dict[str, Any]:
        """Fingerprints of the tokenizer and of the text."""
        return {
            "tokenizer": tokenizer_fingerprint(self.args.model),
            "corpus": corpus_fingerprint(self.args.load_pairs(self.args.split), **self.args.languages),
        }

    def prepare(self) -> None:
        """Raises for a model without a beam search, and for records of it that no card can be made of."""
        model_type = load_pretrained_config(self.folder).model_type
        classes: dict[str, tuple[Any, Any]] = ARCHITECTURES
        readers = [name for name, (_, model) in classes.items() if "lm_weight" in model.generation_defaults]
        if model_type not in readers:
            raise ValueError(
                f"`model` must have a beam search that reads n-grams, as {' and '.join(readers)} have, got one of the "
                f"type {model_type!r}."
            )
        super().prepare()

    def work(self) -> None:
        """Counts and writes, on the main process."""
        if not process_state().is_main_process:
            return
        lines = arpa_lines(*estimate(self._sentences(), self.args.order))
        with (
            atomic_path(self.file) as path,
            open(path, "wb") as packed,
            # Without time and name the same text gives the same bytes.
            gzip.GzipFile(filename="", mode="wb", fileobj=packed, compresslevel=6, mtime=0) as file,
        ):
            file.writelines(f"{line}\n".encode() for line in lines)

    def _sentences(self) -> Iterator[list[str]]:
        """Yields the pieces of each target, cut as a student learns it but for tabs and the like, which are spaces."""
        tokenizer = load_tokenizer(self.args.model, parameter="model")
        # A character that the tokenizer does not know tells nothing of its neighbours.
        left_out = {*SPECIAL_WORDS, tokenizer.unk_token}
        rows = self.args.load_pairs(self.args.split)
        for pieces in corpus_tokens(rows, self.args.target_lang, self.args.model, is_target=True):
            yield [piece for piece in pieces if piece not in left_out]
