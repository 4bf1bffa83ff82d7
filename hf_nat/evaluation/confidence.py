"""The confidence in a translation: a model's score turned into the quality that such translations have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from transformers.utils import logging

from ..base.utils import read_record, sha256_file
from ..decoding import DecodingArguments, Translation
from ..decoding.language_model import language_model_file
from ..decoding.shortlist import ShortListArguments
from ..metrics.calibration import Calibration, Reliability, reliability
from ..metrics.translation import score_translations
from ..models.generation_nat import NATGenerationMixin


logger = logging.get_logger(__name__)

CONFIDENCE_FILE = "confidence.json"
# What confidence is the expectation of, divided by 100.
QUALITY = "chrf"


def way_of_decoding(decoding: DecodingArguments, model: Any, shortlist: ShortListArguments) -> dict[str, Any]:
    """Returns what scores depend on beside the weights: knobs, short list, backend, precision, prefix, languages.

    Of knobs that no option gives, the checkpoint's own values count, which `hf-nat tune` changes, but for those that
    change nothing here; n-grams by content.
    """
    runtime = {name: value for name, value in decoding.runtime_options.items() if name != "threads"}
    given = {**decoding.options(model), **shortlist.shortlist_options, **runtime, **decoding.input_options}
    if decoding.language_model is not None:
        given["language_model"] = sha256_file(language_model_file(decoding.language_model))
    own = getattr(model, "generation_defaults", {})
    tuned = {name: getattr(model.generation_config, name, None) for name in own}
    way = own | {name: value for name, value in tuned.items() if value is not None} | given
    idle = {*model.idle_knobs(SimpleNamespace(**way))} if isinstance(model, NATGenerationMixin) else set()
    if decoding.language_model is None:
        idle.add("lm_weight")
    return {name: value for name, value in way.items() if name not in idle}


def tuned_knobs(model: Any, way: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the knobs of a way of decoding that have a value of the checkpoint's own, not of its architecture."""
    defaults = getattr(model, "generation_defaults", {})
    return {name: way[name] for name in defaults if name in way and way[name] != defaults[name]}


def read_calibration(model: str | Path, way: Mapping[str, Any]) -> Calibration | None:
    """Reads the curve of a model's folder; None where it has none, or, with a warning, one of another way of decoding.

    Args:
        model (`str` or `Path`): the folder.
        way (`Mapping[str, Any]`): how the model decodes now, see `way_of_decoding`.

    Raises:
        ValueError: if the file is damaged.
    """
    path = Path(model) / CONFIDENCE_FILE
    if not path.exists():
        return None
    record = read_record(path, {"scores": list, "confidences": list, "decoding": dict})
    before = record["decoding"]
    if changed := sorted(name for name in before.keys() | way.keys() if before.get(name) != way.get(name)):
        logger.warning(f"`{path}` says nothing of these translations: it was made with another {', '.join(changed)}.")
        return None
    columns = [record["scores"], record["confidences"]]
    is_curve = len(columns[0]) == len(columns[1]) > 0 and all(
        isinstance(value, float | int) and not isinstance(value, bool) and isfinite(value)
        for column in columns
        for value in column
    )
    is_curve = is_curve and all(column == sorted(column) for column in columns)
    if not (is_curve and columns[1][0] >= 0 and columns[1][-1] <= 1):
        raise ValueError(
            f"`scores` and `confidences` of `{path}` must be equally many rising numbers, at least 1, and confidences "
            "between 0 and 1. Delete the file and run `hf-nat calibrate` again."
        )
    return Calibration(*map(tuple, columns))


def require_calibration(model: str | Path, way: Mapping[str, Any]) -> Calibration:
    """Reads the curve of a model's folder, as `read_calibration`.

    Raises:
        ValueError: if it has none for this way of decoding, or the file is damaged.
    """
    calibration = read_calibration(model, way)
    if calibration is None:
        raise ValueError(
            f"`model` must hold a {CONFIDENCE_FILE} that was made with the same options of decoding, got none in "
            f"{str(model)!r}. Run `hf-nat calibrate --model {model}` with them; where it holds one of other options, "
            f"delete {CONFIDENCE_FILE} and .calibrate.json first."
        )
    return calibration


def confidence(calibration: Calibration, translation: Translation) -> float:
    """Returns the quality, 0-1, to expect of a translation.

    A blank translation has no token to score: it is right for a blank source, 1, and wrong for any other, 0.
    """
    if translation.score is None:
        return 1.0
    return float(calibration.confidence([translation.score])[0]) if translation.text else 0.0


def translated_qualities(
    translations: Sequence[Translation], references: Sequence[str], target_lang: str
) -> tuple[list[Translation], list[float]]:
    """Returns the translations that a model wrote, those of blank sources left out, and the quality of each, 0-1.

    Raises:
        ValueError: if all are blank.
    """
    known = [row for row, translation in enumerate(translations) if translation.score is not None]
    if not known:
        raise ValueError("The split must hold at least 1 sentence that is not blank, got 0.")
    outputs, kept = [translations[row] for row in known], [references[row] for row in known]
    texts = [output.text for output in outputs]
    scored = score_translations(texts, kept, target_lang=target_lang, metrics=[QUALITY], segment_scores=True)
    return outputs, [segment / 100 for segment in scored[QUALITY].segments or ()]


def fit_calibration(outputs: Sequence[Translation], qualities: Sequence[float]) -> Calibration:
    """Fits the curve from the score of a translation that is not blank to its quality, 0-1.

    Raises:
        ValueError: if all are blank.
    """
    pairs = [(output.score, quality) for output, quality in zip(outputs, qualities, strict=True) if output.text]
    if not pairs:
        raise ValueError(
            f"`model` must write something to be calibrated, got {len(outputs)} blank translations. Train it longer."
        )
    return Calibration.fit(*zip(*pairs, strict=True))


def calibration_reliability(
    calibration: Calibration, outputs: Sequence[Translation], qualities: Sequence[float]
) -> Reliability:
    """Compares the confidence in translations with their qualities."""
    return reliability([confidence(calibration, output) for output in outputs], qualities)


def measure_calibration(
    calibration: Calibration, translations: Sequence[Translation], references: Sequence[str], target_lang: str
) -> Reliability | None:
    """Measures on other sentences how far the confidences of their translations are from the truth.

    None where all of them are blank.
    """
    if all(translation.score is None for translation in translations):
        return None
    return calibration_reliability(calibration, *translated_qualities(translations, references, target_lang))
