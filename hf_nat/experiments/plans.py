"""What studies plan alike: entries of a YAML file, and the steps that they stand for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..analysis import AnalyzeArguments
from ..base.config import resolve
from ..base.folders import require_folder_name
from ..base.utils import read_json
from ..steps import (
    Analyze,
    DecodingArguments,
    DistillArguments,
    Evaluate,
    EvaluateArguments,
    Train,
    Tune,
    TuneArguments,
)


def check_entries(name: str, entries: Any, required: str) -> None:
    """Checks the entries of a study.

    Args:
        name (`str`): the key that holds them.
        entries (`Any`): mappings by name.
        required (`str`): the key that every entry must have.

    Raises:
        ValueError: if there is no entry, one without the key, or one whose name cannot be that of a folder.
    """
    if not isinstance(entries, dict) or not entries:
        raise ValueError(f"`{name}` must be a mapping from names to their keys, got {entries!r}.")
    for entry, keys in entries.items():
        require_folder_name(f"Names of `{name}`", entry)
        if not isinstance(keys, dict) or required not in keys:
            raise ValueError(f"`{name}.{entry}` must be a mapping with the key `{required}`, got {keys!r}.")


def own_keys(entry: Mapping[str, Any], required: str) -> dict[str, Any]:
    """Returns the keys of an entry, but for the required one, which take the place of those of its YAML file."""
    return {key: value for key, value in entry.items() if key != required}


def refuse_set_keys(name: str, keys: Iterable[str], set_by_study: Iterable[str]) -> None:
    """Raises ValueError if an entry or options have a key that the study sets itself."""
    if given := sorted(set(keys).intersection(set_by_study)):
        raise ValueError(f"`{name}` must leave out `{given[0]}`, which the study sets itself.")


def start_from(own: Mapping[str, Any], teachers: Mapping[str, Path]) -> dict[str, Any]:
    """Returns the keys of a student's entry, whose `init_from_teacher` may name a teacher of the study."""
    name = own.get("init_from_teacher")
    return {**own, "init_from_teacher": str(teachers[name])} if isinstance(name, str) and name in teachers else {**own}


def resolve_distillation(config: str | Path, **overrides: Any) -> DistillArguments:
    """Resolves a YAML file of `hf-nat distill`, and keys that take the place of its own."""
    (args,) = resolve((DistillArguments,), config, overrides=overrides)
    return args


def train_distilled(args: DistillArguments, corpus: Path, tokenizer: Path | None) -> dict[str, Any]:
    """Returns the keys that point a training run to a corpus in Hub layout and to a tokenizer.

    Args:
        args (`DistillArguments`): the distillation.
        corpus (`Path`): folder of the corpus, as a distillation writes it.
        tokenizer (`Path`, *optional*): folder of the tokenizer; by default the run trains its own.
    """
    splits = {"train_split": "train", "validation_split": "validation"}
    return {"corpus": str(corpus), **splits, **args.in_hub_layout, **_tokenizer(tokenizer)}


def train_real(args: DistillArguments, tokenizer: Path | None) -> dict[str, Any]:
    """Returns the keys that point a training run to the real corpus of a distillation; see `train_distilled`."""
    splits = {"train_split": args.train_split, "validation_split": args.validation_split}
    rows = {} if args.max_samples is None else {"max_train_samples": args.max_samples}
    return {**args.place, **splits, **rows, **_tokenizer(tokenizer)}


def _tokenizer(folder: Path | None) -> dict[str, str]:
    return {} if folder is None else {"tokenizer": str(folder)}


def measuring(
    real: DistillArguments, corpora: Mapping[str, DistillArguments], folder: Path, *, tokens: str, num_bootstrap: int
) -> Analyze:
    """Plans the measures of distilled corpora, by name, beside those of the real corpus of a distillation.

    Args:
        real (`DistillArguments`): the distillation.
        corpora (`Mapping[str, DistillArguments]`): the distillations that made the others.
        folder (`Path`): of the measures.
        tokens (`str`): what is measured, see `AnalyzeArguments`.
        num_bootstrap (`int`): samples of the intervals' bootstrap.
    """
    return Analyze(
        AnalyzeArguments(
            real=real.real_corpus,
            real_split=real.train_split,
            distilled=[f"{name}={args.output_dir}" for name, args in corpora.items()],
            **real.inside,
            tokens=tokens,
            num_bootstrap=num_bootstrap,
            output_dir=str(folder),
        )
    )


def real_splits(args: DistillArguments) -> dict[str, str]:
    """Names the splits of real targets on which every model of a study is scored.

    Args:
        args (`DistillArguments`): the distillation whose corpus it is.

    Returns:
        `dict[str, str]`: the corpus' names of `validation` and `test`.

    Raises:
        ValueError: if the distillation leaves one out.
    """
    if not args.validation_split or not args.test_split:
        raise ValueError("`validation_split` and `test_split` must be given: every model is scored on real targets.")
    return {"validation": args.validation_split, "test": args.test_split}


def evaluations(
    model: Path, args: DistillArguments, decoding: DecodingArguments | None = None, **scoring: Any
) -> dict[str, Evaluate]:
    """Plans the scoring of a model on the real validation and test split of a distillation's corpus.

    Args:
        model (`Path`): its folder.
        args (`DistillArguments`): the distillation.
        decoding (`DecodingArguments`, *optional*): how the model decodes; by default as its checkpoint says.
        **scoring: `metrics`, `num_bootstrap` and `beer_model` of `EvaluateArguments`.

    Returns:
        `dict[str, Evaluate]`: the steps, by `validation` and `test`.
    """
    return {
        name: Evaluate(
            EvaluateArguments(
                model=str(model), split=split, output_dir=str(model / f"eval-{name}"), **args.place, **scoring
            ),
            decoding or DecodingArguments(),
        )
        for name, split in real_splits(args).items()
    }


def tuning(train: Train, args: DistillArguments, decoding: DecodingArguments | None = None) -> Tune | None:
    """Plans the tuning of the knob that a model must have tuned, EOS penalty or expert; None for any other model.

    Args:
        train (`Train`): the training of the model.
        args (`DistillArguments`): the distillation on whose real validation split it is tuned.
        decoding (`DecodingArguments`, *optional*): how the model decodes otherwise.
    """
    if not Tune.has_default_knob(train.model_class):
        return None
    split = real_splits(args)["validation"]
    return Tune(TuneArguments(model=str(train.folder), split=split, **args.place), decoding or DecodingArguments())


def teacher_decoding(args: DistillArguments) -> DecodingArguments:
    """Returns how a teacher decodes when it is scored: by the beam of the distillation, or greedily."""
    beams = args.decoding_parameters()["num_beams"]
    return DecodingArguments(num_beams=beams, length_penalty=args.length_penalty if beams > 1 else 1.0)


def scores_of_steps(steps: Mapping[str, Evaluate]) -> dict[str, Any]:
    """Runs the scoring of a model and returns its scores by split."""
    return {name: _run(name, step)["scores"] for name, step in steps.items()}


def model_results(train: Train, steps: Mapping[str, Evaluate]) -> dict[str, Any]:
    """Runs the scoring of a model and returns what the results of a study keep of it."""
    kept = ("scores", "num_sentences", "seconds", "iterations_mean", "decoding")
    metrics = {name: _run(name, step) for name, step in steps.items()}
    tuned = [read_json(file) for file in sorted(train.folder.glob("tune-*.json"))]
    return {
        "num_parameters": read_json(train.folder / "run.json")["num_parameters"],
        "tuned": {report["knob"]: report["best"] for report in tuned},
        **{name: {key: values[key] for key in kept} for name, values in metrics.items()},
    }


def _run(split: str, step: Evaluate) -> dict[str, Any]:
    """Scores a model; the statistics of single sentences are kept of test alone."""
    step.run()
    metrics = step.metrics
    if split != "test":
        for score in metrics["scores"].values():
            score.pop("sentence_statistics", None)
    return metrics
