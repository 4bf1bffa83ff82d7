"""The step that chooses the value of a decoding knob."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..base.files import naming
from ..base.processes import process_state
from ..base.utils import read_json
from ..evaluation.tune import (
    TuneArguments,
    chosen_knob,
    chosen_values,
    default_knob,
    load_tunable,
    read_results,
    results_path,
    tune,
)
from .model import FileInModelStep
from .split import SplitStep


@dataclass(frozen=True)
class Tune(FileInModelStep, SplitStep):
    """Sets the best value of a knob in a checkpoint; see `hf_nat.evaluation.tune.tune`.

    The values that are tried do not count: later ones join those that were measured.

    Args:
        args (`TuneArguments`): model, corpus, knob and values.
        decoding (`DecodingArguments`, *optional*): how the model decodes otherwise.
    """

    name = "tune"
    args: TuneArguments

    @staticmethod
    def has_default_knob(model_class: type[PreTrainedModel]) -> bool:
        """Tells whether models of a class have a knob that should be tuned: an EOS penalty or an expert."""
        return default_knob(model_class) is not None

    @property
    def record_path(self) -> Path:
        """File of the record, one for each knob."""
        return self.folder / f".tune-{self.knob}.json"

    @cached_property
    def _loaded(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        return load_tunable(self.args, self.decoding)

    @cached_property
    def knob(self) -> str:
        """The knob that is tuned."""
        return chosen_knob(self.args, self._loaded[0])

    @property
    def file(self) -> Path:
        """The results of the knob."""
        return results_path(self.folder, self.knob)

    def run(self) -> Path:
        """Does what is left to do; see `Step.run`. A model without `generation_config.json` gets one first."""
        # Tuning sets one key of this file; without it the whole file would be new, and the model another one.
        file = self.folder / "generation_config.json"
        is_new = process_state().is_main_process and not file.is_file()
        if is_new:
            with naming(file):
                cast(Any, self._loaded[0]).generation_config.save_pretrained(self.folder)
        process_state().wait_for_everyone()
        try:
            return super().run()
        except Exception:
            if is_new and not self.made():
                file.unlink()
            raise

    def settings(self) -> dict[str, Any]:
        """Metric, languages and options of decoding."""
        return {"metric": self.args.metric, **super().settings()}

    @property
    def free_keys(self) -> set[str]:
        """The knob too."""
        return {*super().free_keys, self.knob}

    def seal(self) -> dict[str, Any]:
        """Nothing: later values join the file."""
        return {}

    def is_whole(self) -> bool:
        """Tells whether all values were measured, and the best one is the default of the model."""
        if not self.file.exists():
            return False
        report = self.report
        tried = {result["value"] for result in report["results"]}
        settings = read_json(self.folder / "generation_config.json")
        values = chosen_values(self.knob, self.args.values, self._loaded[0], self.decoding)
        return tried >= set(values) and settings.get(self.knob) == report["best"]

    def work(self) -> None:
        """Measures the values that are left, and sets the best one."""
        tune(self.args, self.decoding, self._loaded)

    @property
    def report(self) -> dict[str, Any]:
        """What `tune-KNOB.json` of the finished step holds."""
        return read_results(self.file)
