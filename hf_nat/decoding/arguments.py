"""How a model decodes: the options that every command which decodes has."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..base.bounds import require_choice, require_number
from ..base.config import option, refuse_changed
from ..data.pretrained import remote_code
from ..data.tokenizer import load_tokenizer
from ..models import NATPreTrainedModel
from ..models.generation_settings import MAX_BEAMS, MAX_ITERATIONS
from .drafting import Draft
from .exported import PRECISIONS
from .language_model import LANGUAGE_MODEL_FILE, NGramLanguageModel
from .loading import check_source_prefix, decoding_expert, load_model, require_target_language, set_languages
from .sessions import BACKENDS
from .terms import TermList
from .translator import require_terms


_DRAFT_OPTIONS = ("draft_length", "draft_beta", "draft_tau")
# Options that name other models, or files, that take part.
TAKING_PART = ("reranker", "draft", "ensemble", "language_model", "terms")
_AT_OPTIONS = ("max_batch_tokens", "num_beams", "length_penalty", "expert", "draft", "backend", "quantize", "threads")
# What may be read of the folder of a model.
_READ = (
    *("*.json", "*.safetensors", "*.bin", "*.py", "*.spm", "*.model", "vocab.*", "merges.txt", "onnx/*"),
    LANGUAGE_MODEL_FILE,
)
# The power of a length that no number can hold is beyond it.
MAX_PENALTY = 100
# More than any machine has; with some millions libraries end the process without a word.
_MAX_THREADS = 1024


@dataclass(frozen=True, kw_only=True)
class LoadingArguments:
    """How a model is loaded, and what it is told of the languages."""

    source_prefix: str | None = option(
        None, "text put before every source: T5's task, or `>>deu<<` for Marian", may_be_empty=True
    )
    model_source_lang: str | None = option(
        None, "multilingual model: its code of the source language (eng_Latn)", aliases=["--teacher_source_lang"]
    )
    model_target_lang: str | None = option(
        None, "multilingual model: its code of the target language (deu_Latn)", aliases=["--teacher_target_lang"]
    )
    trust_remote_code: bool = option(False, "execute the Python files that a model of an unknown architecture brings")

    def load_model(
        self, path: str | Path, *, revision: str | None = None, parameter: str = "model"
    ) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """Loads a model and its tokenizer, set to the languages.

        Args:
            path (`str` or `Path`): folder of a checkpoint, or a Hub id.
            revision (`str`, *optional*): branch, tag or commit on the Hub.
            parameter (`str`, *optional*, defaults to `"model"`): name of the option that gave the path, for errors.

        Raises:
            OSError: as `load_model`.
            ValueError: as `load_model` and `prepare`.
        """
        options: dict[str, Any] = {
            "revision": revision,
            "parameter": parameter,
            "trust_remote_code": self.trust_remote_code,
        }
        loaded = load_model(path, **options, **self.runtime_options)
        self.prepare(*loaded, parameter=parameter)
        return loaded

    def prepare(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, parameter: str = "model") -> None:
        """Sets a model and its tokenizer to the languages; `parameter` is as `load_model` takes it.

        Raises:
            ValueError: if the tokenizer has no such language, the prefix names none that it knows, or a multilingual
                model has no target language.
        """
        set_languages(model, tokenizer, self.model_source_lang, self.model_target_lang)
        require_target_language(model, tokenizer, parameter)
        check_source_prefix(tokenizer, self.source_prefix)

    def code_record(self, path: str | Path, revision: str | None = None) -> dict[str, Any]:
        """Returns, where the code of a model is trusted, an entry of a record that says which code that was."""
        return {"remote_code": remote_code(path, revision)} if self.trust_remote_code else {}

    @property
    def runtime_options(self) -> dict[str, Any]:
        """What decodes, where that is not torch as it is."""
        return {}

    @property
    def input_options(self) -> dict[str, str]:
        """What the model is told of the languages, as a run records it; unset ones left out."""
        names = ("source_prefix", "model_source_lang", "model_target_lang")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


@dataclass(frozen=True)
class DecodingArguments(LoadingArguments):
    """How a model decodes: the options of `hf-nat translate` and `hf-nat evaluate`.

    Raises:
        ValueError: if a number is out of its range, or an option has no effect with the others.
    """

    backend: str = option(
        "torch", "what decodes: torch; onnx (ONNX Runtime) or openvino, for a folder that `hf-nat export` made"
    )
    quantize: str | None = option(None, "onnx: int8 for the graph with weights in 8 bits")
    threads: int | None = option(None, "threads of one call; default: torch's setting (OMP_NUM_THREADS)")
    max_batch_tokens: int = option(4096, "source tokens per batch, padding counted")
    num_beams: int = option(1, "AT model: beam size; 1 is greedy")
    length_penalty: float = option(1.0, "AT model: beam scores are divided by length ** length_penalty")
    expert: int | None = option(None, "mixture of experts: the one that decodes, from 0; default: the checkpoint's")
    max_iterations: int | None = option(None, "NAT model: refinement rounds; default: the checkpoint's")
    length_beam: int | None = option(None, "NAT model with a length predictor: lengths tried in parallel")
    num_candidates: int | None = option(None, "NAT model that inserts, DA-Transformer: candidates of a sentence")
    num_samples: int | None = option(None, "FlowSeq: latent samples of each length")
    latent_temperature: float | None = option(None, "FlowSeq: standard deviation of the samples but the first")
    eos_penalty: float | None = option(None, "NAT model that inserts: what inserting nothing loses, in nats")
    max_length_ratio: float | None = option(None, "NAT model that inserts: target tokens per source token, at most")
    ctc_beam_size: int | None = option(None, "CTC: hypotheses of the prefix beam search; 1 takes the best path")
    ctc_length_bonus: float | None = option(None, "CTC: what each token adds to a hypothesis of the beam, in nats")
    graph_decoding: str | None = option(None, "DA-Transformer: greedy, lookahead, viterbi or beam")
    viterbi_length_penalty: float | None = option(
        None, "DA-Transformer: path scores / tokens ** viterbi_length_penalty"
    )
    graph_beam_size: int | None = option(None, "DA-Transformer, beam: hypotheses of a length")
    graph_beam_length_penalty: float | None = option(
        None, "DA-Transformer, beam: scores / tokens ** graph_beam_length_penalty, EOS counted"
    )
    language_model: str | None = option(
        None, "CTC or DA-Transformer with a beam: n-gram model of the tokenizer's pieces; file, or model with one"
    )
    lm_weight: float | None = option(None, "the same: factor of the language model's log-probabilities")
    collapse_repeats: bool | None = option(None, "NAT model: keep the first of equal neighbours")
    reranker: str | None = option(None, "NAT model: AT model that chooses among the candidates, a folder or Hub id")
    terms: str | None = option(
        None, "LevT, CMLM: file of source term, tab, target term; the translation of a source holds its terms"
    )
    draft: str | None = option(
        None, "AT model: NAT model whose drafts it verifies, a folder or Hub id; the output stays the greedy one"
    )
    draft_length: int | None = option(None, "draft: most tokens that one call of the AT model verifies; default: 25")
    draft_beta: int | None = option(
        None, "draft: accept a token among the AT model's so many best; default: 1, its own choice alone"
    )
    draft_tau: float | None = option(
        None, "draft: and within so many nats of the best, where draft_beta is not 1; default: 1.0"
    )
    ensemble: list[str] | None = option(None, "NAT model: further models whose probabilities are averaged with it")

    def __post_init__(self) -> None:
        require_choice("backend", self.backend, BACKENDS)
        if self.quantize is not None:
            require_choice("quantize", self.quantize, PRECISIONS)
        limits: dict[str, int | None] = {"threads": _MAX_THREADS, "max_iterations": MAX_ITERATIONS}
        beams = ("num_beams", "length_beam", "num_candidates", "num_samples", "ctc_beam_size", "graph_beam_size")
        limits |= dict.fromkeys(beams, MAX_BEAMS)
        limits |= dict.fromkeys(("max_batch_tokens", "draft_length", "draft_beta"))
        for name, limit in limits.items():
            require_number(name, getattr(self, name), least=1, most=limit)
        require_number("draft_tau", self.draft_tau, least=0)
        penalties = ("length_penalty", "viterbi_length_penalty", "graph_beam_length_penalty")
        for name in (*penalties, "eos_penalty", "ctc_length_bonus"):
            require_number(name, getattr(self, name), least=-MAX_PENALTY, most=MAX_PENALTY)
        for name in ("latent_temperature", "lm_weight"):
            require_number(name, getattr(self, name), least=0, most=MAX_PENALTY)
        require_number("max_length_ratio", self.max_length_ratio, above=0)
        self._refuse_ignored()

    def _refuse_ignored(self) -> None:
        if self.draft is None:
            refuse_changed(self, _DRAFT_OPTIONS, "without `draft`", "Give `draft` a NAT model.")
        elif self.num_beams > 1:
            raise ValueError(f"`num_beams` must be 1 with `draft`, got {self.num_beams}. Greedy output is verified.")
        if self.draft_beta in (None, 1):
            where = "where `draft_beta` is 1"
            refuse_changed(self, ("draft_tau",), where, "Give `draft_beta`, such as 3.")
        if self.num_beams == 1:
            refuse_changed(self, ("length_penalty",), "without a beam", "Give `num_beams`, such as 5.")
        if self.language_model is None:
            refuse_changed(self, ("lm_weight",), "without `language_model`")
        if self.graph_decoding == "beam":
            refuse_changed(self, ("viterbi_length_penalty",), "with `graph_decoding: beam`")
        if self.graph_decoding not in (None, "beam"):
            of_beam = ("graph_beam_size", "graph_beam_length_penalty")
            refuse_changed(self, of_beam, f"with `graph_decoding: {self.graph_decoding}`")
        if self.ctc_beam_size == 1:
            refuse_changed(self, ("ctc_length_bonus",), "with `ctc_beam_size: 1`, the best path")

    def files(self, model: str) -> list[str]:
        """Returns the files that are read: those of this model and of the others here, term lists and the like."""
        folders = [model, *(self.ensemble or ()), *self._given("reranker", "draft", "language_model").values()]
        found = (str(path) for folder in folders for pattern in _READ for path in Path(folder).glob(pattern))
        return [*(path for path in (self.terms, self.language_model) if path is not None), *found]

    def _given(self, *names: str) -> dict[str, Any]:
        """Returns those of some options that are set."""
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    @property
    def runtime_options(self) -> dict[str, Any]:
        """What decodes, as `load_model` takes it; unset ones left out."""
        given = {"quantize": self.quantize, "threads": self.threads}
        backend = {} if self.backend == "torch" else {"backend": self.backend}
        return backend | {name: value for name, value in given.items() if value is not None}

    def options(self, model: PreTrainedModel) -> dict[str, Any]:
        """Returns the options that bear on `model` as a run records them, unset ones left out.

        Raises:
            ValueError: if an option of the other kind of model is set, or one without effect, or there is no such
                expert.
        """
        expert = decoding_expert(model, self.expert)
        draft, given = self._given("draft", *_DRAFT_OPTIONS), self._nat_options
        if isinstance(model, NATPreTrainedModel):
            if self.num_beams != 1:
                knobs = " or ".join(f"`{knob}`" for knob in cast(Any, model).candidate_knobs)
                raise ValueError(f"`num_beams` must be 1 for a NAT model, got {self.num_beams}. Use {knobs}.")
            if draft:
                raise ValueError(
                    f"`draft` must be left out for a NAT model, got {self.draft!r}. Use an AT model, which verifies."
                )
            # Of a weight without a beam, the beam is what is missing.
            of_beam = () if self.lm_weight is None else ("language_model",)
            cast(Any, model).require_knobs(self.knobs, **self._given("reranker", *of_beam))
            return given
        for key, value in given.items():
            if draft and key not in ("reranker", "ensemble", "terms"):
                continue  # The student's.
            raise ValueError(f"`{key}` must be left out for an autoregressive model, got {value!r}.")
        beam: dict[str, Any] = {"num_beams": 1}
        if self.num_beams > 1:
            beam = {"num_beams": self.num_beams, "length_penalty": self.length_penalty, "early_stopping": True}
        return beam | ({} if expert is None else {"expert": expert}) | draft | given

    @property
    def _nat_options(self) -> dict[str, Any]:
        """The options of a NAT model that are set."""
        others = {*_AT_OPTIONS, *_DRAFT_OPTIONS, *(field.name for field in fields(LoadingArguments))}
        return self._given(*(field.name for field in fields(self) if field.name not in others))

    @property
    def knobs(self) -> dict[str, Any]:
        """The knobs of a NAT model that are set: its options but for files and other models."""
        return {name: value for name, value in self._nat_options.items() if name not in TAKING_PART}

    def generate_kwargs(self, model: PreTrainedModel) -> dict[str, Any]:
        """Returns the arguments of `translate` for `model`; the other models that take part are loaded.

        Raises:
            OSError: if a file is missing.
            ValueError: as `options`, and if one of those models cannot work with `model`.
        """
        kwargs = {"max_batch_tokens": self.max_batch_tokens, **self.options(model)}
        if self.source_prefix is not None:
            kwargs["source_prefix"] = self.source_prefix
        trust: dict[str, Any] = {"trust_remote_code": self.trust_remote_code}
        beside: dict[str, Any] = {**trust, "device": model.device}  # An exported model is on the CPU.
        if reranker := kwargs.pop("reranker", None):
            kwargs["teacher"] = load_model(reranker, parameter="reranker", **beside)[0]
            cast(Any, model).require_teacher(kwargs["teacher"], "reranker")
        if ensemble := kwargs.pop("ensemble", None):
            kwargs["ensemble"] = [load_model(member, parameter="ensemble", **beside)[0] for member in ensemble]
            cast(Any, model).require_ensemble(kwargs["ensemble"])
        if language_model := kwargs.pop("language_model", None):
            tokenizer = load_tokenizer(cast(str, model.name_or_path), **trust)
            kwargs["language_model"] = NGramLanguageModel(language_model, tokenizer)
            if isinstance(model, NATPreTrainedModel):
                cast(Any, model).require_knobs(self.knobs, language_model=language_model)
        if terms := kwargs.pop("terms", None):
            require_terms(model)
            kwargs["terms"] = TermList.read(terms)
        if isinstance(model, NATPreTrainedModel):
            cast(Any, model).warm_up(self.knobs)
        else:
            kwargs["do_sample"] = False
        if draft := kwargs.pop("draft", None):
            settings = {key.removeprefix("draft_"): kwargs.pop(key) for key in _DRAFT_OPTIONS if key in kwargs}
            knobs = {key: kwargs.pop(key) for key in self._nat_options}
            student = load_model(draft, parameter="draft", **beside)[0]
            if isinstance(student, NATPreTrainedModel):
                cast(Any, student).require_knobs(self.knobs, **self._given("language_model"))
            kwargs["draft"] = Draft(student, generate_kwargs=knobs, **settings)
            kwargs["draft"].require_teacher(model)
        return kwargs
