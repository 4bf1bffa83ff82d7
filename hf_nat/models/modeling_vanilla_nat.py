"""Vanilla NAT: one decoder pass over a copy of the source, all tokens at once.

Dimension letters: B batch, S source, T target, D model, M length bins, V vocabulary; R rows of a decoding state.
"""

import dataclasses
from typing import Any

import torch
from torch import nn
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils import can_return_tuple

from .canvas import content_mask
from .configuration_vanilla_nat import VanillaNATConfig
from .generation_length import SourceCopyNATGenerationMixin
from .generation_nat import NATState
from .length import LengthPredictor
from .modeling_nat import NATModel, NATPreTrainedModel, NATSeq2SeqLMOutput
from .source_copy import SourceCopy


class VanillaNATForConditionalGeneration(SourceCopyNATGenerationMixin, NATPreTrainedModel):
    """Non-autoregressive Transformer without fertilities.

    A canvas is all masks and EOS. The decoder reads a copy of the source at the masks (`source_copy`) and token
    embeddings elsewhere.

    Args:
        config ([`VanillaNATConfig`]): configuration.

    Source: Gu et al. 2018 (arXiv:1711.02281), simplified as in Zhou et al. 2020: no fertilities, no positional
        attention; decoder positions attend to themselves too, as in fairseq.
    """

    config: VanillaNATConfig
    _tied_weights_keys = {"lm_head.weight": "model.shared.weight"}
    generation_defaults = {**SourceCopyNATGenerationMixin.generation_defaults, "max_iterations": 1}
    iteration_limit = 1

    def __init__(self, config: VanillaNATConfig) -> None:
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
        **kwargs: Any,
    ) -> NATSeq2SeqLMOutput:
        """Predicts all target tokens, at the gold length or on a given canvas.

        Args:
            input_ids (`torch.LongTensor` of shape `(B, S)`, *optional*): source tokens.
            attention_mask (`torch.LongTensor` of shape `(B, S)`, *optional*): 1 at source tokens, by default
                everywhere but at padding.
            labels (`torch.LongTensor` of shape `(B, T)`, *optional*): targets with EOS; -100 is ignored.
            decoder_input_ids (`torch.LongTensor` of shape `(B, T)`, *optional*): a canvas, by default masks and EOS at
                the length of the labels.
            decoder_attention_mask (`torch.LongTensor` of shape `(B, T)`, *optional*): 1 at tokens of the canvas, by
                default everywhere but at padding.
            encoder_outputs (`BaseModelOutput`, *optional*): result of the encoder; the source is needed all the same.
            inputs_embeds (`torch.FloatTensor` of shape `(B, S, D)`, *optional*): source embeddings before scaling.
            num_items_in_batch (`int` or `torch.Tensor`, *optional*): target tokens of the whole update.
            **kwargs: `output_hidden_states`, `output_attentions` and the like.

        Returns:
            [`NATSeq2SeqLMOutput`]: `loss` with `labels`, over all their positions. In training with `labels`, `logits`
            is `None`.

        Raises:
            ValueError: if neither `labels` nor `decoder_input_ids` are given, or no source.
        """
        decoder_input_ids = self._canvas(decoder_input_ids, decoder_attention_mask)
        if decoder_input_ids is None:
            if labels is None:
                raise ValueError("One of `labels` and `decoder_input_ids` must be given, got none.")
            decoder_input_ids = labels.masked_fill(labels == -100, self.config.pad_token_id)
            content = content_mask(labels.ne(-100))
            decoder_input_ids = decoder_input_ids.masked_fill(content, self.config.mask_token_id)
        attention_mask = self.model.source_mask(input_ids, attention_mask, inputs_embeds)
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            decoder_inputs_embeds=self.source_copy.embed_canvas(
                self.model, decoder_input_ids, input_ids, attention_mask, inputs_embeds
            ),
            decoder_attention_mask=decoder_input_ids.ne(self.config.pad_token_id),
            encoder_outputs=encoder_outputs,
            inputs_embeds=inputs_embeds,
            **kwargs,
        )
        length_logits = self.length_predictor(outputs.encoder_last_hidden_state, attention_mask)
        logits, components = None, None
        if labels is None or not self.training:
            logits = self.lm_head(outputs.last_hidden_state)
        if labels is not None:
            selected = labels.ne(-100)
            components = {
                "word": self._word_loss(outputs.last_hidden_state, selected, labels, num_items_in_batch),
                "length": self.length_predictor.loss(length_logits, labels, attention_mask, num_items_in_batch),
            }
        return NATSeq2SeqLMOutput.build(outputs, components, logits=logits, length_logits=length_logits)

    def refine(self, state: NATState) -> NATState:
        """Predicts all content tokens; one round is all there is.

        Args:
            state ([`NATState`]): the state.

        Returns:
            [`NATState`]: the final state.
        """
        masked = state.tokens.eq(self.config.mask_token_id)
        logits = self._logits(state, "word_logits", masked)
        tokens, scores = self._predict(logits, masked, state.tokens, state.scores)
        return dataclasses.replace(state, tokens=tokens, scores=scores, finished=torch.ones_like(state.finished))
