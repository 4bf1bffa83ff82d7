"""Learns on a validation split how good a translation is whose model gave it a certain score."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..base.config import option
from ..base.processes import process_state
from ..base.utils import environment, write_json
from ..decoding import DecodingArguments
from .confidence import (
    CONFIDENCE_FILE,
    QUALITY,
    calibration_reliability,
    fit_calibration,
    translated_qualities,
    way_of_decoding,
)
from .evaluate import SplitArguments, load_pairs, measure


@dataclass(frozen=True, kw_only=True)
class CalibrateArguments(SplitArguments):
    """On which split of which corpus a model's confidence is learned; `model` is a folder."""

    split: str = option("validation", "split to translate")


def calibrate(args: CalibrateArguments, decoding: DecodingArguments | None = None) -> dict[str, Any]:
    """Translates a split and writes `confidence.json` into the model's folder: the curve from score to chrF.

    The processes of a launcher share the sentences out; the main one writes.

    Args:
        args (`CalibrateArguments`): model and corpus.
        decoding (`DecodingArguments`, *optional*): how the model decodes; scores of another way of decoding have
            another curve. By default greedily, as its checkpoint says.

    Returns:
        `dict[str, Any]`: the content of confidence.json: knots of the curve (`scores`, `confidences`), the `quality`
        (signature of the metric whose hundredth is expected), calibration error on the same split, and what it was
        made with.

    Raises:
        ValueError: if all sentences of the split are blank, or all translations.
    """
    folder = Path(args.model)
    decoding = decoding or DecodingArguments()
    model, tokenizer = decoding.load_model(folder)
    pairs = load_pairs(args)
    scoring = {"metrics": [QUALITY]}
    kwargs = decoding.generate_kwargs(model)
    kwargs |= args.short_list_kwargs(model, tokenizer)
    translations, measured = measure(model, tokenizer, pairs, args, scoring, with_scores=True, **kwargs)
    references = [pair[args.target_lang] for pair in pairs]
    outputs, qualities = translated_qualities(translations, references, args.target_lang)
    calibration = fit_calibration(outputs, qualities)
    record = {
        "scores": calibration.scores,
        "confidences": calibration.confidences,
        "quality": measured["scores"][QUALITY]["signature"],
        "calibration_error": calibration_reliability(calibration, outputs, qualities).error,
        **args.place,
        "split": args.split,
        "num_sentences": len(pairs),
        "decoding": way_of_decoding(decoding, model, args),
        **decoding.code_record(args.model),
        "environment": environment(),
    }
    if process_state().is_main_process:
        write_json(folder / CONFIDENCE_FILE, record)
    return record
