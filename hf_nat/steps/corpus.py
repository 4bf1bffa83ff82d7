"""What the steps that write a corpus have in common."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path

from ..base.folders import require_outside
from ..base.processes import main_process_decides
from ..cards import write_corpus_card
from ..distillation.filter import is_sound
from .step import Step


class CorpusStep(Step):
    """A step whose folder is a corpus with a manifest and a card."""

    @property
    @abstractmethod
    def corpora(self) -> list[str]:
        """The corpora that it reads, as they were given."""

    def run(self) -> Path:
        """Does what is left to do; see `Step.run`. A corpus inside another one would become part of that."""
        main_process_decides(lambda: require_outside(self.folder, self.corpora))
        return super().run()

    def is_whole(self) -> bool:
        """Tells whether every file of the manifest is there, with its checksum."""
        return is_sound(self.folder)

    def card_folders(self) -> list[Path]:
        """The folder itself."""
        return [self.folder]

    def write_card(self) -> None:
        """Writes the card of the corpus."""
        write_corpus_card(self.folder)
