"""What the steps that translate a split have in common."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..base.utils import sha256_file
from ..cards import model_card
from ..decoding import DecodingArguments
from ..decoding.arguments import TAKING_PART
from ..decoding.language_model import language_model_file
from ..evaluation.evaluate import SplitArguments
from .fingerprints import corpus_fingerprint, model_fingerprint, optional_model
from .model import ModelStep


@dataclass(frozen=True)
class SplitStep(ModelStep):
    """A step in which a model translates a split.

    Args:
        args (`SplitArguments`): model, split and short list.
        decoding (`DecodingArguments`, *optional*): how the model decodes; by default greedily, as its checkpoint says.
    """

    args: SplitArguments
    decoding: DecodingArguments = field(default_factory=DecodingArguments)

    @property
    def free_keys(self) -> set[str]:
        """The keys of the model's `generation_config.json` that do not count: those that options take the place of."""
        return {*self.decoding.knobs, *(() if self.decoding.expert is None else ("expert",))}

    def settings(self) -> dict[str, Any]:
        """Languages, short list and options of decoding."""
        # Named where there is one: older records have no such key.
        listed = {"shortlist": self.args.shortlist_sizes} if self.args.shortlist else {}
        return {**self.args.languages, **listed, **decoding_settings(self.decoding)}

    def inputs(self) -> dict[str, Any]:
        """Fingerprints of model, corpus, short list and what else takes part in decoding."""
        listed, trust = self.args.load_shortlist(), self.decoding.trust_remote_code
        return {
            "model": model_fingerprint(self.args.model, but_for=self.free_keys, trust_remote_code=trust),
            "corpus": corpus_fingerprint(self.args.load_rows(), **self.args.languages),
            **({} if listed is None else {"shortlist": corpus_fingerprint(listed, **self.args.languages)}),
            **decoding_inputs(self.decoding),
        }

    def prepare(self) -> None:
        """Raises for records of a model that no card can be made of: now, not after the scores."""
        for folder in self.card_folders():
            model_card(folder)


def decoding_settings(decoding: DecodingArguments) -> dict[str, Any]:
    """Returns the options of decoding that are set, without the models among them."""
    given = {name: value for name, value in vars(decoding).items() if value is not None}
    others = [*TAKING_PART, "trust_remote_code", "threads"]
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
        **({} if language_model is None else {"language_model": sha256_file(language_model_file(language_model))}),
        **({} if decoding.terms is None else {"terms": sha256_file(decoding.terms)}),
        "reranker": optional_model(decoding.reranker, parameter="reranker", trust_remote_code=trust),
        "ensemble": [
            model_fingerprint(member, parameter="ensemble", trust_remote_code=trust)
            for member in decoding.ensemble or ()
        ],
    }
