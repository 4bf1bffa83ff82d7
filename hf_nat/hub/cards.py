"""Model and corpus cards, rendered from the files of a folder and from nothing else."""

from __future__ import annotations

import hashlib
import importlib.resources
import re
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import jinja2
from huggingface_hub import DatasetCardData, EvalResult, ModelCardData
from transformers.utils import logging

from ..models import ARCHITECTURES
from ..utils import atomic_path, read_json


logger = logging.get_logger(__name__)

# Keys of generation_config.json that say nothing about decoding.
_NO_DECODING_KNOBS = {"_from_model_config", "transformers_version"}
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
# Language keys of synthetic corpora: as ISO 639 codes they would claim languages that the text is not in.
_PLACEHOLDER_LANGUAGES = {"src", "tgt"}
_SEAL = re.compile(r"\n<!-- Card written by hf_nat, and rewritten until you edit it: ([0-9a-f]{64}) -->\n\Z")


def write_model_card(folder: str | Path, repo_id: str | None = None) -> Path:
    """Writes the README.md of a model folder.

    Every number comes from `config.json`, `generation_config.json`, `run.json`, `metrics.json` or
    `eval-*/metrics.json`; what no file holds is left out. A README.md that someone wrote or edited is kept.

    Args:
        folder (`str | Path`): a folder with at least `config.json`.
        repo_id (`str`, *optional*): Hub id that the example loads; without it the example, run beside the folder,
            loads the folder.

    Returns:
        Path of the README.md.

    Raises:
        ValueError: if the folder has no `config.json`.
    """
    folder = Path(folder)
    config = _read_required(folder, "config.json", "Save the model there with `save_pretrained`")
    run = _read_optional(folder, "run.json")
    evaluations = [read_json(path) for path in sorted(folder.glob("eval-*/metrics.json"))]
    arguments = run["arguments"] if run else {}
    title = _model_title(config, arguments)
    non_autoregressive = config["model_type"] in ARCHITECTURES
    parent = arguments.get("init_from_teacher") or arguments.get("init_from")
    metadata = ModelCardData(
        language=_languages(arguments) or None,
        library_name="transformers",
        pipeline_tag="translation",
        tags=["hf_nat", config["model_type"], *(["non-autoregressive-translation"] if non_autoregressive else [])],
        base_model=parent if _is_hub_id(parent) else None,
        datasets=[arguments["corpus"]] if _is_hub_id(arguments.get("corpus")) else None,
        metrics=sorted({name for evaluation in evaluations for name in evaluation["scores"]}) or None,
        model_name=title,
        eval_results=[result for evaluation in evaluations for result in _eval_results(evaluation)] or None,
    )
    content = _render(
        "model_card.md.jinja",
        metadata=metadata.to_yaml(),
        title=title,
        example=repo_id or f"./{folder.resolve().name}",
        config=config,
        non_autoregressive=non_autoregressive,
        remote_code="auto_map" in config,
        decoding=_decoding_defaults(_read_optional(folder, "generation_config.json") or {}),
        run=run,
        training=_training_rows(run, _read_optional(folder, "metrics.json") or {}) if run else {},
        evaluations=evaluations,
    )
    return _write(folder / "README.md", content)


def write_corpus_card(folder: str | Path, repo_id: str | None = None) -> Path:
    """Writes the README.md of a distilled corpus from its `manifest.json`, so that `load_dataset` finds all splits.

    The measures come from `measures.json`, which `hf-nat analyze` leaves in the folder; without it there are none. A
    README.md that someone wrote or edited is kept.

    Args:
        folder (`str | Path`): a corpus folder in Hub layout with a `manifest.json`.
        repo_id (`str`, *optional*): Hub id that the example loads; without it the example, run beside the folder,
            loads the folder.

    Returns:
        Path of the README.md.

    Raises:
        ValueError: if the folder has no `manifest.json`, which is written when a distillation is complete.
    """
    folder = Path(folder)
    manifest = _read_required(folder, "manifest.json", "Run the distillation to its end")
    pair = f"{manifest['source_lang']}-{manifest['target_lang']}"
    # A split without rows has no file.
    splits = [split for split in sorted(manifest["counts"], key=_split_order) if manifest["counts"][split]]
    metadata = DatasetCardData(
        language=_languages(manifest) or None,
        license=manifest["license"],
        annotations_creators=["machine-generated"],
        multilinguality=["translation"],
        task_categories=["translation"],
        size_categories=[_size_category(manifest["counts"]["train"])],
        source_datasets=[manifest["corpus"]] if _is_hub_id(manifest["corpus"]) else None,
        pretty_name=f"Distilled {pair} corpus",
        tags=["hf_nat", "knowledge-distillation"],
        configs=[
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": f"data/{split}-*.parquet"} for split in splits],
            }
        ],
    )
    content = _render(
        "corpus_card.md.jinja",
        metadata=metadata.to_yaml(),
        pair=pair,
        example=repo_id or f"./{folder.resolve().name}",
        manifest=manifest,
        measures=_read_optional(folder, "measures.json"),
        speed=_read_optional(folder, "metrics.json"),
        splits=splits,
    )
    return _write(folder / "README.md", content)


def _read_required(folder: Path, name: str, remedy: str) -> dict[str, Any]:
    if not (folder / name).is_file():
        raise ValueError(f"`folder` must hold a {name}, got {str(folder)!r} without one. {remedy}, then try again.")
    return read_json(folder / name)


def _read_optional(folder: Path, name: str) -> dict[str, Any] | None:
    return read_json(folder / name) if (folder / name).is_file() else None


def _model_title(config: dict[str, Any], arguments: dict[str, Any]) -> str:
    """Names a model by architecture, size and language pair, as far as they are known."""
    # A run that goes on from a checkpoint does not use its `size`.
    parts = [config["model_type"], None if arguments.get("init_from") else arguments.get("size")]
    if arguments:
        parts.append(f"{arguments['source_lang']}-{arguments['target_lang']}")
    return " ".join(part for part in parts if part)


def _languages(holder: dict[str, Any]) -> list[str]:
    """Returns the language codes of a run or manifest that the Hub accepts (`eng_Latn` as `eng`)."""
    codes = [re.split("[-_]", holder[key])[0] for key in ("source_lang", "target_lang") if key in holder]
    return [code for code in codes if re.fullmatch("[a-z]{2,3}", code) and code not in _PLACEHOLDER_LANGUAGES]


def _is_hub_id(name: Any) -> bool:
    """Tells `owner/name` on the Hub from a path: nothing of that name lies in the current folder."""
    return (
        isinstance(name, str) and re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name) is not None and not Path(name).exists()
    )


def _split_order(split: str) -> tuple[int, str]:
    """Sorts train, validation, test, then any others by name."""
    usual = ("train", "validation", "test")
    return (usual.index(split) if split in usual else len(usual), split)


def _size_category(rows: int) -> str:
    """Returns the Hub's name for a number of rows, as 10K<n<100K."""
    bounds = [(10**3, "1K"), (10**4, "10K"), (10**5, "100K"), (10**6, "1M"), (10**7, "10M"), (10**8, "100M")]
    below = "n"
    for bound, name in bounds:
        if rows < bound:
            return f"{below}<{name}" if below == "n" else f"{below}<n<{name}"
        below = name
    return f"n>{below}"


def _decoding_defaults(generation_config: dict[str, Any]) -> dict[str, Any]:
    """Keeps the entries that steer decoding: no token ids, no book-keeping, nothing unset."""
    return {
        name: value
        for name, value in generation_config.items()
        if value is not None and name not in _NO_DECODING_KNOBS and not name.endswith(("token_id", "_token_ids"))
    }


def _training_rows(run: dict[str, Any], metrics: dict[str, Any]) -> dict[str, Any]:
    """Chooses what the training table shows, by its printed name; a value that no file holds has no row."""
    arguments = run["arguments"]
    environment = run["environment"]
    versions = environment["versions"]
    rows = {label: arguments.get(key) for key, label in _TRAINING_KEYS}
    for label in ("Corpus", "Started from the teacher", "Started from"):
        rows[label] = _place(rows[label]) if rows[label] else None
    rows |= {
        "Changed from the preset": _settings(arguments.get("model_config") or {}),
        "Parameters": f"{run['num_parameters']:,}",
        "Training pairs": metrics.get("num_train_pairs"),
        "Processes": metrics.get("num_processes"),
        "Updates": metrics.get("num_updates"),
        "Epochs": _rounded(metrics.get("epochs")),
        "Seconds": _rounded(metrics.get("train_seconds")),
        "Validation loss": _rounded(metrics.get("eval_loss"), 4),
    }
    if metrics.get("eval_bleu") is not None:
        rows["Validation BLEU"] = f"{metrics['eval_bleu']:.2f} (`{metrics['eval_bleu_signature']}`)"
    rows["Device"] = environment["device"]
    rows["Versions"] = _settings({name: versions[name] for name in ("torch", "transformers") if name in versions})
    return {label: value for label, value in rows.items() if value not in (None, "")}


def _rounded(value: float | None, digits: int = 2) -> float | None:
    return None if value is None else round(value, digits)


def _eval_results(evaluation: dict[str, Any]) -> list[EvalResult]:
    """Turns one eval-*/metrics.json into entries of the Hub's model-index."""
    corpus = _place(evaluation["corpus"])
    return [
        EvalResult(
            task_type="translation",
            dataset_type=corpus,
            dataset_name=corpus,
            dataset_split=evaluation["split"],
            metric_type=name,
            metric_value=round(metric["score"], 2),
            metric_args={"signature": metric["signature"], "decoding": _placed(evaluation["decoding"])},
        )
        for name, metric in evaluation["scores"].items()
    ]


def _place(path: str) -> str:
    """Shortens absolute paths (several by comma) to their last two parts: a card says nothing of someone's disk."""
    paths = [Path(part) for part in path.split(",")]
    return ",".join("/".join(part.parts[-2:]) if part.is_absolute() else str(part) for part in paths)


def _settings(values: dict[str, Any]) -> str:
    """Prints settings as `name=value`, paths shortened."""
    return ", ".join(f"`{name}={value}`" for name, value in sorted(_placed(values).items()))


def _placed(values: dict[str, Any]) -> dict[str, Any]:
    """Shortens every path among settings."""
    return {name: _place(value) if isinstance(value, str) else value for name, value in values.items()}


def _cell(value: Any) -> str:
    """Makes a value fit into one cell of a Markdown table."""
    return str(value).replace("|", "\\|").replace("\n", " ")


def _templates() -> Traversable:
    """Finds the card templates: an installed package holds them, in a checkout they lie beside `hf_nat`."""
    try:
        return importlib.resources.files("hf_nat.hub_cards")
    except ModuleNotFoundError:
        return Path(__file__).parents[2] / "hub_cards"


def _render(template: str, **values: Any) -> str:
    """Renders one template; a name that the template uses and nobody gave is an error."""
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters |= {"place": _place, "settings": _settings, "cell": _cell}
    source = (_templates() / template).read_text(encoding="utf-8")
    return environment.from_string(source).render(values)


def _write(path: Path, content: str) -> Path:
    """Writes a card with a seal over its text, unless the file there has no seal or one that its text broke."""
    if path.exists() and not _is_unedited(path.read_text(encoding="utf-8")):
        logger.warning(f"{path} was not written by hf_nat or has been edited, so it stays as it is.")
        return path
    seal = hashlib.sha256(content.encode()).hexdigest()
    with atomic_path(path) as temporary:
        temporary.write_text(
            f"{content}\n<!-- Card written by hf_nat, and rewritten until you edit it: {seal} -->\n", encoding="utf-8"
        )
    return path


def _is_unedited(card: str) -> bool:
    seal = _SEAL.search(card)
    return seal is not None and hashlib.sha256(card[: seal.start()].encode()).hexdigest() == seal[1]
