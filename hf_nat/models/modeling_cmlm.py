"""CMLM, the paper's MaskT: predicts masked tokens in training, and in decoding masks the least sure ones again.

Dimension letters: B batch, S source, T target, D model, M length bins, V vocabulary; R rows of a decoding state.
"""

import dataclasses
from typing import Any

import torch
from torch import nn
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils import can_return_tuple

from .canvas import content_mask
from .configuration_cmlm import CMLMConfig
from .generation_length import LengthNATGenerationMixin
from .generation_nat import NATState
from .length import LengthPredictor
from .modeling_nat import NATModel, NATPreTrainedModel, NATSeq2SeqLMOutput
from .noise import TargetNoise, lowest, random_mask


class CMLMForConditionalGeneration(LengthNATGenerationMixin, NATPreTrainedModel):
    """Conditional masked language model with mask-predict decoding.

    Args:
        config ([`CMLMConfig`]): configuration.

    Source: Ghazvininejad et al. 2019 (arXiv:1904.09324); MaskT in Zhou et al. 2020. Differs from the authors' code:
        EOS is never masked, since the length fixes it, and the mask token is never predicted.
    """

    config: CMLMConfig
    is_traceable = True
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
        **kwargs: Any,
    ) -> NATSeq2SeqLMOutput:
        """Masks the labels and predicts the masked tokens, or scores a given canvas.

        Args:
            input_ids (`torch.LongTensor` of shape `(B, S)`, *optional*): source tokens.
            attention_mask (`torch.LongTensor` of shape `(B, S)`, *optional*): 1 at source tokens, by default
                everywhere but at padding.
            labels (`torch.LongTensor` of shape `(B, T)`, *optional*): targets with EOS; -100 is ignored.
            decoder_input_ids (`torch.LongTensor` of shape `(B, T)`, *optional*): a canvas; switches the masking off.
            decoder_attention_mask (`torch.LongTensor` of shape `(B, T)`, *optional*): 1 at tokens of the canvas, by
                default everywhere but at padding.
            encoder_outputs (`BaseModelOutput`, *optional*): result of the encoder.
            inputs_embeds (`torch.FloatTensor` of shape `(B, S, D)`, *optional*): source embeddings before scaling.
            num_items_in_batch (`int` or `torch.Tensor`, *optional*): target tokens of the whole update.
            generator (`torch.Generator`, *optional*): source of the masking, see [`TargetNoise`].
            **kwargs: `output_hidden_states`, `output_attentions` and the like.

        Returns:
            [`NATSeq2SeqLMOutput`]: `loss` with `labels`, over the masked positions. In training with `labels`,
            `logits` is `None`.

        Raises:
            ValueError: if neither `labels` nor `decoder_input_ids` are given.
        """
        decoder_input_ids = self._canvas(decoder_input_ids, decoder_attention_mask, kwargs)
        if decoder_input_ids is None:
            if labels is None:
                raise ValueError("One of `labels` and `decoder_input_ids` must be given, got none.")
            decoder_input_ids = self._mask(labels, generator)
        attention_mask = self.model.source_mask(input_ids, attention_mask, inputs_embeds)
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            decoder_input_ids=decoder_input_ids,
            encoder_outputs=encoder_outputs,
            inputs_embeds=inputs_embeds,
            **kwargs,
        )
        length_logits = self.length_predictor(outputs.encoder_last_hidden_state, attention_mask)
        logits, components = None, None
        if labels is None or not self.training:
            logits = self.lm_head(outputs.last_hidden_state)
        if labels is not None:
            selected = decoder_input_ids.eq(self.config.mask_token_id) & labels.ne(-100)
            components = {
                "word": self._word_loss(outputs.last_hidden_state, selected, labels, num_items_in_batch),
                "length": self.length_predictor.loss(length_logits, labels, attention_mask, num_items_in_batch),
            }
        return NATSeq2SeqLMOutput.build(outputs, components, logits=logits, length_logits=length_logits)

    def _mask(self, labels: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
        """Builds the canvas of labels `[B, T]` with random content tokens masked."""
        target_mask = labels.ne(-100)
        masked = random_mask(content_mask(target_mask), TargetNoise(labels, self.training, generator))
        canvas = labels.masked_fill(~target_mask, self.config.pad_token_id)
        return canvas.masked_fill(masked, self.config.mask_token_id)

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

    def refine(self, state: NATState) -> NATState:
        """Masks the least probable tokens, fewer in every round, and predicts them again.

        Before round t of T, counted from 0, n * (T - t) // T of a row's n content tokens are masked: all in round 0.
        A row is finished when the next round would mask none. Tokens keep the score of the round that wrote them.

        Args:
            state ([`NATState`]): the state.

        Returns:
            [`NATState`]: the state after the round.

        Source: Ghazvininejad et al. 2019, section 3.2, with the numbers in exact integer arithmetic.
        """
        content = content_mask(state.tokens.ne(self.config.pad_token_id))
        num_content, rounds_left = content.sum(dim=1), state.max_iterations - state.iteration
        masked = lowest(state.scores, content, num_content * rounds_left // state.max_iterations)
        canvas = state.tokens.masked_fill(masked, self.config.mask_token_id)
        members = zip(state.members, state.encoder_hidden_states, strict=True)
        hidden_states = [member.canvas_states(state, states, canvas)[masked] for member, states in members]
        predicted, log_probs = self._best_tokens(state, hidden_states, self._special_token_ids())
        return dataclasses.replace(
            state,
            tokens=canvas.masked_scatter(masked, predicted),
            scores=state.scores.masked_scatter(masked, log_probs),
            finished=num_content * (rounds_left - 1) // state.max_iterations == 0,
            intermediate=(canvas,) if state.iteration else (),
        )
