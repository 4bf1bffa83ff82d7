"""The step that makes one corpus of several."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from datasets import Dataset

from ..base.processes import process_state
from ..cards import write_corpus_card
from ..distillation import MixArguments, mix_corpora
from ..distillation.filter import is_sound
from ..distillation.shards import CORPUS_COLUMNS
from .fingerprints import corpus_fingerprint
from .step import Step, fingerprint


@dataclass(frozen=True)
class Mix(Step):
    """Writes several corpora as one; see `hf_nat.distillation.mix_corpora`.

    Args:
        args (`MixArguments`): corpora, weights and output folder.
    """

    name = "mix"
    args: MixArguments

    @property
    def folder(self) -> Path:
        return Path(self.args.output_dir)

    def settings(self) -> dict[str, Any]:
        return self.args.settings()

    @cached_property
    def _splits(self) -> dict[str, dict[str, Dataset]]:
        return self.args.load_splits()

    def inputs(self) -> dict[str, Any]:
        languages = (self.args.source_lang, self.args.target_lang)
        made = {name: fingerprint(manifest) for name, manifest in self.args.manifests().items()}
        corpora = {
            split: {name: corpus_fingerprint(rows, *languages, columns=CORPUS_COLUMNS) for name, rows in own.items()}
            for split, own in self._splits.items()
        }
        return {"manifests": made, **corpora}

    def is_whole(self) -> bool:
        return is_sound(self.folder)

    def work(self) -> None:
        if process_state().is_main_process:
            mix_corpora(self.args, self._splits)

    def write_card(self) -> None:
        write_corpus_card(self.folder)
