"""What the steps that write a corpus have in common."""

from __future__ import annotations

from ..cards import write_corpus_card
from ..distillation.filter import is_sound
from .step import Step


class CorpusStep(Step):
    """A step whose folder is a corpus with a manifest and a card."""

    def is_whole(self) -> bool:
        """Tells whether every file of the manifest is there, with its checksum."""
        return is_sound(self.folder)

    def write_card(self) -> None:
        """Writes the card of the corpus."""
        write_corpus_card(self.folder)
