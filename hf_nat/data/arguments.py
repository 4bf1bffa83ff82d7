"""What a corpus is: the keys that every command which reads one has."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from datasets import Dataset

from ..base.config import option
from ..base.languages import require_two_languages
from .corpora import load_corpus
from .several import expand_targets


_WHERE_IN_IT = ("config_name", "source_column", "target_column")


@dataclass(frozen=True, kw_only=True)
class CorpusArguments:
    """Where parallel text is, and in which languages.

    Raises:
        ValueError: if both languages are the same.
    """

    corpus: str = field(
        metadata={
            "help": "Hub id, folder, .parquet/.jsonl/.csv/.tsv file, text pattern with {split} and {lang}, or SRC,TGT"
        }
    )
    source_lang: str = field(metadata={"help": "language key of the source in the `translation` feature"})
    target_lang: str = field(metadata={"help": "language key of the target"})
    config_name: str | None = option(None, "configuration of a Hub corpus, or of a folder with several")
    source_column: str | None = option(None, "column of the source; default: `translation`, the language or `source`")
    target_column: str | None = option(None, "column of the target")

    def __post_init__(self) -> None:
        require_two_languages(self.source_lang, self.target_lang)

    def load(self, split: str, **kwargs: Any) -> Any:
        """Loads a split, as `load_corpus` does, with its further arguments."""
        return load_corpus(self.corpus, split, **self.inside, **kwargs)

    def load_pairs(self, split: str, num_targets: int | None = None) -> Dataset:
        """Loads a split to learn from or to measure: every target of a source, or the first ones, is a row."""
        return expand_targets(self.load(split), self.source_lang, self.target_lang, num_targets)

    @property
    def languages(self) -> dict[str, Any]:
        """Both languages by the names of their keys."""
        return {"source_lang": self.source_lang, "target_lang": self.target_lang}

    @property
    def place(self) -> dict[str, Any]:
        """The keys of this class alone, for other arguments that read the same corpus."""
        return {"corpus": self.corpus, **self.inside}

    @property
    def inside(self) -> dict[str, Any]:
        """The keys that say where in the corpus its pairs are."""
        return {name: getattr(self, name) for name in _WHERE_IN_IT} | self.languages

    @property
    def in_hub_layout(self) -> dict[str, Any]:
        """The keys for another corpus of these languages, a folder as our own steps write it, but `corpus`."""
        return dict.fromkeys(_WHERE_IN_IT) | self.languages


def first_rows(rows: Any, count: int | None) -> Any:
    """Returns the first `count` rows of a corpus, all where it is None or there are fewer."""
    return rows if count is None else rows.select(range(min(count, len(rows))))
