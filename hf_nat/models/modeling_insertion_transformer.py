"""The Insertion Transformer, the paper's InsT: inserts a token into every gap of a growing canvas at once.

Dimension letters: B batch, S source, T target, D model, V vocabulary; R rows of a decoding state; N slots of a batch.
"""

import dataclasses
from typing import Any

import torch
from torch import nn
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils import can_return_tuple

from .canvas import cap_counts, compact, content_mask, insert_masks, prepend, slot_states
from .configuration_insertion_transformer import InsertionTransformerConfig
from .generation_insertion import InsertionNATGenerationMixin, InsertionState
from .losses import linear_cross_entropy, token_weights
from .modeling_nat import NATModel, NATPreTrainedModel, NATSeq2SeqLMOutput
from .noise import TargetNoise, random_keep
from .selection import selected_positions, take
from .word_choice import forbid, project


class InsertionTransformerForConditionalGeneration(InsertionNATGenerationMixin, NATPreTrainedModel):
    """Insertion Transformer with one distribution over tokens for each slot, the gap before a token of the canvas.

    EOS in a slot means "insert nothing here": the end of the slot.

    Args:
        config ([`InsertionTransformerConfig`]): configuration.

    Source: Stern et al. 2019 (arXiv:1902.03249), without a distribution over slots ("slot finalization", parallel
        decoding); InsT in Zhou et al. 2020. Differs from fairseq: complete targets are seen in training, a token that
        stands twice in a span counts twice, a sentence counts by its target tokens and not by its slots, and the loss
        is a cross-entropy, from which fairseq subtracts the constant entropy of the target.
    """

    config: InsertionTransformerConfig
    _tied_weights_keys = {"lm_head.weight": "model.shared.weight"}

    def __init__(self, config: InsertionTransformerConfig) -> None:
        super().__init__(config)
        self.model = NATModel(config)
        self.slot_projection = nn.Linear(2 * config.d_model, config.d_model)
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
        """Drops random tokens of the labels and predicts what is missing in each slot, or scores a given canvas.

        A canvas `y1 .. yn </s>` comes in place of labels, whose tokens `generator` drops. For the arguments see
        [`NATPreTrainedModel`].

        Returns:
            [`NATSeq2SeqLMOutput`]: `loss` with `labels`; `logits` of the slots before the tokens of the canvas, which
            are `None` in training with `labels`.

        Raises:
            ValueError: if none or both of `labels` and `decoder_input_ids` are given.
        """
        decoder_input_ids = self._canvas(labels, decoder_input_ids, decoder_attention_mask, kwargs)
        pad = self.config.pad_token_id
        if labels is not None:
            if decoder_input_ids is not None:
                raise ValueError(
                    "Only one of `labels` and `decoder_input_ids` must be given, got both. What a canvas lacks is "
                    "known only for one that was made from the labels."
                )
            kept = self._roll_in(labels, generator)
            decoder_input_ids, _ = compact(labels, torch.zeros(labels.shape, device=labels.device), kept, pad)
        assert decoder_input_ids is not None
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            decoder_input_ids=prepend(decoder_input_ids, self.config.bos_token_id),
            encoder_outputs=encoder_outputs,
            inputs_embeds=inputs_embeds,
            **kwargs,
        )
        slots = slot_states(outputs.last_hidden_state)
        logits, components = None, None
        if not self._skips_logits(labels, skip_logits):
            logits = self.lm_head(self.slot_projection(slots))
        if labels is not None:
            is_slot = decoder_input_ids.ne(pad)
            positions = selected_positions(is_slot)
            slot_weights = take(token_weights(is_slot, labels, num_items_in_batch), positions)
            rows, targets, weights = self._span_targets(labels, kept)
            loss, _ = linear_cross_entropy(
                self.slot_projection(take(slots, positions)),
                self.lm_head.weight,
                targets,
                weights * slot_weights[rows],
                rows=rows,
                label_smoothing=self.config.label_smoothing,
            )
            components = {"word": loss}
        return NATSeq2SeqLMOutput.build(outputs, components, logits=logits)

    def _roll_in(self, labels: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
        """Marks the tokens of labels `[B, T]` that stay in the canvas: EOS, and 0 .. n of the n content tokens."""
        target_mask = labels.ne(-100)
        content = content_mask(target_mask)
        return random_keep(content, TargetNoise(labels, self.training, generator)) | (target_mask & ~content)

    def _span_targets(
        self, labels: torch.Tensor, kept: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Lists what is missing in the slots of the canvases that keep the marked tokens of labels `[B, T]`.

        The missing tokens i of a slot have the weights softmax(-|i - c| / temperature), where c is the centre of
        their span: (first + last) / 2. A slot that lacks nothing has EOS with weight 1.

        Returns:
            `tuple` of three tensors of shape `(K,)`: slot of each target, counted over the batch in rising order; its
            token; its weight, of which those of a slot sum to 1.

        Source: Stern et al. 2019, balanced binary tree and uniform losses. fairseq's centre lies half a token further
            right at most temperatures.
        """
        missing = labels.ne(-100) & ~kept
        # Slot t of a row holds the missing tokens before its t-th kept token.
        slots = kept.cumsum(dim=1) - kept.long()
        positions = torch.arange(labels.shape[1], device=labels.device).expand_as(labels)

        def span_sums(values: torch.Tensor) -> torch.Tensor:
            sums = torch.zeros(labels.shape, device=labels.device).scatter_add(1, slots, values * missing.float())
            return sums.gather(1, slots)

        sizes = span_sums(missing.float())
        distances = (positions - span_sums(positions.float()) / sizes).abs()
        nearest = 0.5 * (sizes % 2 == 0)  # the largest weight before the normalisation is 1: low temperatures are safe
        temperature = float("inf") if self.config.span_temperature is None else self.config.span_temperature
        affinities = ((nearest - distances) / temperature).exp().masked_fill(~missing, 0.0)
        weights = torch.where(missing, affinities / span_sums(affinities), 1.0)

        selected = missing | (kept & (sizes == 0))
        num_slots = kept.sum(dim=1)
        rows = slots + (num_slots.cumsum(dim=0) - num_slots).unsqueeze(1)
        targets = labels.masked_fill(kept, self.config.eos_token_id)
        positions = selected_positions(selected)
        return take(rows, positions), take(targets, positions), take(weights, positions)

    def slot_logits(
        self, state: InsertionState, encoder_hidden_states: torch.Tensor, is_slot: torch.Tensor
    ) -> torch.Tensor:
        """Scores the tokens for the slots of the canvases of a state.

        Args:
            state ([`InsertionState`]): the state.
            encoder_hidden_states (`torch.FloatTensor` of shape `(R, S, D)`): this model's encoder states.
            is_slot (`torch.BoolTensor` of shape `(R, T)`): True at N tokens before which is a slot to be scored.

        Returns:
            `torch.FloatTensor` of shape `(N, V)`: unnormalised scores, of the state's vocabulary where it has one.
        """
        canvas = prepend(state.tokens, self.config.bos_token_id)
        hidden_states = self.model.decoder(
            canvas, canvas.ne(self.config.pad_token_id), encoder_hidden_states, state.attention_mask
        ).last_hidden_state
        return project(self.lm_head, self.slot_projection(slot_states(hidden_states)[is_slot]), state.vocabulary)

    def refine(self, state: InsertionState) -> InsertionState:  # type: ignore[override]
        """Inserts the most probable token into every slot where it beats EOS, all at once.

        The first round inserts a token unless the source is empty; candidate k takes the k-th best. Where a row would
        outgrow its length cap, the most probable insertions are carried out. A token's score is its log-probability
        when it was inserted, untouched by `eos_penalty`, which only makes a slot less ready to end.

        Args:
            state ([`InsertionState`]): the state.

        Returns:
            [`InsertionState`]: the state after the round.

        Raises:
            ValueError: if there are more candidates than words.

        Source: Stern et al. 2019, parallel decoding with EOS penalty. The length cap and the first token are ours.
        """
        config, tokens = self.config, state.tokens
        is_slot = tokens.ne(config.pad_token_id)
        best, predicted = self._choose_tokens(self._logits(state, "slot_logits", is_slot), state, is_slot)
        choices = torch.full_like(tokens, config.eos_token_id).masked_scatter(is_slot, predicted)
        priorities = torch.zeros_like(state.scores).masked_scatter(is_slot, best)
        allowance = state.length_caps - is_slot.sum(dim=1)
        counts = cap_counts(choices.ne(config.eos_token_id).long(), priorities, allowance)
        longer, scores = insert_masks(tokens, state.scores, counts, config.mask_token_id, config.pad_token_id)
        inserted, is_new = counts.bool(), longer.eq(config.mask_token_id)
        num_inserted = counts.sum(dim=1)
        return dataclasses.replace(
            state,
            tokens=longer.masked_scatter(is_new, choices[inserted]),
            scores=scores.masked_scatter(is_new, priorities[inserted]),
            finished=state.is_unchanged(num_inserted.eq(0)) | num_inserted.eq(allowance),
        )

    def _choose_tokens(
        self, logits: torch.Tensor, state: InsertionState, is_slot: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Chooses from logits `[N, V]` the token of each slot, EOS for none: log-probabilities and ids, both `[N]`."""
        eos, words = self.config.eos_token_id, state.vocabulary
        if words is None:
            forbid(logits, self._forbidden_token_ids())
            words = torch.arange(logits.shape[1], device=logits.device)
        log_probs, is_end = logits.log_softmax(1), words.eq(eos)
        if state.eos_penalty:
            log_probs = torch.where(is_end, log_probs - state.eos_penalty, log_probs)
        # A canvas is empty once: with one slot, before the first word.
        must_insert = (is_slot.sum(dim=1) == 1) & (state.attention_mask.sum(dim=1) > 1)
        rows = torch.arange(is_slot.shape[0], device=words.device).unsqueeze(1).expand_as(is_slot)[is_slot]
        log_probs.masked_fill_(must_insert[rows].unsqueeze(1) & is_end, float("-inf"))
        if state.ranks is None:
            scores, places = log_probs.max(dim=1)
        else:
            scores, places = log_probs.topk(self._num_choices(state, words), dim=1)
            rank = state.ranks[rows].unsqueeze(1)
            scores, places = scores.gather(1, rank).squeeze(1), places.gather(1, rank).squeeze(1)
        return scores, words[places]

    def _num_choices(self, state: InsertionState, words: torch.Tensor) -> int:
        """Returns the number of candidates, of which each starts with a word of its own: at most as many as words."""
        num_words = words.shape[0] - 1
        if state.vocabulary is None:
            num_words -= len(set(self._forbidden_token_ids()))
        if not torch.compiler.is_exporting() and state.num_candidates > num_words:
            raise ValueError(f"`num_candidates` must be at most {num_words} words, got {state.num_candidates}.")
        torch._check(state.num_candidates <= words.shape[0])
        return state.num_candidates

    def _forbidden_token_ids(self) -> list[int]:
        return [token_id for token_id in self._special_token_ids() if token_id != self.config.eos_token_id]
