"""Steps of a study: each takes up what a killed run left, and does nothing where it is finished."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ..config import load_config
from ..distillation import DistillArguments, distill
from ..distillation.strategies import decoding_parameters
from ..evaluation import EvaluateArguments, evaluate
from ..hub.cards import write_corpus_card, write_model_card
from ..inference import DecodingArguments, load_model, process_state
from ..training.arguments import DataArguments, ModelArguments, NATSeq2SeqTrainingArguments
from ..training.averaging import list_checkpoints
from ..training.run import train
from ..tuning import TuneArguments, default_knob, tune
from ..utils import check_settings, read_json, write_json


Entries = dict[str, dict[str, Any]]
TrainingRun = tuple[ModelArguments, DataArguments, NATSeq2SeqTrainingArguments]


def begin_study(folder: Path, settings: Mapping[str, Any]) -> None:
    """Writes settings.json into the folder of a study, or compares it with the one that is there.

    Args:
        folder (`Path`): the folder.
        settings (`Mapping[str, Any]`): all that the results depend on, as JSON can hold it.

    Raises:
        ValueError: if the folder was begun with other settings.
    """
    path, state = folder / "settings.json", process_state()
    if path.is_file():
        check_settings(folder, read_json(path), settings)
    state.wait_for_everyone()
    if state.is_main_process:
        write_json(path, settings)


def parse_entries(name: str, value: Any, required: str) -> Entries:
    """Reads entries of a study: mappings by name, or their JSON.

    Args:
        name (`str`): the key that holds them.
        value (`Any`): the mapping, or the JSON that a command line gives.
        required (`str`): the key that every entry must have.

    Raises:
        ValueError: if there is no entry, or one without the key.
    """
    entries = json.loads(value) if isinstance(value, str) else value
    if not isinstance(entries, dict) or not entries:
        raise ValueError(f"`{name}` must be a mapping from names to their keys, got {entries!r}.")
    for entry, keys in entries.items():
        if not isinstance(keys, dict) or required not in keys:
            raise ValueError(f"`{name}.{entry}` must be a mapping with the key `{required}`, got {keys!r}.")
    return entries


def entry_options(keys: Mapping[str, Any]) -> list[str]:
    """Returns the keys of an entry as options of a command, without those that name its YAML file and its teacher."""
    own = {key: value for key, value in keys.items() if key not in ("config", "teacher")}
    return [f"--{key}={json.dumps(value) if isinstance(value, dict) else value}" for key, value in own.items()]


def read_configs(*paths: str) -> dict[str, Any]:
    """Returns what YAML files say, by their paths."""
    return {path: yaml.safe_load(Path(path).read_text(encoding="utf-8")) for path in dict.fromkeys(paths)}


def train_once(config: str | Path, *options: str) -> Path:
    """Trains the model that a YAML file of `hf-nat train` describes, card included.

    Args:
        config (`str` or `Path`): the YAML file.
        *options (`str`): keys that differ, each as `--key=value`.

    Returns:
        `Path`: the model's folder.
    """
    arguments = load_training(config, *options)
    folder = Path(str(arguments[2].output_dir))
    if list_checkpoints(folder):
        arguments[2].resume_from_checkpoint = "last"
    if not (folder / "metrics.json").is_file():
        train(*arguments)
        _on_main_process(write_model_card, folder)
    return folder


def load_training(config: str | Path, *options: str) -> TrainingRun:
    """Returns the arguments of a training run; see `train_once`."""
    run: Any = load_config((ModelArguments, DataArguments, NATSeq2SeqTrainingArguments), [str(config), *options])
    return run


def distill_once(args: DistillArguments) -> Path:
    """Writes a distilled corpus, card included.

    Args:
        args (`DistillArguments`): corpus, teacher, decoding and output folder.

    Returns:
        `Path`: the corpus folder.
    """
    folder = distill(*load_model(args.teacher, revision=args.teacher_revision), args)
    _on_main_process(write_corpus_card, folder)
    return folder


def evaluate_once(args: EvaluateArguments, decoding: DecodingArguments | None = None) -> dict[str, Any]:
    """Scores a model on a split and brings its card up to date.

    Args:
        args (`EvaluateArguments`): model, corpus and split; `output_dir` must be given.
        decoding (`DecodingArguments`, *optional*): how the model decodes; by default as its checkpoint says.

    Returns:
        `dict[str, Any]`: what `evaluate` returns, or has written in a former run.
    """
    path = Path(str(args.output_dir)) / "metrics.json"
    if path.is_file():
        return read_json(path)
    metrics = evaluate(args, decoding)
    _on_main_process(write_model_card, args.model)
    return metrics


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


def evaluate_on_real(
    model: Path, args: DistillArguments, decoding: DecodingArguments | None = None, **scoring: Any
) -> dict[str, dict[str, Any]]:
    """Scores a model on the real validation and test split of a distillation's corpus.

    Args:
        model (`Path`): its folder.
        args (`DistillArguments`): the distillation.
        decoding (`DecodingArguments`, *optional*): how the model decodes; by default as its checkpoint says.
        **scoring: `metrics`, `num_bootstrap` and `beer_model` of `EvaluateArguments`.

    Returns:
        `dict[str, dict[str, Any]]`: for `validation` and `test` what `evaluate` returns.
    """
    return {
        name: evaluate_once(
            EvaluateArguments(
                model=str(model), split=split, output_dir=str(model / f"eval-{split}"), **_corpus_of(args), **scoring
            ),
            decoding,
        )
        for name, split in real_splits(args).items()
    }


def tune_on_real(model: Path, args: DistillArguments, decoding: DecodingArguments | None = None) -> None:
    """Tunes the decoding knob of a model that must be tuned, EOS penalty or expert, on the real validation split.

    Args:
        model (`Path`): its folder; any other model is left as it is.
        args (`DistillArguments`): the distillation whose corpus it is.
        decoding (`DecodingArguments`, *optional*): how the model decodes otherwise.
    """
    if default_knob(load_model(model)[0]) is not None:
        split = real_splits(args)["validation"]
        tune(TuneArguments(model=str(model), split=split, **_corpus_of(args)), decoding)


def _corpus_of(args: DistillArguments) -> dict[str, Any]:
    return {name: getattr(args, name) for name in ("corpus", "config_name", "source_lang", "target_lang")}


def teacher_decoding(args: DistillArguments) -> DecodingArguments:
    """Returns how a teacher decodes when it is scored: by the beam of the distillation, or greedily."""
    beams = decoding_parameters(args)["num_beams"]
    return DecodingArguments(num_beams=beams, length_penalty=args.length_penalty)


def distilled_options(args: DistillArguments, corpus: Path, tokenizer: Path | None) -> list[str]:
    """Returns the keys that point a training run to a corpus in Hub layout and to a tokenizer.

    Args:
        args (`DistillArguments`): the distillation.
        corpus (`Path`): folder of the corpus, as a distillation writes it.
        tokenizer (`Path`, *optional*): folder of the tokenizer; by default the run trains its own.
    """
    splits = ["--config_name=", "--train_split=train", "--validation_split=validation"]
    languages = [f"--{name}={getattr(args, name)}" for name in ("source_lang", "target_lang")]
    return [f"--corpus={corpus}", *splits, *languages, *([f"--tokenizer={tokenizer}"] if tokenizer else [])]


def _on_main_process(write: Any, folder: str | Path) -> None:
    """Writes a card once; nobody goes on before it is there."""
    state = process_state()
    if state.is_main_process:
        write(folder)
    state.wait_for_everyone()
