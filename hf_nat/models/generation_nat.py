"""The one refinement loop of all non-autoregressive models.

Dimension letters: B batch, K candidates of a sentence, S source, T target, D model, V vocabulary; R rows of a state:
B * K, candidates of a sentence side by side, less those that finished.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar, Self

import torch
from torch import nn
from transformers import GenerationConfig, PreTrainedModel
from transformers.generation import BaseStreamer
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils import ModelOutput

from .canvas import collapse_repeats, require_right_padding, stable_order
from .losses import chunk_rows
from .shallow_fusion import LanguageModel
from .teacher import start_token_id, text_vocab_size
from .terms import Terms, check_terms


# Arguments of `generate` beside the knobs of an architecture: those of transformers' own, and beam search and sampling
# at the value that switches them off, because `Seq2SeqTrainer` passes it.
_STOCK_KNOBS = ("max_length", "max_new_tokens", "num_return_sequences", "return_dict_in_generate")
_SWITCHED_OFF = {"num_beams": 1, "do_sample": False}
# Most candidates and most rounds: more is a slip that would take memory or hours, and no one ever gained by it.
MAX_BEAMS, MAX_ITERATIONS = 64, 200

# Classes of which the largest is found at once.
_BLOCK = 64


@dataclass(frozen=True)
class NATState:
    """Where decoding stands; an architecture that must remember more adds fields, one row each.

    Args:
        input_ids (`torch.LongTensor` of shape `(R, S)`): source tokens.
        attention_mask (`torch.LongTensor` of shape `(R, S)`): 1 at source tokens.
        members (`tuple` of models): the ensemble, the model itself first.
        encoder_hidden_states (`tuple` of `torch.FloatTensor` of shape `(R, S, D)`): final encoder states of each
            member.
        tokens (`torch.LongTensor` of shape `(R, T)`): canvases: content, EOS, padding.
        scores (`torch.FloatTensor` of shape `(R, T)`): log-probability (nats) of each content token, elsewhere 0.
        finished (`torch.BoolTensor` of shape `(R,)`): True where more rounds would change nothing.
        max_iterations (`int`): rounds allowed.
        synced (`bool`): every round calls the decoder equally often, whatever the rows need.
        with_scores (`bool`): somebody will read the scores; where an architecture does not, they may stay 0.
        vocabulary (`torch.LongTensor` of shape `(V',)`, *optional*): the tokens that may be chosen, in rising order,
            none that an architecture forbids; by default all others.
        iteration (`int`): rounds executed. In a graph this and `max_iterations` are tensors of shape `()`.
        intermediate (`tuple` of `torch.LongTensor`): canvases `(R, T')` that the last round went through before
            `tokens`, for the history.
        terms (`torch.LongTensor` of shape `(R, T)`, *optional*): marks of the terms, see `terms.py`; `None` where no
            sentence has any.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    members: tuple[Any, ...]
    encoder_hidden_states: tuple[torch.Tensor, ...]
    tokens: torch.Tensor
    scores: torch.Tensor
    finished: torch.Tensor
    max_iterations: int
    synced: bool = False
    with_scores: bool = True
    vocabulary: torch.Tensor | None = None
    iteration: int = 0
    intermediate: tuple[torch.Tensor, ...] = ()
    terms: torch.Tensor | None = None

    def select(self, rows: torch.Tensor) -> Self:
        """Returns the state of some rows.

        Args:
            rows (`torch.LongTensor` of shape `(R',)`): indices of the rows.

        Returns:
            [`NATState`]: the smaller state.
        """
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        per_row = {name: value for name, value in values.items() if name != "vocabulary"}
        kept: dict[str, Any] = {
            name: value[rows] for name, value in per_row.items() if isinstance(value, torch.Tensor)
        }
        kept["encoder_hidden_states"] = tuple(states[rows] for states in self.encoder_hidden_states)
        return dataclasses.replace(self, **kept)


@dataclass
class NATGenerateOutput(ModelOutput):
    """Output of `generate` under `return_dict_in_generate=True`.

    Args:
        sequences (`torch.LongTensor` of shape `(B, T)`): content, EOS, padding; no BOS and no mask.
        sequences_scores (`torch.FloatTensor` of shape `(B,)`): mean log-probability (nats) of the content tokens; 0
            for an empty translation.
        token_scores (`torch.FloatTensor` of shape `(B, T)`): log-probability (nats) of each content token; else 0, and
            also at the tokens of terms.
        iterations (`torch.LongTensor` of shape `(B,)`): rounds that were executed for the sentence.
        history (`list[list[torch.LongTensor]]`, *optional*): for each sentence its canvases without padding: the
            initial one, then those of every round; with `return_history=True`.
    """

    sequences: torch.Tensor
    sequences_scores: torch.Tensor = None  # type: ignore[assignment]
    token_scores: torch.Tensor = None  # type: ignore[assignment]
    iterations: torch.Tensor = None  # type: ignore[assignment]
    history: list[list[torch.Tensor]] | None = None


class NATGenerationMixin:
    """Gives a model `generate`: rounds of refinement, early stop, candidates, re-ranking and history.

    The mixin stands before [`NATPreTrainedModel`] among the bases of a model, which supplies `init_state` and
    `refine`. The loop alone counts rounds, drops finished rows and chooses among the candidates of a sentence.
    """

    # The knobs of an architecture and their defaults; `generate` accepts and saves no others.
    generation_defaults: ClassVar[dict[str, Any]] = {
        "max_iterations": 10,
        "collapse_repeats": False,
        "return_history": False,
    }
    # Those of the knobs that count candidates of a sentence.
    candidate_knobs: ClassVar[tuple[str, ...]] = ()
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
    # Whether its rounds leave the tokens of terms as they are.
    holds_terms: ClassVar[bool] = False

    config: Any
    model: Any
    lm_head: Any
    generation_config: GenerationConfig

    def __init__(self, config: Any) -> None:
        super().__init__(config)  # type: ignore[call-arg]
        self.generation_config = GenerationConfig(
            max_length=config.max_position_embeddings,
            pad_token_id=config.pad_token_id,
            bos_token_id=config.bos_token_id,
            eos_token_id=config.eos_token_id,
            **self.generation_defaults,
        )

    def adjust_generation_fn(
        self,
        generation_config: GenerationConfig | None,
        from_auto_class: bool,
        from_pipeline: str | None,
        pretrained_model_name_or_path: str | None,
        trust_remote_code: bool | None = None,
        **kwargs: Any,
    ) -> None:
        """Takes over the saved `generation_config.json`; transformers calls this at the end of `from_pretrained`."""
        if generation_config is None:
            if pretrained_model_name_or_path is None:  # the weights were given, not loaded
                return
            try:
                generation_config = GenerationConfig.from_pretrained(pretrained_model_name_or_path, **kwargs)
            except OSError:
                return
        self.generation_config = generation_config

    def init_state(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        members: tuple[Any, ...],
        encoder_hidden_states: tuple[torch.Tensor, ...],
        settings: SimpleNamespace,
    ) -> NATState:
        """Builds the state before the first round: K rows for each sentence, side by side.

        Args:
            input_ids (`torch.LongTensor` of shape `(B, S)`): source tokens.
            attention_mask (`torch.LongTensor` of shape `(B, S)`): 1 at source tokens.
            members (`tuple` of models): the ensemble, the model itself first.
            encoder_hidden_states (`tuple` of `torch.FloatTensor` of shape `(B, S, D)`): final encoder states of each
                member.
            settings (`SimpleNamespace`): a value for each knob; `max_length` is the longest canvas, in tokens.

        Returns:
            [`NATState`]: the initial state.
        """
        raise NotImplementedError(f"{type(self).__name__} must define `init_state`.")

    def refine(self, state: NATState) -> NATState:
        """Executes one round: a new state with new `tokens`, `scores` and `finished`; `state` stays as it is.

        Args:
            state ([`NATState`]): the state; its `iteration` is the number of rounds before this one.

        Returns:
            [`NATState`]: the state after the round; content without special tokens.
        """
        raise NotImplementedError(f"{type(self).__name__} must define `refine`.")

    def generate(
        self,
        inputs: torch.Tensor | None = None,
        generation_config: GenerationConfig | None = None,
        *,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        teacher: PreTrainedModel | None = None,
        ensemble: Sequence[PreTrainedModel] = (),
        language_model: LanguageModel | None = None,
        terms: Terms | None = None,
        short_list: Callable[[torch.Tensor], torch.Tensor] | None = None,
        synced_gpus: bool | None = None,
        streamer: BaseStreamer | None = None,
        **kwargs: Any,
    ) -> torch.Tensor | NATGenerateOutput:
        """Translates a batch.

        Args:
            inputs (`torch.LongTensor` of shape `(B, S)`, *optional*): source tokens, right-padded, each row with EOS.
            generation_config (`GenerationConfig`, *optional*): knobs, by default the model's.
            input_ids (`torch.LongTensor` of shape `(B, S)`, *optional*): another name of `inputs`.
            attention_mask (`torch.LongTensor` of shape `(B, S)`, *optional*): 1 at tokens, by default everywhere but
                at padding.
            labels (`torch.LongTensor`, *optional*): ignored; `Seq2SeqTrainer` passes them.
            teacher (`PreTrainedModel`, *optional*): autoregressive model of the same vocabulary, in evaluation mode.
                The candidate it finds most probable per token wins, in place of the model's own choice.
            ensemble (`Sequence[PreTrainedModel]`, *optional*): further models of this architecture and vocabulary, in
                evaluation mode. At every step the probabilities of all of them are averaged.
            language_model (`Callable`, *optional*): takes part in the beam search of CTC (`ctc_beam_size`) or of the
                DA-Transformer (`graph_decoding="beam"`), with `lm_weight`. It is called with the ids of a
                translation's first tokens, a `tuple`, and the next id or EOS, and returns a log-probability in nats.
            terms (`Sequence[Sequence[Sequence[int]]]`, *optional*): for each sentence the terms, each as its tokens,
                that its translation holds, whole; a model that inserts keeps their order. Where an architecture
                `holds_terms`.
            short_list (`Callable`, *optional*): called with the sources `(B, S)`, it returns the tokens `(V',)`, in
                rising order, of which alone this batch is translated; those that an architecture cannot do without
                (blank, EOS of insertions) among them. Not with a beam search.
            synced_gpus (`bool`, *optional*): execute `max_iterations` rounds on all rows, so that every process calls
                the model equally often.
            streamer (`BaseStreamer`, *optional*): its `put` gets a list of canvases `(R, T)` of the rows that are
                still refined, on the CPU: the initial ones, then after every round those that it went through and
                the one it ended with.
            **kwargs: knobs of the architecture (`generation_defaults`): `max_iterations` (rounds), `length_beam`
                (candidates, where the model predicts lengths), `num_candidates`, `eos_penalty` and `max_length_ratio`
                (where it inserts tokens), `collapse_repeats` (keep one of equal neighbours), `return_history`; also
                `max_length` and `max_new_tokens`, both caps on T with the smaller in force, `num_return_sequences`
                (the best candidates of a sentence, side by side), and `return_dict_in_generate`. `num_beams` and
                `do_sample` are accepted as 1 and False.

        Returns:
            `torch.LongTensor` of shape `(B, T)`, with `num_return_sequences` as many rows for each sentence: content,
            EOS, padding; or [`NATGenerateOutput`] under `return_dict_in_generate` or `return_history`.

        Raises:
            ValueError: if an argument is unknown, a knob out of range, the source padded on the left, or teacher,
                ensemble, language model, terms or short list do not fit.
        """
        settings = self._resolve_settings(generation_config, kwargs)
        settings.language_model = language_model
        if language_model is not None:
            self.require_beam(settings)
        settings.terms, settings.short_list = terms, short_list
        if short_list is not None and self._searches(settings):
            raise ValueError("`short_list` must be left out with a beam search, got one. Decode greedily.")
        # Sharded parameters that are gathered in inference mode could not be trained any more.
        is_distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        with torch.no_grad() if is_distributed else torch.inference_mode():
            output = self._generate(
                settings, inputs, input_ids, attention_mask, teacher, ensemble, bool(synced_gpus), streamer
            )
        if settings.return_dict_in_generate or settings.return_history:
            return _usable(output)
        return output.sequences.clone()

    def _generate(
        self,
        settings: SimpleNamespace,
        inputs: torch.Tensor | None,
        input_ids: torch.Tensor | None,
        attention_mask: torch.Tensor | None,
        teacher: PreTrainedModel | None,
        ensemble: Sequence[PreTrainedModel],
        synced: bool,
        streamer: BaseStreamer | None,
    ) -> NATGenerateOutput:
        """Does the work of `generate`, whose arguments these are."""
        input_ids = self._only_source(inputs, input_ids)
        attention_mask = self.model.source_mask(input_ids, attention_mask)
        require_right_padding(attention_mask)
        if settings.terms is not None:
            self.require_terms()
            # EOS stands behind them, and a model that inserts reads BOS before them.
            most = min(settings.max_length, self.config.max_position_embeddings - 1) - 1
            check_terms(settings.terms, len(input_ids), self.config.vocab_size, self._special_token_ids(), most)
            if not any(settings.terms):
                settings.terms = None
        members = self._members(ensemble)
        encoder_hidden_states = self._encode(input_ids, attention_mask, members)
        state = self.init_state(input_ids, attention_mask, members, encoder_hidden_states, settings)
        if settings.short_list is not None:
            state = dataclasses.replace(state, vocabulary=settings.short_list(input_ids))
        returns_dict = bool(settings.return_dict_in_generate or settings.return_history)
        with_scores = returns_dict or len(state.tokens) > len(input_ids)
        state = dataclasses.replace(state, synced=synced, with_scores=with_scores)
        output = self._run(state, settings, streamer)
        num_returned = settings.num_return_sequences or 1
        if not 1 <= num_returned <= len(state.tokens) // len(input_ids):
            knobs = " or ".join(f"`{name}`" for name in self.candidate_knobs)
            raise ValueError(
                f"`num_return_sequences` must be in [1, {len(state.tokens) // len(input_ids)}], the candidates of a "
                f"sentence, got {num_returned}." + (f" Set {knobs}." if knobs else "")
            )
        if teacher is not None:
            scores = self._teacher_scores(teacher, input_ids, attention_mask, output.sequences)
            output = self._choose(output, scores.view(len(input_ids), -1), num_returned)
        elif len(state.tokens) > len(input_ids):
            output = self._choose(output, self._candidate_scores(state, output).view(len(input_ids), -1), num_returned)
        return self._trim(output)

    def _encode(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, members: tuple[Any, ...]
    ) -> tuple[torch.Tensor, ...]:
        """Returns the final encoder states `[B, S, D]` of each member."""
        return tuple(member.model.encoder(input_ids, attention_mask).last_hidden_state for member in members)

    def _only_source(self, *sources: torch.Tensor | None) -> torch.Tensor:
        """Returns the source, which was given under one of its names."""
        given = [source for source in sources if source is not None]
        if len(given) != 1:
            raise ValueError(f"Exactly one of `inputs` and `input_ids` must be given, got {len(given)}.")
        return given[0]

    def _resolve_settings(self, generation_config: GenerationConfig | None, kwargs: dict[str, Any]) -> SimpleNamespace:
        """Merges arguments, configuration and defaults, in this order, and checks the knobs."""
        known = {*self.generation_defaults, *_STOCK_KNOBS, *_SWITCHED_OFF}
        unknown = sorted(set(kwargs) - known)
        if unknown:
            raise ValueError(f"`generate` must be called with arguments out of {sorted(known)}, got {unknown}.")
        saved = self.generation_config if generation_config is None else generation_config
        settings = SimpleNamespace(terms=None, short_list=None)
        for name in known:
            candidates = (kwargs.get(name), getattr(saved, name, None), self.generation_defaults.get(name))
            setattr(settings, name, next((value for value in candidates if value is not None), None))
        for name, value in _SWITCHED_OFF.items():
            if getattr(settings, name) not in (None, value):
                raise ValueError(
                    f"`{name}` must be {value} for a non-autoregressive model, got {getattr(settings, name)!r}. "
                    f"Its own arguments are {sorted(self.generation_defaults)}."
                )
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
        if isinstance(teacher, NATGenerationMixin):
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

    def _logits(self, state: NATState, head: str, *args: Any) -> torch.Tensor:
        """Calls the method `head(state, encoder_hidden_states, *args)` of every member: [..., C], averaged."""
        members = zip(state.members, state.encoder_hidden_states, strict=True)
        return average_logits([getattr(member, head)(state, states, *args) for member, states in members])

    def _candidate_scores(self, state: NATState, output: NATGenerateOutput) -> torch.Tensor:
        """Returns scores `[B * K]` to choose a sentence's candidate by; `state` is the one before the first round."""
        return output.sequences_scores

    def _run(
        self, state: NATState, settings: SimpleNamespace, streamer: BaseStreamer | None = None
    ) -> NATGenerateOutput:
        """Refines all rows until they are finished: the loop."""
        pad = self.config.pad_token_id
        rows = torch.arange(len(state.tokens), device=state.tokens.device)
        history = [[row] for row in _unpad(state.tokens, pad)] if settings.return_history else None
        done: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor, int]] = []
        iteration = 0
        if streamer is not None:
            streamer.put([state.tokens.cpu()])
        while len(rows):
            state = self.refine(state)
            iteration += 1
            canvases = (*state.intermediate, state.tokens)
            if streamer is not None:
                streamer.put([canvas.cpu() for canvas in canvases])
            if history is not None:
                for canvas in canvases:
                    for row, tokens in zip(rows.tolist(), _unpad(canvas, pad), strict=True):
                        history[row].append(tokens)
            if iteration == settings.max_iterations:
                done.append((rows, *self._written(state, settings.collapse_repeats), iteration))
                break
            state = dataclasses.replace(state, iteration=iteration, intermediate=())
            if state.synced:
                continue
            # The one question to the device in a round: which rows go on.
            live = (~state.finished).nonzero().squeeze(1)
            if len(live) < len(rows):
                ended = state.finished.nonzero().squeeze(1)
                tokens, scores = self._written(state, settings.collapse_repeats)
                done.append((rows[ended], tokens[ended], scores[ended], iteration))
                rows, state = rows[live], state.select(live)
        if streamer is not None:
            streamer.end()
        return self._gather(done, history, state.with_scores)

    def _written(self, state: NATState, collapse: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the tokens and scores `[R, T]` of rows that are finished."""
        if not collapse:
            return state.tokens, state.scores
        held = None if state.terms is None else state.terms.gt(0)
        return collapse_repeats(state.tokens, state.scores, self.config.pad_token_id, held)

    def _gather(
        self,
        done: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor, int]],
        history: list[list[torch.Tensor]] | None,
        with_scores: bool,
    ) -> NATGenerateOutput:
        """Puts finished rows back in their order and scores them, unless nobody asks."""
        pad = self.config.pad_token_id
        rows, sequences, token_scores, iteration = done[0]
        iterations = torch.full_like(rows, iteration)
        if len(done) > 1:
            num_rows = sum(len(rows) for rows, *_ in done)
            shape = (num_rows, max(tokens.shape[1] for _, tokens, *_ in done))
            sequences, token_scores = sequences.new_full(shape, pad), token_scores.new_zeros(shape)
            iterations = rows.new_zeros(num_rows)
            for rows, tokens, scores, iteration in done:
                sequences[rows, : tokens.shape[1]] = tokens
                token_scores[rows, : tokens.shape[1]] = scores
                iterations[rows] = iteration
        sequences_scores = token_scores[:, 0]
        if with_scores:
            sequences_scores = token_scores.sum(dim=1) / (sequences.ne(pad).sum(dim=1) - 1).clamp(min=1)
        return NATGenerateOutput(
            sequences=sequences,
            sequences_scores=sequences_scores,
            token_scores=token_scores,
            iterations=iterations,
            history=history,
        )

    def _choose(self, output: NATGenerateOutput, scores: torch.Tensor, number: int) -> NATGenerateOutput:
        """Keeps the candidates of each sentence with the best of the scores `[B, K]`, the first of equal ones."""
        num_sentences, num_candidates = scores.shape
        best = stable_order(scores, descending=True)[:, :number]
        rows = (torch.arange(num_sentences, device=scores.device).unsqueeze(1) * num_candidates + best).flatten()
        return NATGenerateOutput(
            sequences=output.sequences[rows],
            sequences_scores=output.sequences_scores[rows],
            token_scores=output.token_scores[rows],
            iterations=output.iterations[rows],
            history=None if output.history is None else [output.history[row] for row in rows.tolist()],
        )

    def _trim(self, output: NATGenerateOutput) -> NATGenerateOutput:
        """Cuts off the columns in which every sentence has padding."""
        width = int(output.sequences.ne(self.config.pad_token_id).any(dim=0).sum())
        if width < output.sequences.shape[1]:
            output.sequences, output.token_scores = output.sequences[:, :width], output.token_scores[:, :width]
        return output

    def _predict(
        self,
        logits: torch.Tensor,
        selected: torch.Tensor,
        tokens: torch.Tensor,
        scores: torch.Tensor,
        vocabulary: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Writes the most probable content token, and its log-probability, at the selected positions.

        Special tokens are no content: they get no probability, in place. Logits are `[N, V]`, all others `[R, T]`;
        with a vocabulary, which holds content alone, they are those of its tokens.
        """
        if vocabulary is None:
            forbid(logits, self._special_token_ids())
        predicted = _argmax(logits)
        words = predicted if vocabulary is None else vocabulary[predicted]
        scores = scores.masked_scatter(selected, _log_prob(logits, predicted))
        return tokens.masked_scatter(selected, words), scores

    def _best_tokens(
        self,
        state: NATState,
        hidden_states: Sequence[torch.Tensor],
        forbidden: Sequence[int],
        with_scores: bool = True,
        num_tokens: int | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Finds the most probable token at the states `[N, D]` of each member, and its log-probability: both `[N]`.

        With `num_tokens` it is so many of them, `[N, num_tokens]`, always with scores. The forbidden ones get no
        probability; where the state has a vocabulary, they must not be in it. The logits of a few rows at a time are
        held. Without scores, these are 0.
        """
        heads = [(member.lm_head.weight, member.lm_head.bias) for member in state.members]
        if state.vocabulary is not None:
            chosen, forbidden = state.vocabulary, ()
            heads = [(weight[chosen], None if bias is None else bias[chosen]) for weight, bias in heads]
        if torch.compiler.is_exporting():
            heads = [_whole_blocks(*head) for head in heads]
        # A graph has no loop over rows that it cannot count.
        num_rows = None if torch.compiler.is_exporting() else chunk_rows(heads[0][0])
        tokens, log_probs = [], []
        for chunks in zip(
            *(states.split(num_rows) if num_rows else [states] for states in hidden_states), strict=True
        ):
            projected = [nn.functional.linear(chunk, *head) for chunk, head in zip(chunks, heads, strict=True)]
            logits = average_logits(projected)
            forbid(logits, forbidden)
            if num_tokens is not None:
                best, predicted = logits.topk(num_tokens, dim=1)
                best = best - logits.logsumexp(dim=1, keepdim=True)
            else:
                predicted = _argmax(logits)
                best = _log_prob(logits, predicted) if with_scores else logits.new_zeros(len(logits))
            tokens.append(predicted)
            log_probs.append(best)
        words = torch.cat(tokens)
        return words if state.vocabulary is None else state.vocabulary[words], torch.cat(log_probs)

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

    def _teacher_scores(
        self, teacher: PreTrainedModel, input_ids: torch.Tensor, attention_mask: torch.Tensor, sequences: torch.Tensor
    ) -> torch.Tensor:
        """Returns the teacher's mean log-probability per token, EOS counted, of candidates `[B * K, T]`: `[B * K]`."""
        self.require_teacher(teacher)
        num_candidates = len(sequences) // len(input_ids)
        if num_candidates == 1:
            knobs = " or ".join(f"`{name}`" for name in self.candidate_knobs)
            raise ValueError(f"A `teacher` must have at least 2 candidates to choose from, got 1. Set {knobs}.")
        encoded = teacher.get_encoder()(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        start = sequences.new_full((len(sequences), 1), start_token_id(teacher))
        logits = teacher(
            encoder_outputs=BaseModelOutput(encoded.repeat_interleave(num_candidates, dim=0)),
            attention_mask=attention_mask.repeat_interleave(num_candidates, dim=0),
            decoder_input_ids=torch.cat([start, sequences[:, :-1]], dim=1),
            use_cache=False,
        ).logits.float()
        is_token = sequences.ne(self.config.pad_token_id)
        targets = sequences.masked_fill(~is_token, 0)
        log_probs = logits.gather(2, targets.unsqueeze(2)).squeeze(2) - logits.logsumexp(dim=2)
        return log_probs.masked_fill(~is_token, 0.0).sum(dim=1) / is_token.sum(dim=1)


def _argmax(logits: torch.Tensor) -> torch.Tensor:
    """Returns the class `[N]` of the largest of the logits `[N, C]`, the first of equal ones.

    A maximum without its place is several times as fast, so it is looked for in blocks first.
    """
    num_classes = logits.shape[1]
    if not isinstance(num_classes, int) or num_classes % _BLOCK:
        return logits.argmax(dim=1)
    blocks = logits.view(-1, num_classes // _BLOCK, _BLOCK)
    block = blocks.amax(dim=2).argmax(dim=1)
    inside = blocks.gather(1, block.view(-1, 1, 1).expand(-1, 1, _BLOCK)).squeeze(1).argmax(dim=1)
    return block * _BLOCK + inside


def _whole_blocks(weight: torch.Tensor, bias: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Appends classes without probability to a head `[C, D]`, `[C]`, up to whole blocks, where C is known."""
    num_classes = weight.shape[0]  # `len` would want a number
    missing = -num_classes % _BLOCK if isinstance(num_classes, int) else 0
    if not missing:
        return weight, bias
    bias = weight.new_zeros(num_classes) if bias is None else bias
    return (
        nn.functional.pad(weight, (0, 0, 0, missing)),
        nn.functional.pad(bias, (0, missing), value=float("-inf")),
    )


def _log_prob(logits: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Returns log-probabilities `[N]` of classes `[N]`, given logits `[N, C]`; faster in a graph than `logsumexp`."""
    return logits.softmax(dim=1).gather(1, classes.unsqueeze(1)).squeeze(1).log()


def forbid(logits: torch.Tensor, token_ids: Sequence[int]) -> None:
    """Takes all probability from some tokens, in place and without a tensor of their ids.

    Args:
        logits (`torch.FloatTensor` of shape `(..., V)`): unnormalised scores.
        token_ids (`Sequence[int]`): the tokens.
    """
    for token_id in token_ids:
        logits[..., token_id] = float("-inf")


def project(head: nn.Linear, hidden_states: torch.Tensor, vocabulary: torch.Tensor | None) -> torch.Tensor:
    """Scores the tokens that may be chosen.

    Args:
        head (`nn.Linear`): the output projection, from D to V.
        hidden_states (`torch.FloatTensor` of shape `(..., D)`): decoder states.
        vocabulary (`torch.LongTensor` of shape `(V',)`, *optional*): the tokens, by default all.

    Returns:
        `torch.FloatTensor` of shape `(..., V')`: unnormalised scores.
    """
    if vocabulary is None:
        return head(hidden_states)
    bias = None if head.bias is None else head.bias[vocabulary]
    return nn.functional.linear(hidden_states, head.weight[vocabulary], bias)


def average_logits(logits: list[torch.Tensor]) -> torch.Tensor:
    """Averages the probabilities of an ensemble.

    Args:
        logits (`list` of `torch.FloatTensor` of shape `(..., C)`): unnormalised scores, one tensor for each member.

    Returns:
        `torch.FloatTensor` of shape `(..., C)`: unnormalised scores in single precision; those of a single member,
        otherwise the logarithms of the mean probabilities.
    """
    if len(logits) == 1:
        return logits[0].float()
    log_probs = torch.stack([scores.float().log_softmax(dim=-1) for scores in logits])
    return log_probs.logsumexp(dim=0) - math.log(len(logits))


def _usable(output: NATGenerateOutput) -> NATGenerateOutput:
    """Copies an output of inference mode to tensors that training may use."""
    tensors = {name: value.clone() for name, value in output.items() if isinstance(value, torch.Tensor)}
    history = output.history and [[canvas.clone() for canvas in canvases] for canvases in output.history]
    return NATGenerateOutput(**tensors, history=history)


def _unpad(canvas: torch.Tensor, pad_token_id: int) -> list[torch.Tensor]:
    """Returns copies of the rows of a canvas without their padding."""
    lengths = canvas.ne(pad_token_id).sum(dim=1).tolist()
    return [row[:length].clone() for row, length in zip(canvas, lengths, strict=True)]
