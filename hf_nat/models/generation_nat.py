"""The one refinement loop of all non-autoregressive models.

Dimension letters: B batch, K candidates of a sentence, S source, T target, D model, V vocabulary; R rows of a state:
B * K, candidates of a sentence side by side, less those that finished.
"""

import dataclasses
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedModel
from transformers.generation import BaseStreamer

from .canvas import compact, first_of_runs, require_right_padding
from .generation_output import NATGenerateOutput, choose_candidates, gather_rows, trim, usable
from .generation_settings import NATSettingsMixin
from .generation_state import NATState
from .shallow_fusion import LanguageModel
from .teacher import teacher_scores
from .terms import Terms, check_continuations, check_terms, glued_to_terms
from .word_choice import average_logits


class NATGenerationMixin(NATSettingsMixin):
    """Gives a model `generate`: rounds of refinement, early stop, candidates, re-ranking and history.

    The mixin stands before [`NATPreTrainedModel`] among the bases of a model, which supplies `init_state` and
    `refine`. The loop alone counts rounds, drops finished rows and chooses among the candidates of a sentence.
    """

    model: Any
    lm_head: Any

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
        continuations: torch.Tensor | None = None,
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
                translation's first tokens, a `tuple`, and the next id or EOS, and returns a log-probability in nats,
                at most 0. CTC asks its attribute `automaton` instead, a [`NGramAutomaton`], if it has one: compiled,
                where numba is installed.
            terms (`Sequence[Sequence[Sequence[int]]]`, *optional*): for each sentence the terms, each as its tokens,
                that its translation holds, whole; a model that inserts keeps their order. Where an architecture
                `holds_terms`.
            continuations (`torch.BoolTensor` of shape `(V,)`, *optional*): with `terms`, True at the tokens that go on
                with the word before them, none of which then stands right behind a term.
            short_list (`Callable`, *optional*): called with the sources `(B, S)`, it returns the tokens `(V',)`, in
                rising order, of which alone this batch is translated; those that an architecture cannot do without
                (blank, EOS of insertions) among them.
            synced_gpus (`bool`, *optional*): execute `max_iterations` rounds on all rows, so that every process calls
                the model equally often.
            streamer (`BaseStreamer`, *optional*): its `put` gets a list of canvases `(R, T)` of the rows that are
                still refined, on the CPU: the initial ones, then after every round those that it went through and
                the one it ended with.
            **kwargs: knobs of the architecture (`generation_defaults`): `max_iterations` (rounds), `length_beam`
                (candidates, where the model predicts lengths), `num_candidates`, `eos_penalty` and `max_length_ratio`
                (where it inserts tokens), `collapse_repeats` (keep one of equal neighbours), `return_history`; also
                `max_length` and `max_new_tokens`, both caps on T with the smaller in force, `num_return_sequences`
                (the best candidates of a sentence, side by side), and `return_dict_in_generate`, with
                `output_scores=False` without scores. `num_beams` and `do_sample` are accepted as 1 and False.

        Returns:
            `torch.LongTensor` of shape `(B, T)`, with `num_return_sequences` as many rows for each sentence: content,
            EOS, padding; or [`NATGenerateOutput`] under `return_dict_in_generate` or `return_history`.

        Raises:
            ValueError: if an argument is unknown, a knob out of range, the source padded on the left, or teacher,
                ensemble, language model, terms or short list do not fit.
        """
        input_ids = self._only_source(inputs, input_ids)
        settings = self._resolve_settings(generation_config, kwargs)
        settings.language_model = language_model
        if language_model is not None:
            self.require_beam(settings)
            if not callable(language_model):
                raise ValueError(
                    "`language_model` must be a function of prefix and token, such as `NGramLanguageModel(path, "
                    f"tokenizer)`, got {language_model!r:.60}."
                )
        settings.terms, settings.continuations, settings.short_list = terms, continuations, short_list
        if short_list is not None and not callable(short_list):
            raise ValueError(f"`short_list` must be a function of the sources, got a {type(short_list).__name__}.")
        # Sharded parameters that are gathered in inference mode could not be trained any more.
        is_distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        with torch.no_grad() if is_distributed else torch.inference_mode():
            attention_mask = self.model.source_mask(input_ids, attention_mask)
            require_right_padding(attention_mask)
            output = self._generate(
                settings, input_ids, attention_mask, teacher, ensemble, bool(synced_gpus), streamer
            )
        if settings.return_dict_in_generate or settings.return_history:
            return usable(output, settings.output_scores)
        return output.sequences.clone()

    def _generate(
        self,
        settings: SimpleNamespace,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        teacher: PreTrainedModel | None,
        ensemble: Sequence[PreTrainedModel],
        synced: bool,
        streamer: BaseStreamer | None,
    ) -> NATGenerateOutput:
        """Does the work of `generate`, whose arguments these are."""
        if settings.terms is not None:
            self.require_terms()
            # EOS stands behind them, and a model that inserts reads BOS before them.
            most = min(settings.max_length, self.config.max_position_embeddings - 1) - 1
            check_terms(settings.terms, len(input_ids), self.config.vocab_size, self._special_token_ids(), most)
            if not any(settings.terms):
                settings.terms = None
        elif settings.continuations is not None:
            raise ValueError("`continuations` must come with `terms`, got them alone. Leave them out.")
        members = self._members(ensemble)
        encoder_hidden_states = self._encode(input_ids, attention_mask, members)
        state = self.init_state(input_ids, attention_mask, members, encoder_hidden_states, settings)
        if settings.terms is not None and settings.continuations is not None:
            special = self._special_token_ids()
            continuations = check_continuations(
                settings.continuations, self.config.vocab_size, special, input_ids.device
            )
            state = dataclasses.replace(state, continuations=continuations)
        if settings.short_list is not None:
            vocabulary = settings.short_list(input_ids)
            self._require_vocabulary(vocabulary)
            state = dataclasses.replace(state, vocabulary=vocabulary)
        with_scores = settings.output_scores or len(state.tokens) > len(input_ids)
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
            output = choose_candidates(output, scores.view(len(input_ids), -1), num_returned)
        elif len(state.tokens) > len(input_ids):
            output = choose_candidates(
                output, self._candidate_scores(state, output).view(len(input_ids), -1), num_returned
            )
        return trim(output, self.config.pad_token_id)

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

    def _logits(self, state: NATState, head: str, *args: Any) -> torch.Tensor:
        """Calls the method `head(state, encoder_hidden_states, *args)` of every member: [..., C], averaged."""
        members = zip(state.members, state.encoder_hidden_states, strict=True)
        return average_logits([getattr(member, head)(state, states, *args) for member, states in members])

    def _states_at(self, state: NATState, selected: torch.Tensor, *args: Any) -> list[torch.Tensor]:
        """Returns the final decoder states `[N, D]` of each member at the selected positions `[R, T]` of a canvas."""
        members = zip(state.members, state.encoder_hidden_states, strict=True)
        return [member.canvas_states(state, states, *args)[selected] for member, states in members]

    def _candidate_scores(self, state: NATState, output: NATGenerateOutput) -> torch.Tensor:
        """Returns scores `[B * K]` to choose a sentence's candidate by; `state` is the one before the first round.

        Terms have no score: where there are any, it is the mean over what stands beside them, and a candidate of terms
        alone is the last choice.
        """
        if state.terms is None:
            return output.sequences_scores
        num_held = state.terms.gt(0).sum(dim=1)
        num_free = output.sequences.ne(self.config.pad_token_id).sum(dim=1) - 1 - num_held
        scores = output.token_scores.sum(dim=1) / num_free.clamp(min=1)
        scores = scores.masked_fill(num_free.lt(1), float("-inf"))
        return torch.where(num_held.gt(0), scores, output.sequences_scores)

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
        output = gather_rows(done, history, state.with_scores, pad)
        output.sequences_log_probs = state.log_probs
        return output

    def _written(self, state: NATState, collapse: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the tokens and scores `[R, T]` of rows that are finished."""
        if not collapse:
            return state.tokens, state.scores
        keep = first_of_runs(state.tokens)
        if state.terms is not None:
            keep |= state.terms.gt(0)
            if state.continuations is not None:
                keep &= ~glued_to_terms(state.tokens, state.terms, keep, state.continuations)
        return compact(state.tokens, state.scores, keep, self.config.pad_token_id)

    def _teacher_scores(
        self, teacher: PreTrainedModel, input_ids: torch.Tensor, attention_mask: torch.Tensor, sequences: torch.Tensor
    ) -> torch.Tensor:
        """Returns the scores `[B * K]` that a teacher gives candidates `[B * K, T]`."""
        self.require_teacher(teacher)
        self._require_candidates(len(sequences) // len(input_ids))
        return teacher_scores(teacher, input_ids, attention_mask, sequences, self.config.pad_token_id)


def _unpad(canvas: torch.Tensor, pad_token_id: int) -> list[torch.Tensor]:
    """Returns copies of the rows of a canvas without their padding."""
    lengths = canvas.ne(pad_token_id).sum(dim=1).tolist()
    return [row[:length].clone() for row, length in zip(canvas, lengths, strict=True)]
