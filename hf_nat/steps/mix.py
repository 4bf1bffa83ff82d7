"""The step that makes one corpus of several."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from datasets import Dataset

from ..base.processes import process_state
from ..distillation import MixArguments, mix_corpora
from ..distillation.shards import CORPUS_COLUMNS
from .corpus import CorpusStep
from .fingerprints import corpus_fingerprint
from .step import fingerprint


@dataclass(frozen=True)
class Mix(CorpusStep):
    """Writes several corpora as one; see `hf_nat.distillation.mix_corpora`.

    Args:
        args (`MixArguments`): corpora, weights and output folder.
    """

    name = "mix"
    renewing = ("license",)  # It stands in manifest and card alone.
    args: MixArguments

    @property
    def corpora(self) -> list[str]:
        """The corpora that it reads."""
        return [place["corpus"] for place in self.args.places.values()]

    def settings(self) -> dict[str, Any]:
        """Names, weights and rule of the mixture."""
        return self.args.settings()

    @cached_property
    def _splits(self) -> dict[str, dict[str, Dataset]]:
        return self.args.load_splits()

    def inputs(self) -> dict[str, Any]:
        """Fingerprints of the rows of every corpus, and of the manifests of those that have one; the license."""
        return {**self._inputs, "license": self.args.license}

    @cached_property
    def _inputs(self) -> dict[str, Any]:
        languages = (self.args.source_lang, self.args.target_lang)
        made = {name: fingerprint(manifest) for name, manifest in self.args.manifests().items()}
        corpora = {
            split: {name: corpus_fingerprint(rows, *languages, columns=CORPUS_COLUMNS) for name, rows in own.items()}
            for split, own in self._splits.items()
        }
        return {"manifests": made, **corpora}

    def prepare(self) -> None:
        """Warns of a validation or test split that repeats training rows."""
        first = next(iter(self.args.places))
        self.warn_of_copies({split: own[first] for split, own in self._inputs.items() if split != "manifests"})

    def work(self) -> None:
        """Writes the mixture, on the main process."""
        if process_state().is_main_process:
            mix_corpora(self.args, self._splits)
