"""Tries the values of one decoding knob on a validation split and makes the best the checkpoint's default."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from ..base.bounds import require_choice, require_number
from ..base.config import option
from ..base.files import naming
from ..base.processes import process_state
from ..base.utils import check_record, environment, read_json, read_record, write_json
from ..data.encoding import is_blank
from ..decoding import DecodingArguments
from ..metrics.translation import DEFAULT_METRICS
from .evaluate import SplitArguments, load_pairs, measure


logger = logging.get_logger(__name__)

# From a knob to the values that are tried by default.
# Source: the EOS penalties that fairseq's documentation suggests, 0 to 3; the length penalties that Ma et al. 2023
# found for four pairs of languages, 0.1 to 3.5.
_DEFAULT_VALUES: dict[str, Callable[[PreTrainedConfig], Sequence[float]]] = {
    "eos_penalty": lambda config: (0.0, 0.5, 1.0, 1.5, 2.0, 3.0),
    "expert": lambda config: range(config.num_experts),
    "viterbi_length_penalty": lambda config: (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0),
    "lm_weight": lambda config: (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.6),
}
# The knobs that a model that has one needs tuned, however it decodes.
_DEFAULT_KNOBS = ("eos_penalty", "expert")
_LOWER_IS_BETTER = ("ter",)


@dataclass(frozen=True, kw_only=True)
class TuneArguments(SplitArguments):
    """Which knob of which model is tuned on which split; `model` is a folder.

    Raises:
        ValueError: if a size is below 1, or the metric is unknown.
    """

    split: str = option("validation", "split to translate")
    knob: str | None = option(None, "decoding knob to tune; default: eos_penalty, or expert of a mixture of experts")
    values: list[float] | None = option(
        None, "values to try; default: 0 0.5 1 1.5 2 3 of a penalty, every expert, 0 to 0.6 of lm_weight"
    )
    metric: str = option("bleu", f"metric that decides: {', '.join(DEFAULT_METRICS)}")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("metric", self.metric, sorted(DEFAULT_METRICS))


def load_tunable(args: TuneArguments, decoding: DecodingArguments) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Loads the model that is tuned, with its tokenizer.

    Raises:
        ValueError: if `model` is no folder.
    """
    if not Path(args.model).is_dir():
        raise ValueError(f"`model` must be a local folder, whose defaults can be set, got {args.model!r}.")
    return decoding.load_model(args.model)


def tune(
    args: TuneArguments,
    decoding: DecodingArguments | None = None,
    loaded: tuple[PreTrainedModel, PreTrainedTokenizerBase] | None = None,
) -> dict[str, Any]:
    """Translates a split once for each value of a knob and sets the best one in `generation_config.json`.

    The processes of a launcher share the sentences out; the main one writes.
    `tune-KNOB.json` in the model's folder is written after every value. A value that it holds already is not measured
    again, and takes part in the choice.

    Args:
        args (`TuneArguments`): model, corpus and knob.
        decoding (`DecodingArguments`, *optional*): how the model decodes otherwise; by default as its checkpoint says.
        loaded (`tuple`, *optional*): the model and its tokenizer, where `load_tunable` has loaded them already.

    Returns:
        `dict[str, Any]`: the content of tune-KNOB.json: `results`, with value, score, its signature, seconds and mean
        number of rounds each, in the order of the values; the `best` value, of equally good ones the smallest; what
        they were measured with.

    Raises:
        ValueError: if `model` is no folder or has no knobs, the split is blank, there is no such knob or no such value
            of it, the knob's values are missing or no whole numbers where it counts something, or the knob is among
            the decoding options.
    """
    folder = Path(args.model)
    decoding = decoding or DecodingArguments()
    model, tokenizer = loaded or load_tunable(args, decoding)
    knob = chosen_knob(args, model)
    values = chosen_values(knob, args.values, model, decoding)
    pairs = load_pairs(args)
    if all(is_blank(pair[args.source_lang]) for pair in pairs):
        raise ValueError(f"`split` must hold a sentence that is not blank to tune on, got {args.split!r} without one.")
    path = results_path(folder, knob)
    report = (
        read_results(path) if path.exists() else {"knob": knob, "metric": args.metric, **args.place, "results": []}
    )
    report |= {"split": args.split, "num_sentences": len(pairs)}
    # With a value of the knob: without one other options may have no effect.
    generate_kwargs = replace(decoding, **cast(Any, {knob: values[-1]})).generate_kwargs(model)
    generate_kwargs |= args.short_list_kwargs(model, tokenizer)
    for value in values:
        if value in [result["value"] for result in report["results"]]:
            continue
        scoring = {"metrics": [args.metric]}
        _, measured = measure(model, tokenizer, pairs, args, scoring, **{**generate_kwargs, knob: value})
        result = {
            "value": value,
            **{name: measured["scores"][args.metric][name] for name in ("score", "signature")},
            **{name: measured[name] for name in ("seconds", "iterations_mean")},
        }
        logger.info(f"{knob} {value:g}: {args.metric} {result['score']:.2f} in {result['seconds']:.1f} s")
        results = sorted([*report["results"], result], key=lambda result: result["value"])
        report |= {"results": results, "best": _best(results, args.metric), "environment": environment()}
        if process_state().is_main_process:
            write_json(path, report)
    if len({result["score"] for result in report["results"]}) == 1 < len(report["results"]):
        logger.warning(
            f"All values of `{knob}` have one score: does `{folder}` decode in a way that uses it, and write anything?"
        )
    if process_state().is_main_process:
        _set_default(model, folder, knob, report["best"])
    return report


def results_path(folder: str | Path, knob: str) -> Path:
    """Returns the file of a knob's results."""
    return Path(folder) / f"tune-{knob}.json"


def read_results(path: Path) -> dict[str, Any]:
    """Reads the results of a knob.

    Raises:
        ValueError: if the file is damaged or something else.
    """
    number = (int, float)
    report = read_record(path, {"knob": str, "metric": str, "results": list, "best": number})
    for result in report["results"]:
        kinds = {"value": number, "score": number, "seconds": number, "signature": str}
        check_record(result, {**kinds, "iterations_mean": (*number, type(None))}, f"Each of `results` of `{path}`")
    return report


def default_knob(model_class: Any) -> str | None:
    """Returns the knob of a model, or class of models, that should be tuned: `eos_penalty`, `expert`, or None."""
    return next((name for name in _DEFAULT_KNOBS if name in _knobs(model_class)), None)


def _knobs(model: Any) -> dict[str, Any]:
    """Returns the decoding knobs of a model that are numbers, with their defaults."""
    defaults: dict[str, Any] = getattr(model, "generation_defaults", {})
    return {name: default for name, default in sorted(defaults.items()) if type(default) in (int, float)}


def chosen_knob(args: TuneArguments, model: PreTrainedModel) -> str:
    """Returns the knob that is tuned.

    Raises:
        ValueError: if the model has none, or not this one.
    """
    knobs = list(_knobs(model))
    if not knobs:
        raise ValueError(f"`model` must be a NAT model or a mixture of experts, got a {type(model).__name__}.")
    knob = args.knob or default_knob(model)
    require_choice("knob", knob, knobs, where=f"for a {type(model).__name__}")
    return cast(str, knob)


def chosen_values(
    knob: str, values: Sequence[float] | None, model: PreTrainedModel, decoding: DecodingArguments
) -> list[float]:
    """Returns the values to try, smallest first, as integers where the knob counts something.

    Raises:
        ValueError: if there are none, the model does not have one of them, or the knob is set elsewhere as well.
    """
    if (given := getattr(decoding, knob)) is not None:
        raise ValueError(f"`{knob}` must be left out while it is tuned, got {given}.")
    if not values and knob not in _DEFAULT_VALUES:
        raise ValueError(f"`values` must be given for `{knob}`, got none.")
    values = values or _DEFAULT_VALUES[knob](model.config)
    for value in values:
        require_number(f"values` of `{knob}", value)
    if type(_knobs(model)[knob]) is int:
        for value in values:
            if value != int(value):
                raise ValueError(f"`values` of `{knob}` must be whole numbers, got {value}.")
        values = [int(value) for value in values]
    for value in values:  # Those that the model does not have are an error now, not after the others.
        replace(decoding, **cast(Any, {knob: value})).options(model)
    return sorted(set(values))


def _best(results: Sequence[dict[str, Any]], metric: str) -> float:
    """Returns the value with the best score, the first of equally good ones."""
    sign = -1 if metric in _LOWER_IS_BETTER else 1
    return max(results, key=lambda result: sign * result["score"])["value"]


def _set_default(model: PreTrainedModel, folder: Path, knob: str, value: float) -> None:
    """Sets one key of the checkpoint's generation_config.json and keeps the others."""
    path = folder / "generation_config.json"
    if not path.is_file():
        with naming(path):
            cast(Any, model).generation_config.save_pretrained(folder)
    settings = read_json(path) | {knob: value}
    # With this mark transformers reads only its own knobs.
    settings.pop("_from_model_config", None)
    write_json(path, settings)
