"""What the steps that work on a model folder have in common."""

from __future__ import annotations

from pathlib import Path

from ..cards import write_model_card
from .step import Step


class ModelStep(Step):
    """A step that writes the card of a model, by default that of its own folder."""

    def card_folders(self) -> list[Path]:
        """The folder itself."""
        return [self.folder]

    def write_card(self) -> None:
        """Writes the card of the model."""
        for folder in self.card_folders():
            write_model_card(folder)
