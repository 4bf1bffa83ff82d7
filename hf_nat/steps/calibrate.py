"""The step that learns how good a translation is whose model gave it a certain score."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..base.utils import read_record
from ..evaluation import CONFIDENCE_FILE, CalibrateArguments, calibrate
from .model import FileInModelStep
from .split import SplitStep


@dataclass(frozen=True)
class Calibrate(FileInModelStep, SplitStep):
    """Writes the curve from score to quality into a checkpoint; see `hf_nat.evaluation.calibrate`.

    Args:
        args (`CalibrateArguments`): model, corpus and split.
        decoding (`DecodingArguments`, *optional*): how the model decodes; by default greedily, as its checkpoint says.
    """

    name = "calibrate"
    args: CalibrateArguments

    @property
    def file(self) -> Path:
        """The curve."""
        return self.folder / CONFIDENCE_FILE

    def work(self) -> None:
        """Writes the curve into the model's folder."""
        calibrate(self.args, self.decoding)

    @property
    def report(self) -> dict[str, Any]:
        """What `confidence.json` of the finished step holds."""
        return read_record(self.file, {"confidences": list, "quality": str, "num_sentences": int})
