"""Translates a test split and scores it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from .data.corpora import load_corpus
from .inference import load_model, translate
from .metrics.translation import score_translations
from .models import NATPreTrainedModel
from .utils import atomic_path, environment, write_json


_IDENTIFYING_KEYS = ("model", "corpus", "config_name", "split", "source_lang", "target_lang")


def _option(default: Any, help: str) -> Any:
    return field(default=default, metadata={"help": help})


@dataclass
class EvaluateArguments:
    """Which model is scored on which corpus, and how it decodes.

    Raises:
        ValueError: if a size is below 1.
    """

    model: str = field(metadata={"help": "checkpoint folder or Hub id"})
    corpus: str = field(
        metadata={"help": "Hub id, folder, .parquet/.jsonl file, text pattern with {split} and {lang}"}
    )
    source_lang: str = field(metadata={"help": "language key of the source in the `translation` feature"})
    target_lang: str = field(metadata={"help": "language key of the target"})
    split: str = _option("test", "split to translate")
    config_name: str | None = _option(None, "configuration of a Hub corpus")
    output_dir: str | None = _option(None, "folder of metrics.json and translations.txt; default: MODEL/eval-SPLIT")
    max_batch_tokens: int = _option(4096, "source tokens per batch, padding counted")
    max_samples: int | None = _option(None, "translate only the first sentences")
    num_beams: int = _option(1, "AT model: beam size; 1 is greedy")
    length_penalty: float = _option(1.0, "AT model: beam scores are divided by length ** length_penalty")
    max_iterations: int | None = _option(None, "NAT model: refinement rounds; default: the checkpoint's")
    length_beam: int | None = _option(None, "NAT model: lengths tried in parallel; default: the checkpoint's")
    reranker: str | None = _option(None, "NAT model: AT model that chooses among the lengths, a folder or Hub id")

    def __post_init__(self) -> None:
        for name in ("max_batch_tokens", "max_samples", "num_beams"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"`{name}` must be >= 1, got {value}.")


def evaluate(args: EvaluateArguments) -> dict[str, Any]:
    """Translates a split, scores the translations and writes `metrics.json` and `translations.txt` (one a line).

    Args:
        args (`EvaluateArguments`): model, corpus and decoding.

    Returns:
        `dict[str, Any]`: the content of metrics.json: the scores with their signatures (0-100), sentences per second
        (loading left out), mean number of rounds of a NAT model, and what they were measured with.

    Raises:
        ValueError: if a decoding option does not belong to the kind of model, or `output_dir` is missing for a model
            that is no local folder.
    """
    output_dir = _output_dir(args)
    model, tokenizer = load_model(args.model)
    decoding, generate_kwargs = _decoding(model, args)
    pairs = _load_pairs(args)
    started = time.perf_counter()
    translations = translate(
        model,
        tokenizer,
        [pair[args.source_lang] for pair in pairs],
        max_batch_tokens=args.max_batch_tokens,
        progress=True,
        **generate_kwargs,
    )
    seconds = time.perf_counter() - started
    texts = [translation.text for translation in translations]
    scores = score_translations(texts, [pair[args.target_lang] for pair in pairs], target_lang=args.target_lang)
    rounds = [translation.iterations for translation in translations if translation.iterations is not None]
    metrics = {
        **{key: getattr(args, key) for key in _IDENTIFYING_KEYS},
        "num_sentences": len(pairs),
        "num_truncated": sum(translation.truncated for translation in translations),
        "scores": {name: {"score": score.score, "signature": score.signature} for name, score in scores.items()},
        "seconds": round(seconds, 3),
        "sentences_per_second": round(len(pairs) / seconds, 3),
        "iterations_mean": sum(rounds) / len(rounds) if rounds else None,
        "decoding": decoding | {"max_batch_tokens": args.max_batch_tokens},
        "environment": environment(),
    }
    with atomic_path(output_dir / "translations.txt") as temporary:
        temporary.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    write_json(output_dir / "metrics.json", metrics)
    return metrics


def _output_dir(args: EvaluateArguments) -> Path:
    if args.output_dir is not None:
        return Path(args.output_dir)
    if not Path(args.model).is_dir():
        raise ValueError(f"`output_dir` must be given for a model that is no local folder, got {args.model!r}.")
    return Path(args.model) / f"eval-{args.split}"


def _load_pairs(args: EvaluateArguments) -> list[dict[str, str]]:
    rows = load_corpus(
        args.corpus,
        args.split,
        source_lang=args.source_lang,
        target_lang=args.target_lang,
        config_name=args.config_name,
    )
    if args.max_samples is not None:
        rows = rows.select(range(min(args.max_samples, len(rows))))
    return rows["translation"][:]


def _decoding(model: PreTrainedModel, args: EvaluateArguments) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the decoding options as metrics.json records them, and as `generate` takes them."""
    nat_options = {key: getattr(args, key) for key in ("max_iterations", "length_beam", "reranker")}
    if isinstance(model, NATPreTrainedModel):
        if args.num_beams != 1:
            raise ValueError(f"`num_beams` must be 1 for a NAT model, got {args.num_beams}. Use `length_beam`.")
        decoding = {key: value for key, value in nat_options.items() if value is not None}
        generate_kwargs = {key: value for key, value in decoding.items() if key != "reranker"}
        if args.reranker is not None:
            generate_kwargs["teacher"] = load_model(args.reranker)[0]
        return decoding, generate_kwargs
    for key, value in nat_options.items():
        if value is not None:
            raise ValueError(f"`{key}` must be left out for an autoregressive model, got {value!r}.")
    if args.num_beams == 1:
        return {"num_beams": 1}, {"num_beams": 1, "do_sample": False}
    decoding = {"num_beams": args.num_beams, "length_penalty": args.length_penalty, "early_stopping": True}
    return decoding, {**decoding, "do_sample": False}
