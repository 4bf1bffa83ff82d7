"""What a non-autoregressive model can be asked for: the knobs of `generate`, and the models and terms that fit it."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from numbers import Integral, Real
from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from transformers import GenerationConfig, PreTrainedModel

from .teacher import text_vocab_size


# Arguments of `generate` beside the knobs of an architecture: those of transformers' own, and beam search and sampling
# at the value that switches them off, because `Seq2SeqTrainer` passes it.
_STOCK_KNOBS = ("max_length", "max_new_tokens", "num_return_sequences", "return_dict_in_generate", "output_scores")
_SWITCHED_OFF = {"num_beams": 1, "do_sample": False}
_LENGTHS = ("max_length", "max_new_tokens", "num_return_sequences")
# By the type of a knob's default, what its values are, and in words.
_KINDS: dict[type, tuple[type, str]] = {
    bool: (bool, "True or False"),
    int: (Integral, "a whole number"),
    float: (Real, "a finite number"),
    str: (str, "a text"),
}
# Most candidates and most rounds: more is a slip that would take memory or hours, and no one ever gained by it.
MAX_BEAMS, MAX_ITERATIONS = 64, 200


class NATSettingsMixin:
    """Declares what an architecture can do, and checks what it is asked for."""

    # The knobs of an architecture and their defaults; `generate` accepts and saves no others.
    generation_defaults: ClassVar[dict[str, Any]] = {
        "max_iterations": 10,
        "collapse_repeats": False,
        "return_history": False,
    }
    # Those of the knobs that count candidates of a sentence.
    candidate_knobs: ClassVar[tuple[str, ...]] = ()
    # Those of a search that reads the model's `frame_logits`, wherever these are computed.
    search_knobs: ClassVar[tuple[str, ...]] = ()
    # What the members of an ensemble must have in common.
    ensemble_fields: ClassVar[tuple[str, ...]] = (
        "model_type",
        "vocab_size",
        "pad_token_id",
        "bos_token_id",
        "eos_token_id",
        "mask_token_id",
    )
    # What a canvas is made of before the first round.
    canvas_places: ClassVar[str] = "tokens"
    # The most rounds that an architecture was trained for.
    iteration_limit: ClassVar[int | None] = None
    # Its decoder predicts the masks of a canvas from any tokens between them.
    fills_masks: ClassVar[bool] = False
    # Whether its own scores choose among candidates; else the first stays the best.
    scores_candidates: ClassVar[bool] = True
    # Whether its rounds leave the tokens of terms as they are.
    holds_terms: ClassVar[bool] = False

    config: Any
    generation_config: GenerationConfig

    def _resolve_settings(self, generation_config: GenerationConfig | None, kwargs: dict[str, Any]) -> SimpleNamespace:
        """Merges arguments, configuration and defaults, in this order, and checks the knobs."""
        known = {*self.generation_defaults, *_STOCK_KNOBS, *_SWITCHED_OFF}
        unknown = sorted(set(kwargs) - known)
        if unknown:
            raise ValueError(f"`generate` must be called with arguments out of {sorted(known)}, got {unknown}.")
        saved = self.generation_config if generation_config is None else generation_config
        settings = SimpleNamespace(terms=None, continuations=None, short_list=None)
        for name in known:
            candidates = (kwargs.get(name), getattr(saved, name, None), self.generation_defaults.get(name))
            setattr(settings, name, next((value for value in candidates if value is not None), None))
        for name, default in {**self.generation_defaults, **dict.fromkeys(_LENGTHS, 1)}.items():
            _require_kind(name, getattr(settings, name), default)
        for name, value in _SWITCHED_OFF.items():
            if getattr(settings, name) not in (None, value):
                raise ValueError(
                    f"`{name}` must be {value} for a non-autoregressive model, got {getattr(settings, name)!r}. "
                    f"Its own arguments are {sorted(self.generation_defaults)}."
                )
        returns_dict = bool(settings.return_dict_in_generate or settings.return_history)
        settings.output_scores = returns_dict and settings.output_scores is not False
        caps = (settings.max_length, settings.max_new_tokens, self.config.max_position_embeddings)
        settings.max_length = min(cap for cap in caps if cap is not None)
        limits = {"max_iterations": MAX_ITERATIONS, "max_length": math.inf}
        for name, limit in {**limits, **dict.fromkeys(self.candidate_knobs, MAX_BEAMS)}.items():
            if getattr(settings, name) < 1:
                raise ValueError(f"`{name}` must be >= 1, got {getattr(settings, name)}.")
            if getattr(settings, name) > limit:
                raise ValueError(f"`{name}` must be <= {limit}, got {getattr(settings, name)}.")
        if self.iteration_limit is not None and settings.max_iterations > self.iteration_limit:
            raise ValueError(
                f"`max_iterations` must be at most {self.iteration_limit} for {type(self).__name__}, "
                f"got {settings.max_iterations}. The model never saw its own output in training."
            )
        return settings

    def require_knobs(
        self, given: Mapping[str, Any], *, language_model: object = None, reranker: object = None
    ) -> None:
        """Raises ValueError unless this model has all of some knobs, and each has an effect with the others.

        Args:
            given (`Mapping[str, Any]`): their values; the model's own hold for the others.
            language_model (*optional*): set where one shall take part in a beam search.
            reranker (*optional*): set where one shall choose among several candidates.
        """
        for name, value in given.items():
            if name not in self.generation_defaults:
                own = sorted(self.generation_defaults)
                raise ValueError(f"`{name}` must be left out for {type(self).__name__}, got {value!r}. It has {own}.")
        settings = self._resolve_settings(None, dict(given))
        if language_model is not None:
            self.require_beam(settings)
        if reranker is not None:
            self._require_candidates(self._num_candidates(settings), "reranker")
        idle = self.idle_knobs(settings)
        if reranker is None and not self.scores_candidates and self._num_candidates(settings) > 1:
            idle |= dict.fromkeys(self.candidate_knobs, "without a `reranker`, as the first candidate is the best")
        for name, value in given.items():
            if name in idle:
                raise ValueError(f"`{name}` must be left out {idle[name]}, got {value!r}.")

    def warm_up(self, given: Mapping[str, Any]) -> None:
        """Does what the first translation would do for all others, with some knobs and the model's own for the others.

        Args:
            given (`Mapping[str, Any]`): values of knobs.
        """

    def _require_candidates(self, num_candidates: int, name: str = "teacher") -> None:
        """Raises ValueError unless there are candidates for a model to choose from."""
        if num_candidates == 1:
            knobs = " or ".join(f"`{knob}`" for knob in self.candidate_knobs)
            remedy = f" Set {knobs}." if knobs else ""
            raise ValueError(f"A `{name}` must have at least 2 candidates to choose from, got 1.{remedy}")

    def idle_knobs(self, settings: SimpleNamespace) -> dict[str, str]:
        """Returns the knobs that change nothing about a translation with these settings, each with the reason.

        Args:
            settings (`SimpleNamespace`): a value for each knob.
        """
        return {}

    def _num_candidates(self, settings: SimpleNamespace) -> int:
        """Returns how many rows a sentence has."""
        return math.prod(getattr(settings, name) for name in self.candidate_knobs)

    def _members(self, ensemble: Sequence[PreTrainedModel]) -> tuple[Any, ...]:
        """Returns the model and the others of its ensemble."""
        if not ensemble:
            return (self,)
        self.require_ensemble(ensemble)
        return (self, *ensemble)

    def require_ensemble(self, ensemble: Sequence[PreTrainedModel]) -> None:
        """Raises ValueError unless models are of this architecture and vocabulary.

        Args:
            ensemble (`Sequence[PreTrainedModel]`): the models.
        """
        own = {name: getattr(self.config, name, None) for name in self.ensemble_fields}
        for member in ensemble:
            other = {name: getattr(member.config, name, None) for name in self.ensemble_fields}
            if other != own:
                raise ValueError(f"The models of an `ensemble` must agree in {own}, got {other}.")

    def require_terms(self) -> None:
        """Raises ValueError unless the architecture can hold the tokens of terms."""
        if not self.holds_terms:
            raise ValueError(
                f"`terms` must be left out for a {type(self).__name__}, which cannot hold tokens of its output. Use a "
                "Levenshtein Transformer or a CMLM."
            )

    def require_teacher(self, teacher: PreTrainedModel, name: str = "teacher") -> None:
        """Raises ValueError unless a model is autoregressive and of this model's vocabulary.

        Args:
            teacher (`PreTrainedModel`): the model that shall choose among candidates.
            name (`str`, *optional*, defaults to `"teacher"`): how the error calls it.
        """
        if isinstance(teacher, NATSettingsMixin):
            raise ValueError(
                f"`{name}` must be autoregressive, got a {type(teacher).__name__}. Use an AT model of the same "
                "vocabulary, such as the student's teacher."
            )
        last_token = self.config.vocab_size - 1
        while last_token in self._special_token_ids():
            last_token -= 1
        vocab_size = text_vocab_size(teacher.config)
        if vocab_size <= last_token or teacher.config.eos_token_id != self.config.eos_token_id:
            raise ValueError(
                f"`{name}` must share the student's vocabulary ({self.config.vocab_size} tokens, EOS "
                f"{self.config.eos_token_id}), got {vocab_size} tokens, EOS "
                f"{teacher.config.eos_token_id}."
            )

    def _searches(self, settings: SimpleNamespace) -> bool:
        """Tells whether these knobs ask for a beam search."""
        return False

    def require_beam(self, settings: SimpleNamespace) -> None:
        """Raises ValueError unless these knobs ask for a search in which a language model can take part.

        Args:
            settings (`SimpleNamespace`): a value for each knob.
        """
        raise ValueError(
            f"`language_model` must be left out for {type(self).__name__}, which has no beam search, got one."
        )

    def _special_token_ids(self) -> list[int]:
        """Returns the ids that never stand in the content of a translation."""
        ids = (
            self.config.pad_token_id,
            self.config.bos_token_id,
            self.config.eos_token_id,
            self.config.mask_token_id,
        )
        return [token_id for token_id in ids if token_id is not None]

    def _forbidden_token_ids(self) -> list[int]:
        """Returns the ids that no place may choose: special ones, but for those that say something there."""
        return self._special_token_ids()

    def _require_vocabulary(self, vocabulary: Any) -> None:
        """Raises ValueError unless a short list returned tokens `[V']` that may be chosen, and those needed."""
        rule, size = "`short_list` must return", self.config.vocab_size
        if not isinstance(vocabulary, torch.Tensor) or vocabulary.dtype != torch.long or vocabulary.dim() != 1:
            raise ValueError(f"{rule} a `torch.LongTensor` of shape (V',), got {vocabulary!r:.80}.")
        ids = vocabulary.tolist()
        if not ids or ids[0] < 0 or ids[-1] >= size or any(after <= before for before, after in pairwise(ids)):
            raise ValueError(f"{rule} at least one token, in rising order, in [0, {size}), got {ids!r:.80}.")
        forbidden = set(self._forbidden_token_ids())
        if found := sorted(forbidden.intersection(ids)):
            raise ValueError(f"{rule} no token that is never written, got {found}. Leave it out.")
        if lacking := sorted(set(self._special_token_ids()) - forbidden - set(ids)):
            raise ValueError(f"{rule} the tokens that {type(self).__name__} cannot do without, got none of {lacking}.")


def _require_kind(name: str, value: Any, default: Any) -> None:
    """Raises ValueError unless the value of a knob, where it has one, is of its default's kind."""
    kind, words = _KINDS.get(type(default), (object, ""))
    # A truth value is a whole number for Python.
    fits = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    if value is not None and not (fits and (kind is not Real or math.isfinite(value))):
        raise ValueError(f"`{name}` must be {words}, got {value!r}.")
