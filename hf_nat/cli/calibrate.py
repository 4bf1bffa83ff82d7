"""`hf-nat calibrate`."""

from __future__ import annotations

from collections.abc import Sequence

from ..base.config import load_config
from ..base.processes import process_state
from ..steps import Calibrate, CalibrateArguments, DecodingArguments


def run(argv: Sequence[str]) -> None:
    """Learns a model's confidence on validation, and brings the model's card up to date."""
    step = Calibrate(*load_config((CalibrateArguments, DecodingArguments), argv, prog="hf-nat calibrate"))
    step.run()
    if process_state().is_main_process:
        report = step.report
        low, high = report["confidences"][0], report["confidences"][-1]
        print(
            f"{report['num_sentences']} sentences, confidence from {low:.2f} to {high:.2f} ({report['quality']} / 100)"
        )
        print(f"{step.args.model}: confidence.json is what `hf-nat translate --confidence_output FILE` reads")
