"""How a model decodes: the options that every command which decodes has."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, cast

from transformers import PreTrainedModel

from ..config import option
from ..models import NATPreTrainedModel
from .loading import decoding_expert, load_model


@dataclass
class DecodingArguments:
    """How a model decodes: the options of `hf-nat translate` and `hf-nat evaluate`.

    Raises:
        ValueError: if a size is below 1.
    """

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
    graph_decoding: str | None = option(None, "DA-Transformer: greedy, lookahead or viterbi")
    viterbi_length_penalty: float | None = option(
        None, "DA-Transformer: path scores / tokens ** viterbi_length_penalty"
    )
    collapse_repeats: bool | None = option(None, "NAT model: keep the first of equal neighbours")
    reranker: str | None = option(None, "NAT model: AT model that chooses among the candidates, a folder or Hub id")
    ensemble: list[str] | None = option(None, "NAT model: further models whose probabilities are averaged with it")

    def __post_init__(self) -> None:
        for name in ("max_batch_tokens", "num_beams"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be >= 1, got {getattr(self, name)}.")

    def options(self, model: PreTrainedModel) -> dict[str, Any]:
        """Returns the options that bear on `model` as a run records them, unset ones left out.

        Raises:
            ValueError: if an option of the other kind of model is set, or there is no such expert.
        """
        expert = decoding_expert(model, self.expert)
        at_options = ("max_batch_tokens", "num_beams", "length_penalty", "expert")
        nat_options = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in at_options}
        given = {key: value for key, value in nat_options.items() if value is not None}
        if isinstance(model, NATPreTrainedModel):
            if self.num_beams != 1:
                knobs = " or ".join(f"`{knob}`" for knob in cast(Any, model).candidate_knobs)
                raise ValueError(f"`num_beams` must be 1 for a NAT model, got {self.num_beams}. Use {knobs}.")
            return given
        for key, value in given.items():
            raise ValueError(f"`{key}` must be left out for an autoregressive model, got {value!r}.")
        beam: dict[str, Any] = {"num_beams": 1}
        if self.num_beams > 1:
            beam = {"num_beams": self.num_beams, "length_penalty": self.length_penalty, "early_stopping": True}
        return beam | ({} if expert is None else {"expert": expert})

    def generate_kwargs(self, model: PreTrainedModel) -> dict[str, Any]:
        """Returns the arguments of `translate` for `model`; a re-ranking teacher and an ensemble are loaded."""
        kwargs = {"max_batch_tokens": self.max_batch_tokens, **self.options(model)}
        if reranker := kwargs.pop("reranker", None):
            kwargs["teacher"] = load_model(reranker)[0]
        if ensemble := kwargs.pop("ensemble", None):
            kwargs["ensemble"] = [load_model(member)[0] for member in ensemble]
        if not isinstance(model, NATPreTrainedModel):
            kwargs["do_sample"] = False
        return kwargs
