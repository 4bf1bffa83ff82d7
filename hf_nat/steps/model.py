"""What the steps that work on a model folder have in common."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any

from ..base.utils import read_json, sha256_file
from ..cards import model_card, write_model_card
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


class FileInModelStep(ModelStep):
    """A step that writes one file into the folder of a model; other files there do not count."""

    folder_option = "model"

    @property
    @abstractmethod
    def file(self) -> Path:
        """The file."""

    @property
    def folder(self) -> Path:
        """The folder of the model."""
        return Path(self.args.model)

    def run(self) -> Path:
        """Does what is left to do; see `Step.run`.

        Raises:
            ValueError: if the model is no local folder, which can be written to.
        """
        self.require_folder()
        return super().run()

    def require_folder(self) -> None:
        """Raises ValueError unless the model is a local folder."""
        if not self.folder.is_dir():
            raise ValueError(f"`model` must be a local folder, which {self.name} writes to, got {self.args.model!r}.")

    @property
    def record_path(self) -> Path:
        """File of the record, beside those of other steps."""
        return self.folder / f".{self.name}.json"

    @property
    def remedy(self) -> str:
        """What an error about the folder advises."""
        return f"Delete {self.file.name} and {self.record_path.name} there to make them anew."

    def contents(self) -> list[str]:
        """Returns the name of the file, where it is there."""
        return [self.file.name] if self.file.exists() else []

    def prepare(self) -> None:
        """Raises for records of the model that no card can be made of: now, not after the work."""
        model_card(self.folder)

    def seal(self) -> dict[str, Any]:
        """The SHA-256 of the file."""
        return {"sha256": sha256_file(self.file)}

    def is_whole(self) -> bool:
        """Tells whether the file is there, and the one that was made."""
        return self.file.is_file() and read_json(self.record_path).get("sha256") == sha256_file(self.file)
