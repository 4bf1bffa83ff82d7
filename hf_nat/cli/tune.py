"""`hf-nat tune`."""

from __future__ import annotations

from collections.abc import Sequence

from ..base.config import load_config
from ..base.processes import process_state
from ..steps import DecodingArguments, Tune, TuneArguments


def run(argv: Sequence[str]) -> None:
    """Tunes a decoding knob on validation, and brings the model's card up to date."""
    step = Tune(*load_config((TuneArguments, DecodingArguments), argv, prog="hf-nat tune"))
    step.run()
    if not process_state().is_main_process:
        return
    args, report = step.args, step.report
    knob, rounds = report["knob"], report["results"][0]["iterations_mean"] is not None
    print(f"{knob:>16} {args.metric:>9} {'seconds':>9}" + (f" {'rounds':>7}" if rounds else ""))
    for result in report["results"]:
        columns = f"{result['value']:16g} {result['score']:9.2f} {result['seconds']:9.1f}"
        columns += f" {result['iterations_mean']:7.2f}" if rounds else ""
        print(columns + ("  <- best" if result["value"] == report["best"] else ""))
    print(f"{report['num_sentences']} sentences, {report['results'][0]['signature']}")
    print(f"{args.model}: `{knob}` is now {report['best']:g} in generation_config.json")
