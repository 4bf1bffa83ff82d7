"""What the steps that write a corpus have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path

from transformers.utils import logging

from ..base.folders import require_outside
from ..base.processes import main_process_decides
from ..cards import write_corpus_card
from ..data.locations import same_rows_for_every_split
from ..distillation.manifest import is_sound
from .step import Step


logger = logging.get_logger(__name__)


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

    def warn_of_copies(self, prints: Mapping[str, str]) -> None:
        """Warns of splits that repeat the training rows: files whose names do not tell the split serve for each.

        Args:
            prints (`Mapping[str, str]`): fingerprint of the rows of each split, those of the first corpus.
        """
        same = same_rows_for_every_split(self.corpora[0])
        copies = [split for split, own in prints.items() if split != "train" and (same or own == prints["train"])]
        if copies:
            logger.warning(
                f"The rows of {' and '.join(copies)} in {self.folder} are the sources of its training rows: scores on "
                f"them say nothing about new text. Give {' and '.join(f'`{split}_split: null`' for split in copies)}, "
                "or a corpus with splits."
            )
