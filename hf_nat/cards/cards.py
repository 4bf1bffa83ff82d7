"""Model and corpus cards, rendered from the files of a folder and from nothing else."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData, snapshot_download
from huggingface_hub.errors import HfHubHTTPError
from transformers.utils import logging

from ..data.pretrained import code_files
from ..data.several import corpus_place
from ..decoding.language_model import LANGUAGE_MODEL_FILE
from ..models import ARCHITECTURES, MoEMarianConfig
from .corpora import CARD_SOURCES, DEFAULT_CONFIG, CorpusConfig, corpus_card, dataset_infos, read_config, read_configs
from .rendering import (
    edited_card,
    further_work,
    is_hub_id,
    languages,
    listed_work,
    making_card,
    place,
    placed,
    read_optional,
    read_required,
    render,
    sealed,
    settings,
    write_card,
)


logger = logging.get_logger(__name__)

# Keys of generation_config.json that say nothing about decoding.
_NO_DECODING_KNOBS = {"_from_model_config", "transformers_version"}
# Our metrics that https://hf.co/metrics has under the same name; the table of the card shows all.
_HUB_METRICS = ("bleu", "chrf", "meteor", "sacrebleu", "ter")
# Settings of a run that its card names; run.json has the others.
_TRAINING_KEYS = (
    ("corpus", "Corpus"),
    ("init_from_teacher", "Started from the teacher"),
    ("init_from", "Started from"),
    ("max_tokens", "Tokens per batch and process"),
    ("gradient_accumulation_steps", "Accumulated batches"),
    ("learning_rate", "Learning rate"),
    ("warmup_steps", "Warm-up updates"),
    ("label_smoothing", "Label smoothing"),
    ("seed", "Seed"),
)


def write_model_card(folder: str | Path) -> Path:
    """Writes the README.md of a model folder as `model_card` makes it; one that someone wrote or edited is kept.

    Returns:
        Path of the README.md.

    Raises:
        ValueError: if the folder has no `config.json`.
    """
    folder = Path(folder)
    with making_card(folder):
        return write_card(folder / "README.md", lambda: _model_card(folder, None))


def model_card(folder: str | Path, repo_id: str | None = None) -> str:
    """Makes the README.md of a model folder, and writes nothing; one that someone wrote or edited stays as it is.

    Every number comes from `config.json`, `generation_config.json`, `run.json`, `metrics.json`, `onnx/export.json` or
    `eval-*/metrics.json`, and what is said of distilled targets from the manifest and the measures of the corpus that
    `run.json` names, here or on the Hub; what no file holds is left out.

    Args:
        folder (`str | Path`): a folder with at least `config.json`.
        repo_id (`str`, *optional*): Hub id that the example loads; without it the example, run beside the folder,
            loads the folder. The script of an exported model takes the folder from its command line, and with a Hub
            id the card says how to fetch that.

    Raises:
        ValueError: if the folder has no `config.json`.
    """
    folder = Path(folder)
    own = edited_card(folder / "README.md")
    if own is not None:
        return own
    with making_card(folder):
        return sealed(_model_card(folder, repo_id))


def _model_card(folder: Path, repo_id: str | None) -> str:
    """Renders the card, without its seal."""
    config = read_required(folder, "config.json", "Save the model there with `save_pretrained`")
    run, metrics = read_optional(folder, "run.json"), read_optional(folder, "metrics.json") or {}
    evaluations = [
        read_required(path.parent, path.name, "Evaluate the model")
        for path in sorted(folder.glob("eval-*/metrics.json"))
    ]
    arguments = run["arguments"] if run else {}
    names, local = _corpora(arguments), (run or {}).get("local_inputs", [])
    config_name = arguments.get("config_name")
    distilled = {name: corpus for name in names if (corpus := _distilled_corpus(name, config_name, local))}
    title = _model_title(config, arguments)
    non_autoregressive = config["model_type"] in ARCHITECTURES
    has_code = "auto_map" in config and all((folder / name).is_file() for name in code_files(folder, config))
    needs_package = (non_autoregressive or config["model_type"] == MoEMarianConfig.model_type) and not has_code
    parent = arguments.get("init_from_teacher") or arguments.get("init_from")
    corpora = [name for name in (text.partition("#")[0] for text in names) if is_hub_id(name, local)]
    corpora += [source for own in distilled.values() if (source := own.hub_source)]
    results = [result for evaluation in evaluations for result in _eval_results(evaluation)]
    scored = {name for evaluation in evaluations for name in evaluation["scores"]}
    known, unknown = languages(arguments)
    export = read_optional(folder, "onnx/export.json")
    kind = ["non-autoregressive-translation"] if non_autoregressive else []
    metadata = ModelCardData(
        language=known or None,
        library_name="transformers" if export is None else "onnx",
        pipeline_tag="translation",
        tags=["hf_nat", *([] if export is None else ["onnx"]), config["model_type"], *kind],
        base_model=parent if is_hub_id(parent, local) else None,
        datasets=list(dict.fromkeys(corpora)) or None,
        metrics=sorted(scored.intersection(_HUB_METRICS)) or None,
        model_name=title if results else None,
        eval_results=results or None,
    )
    return render(
        "model_card.md.jinja",
        metadata=metadata.to_yaml(),
        title=title,
        unknown_languages=unknown,
        example=repo_id or f"./{folder.resolve().name}",
        repo_id=repo_id,
        config=config,
        non_autoregressive=non_autoregressive,
        remote_code="auto_map" in config and not needs_package,
        needs_package=needs_package,
        decoding=_decoding_defaults(read_optional(folder, "generation_config.json") or {}),
        export=export,
        language_model=LANGUAGE_MODEL_FILE if (folder / LANGUAGE_MODEL_FILE).is_file() else None,
        run=run,
        training=_training_rows(run, metrics, distilled) if run else {},
        infeasible_share=metrics.get("num_infeasible_pairs", 0) / (metrics.get("num_train_pairs") or 1),
        evaluations=evaluations,
    )


def write_corpus_card(folder: str | Path) -> Path:
    """Writes the README.md of a distilled corpus from its `manifest.json`, so that `load_dataset` finds all splits.

    A folder with several corpora as configurations, each with its manifest, gets one card for all. The measures come
    from `measures.json`, which `hf-nat analyze` leaves in the folder; without it there are none. A README.md that
    someone wrote or edited is kept.

    Args:
        folder (`str | Path`): a corpus folder in Hub layout with a `manifest.json`; the example of the card, which is
            run beside it, loads it.

    Returns:
        Path of the README.md.

    Raises:
        ValueError: if the folder has no `manifest.json`, which is written when a distillation is complete.
    """
    folder = Path(folder)
    example = f"./{folder.resolve().name}"

    def card() -> str:
        configs = read_configs(folder) or {DEFAULT_CONFIG: read_config(folder, DEFAULT_CONFIG)}
        return corpus_card(configs, example, dataset_infos(configs.values()))

    with making_card(folder):
        return write_card(folder / "README.md", card)


def check_corpus_card(folder: str | Path) -> None:
    """Raises as `write_corpus_card` before anything is measured: `measures.json`, which comes later, is not read."""
    folder = Path(folder)
    with making_card(folder):
        corpus_card(read_configs(folder, with_measures=False), "", {})


def check_training_corpora(arguments: Mapping[str, Any]) -> None:
    """Raises before a training for records of its corpora that the card of the model could not be made of.

    Args:
        arguments (`Mapping[str, Any]`): those of the run, with `corpus` and `config_name`.

    Raises:
        ValueError: naming the file or the corpus.
    """
    for name in _corpora(arguments):
        with making_card(name):
            if (corpus := _distilled_corpus(name, arguments.get("config_name"))) is not None:
                _distillation_rows(corpus)


def _corpora(arguments: Mapping[str, Any]) -> list[str]:
    """Returns the corpora that a run was trained on, as they were given."""
    corpus = arguments.get("corpus") or []
    return [corpus] if isinstance(corpus, str) else list(corpus)


def _distilled_corpus(name: str, config_name: str | None, local: Collection[str] = ()) -> CorpusConfig | None:
    """Returns a distilled corpus that a run was trained on, if it has a manifest: a folder, or one on the Hub."""
    place: dict[str, Any] = {"config_name": config_name} | corpus_place(name)
    corpus = place["corpus"]
    if is_hub_id(corpus, local):
        patterns = [*CARD_SOURCES, *(f"*/{name}" for name in CARD_SOURCES)]
        try:
            corpus = snapshot_download(corpus, repo_type="dataset", allow_patterns=patterns)
        except (OSError, HfHubHTTPError):
            logger.warning_once(f"The model card says nothing of the targets: {corpus} could not be read on the Hub.")
    configs = read_configs(Path(corpus)) if Path(corpus).is_dir() else {}
    return configs.get(place["config_name"] or DEFAULT_CONFIG)


def _model_title(config: dict[str, Any], arguments: dict[str, Any]) -> str:
    """Names a model by architecture, size and language pair, as far as they are known."""
    # A run that goes on from a checkpoint does not use its `size`.
    parts = [config["model_type"], None if arguments.get("init_from") else arguments.get("size")]
    if arguments:
        parts.append(f"{arguments['source_lang']}-{arguments['target_lang']}")
    return " ".join(part for part in parts if part)


def _decoding_defaults(generation_config: dict[str, Any]) -> dict[str, Any]:
    """Keeps the entries that steer decoding: no token ids, no book-keeping, nothing unset."""
    return {
        name: value
        for name, value in generation_config.items()
        if value is not None and name not in _NO_DECODING_KNOBS and not name.endswith(("token_id", "_token_ids"))
    }


def _training_rows(
    run: dict[str, Any], metrics: dict[str, Any], distilled: Mapping[str, CorpusConfig]
) -> dict[str, Any]:
    """Chooses what the training table shows, by its printed name; a value that no file holds has no row."""
    arguments = run["arguments"]
    environment = run["environment"]
    versions = environment["versions"]
    rows = {label: arguments.get(key) for key, label in _TRAINING_KEYS}
    for label in ("Started from the teacher", "Started from"):
        rows[label] = place(rows[label]) if rows[label] else None
    rows["Corpus"] = ", ".join(map(place, _corpora(arguments))) or None
    of_one = [_distillation_rows(corpus) for corpus in distilled.values()]
    if len(_corpora(arguments)) > 1:
        of_one = [
            {f"{label} ({place(name)})": value for label, value in own.items()}
            for name, own in zip(distilled, of_one, strict=True)
        ]
    told = {label: value for own in of_one for label, value in own.items()}
    rows = {"Corpus": rows.pop("Corpus"), **told, **rows}
    rows |= {
        "Changed from the preset": settings(arguments.get("model_config") or {}),
        "Parameters": f"{run['num_parameters']:,}",
        "Training pairs": metrics.get("num_train_pairs"),
        "Pairs whose target does not fit": metrics.get("num_infeasible_pairs"),
        "Processes": metrics.get("num_processes"),
        "Updates": metrics.get("num_updates"),
        "Epochs": _rounded(metrics.get("epochs")),
        "Seconds": _rounded(metrics.get("train_seconds")),
        "Validation loss": _rounded(metrics.get("eval_loss"), 4),
    }
    if metrics.get("eval_bleu") is not None:
        rows["Validation BLEU"] = f"{metrics['eval_bleu']:.2f} (`{metrics['eval_bleu_signature']}`)"
    rows["Device"] = environment["device"]
    rows["Versions"] = settings({name: versions[name] for name in ("torch", "transformers") if name in versions})
    return {label: value for label, value in rows.items() if value not in (None, "")}


def _distillation_rows(corpus: CorpusConfig) -> dict[str, Any]:
    """Tells who wrote the targets, how, and what was measured of them."""
    manifest = corpus.manifest
    if "mix" in manifest:
        rows = {"Targets": "; ".join(map(_of_mix, manifest["mix"]))}
    else:
        rows = {
            "Targets written by": place(manifest["teacher"]),
            "Strategy of distillation": f"{manifest['strategy']}: {settings(manifest['decoding'])}",
        }
    rows |= further_work(manifest)
    if corpus.measures:
        _, measured = corpus.measures["corpora"]
        rows["Complexity C(d) of the targets, nats"] = f"{measured['complexity']:.3f}"
        rows["Faithfulness F(d) of the targets, nats"] = f"{measured['faithfulness']:.3f}"
    return rows


def _of_mix(part: Mapping[str, Any]) -> str:
    """Tells how many targets one corpus of a mix gave, who wrote them, and what else was done."""
    by = f"by {place(part['teacher'])}, {part['strategy']}" if "teacher" in part else "real"
    also = listed_work(part)
    return f"{part['num_taken']:,} of `{part['name']}`, {by}" + (f" ({also})" if also else "")


def _rounded(value: float | None, digits: int = 2) -> float | None:
    return None if value is None else round(value, digits)


def _eval_results(evaluation: dict[str, Any]) -> list[EvalResult]:
    """Turns one eval-*/metrics.json into entries of the Hub's model-index."""
    corpus = place(evaluation["corpus"])
    return [
        EvalResult(
            task_type="translation",
            dataset_type=corpus,
            dataset_name=corpus,
            dataset_config=evaluation.get("config_name"),
            dataset_split=evaluation["split"],
            metric_type=name,
            metric_value=round(metric["score"], 2),
            metric_args={"signature": metric["signature"], "decoding": placed(evaluation["decoding"])},
        )
        for name, metric in evaluation["scores"].items()
        if name in _HUB_METRICS
    ]
