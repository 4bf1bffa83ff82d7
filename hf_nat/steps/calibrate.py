"""The step that learns how good a translation is whose model gave it a certain score."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..base.utils import read_record
from ..evaluation import CONFIDENCE_FILE, CalibrateArguments, calibrate
from .split import SplitStep


@dataclass(frozen=True)
class Calibrate(SplitStep):
    """Writes the curve from score to quality into a checkpoint; see `hf_nat.evaluation.calibrate`.

    Args:
        args (`CalibrateArguments`): model, corpus and split.
        decoding (`DecodingArguments`, *optional*): how the model decodes; by default greedily, as its checkpoint says.
    """

    name = "calibrate"
    folder_option = "model"
    args: CalibrateArguments

    @property
    def folder(self) -> Path:
        """The folder of the model, which the curve is written to."""
        return Path(self.args.model)

    @property
    def record_path(self) -> Path:
        """File of the record, beside those of other steps."""
        return self.folder / ".calibrate.json"

    @property
    def remedy(self) -> str:
        """What an error about the folder advises."""
        return f"Delete {CONFIDENCE_FILE} and {self.record_path.name} there to measure anew."

    def contents(self) -> list[str]:
        """Returns the name of the curve, where there is one: other files of the model do not count."""
        return [CONFIDENCE_FILE] if (self.folder / CONFIDENCE_FILE).exists() else []

    def inputs(self) -> dict[str, Any]:
        """See [`SplitStep`].

        Raises:
            ValueError: if `model` is not a local folder.
        """
        if not self.folder.is_dir():
            raise ValueError(
                f"`model` must be a local folder, which the curve is written to, got {self.args.model!r}."
            )
        return super().inputs()

    def is_whole(self) -> bool:
        """Tells whether the curve is there."""
        return (self.folder / CONFIDENCE_FILE).is_file()

    def work(self) -> None:
        """Writes the curve into the model's folder."""
        calibrate(self.args, self.decoding)

    @property
    def report(self) -> dict[str, Any]:
        """What `confidence.json` of the finished step holds."""
        return read_record(self.folder / CONFIDENCE_FILE, {"confidences": list, "quality": str, "num_sentences": int})
