"""CMLM, the paper's MaskT: predicts masked tokens in training, and in decoding masks the least sure ones again.

Dimension letters: B batch, S source, T target, D model, M length bins, V vocabulary; R rows of a decoding state.
"""

import dataclasses
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils import can_return_tuple

from .canvas import content_mask, mask_canvas
from .configuration_cmlm import CMLMConfig
from .generation_length import LengthNATGenerationMixin
from .generation_state import NATState
from .glancing import first_pass
from .length import LengthPredictor
from .losses import reduce_logits
from .modeling_nat import NATModel, NATPreTrainedModel, NATSeq2SeqLMOutput
from .noise import TargetNoise, lowest, random_mask
from .selection import selected_positions, take
from .terms import Terms, behind_terms, forbid_continuations, place_terms, term_counts, write_terms
from .word_choice import all_logits, best_tokens, write_words


class CMLMForConditionalGeneration(LengthNATGenerationMixin, NATPreTrainedModel):
    """Conditional masked language model with mask-predict decoding.

    With a `correction_ratio` it also learns to correct tokens that it got wrong itself (CMLMC).

    Args:
        config ([`CMLMConfig`]): configuration.

    Source: Ghazvininejad et al. 2019 (arXiv:1904.09324); MaskT in Zhou et al. 2020. Differs from the authors' code:
        EOS is never masked, since the length fixes it, and the mask token is never predicted. Correction: Huang et al.
        2022, "Improving Non-Autoregressive Translation Models Without Distillation"; without their embedding of
        positions and their second, causal self-attention, which would be a decoder of its own. Deep supervision (DSLP,
        Huang et al. 2022, arXiv:2110.07515) is left out for all architectures, not because it would need one, which a
        step between the layers would do for, but because every layer then projects to the vocabulary in decoding too.
    """

    fills_masks = True
    holds_terms = True

    config: CMLMConfig
    _tied_weights_keys = {"lm_head.weight": "model.shared.weight"}

    def __init__(self, config: CMLMConfig) -> None:
        super().__init__(config)
        self.model = NATModel(config)
        self.length_predictor = LengthPredictor(config)
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        self.post_init()

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
    ) -> NATSeq2SeqLMOutput:
        """Masks the labels and predicts the masked tokens, or scores a given canvas.

        A canvas switches the masking off, which `generator` draws. For the arguments see [`NATPreTrainedModel`].

        Returns:
            [`NATSeq2SeqLMOutput`]: `loss` with `labels`, over the masked positions; with a `correction_ratio`, unless
            the canvas is given, the mean of that and of the loss over the replaced ones. In training with `labels`,
            `logits` is `None`.

        Raises:
            ValueError: if neither `labels` nor `decoder_input_ids` are given.
        """
        decoder_input_ids = self._canvas(labels, decoder_input_ids, decoder_attention_mask, kwargs)
        noise = None
        if decoder_input_ids is None:
            assert labels is not None
            noise = TargetNoise(labels, self.training, generator)
            decoder_input_ids = self._mask(labels, noise)
        attention_mask = self.model.source_mask(input_ids, attention_mask, inputs_embeds)
        source = {"input_ids": input_ids, "attention_mask": attention_mask, "inputs_embeds": inputs_embeds}
        outputs = self.model(**source, decoder_input_ids=decoder_input_ids, encoder_outputs=encoder_outputs, **kwargs)
        length_logits = self.length_predictor(outputs.encoder_last_hidden_state, attention_mask)
        logits, components = None, None
        if not self._skips_logits(labels, skip_logits):
            logits = self.lm_head(outputs.last_hidden_state)
        if labels is not None:
            selected = decoder_input_ids.eq(self.config.mask_token_id) & labels.ne(-100)
            components = {
                "word": self._word_loss(outputs.last_hidden_state, selected, labels, num_items_in_batch),
                "length": self.length_predictor.loss(length_logits, labels, attention_mask, num_items_in_batch),
            }
            if self.config.correction_ratio and noise is not None:
                encoded = BaseModelOutput(outputs.encoder_last_hidden_state)
                canvas, replaced = self._mistake(decoder_input_ids, labels, noise, attention_mask, encoded)
                states = self.model(
                    attention_mask=attention_mask, decoder_input_ids=canvas, encoder_outputs=encoded
                ).last_hidden_state
                components["word"] = components["word"] / 2
                components["correction"] = self._word_loss(states, replaced, labels, num_items_in_batch) / 2
        return NATSeq2SeqLMOutput.build(outputs, components, logits=logits, length_logits=length_logits)

    def _mask(self, labels: torch.Tensor, noise: TargetNoise) -> torch.Tensor:
        """Builds the canvas of labels `[B, T]` with random content tokens masked."""
        target_mask = labels.ne(-100)
        masked = random_mask(content_mask(target_mask), noise)
        canvas = labels.masked_fill(~target_mask, self.config.pad_token_id)
        return canvas.masked_fill(masked, self.config.mask_token_id)

    def _mistake(
        self,
        canvas: torch.Tensor,
        labels: torch.Tensor,
        noise: TargetNoise,
        attention_mask: torch.Tensor,
        encoder_outputs: BaseModelOutput,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Replaces tokens shown on a canvas `[B, T]` by what the model predicts where it sees none of the target.

        Of n of them correction_ratio * n, rounded, are chosen at random.

        Returns:
            `tuple` of the canvas `[B, T]` and of marks `[B, T]` of what was replaced.
        """
        content = content_mask(labels.ne(-100))
        shown = content & canvas.ne(self.config.mask_token_id)
        counts = shown.sum(dim=1).double() * self.config.correction_ratio + 0.5
        replaced = lowest(noise.uniform(labels.shape[1]), shown, counts.long())
        with first_pass(canvas.device):
            states = self.model(
                attention_mask=attention_mask,
                decoder_input_ids=canvas.masked_fill(content, self.config.mask_token_id),
                encoder_outputs=encoder_outputs,
            ).last_hidden_state
            chosen = take(states, selected_positions(replaced))
            predicted = reduce_logits(chosen, self.lm_head.weight, lambda logits: logits.argmax(dim=1))
        return canvas.masked_scatter(replaced, predicted), replaced

    def init_state(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        members: tuple[Any, ...],
        encoder_hidden_states: tuple[torch.Tensor, ...],
        settings: SimpleNamespace,
    ) -> NATState:
        """See [`NATGenerationMixin.init_state`]; with terms where they are most probable, by one pass over masks."""
        state = super().init_state(input_ids, attention_mask, members, encoder_hidden_states, settings)
        return state if settings.terms is None else self._place(state, settings.terms)

    def _place(self, state: NATState, terms: Terms) -> NATState:
        """Writes terms into canvases `[R, T]` of masks, which get as long as these need."""
        config, copies = self.config, len(state.tokens) // len(terms)
        own = [row for row in terms for _ in range(copies)]
        lengths = state.tokens.ne(config.pad_token_id).sum(dim=1)
        lengths = torch.maximum(lengths, term_counts(own, lengths.device) + 1)
        tokens = mask_canvas(lengths, config.mask_token_id, config.eos_token_id, config.pad_token_id)
        has_terms = term_counts(own, lengths.device).gt(0)
        selected = tokens.eq(config.mask_token_id) & has_terms.unsqueeze(1)
        log_probs = self._logits(state, "word_logits", tokens, selected).log_softmax(dim=1).cpu()
        marks = torch.zeros_like(tokens)
        for row, scores in enumerate(log_probs.split(selected.sum(dim=1).tolist())):
            write_terms(tokens, marks, row, own[row], place_terms(scores, own[row]) if own[row] else [])
        return dataclasses.replace(
            state,
            tokens=tokens,
            scores=state.scores.new_zeros(tokens.shape),
            finished=lengths <= 1,
            terms=marks,
        )

    def canvas_states(
        self, state: NATState, encoder_hidden_states: torch.Tensor, canvas: torch.Tensor
    ) -> torch.Tensor:
        """Runs the decoder on a canvas.

        Args:
            state ([`NATState`]): the state.
            encoder_hidden_states (`torch.FloatTensor` of shape `(R, S, D)`): this model's encoder states.
            canvas (`torch.LongTensor` of shape `(R, T)`): what the decoder reads.

        Returns:
            `torch.FloatTensor` of shape `(R, T, D)`: final decoder states.
        """
        return self.model.decoder(
            canvas, canvas.ne(self.config.pad_token_id), encoder_hidden_states, state.attention_mask
        ).last_hidden_state

    def word_logits(
        self, state: NATState, encoder_hidden_states: torch.Tensor, canvas: torch.Tensor, selected: torch.Tensor
    ) -> torch.Tensor:
        """Scores the vocabulary at the N selected positions `[R, T]` of a canvas: `(N, V)`, unnormalised."""
        return self.lm_head(self.canvas_states(state, encoder_hidden_states, canvas)[selected])

    def refine(self, state: NATState) -> NATState:
        """Masks the least probable tokens, fewer in every round, and predicts them again.

        Before round t of T, counted from 0, n * (T - t) // T of a row's n content tokens are masked: all in round 0.
        A row is finished when the next round would mask none. Tokens keep the score of the round that wrote them; a
        model that corrects itself writes those that are not masked anew, too. Those of terms are never masked or
        written anew, and do not count; no token that goes on with a word is written right behind one.

        Args:
            state ([`NATState`]): the state.

        Returns:
            [`NATState`]: the state after the round.

        Source: Ghazvininejad et al. 2019, section 3.2, with the numbers in exact integer arithmetic.
        """
        content = content_mask(state.tokens.ne(self.config.pad_token_id))
        if state.terms is not None:
            content &= state.terms.eq(0)
        num_content, rounds_left = content.sum(dim=1), state.max_iterations - state.iteration
        masked = lowest(state.scores, content, num_content * rounds_left // state.max_iterations)
        canvas = state.tokens.masked_fill(masked, self.config.mask_token_id)
        written = content if self.config.correction_ratio else masked
        hidden_states = self._states_at(state, written, canvas)
        predicted, log_probs = best_tokens(state, hidden_states, self._special_token_ids())
        tokens = canvas.masked_scatter(written, predicted)
        scores = state.scores.masked_scatter(written, log_probs)
        if state.terms is not None and state.continuations is not None:
            behind = behind_terms(state.terms) & written
            logits = all_logits(state, [states[behind[written]] for states in hidden_states])
            forbid_continuations(logits, behind[behind], state.continuations, state.vocabulary)
            tokens, scores = write_words(logits, behind, tokens, scores, state.vocabulary, self._special_token_ids())
        return dataclasses.replace(
            state,
            tokens=tokens,
            scores=scores,
            finished=num_content * (rounds_left - 1) // state.max_iterations == 0,
            # A graph shows no history, and cannot ask for the round.
            intermediate=() if torch.compiler.is_exporting() or not state.iteration else (canvas,),
        )
