"""The step that scores a model on a split."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..base.utils import read_record, sha256_file
from ..cards import model_card
from ..decoding import DecodingArguments
from ..evaluation import CONFIDENCE_FILE, EvaluateArguments, evaluate
from ..evaluation.evaluate import SplitArguments
from ..metrics.external import external_identity, require_consent
from .fingerprints import corpus_fingerprint, model_fingerprint, optional_model
from .model import ModelStep


@dataclass(frozen=True)
class Evaluate(ModelStep):
    """Translates a split and scores it; see `hf_nat.evaluation.evaluate`.

    Args:
        args (`EvaluateArguments`): model, corpus, split and metrics.
        decoding (`DecodingArguments`, *optional*): how the model decodes; by default greedily, as its checkpoint says.
    """

    name = "evaluate"
    renewing = ("confidence",)  # `hf-nat calibrate` may come after a first evaluation.
    args: EvaluateArguments
    decoding: DecodingArguments = field(default_factory=DecodingArguments)

    def __post_init__(self) -> None:
        _ = self.folder  # Without one, that is an error before the model is fetched.
        for module in self.args.modules:
            require_consent(module, "modules", self.decoding.trust_remote_code)

    @property
    def folder(self) -> Path:
        """Where the scores go: `output_dir`, or a folder inside the model's."""
        return self.args.folder

    def settings(self) -> dict[str, Any]:
        """Languages, metrics, bootstrap samples and options of decoding."""
        args = self.args
        return {
            **{name: getattr(args, name) for name in ("metrics", "num_bootstrap")},
            # Named where there is one: older records have no such keys.
            **({"modules": [Path(module).stem for module in args.modules]} if args.modules else {}),
            **({"module_options": args.module_options} if args.module_options else {}),
            **split_settings(args, self.decoding),
        }

    def inputs(self) -> dict[str, Any]:
        """Fingerprints of model, corpora, calibration, BEER model and what takes part in decoding."""
        beer = Path(self.args.beer_model) if self.args.beer_model is not None else None
        rows = self.args.load_training_rows()
        confidence = Path(self.args.model) / CONFIDENCE_FILE
        return {
            "training_corpus": None if rows is None else corpus_fingerprint(rows, **self.args.languages),
            "confidence": sha256_file(confidence) if confidence.exists() else None,
            "beer_model": beer and {path.name: sha256_file(path) for path in sorted(beer.glob("*")) if path.is_file()},
            **(
                {"modules": {Path(name).stem: external_identity(name) for name in self.args.modules}}
                if self.args.modules
                else {}
            ),
            **split_inputs(self.args, self.decoding),
        }

    def prepare(self) -> None:
        """Raises for records of a local model that no card can be made of: now, not after the scores."""
        for folder in self.card_folders():
            model_card(folder)

    def is_whole(self) -> bool:
        """Tells whether scores and translations are there."""
        return all((self.folder / name).is_file() for name in ("metrics.json", "translations.txt"))

    def work(self) -> None:
        """Translates and scores the split."""
        evaluate(self.args, self.decoding)

    def card_folders(self) -> list[Path]:
        """The folder of the model, where that is a local one that may be written: not so what many users share."""
        model = Path(self.args.model)
        is_own = (model / "config.json").is_file() and os.access(model, os.W_OK, effective_ids=True)
        return [model] if is_own else []

    @property
    def metrics(self) -> dict[str, Any]:
        """What `metrics.json` of the finished step holds."""
        kinds = {"scores": dict, "without_score": dict, "num_sentences": int, "sentences_per_second": (int, float)}
        return read_record(self.folder / "metrics.json", {**kinds, "iterations_mean": (int, float, type(None))})


def split_settings(args: SplitArguments, decoding: DecodingArguments) -> dict[str, Any]:
    """Returns languages, short list and options of decoding of what translates a split."""
    return {
        **args.languages,
        **({"shortlist": args.shortlist_sizes} if args.shortlist else {}),
        **decoding_settings(decoding),
    }


def split_inputs(args: SplitArguments, decoding: DecodingArguments, *, but_for: str | None = None) -> dict[str, Any]:
    """Returns the fingerprints of all that takes part in translating a split.

    Args:
        args (`SplitArguments`): model, corpus and short list.
        decoding (`DecodingArguments`): the further models.
        but_for (`str`, *optional*): the key of the model's `generation_config.json` that does not count.
    """
    listed, trust = args.load_shortlist(), decoding.trust_remote_code
    return {
        "model": model_fingerprint(args.model, but_for=but_for, trust_remote_code=trust),
        "corpus": corpus_fingerprint(args.load_rows(), **args.languages),
        **({} if listed is None else {"shortlist": corpus_fingerprint(listed, **args.languages)}),
        **decoding_inputs(decoding),
    }


def decoding_settings(decoding: DecodingArguments) -> dict[str, Any]:
    """Returns the options of decoding that are set, without the models among them."""
    given = {name: value for name, value in vars(decoding).items() if value is not None}
    others = ["reranker", "ensemble", "draft", "language_model", "terms", "trust_remote_code", "threads"]
    if decoding.backend == "torch":
        others.append("backend")  # as in the records from before there were others
    return {"decoding": {name: value for name, value in given.items() if name not in others}}


def decoding_inputs(decoding: DecodingArguments) -> dict[str, Any]:
    """Returns the fingerprints of the further models that take part in decoding."""
    trust, language_model = decoding.trust_remote_code, decoding.language_model
    draft = optional_model(decoding.draft, parameter="draft", trust_remote_code=trust)
    # Named where there is one: older records have no such keys.
    return {
        **({} if draft is None else {"draft": draft}),
        **({} if language_model is None else {"language_model": sha256_file(language_model)}),
        **({} if decoding.terms is None else {"terms": sha256_file(decoding.terms)}),
        "reranker": optional_model(decoding.reranker, parameter="reranker", trust_remote_code=trust),
        "ensemble": [
            model_fingerprint(member, parameter="ensemble", trust_remote_code=trust)
            for member in decoding.ensemble or ()
        ],
    }
