"""The Levenshtein Transformer: rounds of deleting tokens, inserting placeholders and writing words over them.

Dimension letters: B batch, S source, T target, D model, P placeholder classes, V vocabulary; R rows of a decoding
state, N masks. A canvas `y1 .. yn </s>` has as many slots as tokens: slot t lies before token t. The decoder reads it
behind BOS.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any, Literal, Self, cast

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils import can_return_tuple

from .canvas import cap_counts, compact, content_mask, insert_masks, prepend, resize, slot_states, stable_order
from .configuration_levenshtein_transformer import LevenshteinTransformerConfig
from .generation_insertion import InsertionNATGenerationMixin, InsertionState
from .levenshtein_edits import insertion_counts, kept_tokens
from .losses import cross_entropy, linear_cross_entropy, token_weights
from .modeling_nat import NATDecoder, NATModel, NATPreTrainedModel, NATSeq2SeqLMOutput
from .noise import TargetNoise, random_keep
from .selection import selected_positions, take
from .terms import TERM_INSIDE, behind_terms, forbid_continuations, glued_to_terms, term_canvas, term_counts
from .word_choice import choose_words, project, write_words


_Head = Literal["deletion", "placeholder", "word"]


@dataclass
class LevenshteinTransformerOutput(NATSeq2SeqLMOutput):
    """Output of [`LevenshteinTransformerForConditionalGeneration`]; see [`NATSeq2SeqLMOutput`] for the other fields.

    Args:
        placeholder_logits (`torch.FloatTensor` of shape `(B, T, P)`, *optional*): unnormalised scores of the numbers
            of placeholders for the slots.
        deletion_logits (`torch.FloatTensor` of shape `(B, T, 2)`, *optional*): unnormalised scores of keeping and of
            deleting the tokens.
    """

    placeholder_logits: torch.Tensor | None = None
    deletion_logits: torch.Tensor | None = None


@dataclass(frozen=True)
class _RollIn:
    """What the heads learn from `labels` `[B, T]`, of which some tokens are missing.

    `insertion_canvas` and `counts` `[B, T']`: the targets without these tokens, and how many go before each token.
    `missing` `[B, T]`: True at these tokens. `positions` `[N]`: where that is. `word_canvas` `[B, T]`: the targets
    with masks in their place. `is_initial` `[B, 1]`: True where deletion is learnt on the empty canvas, not on the
    written words. `uniforms` `[N]`: numbers to draw the words with, or `None` to take the most probable ones.
    """

    labels: torch.Tensor
    insertion_canvas: torch.Tensor
    counts: torch.Tensor
    missing: torch.Tensor
    positions: torch.Tensor
    word_canvas: torch.Tensor
    is_initial: torch.Tensor
    uniforms: torch.Tensor | None


class LevenshteinTransformerForConditionalGeneration(InsertionNATGenerationMixin, NATPreTrainedModel):
    """Levenshtein Transformer with heads for deletion, placeholders and words.

    Args:
        config ([`LevenshteinTransformerConfig`]): configuration.

    Source: Gu et al. 2019 (arXiv:1905.11006), with the roll-ins of Zhou et al. 2020, appendix A.2. Differs from the
        authors' code: insertion is also learnt on complete targets, where it must stop; the mask token is not
        `<unk>`; a canvas never outgrows its cap.
    """

    holds_terms = True

    config: LevenshteinTransformerConfig
    _tied_weights_keys = {"lm_head.weight": "model.shared.weight"}
    ensemble_fields = (*InsertionNATGenerationMixin.ensemble_fields, "num_placeholder_bins")

    def __init__(self, config: LevenshteinTransformerConfig) -> None:
        super().__init__(config)
        self.model = NATModel(config)
        self.deletion_decoder: NATDecoder | None = None
        self.placeholder_decoder: NATDecoder | None = None
        if config.deletion_decoder == "own":
            borrows = config.placeholder_decoder == "deletion"
            readers = (config.deletion_layers, config.placeholder_layers) if borrows else (config.deletion_layers,)
            self.deletion_decoder = _own_decoder(config, readers)
        if config.placeholder_decoder == "own":
            self.placeholder_decoder = _own_decoder(config, (config.placeholder_layers,))
        self.deletion_head = nn.Linear(config.d_model, 2, bias=False)
        self.placeholder_head = nn.Linear(2 * config.d_model, config.num_placeholder_bins, bias=False)
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        self.post_init()

    @classmethod
    def from_teacher(cls, teacher: PreTrainedModel, **kwargs: Any) -> Self:
        """Builds a student as [`NATPreTrainedModel.from_teacher`] does; stacks of its own start from the decoder.

        Args:
            teacher (`PreTrainedModel`): see [`NATPreTrainedModel.from_teacher`].
            **kwargs: see [`NATPreTrainedModel.from_teacher`].

        Returns:
            The student, in single precision.
        """
        student = super().from_teacher(teacher, **kwargs)
        for name in ("deletion_decoder", "placeholder_decoder"):
            decoder = getattr(student, name)
            if decoder is not None and getattr(teacher, name, None) is None:
                decoder.load_state_dict(student.model.decoder.state_dict(), strict=False)
        return student

    def _stack(self, head: _Head) -> tuple[NATDecoder, int | None]:
        """Returns the decoder that a head reads from, and how many of its layers where not all."""
        config, shared = self.config, self.model.decoder
        if head == "word":
            return shared, None
        if head == "deletion":
            return self.deletion_decoder or shared, config.deletion_layers
        borrows = config.placeholder_decoder == "deletion"
        return (self.deletion_decoder if borrows else self.placeholder_decoder) or shared, config.placeholder_layers

    def _score(
        self,
        head: _Head,
        canvas: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        attention_mask: torch.Tensor,
        vocabulary: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Decodes a canvas `[R, T]` for a head: `[R, T, 2]` (deletion), `[R, T, P]` or, at the masks, `[N, V]`."""
        decoder, num_layers = self._stack(head)
        framed = prepend(canvas, self.config.bos_token_id)
        states = decoder(
            attention_mask=framed.ne(self.config.pad_token_id),
            encoder_hidden_states=encoder_hidden_states,
            encoder_attention_mask=attention_mask,
            inputs_embeds=self.model.shared(framed),
            num_layers=num_layers,
        ).last_hidden_state
        if head == "placeholder":
            return self.placeholder_head(slot_states(states))
        if head == "deletion":
            return self.deletion_head(states[:, 1:])
        return project(self.lm_head, states[:, 1:][canvas.eq(self.config.mask_token_id)], vocabulary)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
        decoder_attention_mask: torch.Tensor | None = None,
        encoder_outputs: BaseModelOutput | None = None,
        inputs_embeds: torch.Tensor | None = None,
        num_items_in_batch: int | torch.Tensor | None = None,
        generator: torch.Generator | None = None,
        skip_logits: bool | None = None,
        **kwargs: Any,
    ) -> LevenshteinTransformerOutput:
        """Learns all three edits from the labels, or scores a given canvas.

        From the labels come three canvases, one for each head: the target without its dropped tokens (placeholders),
        the target with masks in their place (words), and that with the model's own words (deletions).

        A canvas for all heads switches the dropping off, which `generator` draws; with `labels` of its shape, the loss
        is that of the words at the masks alone. For the arguments see [`NATPreTrainedModel`]; `kwargs` go to the
        encoder and the decoder of the words.

        Returns:
            [`LevenshteinTransformerOutput`]: `loss` with `labels`. The logits of each head are those of its canvas,
            BOS left out; in training with `labels` they are `None`. Hidden states and attentions are those behind the
            words, with BOS.

        Raises:
            ValueError: if neither `labels` nor `decoder_input_ids` are given, or they differ in shape.

        Source: Gu et al. 2019, section 3.2; Zhou et al. 2020, appendix A.2. Differs from fairseq: BOS has no deletion
            loss, each loss is a mean over the positions of a sentence, and one encoder pass serves all canvases.
        """
        decoder_input_ids = self._canvas(labels, decoder_input_ids, decoder_attention_mask, kwargs)
        roll_in = None
        if decoder_input_ids is None:
            assert labels is not None
            roll_in = self._roll_in(labels, generator)
            decoder_input_ids = roll_in.word_canvas
        elif labels is not None and labels.shape != decoder_input_ids.shape:
            raise ValueError(
                f"`labels` must have the shape of `decoder_input_ids`, {tuple(decoder_input_ids.shape)}, got "
                f"{tuple(labels.shape)}. Put one mask where a word is missing."
            )
        attention_mask = self.model.source_mask(input_ids, attention_mask, inputs_embeds)
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            decoder_input_ids=prepend(decoder_input_ids, self.config.bos_token_id),
            encoder_outputs=encoder_outputs,
            inputs_embeds=inputs_embeds,
            **kwargs,
        )
        states, source = outputs.last_hidden_state[:, 1:], (outputs.encoder_last_hidden_state, attention_mask)
        components = None
        if roll_in is not None:
            components, placeholder_logits, deletion_logits = self._edit_losses(
                roll_in, states, source, num_items_in_batch
            )
        elif labels is not None:
            selected = decoder_input_ids.eq(self.config.mask_token_id) & labels.ne(-100)
            components = {"word": self._word_loss(states, selected, labels, num_items_in_batch)}
        if self._skips_logits(labels, skip_logits):
            return LevenshteinTransformerOutput.build(outputs, components)
        if roll_in is None:
            placeholder_logits = self._score("placeholder", decoder_input_ids, *source)
            deletion_logits = self._score("deletion", decoder_input_ids, *source)
        return LevenshteinTransformerOutput.build(
            outputs,
            components,
            logits=self.lm_head(states),
            placeholder_logits=placeholder_logits,
            deletion_logits=deletion_logits,
        )

    def _roll_in(self, labels: torch.Tensor, generator: torch.Generator | None) -> _RollIn:
        """Drops random tokens of labels `[B, T]`: 0 .. n of the n content tokens stay, and EOS."""
        config, target_mask = self.config, labels.ne(-100)
        noise = TargetNoise(labels, self.training, generator)
        coins = noise.uniform(2)
        content = content_mask(target_mask)
        kept = random_keep(content, noise) & (coins[:, 1:] >= config.insertion_roll_in_beta)
        kept |= target_mask & ~content
        missing = target_mask & ~kept
        word_canvas = labels.masked_fill(~target_mask, config.pad_token_id).masked_fill(missing, config.mask_token_id)
        insertion_canvas, counts = compact(labels, insertion_counts(kept, target_mask), kept, config.pad_token_id)
        positions = selected_positions(missing)
        # On an accelerator, where looking would stop the queue, the canvas stays as wide as the target.
        width = int(kept.sum(dim=1).max()) if labels.device.type == "cpu" else labels.shape[1]
        return _RollIn(
            labels=labels,
            insertion_canvas=insertion_canvas[:, :width],
            counts=counts[:, :width],
            missing=missing,
            word_canvas=word_canvas,
            is_initial=coins[:, :1] < config.deletion_roll_in_alpha,
            positions=positions,
            uniforms=take(noise.uniform(labels.shape[1]), positions) if config.sample_deletion_roll_in else None,
        )

    def _edit_losses(
        self,
        roll_in: _RollIn,
        states: torch.Tensor,
        source: tuple[torch.Tensor, torch.Tensor],
        num_items_in_batch: int | torch.Tensor | None,
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
        """Computes the losses, with states `[B, T, D]` of the word canvas, and the logits of the other two heads."""
        config, labels, missing, pad = self.config, roll_in.labels, roll_in.missing, self.config.pad_token_id
        word_loss, words = linear_cross_entropy(
            take(states, roll_in.positions),
            self.lm_head.weight,
            take(labels, roll_in.positions),
            take(token_weights(missing, labels, num_items_in_batch), roll_in.positions),
            label_smoothing=config.label_smoothing,
            choose=partial(choose_words, roll_in.uniforms, self._special_token_ids()),
        )
        is_slot = roll_in.insertion_canvas.ne(pad)
        placeholder_logits = self._score("placeholder", roll_in.insertion_canvas, *source)
        placeholder_loss = cross_entropy(
            placeholder_logits.flatten(0, 1),
            roll_in.counts.flatten().clamp(max=config.num_placeholder_bins - 1),
            token_weights(is_slot, labels, num_items_in_batch).flatten(),
            config.placeholder_label_smoothing,
        )
        first = torch.arange(labels.shape[1], device=labels.device) == 0
        initial_canvas = torch.where(first, config.eos_token_id, pad)
        written = roll_in.word_canvas.masked_scatter(missing, cast(torch.Tensor, words))
        canvas = torch.where(roll_in.is_initial, initial_canvas, written)
        kept, _ = kept_tokens(canvas, labels, pad)
        is_token = canvas.ne(pad)
        deletion_logits = self._score("deletion", canvas, *source)
        deletion_loss = cross_entropy(
            deletion_logits.flatten(0, 1),
            (~kept).long().flatten(),
            token_weights(is_token, labels, num_items_in_batch).flatten(),
        )
        components = {"placeholder": placeholder_loss, "word": word_loss, "deletion": deletion_loss}
        return components, placeholder_logits, deletion_logits

    def head_logits(self, state: InsertionState, encoder_hidden_states: torch.Tensor, head: _Head) -> torch.Tensor:
        """Scores one kind of edit of a state's canvases.

        Args:
            state ([`InsertionState`]): the state.
            encoder_hidden_states (`torch.FloatTensor` of shape `(R, S, D)`): this model's encoder states.
            head (`str`): `"deletion"`, `"placeholder"` or `"word"`.

        Returns:
            `torch.FloatTensor` of shape `(R, T, 2)` for deletions, `(R, T, P)` for placeholders and `(N, V)` for the
            words at the N masks, those of the state's vocabulary where it has one: unnormalised scores.
        """
        return self._score(head, state.tokens, encoder_hidden_states, state.attention_mask, state.vocabulary)

    def init_state(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        members: tuple[Any, ...],
        encoder_hidden_states: tuple[torch.Tensor, ...],
        settings: SimpleNamespace,
    ) -> InsertionState:
        """See [`NATGenerationMixin.init_state`]; the canvases are empty but for terms, and have room for these.

        Raises:
            ValueError: if there are more candidates than numbers of placeholders.

        Source: Susanto et al. 2020 (arXiv:2004.12681): terms in the first canvas, never deleted nor split.
        """
        most = self.config.num_placeholder_bins - 1
        if settings.num_candidates > most:
            raise ValueError(
                f"`num_candidates` must be at most `num_placeholder_bins` - 1 = {most}, got {settings.num_candidates}."
            )
        state = super().init_state(input_ids, attention_mask, members, encoder_hidden_states, settings)
        if settings.terms is None:
            return state
        own = [row for row in settings.terms for _ in range(settings.num_candidates)]
        tokens, marks = term_canvas(own, self.config.eos_token_id, self.config.pad_token_id, input_ids.device)
        caps = torch.maximum(state.length_caps, term_counts(own, input_ids.device) + 1)
        scores = state.scores.new_zeros(tokens.shape)
        return dataclasses.replace(state, tokens=tokens, scores=scores, terms=marks, length_caps=caps)

    def refine(self, state: InsertionState) -> InsertionState:  # type: ignore[override]
        """Deletes tokens, inserts placeholders and writes words over them.

        Each of the three steps decodes only the rows that it can change, and none if there are none. Tokens keep the
        score of the round that wrote them. A row is finished when a round left it as it was.

        Args:
            state ([`InsertionState`]): the state.

        Returns:
            [`InsertionState`]: the state after the round; `intermediate` holds the canvases after deletion and after
                the insertion of placeholders.

        Source: Gu et al. 2019, section 3.3. The cap on the whole row and the first placeholder are ours.
        """
        pad = self.config.pad_token_id
        has_content = content_mask(state.tokens.ne(pad)).any(dim=1)
        shortened = self._edit(state, has_content, self._delete)
        may_grow = shortened.tokens.ne(pad).sum(dim=1) < state.length_caps
        grown = self._edit(shortened, may_grow, self._insert)
        has_masks = grown.tokens.eq(self.config.mask_token_id).any(dim=1)
        written = self._edit(grown, has_masks, self._write)
        unchanged = resize(state.tokens, written.tokens.shape[1], pad).eq(written.tokens).all(dim=1)
        return dataclasses.replace(
            written,
            finished=state.is_unchanged(unchanged),
            intermediate=(shortened.tokens, grown.tokens),
        )

    def _edit(
        self,
        state: InsertionState,
        rows: torch.Tensor,
        step: Callable[[InsertionState], InsertionState],
    ) -> InsertionState:
        """Applies a step to the rows where `rows` `[R]` is True; the canvases get no narrower, but in a graph."""
        if torch.compiler.is_exporting():
            return step(state)  # which leaves the others as they are
        if state.synced:
            # The other rows come along, for the sake of the call.
            rows = torch.ones_like(rows)
        if not rows.any():
            return state
        part = state.select(rows.nonzero().squeeze(1))
        width = int(part.tokens.ne(self.config.pad_token_id).sum(dim=1).max())
        columns: dict[str, Any] = {name: getattr(part, name)[:, :width] for name in _columns(state)}
        part = step(dataclasses.replace(part, **columns))
        fill = {"tokens": self.config.pad_token_id, "scores": 0.0, "terms": 0}
        for name in columns:
            columns[name] = _replace_rows(getattr(state, name), rows, getattr(part, name), fill[name])
        return dataclasses.replace(state, **columns)

    def _delete(self, state: InsertionState) -> InsertionState:
        """Deletes the content tokens, terms left out, that are rather deleted than kept, or would go on with one."""
        logits = self._logits(state, "head_logits", "deletion")
        content = content_mask(state.tokens.ne(self.config.pad_token_id))
        deleted = content & (logits[..., 1] > logits[..., 0])
        if state.terms is not None:
            deleted &= state.terms.eq(0)
            if state.continuations is not None:
                deleted |= glued_to_terms(state.tokens, state.terms, ~deleted, state.continuations)
        return _moved(state, lambda values: compact(state.tokens, values, ~deleted, self.config.pad_token_id))

    def _insert(self, state: InsertionState) -> InsertionState:
        """Inserts the most probable numbers of placeholders, none inside a term.

        In round 0, candidate k takes the k-th best number, and not 0 unless the source is empty or the canvas is not.
        The whole row stays within its cap: the surest slots are served first.
        """
        config, is_token = self.config, state.tokens.ne(self.config.pad_token_id)
        log_probs = self._logits(state, "head_logits", "placeholder").log_softmax(dim=2)
        log_probs[..., 0] -= state.eos_penalty
        must_insert = (state.attention_mask.sum(dim=1) > 1) & (is_token.sum(dim=1) == 1) & (state.iteration == 0)
        log_probs[..., 0].masked_fill_(must_insert.unsqueeze(1), float("-inf"))
        if state.ranks is None:
            best, counts = log_probs.max(dim=2)
        else:
            order = stable_order(log_probs.flatten(0, 1), descending=True).view(log_probs.shape)
            rank = state.ranks.view(-1, 1, 1).expand(-1, is_token.shape[1], 1)
            counts = order.gather(2, rank)
            best, counts = log_probs.gather(2, counts).squeeze(2), counts.squeeze(2)
        allowance = state.length_caps - is_token.sum(dim=1)
        is_slot = is_token if state.terms is None else is_token & state.terms.ne(TERM_INSIDE)
        counts = cap_counts(counts.masked_fill(~is_slot, 0), best, allowance)
        return _moved(
            state,
            lambda values: insert_masks(state.tokens, values, counts, config.mask_token_id, config.pad_token_id),
        )

    def _write(self, state: InsertionState) -> InsertionState:
        """Writes the most probable words over the placeholders; right behind a term none that goes on with it."""
        masked = state.tokens.eq(self.config.mask_token_id)
        logits = self._logits(state, "head_logits", "word")
        if state.terms is not None and state.continuations is not None:
            forbid_continuations(logits, behind_terms(state.terms)[masked], state.continuations, state.vocabulary)
        tokens, scores = write_words(
            logits, masked, state.tokens, state.scores, state.vocabulary, self._special_token_ids()
        )
        return dataclasses.replace(state, tokens=tokens, scores=scores)


def _own_decoder(config: LevenshteinTransformerConfig, depths: tuple[int | None, ...]) -> NATDecoder:
    """Builds a decoder with positions and layers of its own, as many as its readers need, on the model's embedding."""
    decoder = NATDecoder(config)
    decoder.embed_tokens = None  # type: ignore[assignment]
    decoder.layers = decoder.layers[: max(config.decoder_layers if depth is None else depth for depth in depths)]
    return decoder


def _columns(state: InsertionState) -> tuple[str, ...]:
    """Returns the names of what a state has for each token of its canvases."""
    return ("tokens", "scores") if state.terms is None else ("tokens", "scores", "terms")


def _moved(state: InsertionState, move: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]) -> InsertionState:
    """Returns a state whose tokens moved, with their scores and marks: `move` of these values `[R, T]` gives both."""
    tokens, scores = move(state.scores)
    terms = None if state.terms is None else move(state.terms)[1]
    return dataclasses.replace(state, tokens=tokens, scores=scores, terms=terms)


def _replace_rows(values: torch.Tensor, rows: torch.Tensor, new: torch.Tensor, fill: float) -> torch.Tensor:
    """Returns values `[R, max(T, T')]` with `new` `[R', T']`, at least as wide as what it replaces, in marked rows."""
    result = values.new_full((len(values), max(values.shape[1], new.shape[1])), fill)
    result[:, : values.shape[1]] = values
    result[rows, : new.shape[1]] = new
    return result
