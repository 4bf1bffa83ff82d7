"""The step that scores a model on a split."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..base.utils import read_record, sha256_file
from ..evaluation import CONFIDENCE_FILE, EvaluateArguments, evaluate
from ..metrics.external import external_identity, require_consent
from .fingerprints import corpus_fingerprint
from .split import SplitStep


@dataclass(frozen=True)
class Evaluate(SplitStep):
    """Translates a split and scores it; see `hf_nat.evaluation.evaluate`.

    Args:
        args (`EvaluateArguments`): model, corpus, split and metrics.
        decoding (`DecodingArguments`, *optional*): how the model decodes; by default greedily, as its checkpoint says.
    """

    name = "evaluate"
    renewing = ("confidence",)  # `hf-nat calibrate` may come after a first evaluation.
    args: EvaluateArguments

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
            **super().settings(),
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
            **super().inputs(),
        }

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
