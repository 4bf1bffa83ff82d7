"""iNAT: a non-autoregressive decoder that reads its own last translation and improves it.

Dimension letters: B batch, S source, T target, D model, M length bins, V vocabulary; N target positions of a batch; R
rows of a decoding state.
"""

import dataclasses
from functools import partial
from typing import Any, cast

import torch
from torch import nn
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils import can_return_tuple

from .canvas import content_mask
from .configuration_iterative_nat import IterativeNATConfig
from .corruption import corrupt, random_tokens
from .generation_length import SourceCopyNATGenerationMixin
from .generation_state import NATState
from .length import LengthPredictor
from .losses import linear_cross_entropy, token_weights
from .modeling_nat import NATModel, NATPreTrainedModel, NATSeq2SeqLMOutput
from .noise import TargetNoise
from .selection import selected_positions, take
from .source_copy import SourceCopy
from .word_choice import best_tokens, choose_words


class IterativeNATForConditionalGeneration(SourceCopyNATGenerationMixin, NATPreTrainedModel):
    """Non-autoregressive Transformer with iterative refinement.

    The first round reads a copy of the source (`source_copy`) at the masks of a canvas, every other round the
    translation of the round before it.

    Args:
        config ([`IterativeNATConfig`]): configuration.

    Source: Lee et al. 2018 (arXiv:1802.06901), as in Zhou et al. 2020, appendix A.2: one decoder for all rounds, which
        reads tokens alone. Differs from fairseq: the EOS is never predicted or corrupted, special tokens are never
        drawn, and a swap of the corruption swaps.
    """

    config: IterativeNATConfig
    _tied_weights_keys = {"lm_head.weight": "model.shared.weight"}

    def __init__(self, config: IterativeNATConfig) -> None:
        super().__init__(config)
        self.model = NATModel(config)
        self.length_predictor = LengthPredictor(config)
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        self.source_copy = SourceCopy(config.source_copy, config.d_model)
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
        """Refines a translation of the gold length for `num_training_rounds`, or scores a given canvas in one pass.

        A canvas, masks and all, switches later rounds and corruption off, which `generator` draws. The source is
        needed beside `encoder_outputs`, too. For the arguments see [`NATPreTrainedModel`].

        Returns:
            [`NATSeq2SeqLMOutput`]: `loss` with `labels`, over all their positions, the mean over the rounds. All else
            is of the first round, which reads no target; in training with `labels`, `logits` is `None`.

        Raises:
            ValueError: if neither `labels` nor `decoder_input_ids` are given, or no source.
        """
        decoder_input_ids = self._canvas(labels, decoder_input_ids, decoder_attention_mask, kwargs)
        canvas = decoder_input_ids
        if canvas is None:
            assert labels is not None
            canvas = labels.masked_fill(labels == -100, self.config.pad_token_id)
            canvas = canvas.masked_fill(content_mask(labels.ne(-100)), self.config.mask_token_id)
        attention_mask = self.model.source_mask(input_ids, attention_mask, inputs_embeds)
        source = {"input_ids": input_ids, "attention_mask": attention_mask, "inputs_embeds": inputs_embeds}
        outputs = self._decode(canvas, source, encoder_outputs, **kwargs)
        length_logits = self.length_predictor(outputs.encoder_last_hidden_state, attention_mask)
        logits, components = None, None
        if not self._skips_logits(labels, skip_logits):
            logits = self.lm_head(outputs.last_hidden_state)
        if labels is not None:
            hidden_states = outputs.last_hidden_state
            if decoder_input_ids is None:
                encoded = (outputs.encoder_last_hidden_state, attention_mask)
                noise = TargetNoise(labels, self.training, generator)
                word_loss = self._refinement_loss(hidden_states, encoded, labels, num_items_in_batch, noise)
            else:
                word_loss = self._word_loss(hidden_states, labels.ne(-100), labels, num_items_in_batch)
            components = {
                "word": word_loss,
                "length": self.length_predictor.loss(length_logits, labels, attention_mask, num_items_in_batch),
            }
        return NATSeq2SeqLMOutput.build(outputs, components, logits=logits, length_logits=length_logits)

    def _refinement_loss(
        self,
        hidden_states: torch.Tensor,
        encoded: tuple[torch.Tensor, torch.Tensor],
        labels: torch.Tensor,
        num_items_in_batch: int | torch.Tensor | None,
        noise: TargetNoise,
    ) -> torch.Tensor:
        """Executes the rounds after the first, whose decoder states `[B, T, D]` are given; mean loss of all rounds.

        A round reads what the one before it predicted or, in the sentences drawn for denoising, a corrupted target.
        The logits of a round are gone before the next one starts.
        """
        config, special = self.config, self._special_token_ids()
        num_rounds = config.num_training_rounds
        target_mask = labels.ne(-100)
        content = content_mask(target_mask)
        targets = labels.masked_fill(~target_mask, config.pad_token_id)
        positions = selected_positions(target_mask)
        weights = take(token_weights(target_mask, labels, num_items_in_batch), positions) / num_rounds
        denoises = noise.uniform(num_rounds - 1) < config.denoising_probability
        # All numbers of a position are drawn together: those of a sentence do not depend on the padding behind it.
        uniforms = noise.uniform(labels.shape[1] * (num_rounds - 1) * 3).view(*labels.shape, num_rounds - 1, 3)
        total = weights.new_zeros(())
        for i in range(num_rounds - 1):
            draws, operations, replacements = uniforms[:, :, i].unbind(dim=2)
            loss, predicted = linear_cross_entropy(
                take(hidden_states, positions),
                self.lm_head.weight,
                take(targets, positions),
                weights,
                label_smoothing=config.label_smoothing,
                choose=partial(choose_words, take(draws, positions) if config.sample_predictions else None, special),
            )
            total = total + loss
            replacements = random_tokens(replacements, config.vocab_size, special)
            corrupted = corrupt(targets, content, operations, replacements, config.corruption_rate)
            translated = targets.masked_scatter(target_mask, cast(torch.Tensor, predicted))
            canvas = torch.where(denoises[:, i : i + 1], corrupted, translated).where(content, targets)
            hidden_states = self.model.decoder(canvas, target_mask, *encoded).last_hidden_state
        return total + self._word_loss(hidden_states, target_mask, labels, num_items_in_batch) / num_rounds

    def refine(self, state: NATState) -> NATState:
        """Predicts all content tokens anew; a sentence that comes out as it went in is finished.

        Args:
            state ([`NATState`]): the state.

        Returns:
            [`NATState`]: the next state, with the scores of this round.
        """
        content = content_mask(state.tokens.ne(self.config.pad_token_id))
        hidden_states = self._states_at(state, content)
        predicted, log_probs = best_tokens(state, hidden_states, self._special_token_ids(), state.with_scores)
        tokens = state.tokens.masked_scatter(content, predicted)
        return dataclasses.replace(
            state,
            tokens=tokens,
            scores=state.scores.masked_scatter(content, log_probs),
            finished=tokens.eq(state.tokens).all(dim=1),
        )
