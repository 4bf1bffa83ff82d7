"""Vanilla NAT: one decoder pass over a copy of the source, all tokens at once.

Dimension letters: B batch, S source, T target, D model, M length bins, V vocabulary; R rows of a decoding state.
"""

import dataclasses
import math
from typing import Any

import torch
from torch import nn
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils import can_return_tuple

from .canvas import content_mask
from .configuration_vanilla_nat import VanillaNATConfig
from .generation_length import SourceCopyNATGenerationMixin
from .generation_state import NATState
from .glancing import Glancing, first_pass, reveal
from .length import LengthPredictor
from .losses import reduce_logits, token_share
from .modeling_nat import NATModel, NATPreTrainedModel, NATSeq2SeqLMOutput
from .noise import TargetNoise
from .order_agnostic import best_order
from .selection import selected_positions, take
from .source_copy import SourceCopy
from .word_choice import best_tokens


class VanillaNATForConditionalGeneration(SourceCopyNATGenerationMixin, NATPreTrainedModel):
    """Non-autoregressive Transformer without fertilities.

    A canvas is all masks and EOS. The decoder reads a copy of the source at the masks (`source_copy`) and token
    embeddings elsewhere. With `glancing_ratio` some of the masks show the target's tokens in training (GLAT). With
    `order_agnostic` the words of a target may stand in any order (OaXE):
    `from_pretrained(checkpoint, order_agnostic=True)` goes on with that.

    Args:
        config ([`VanillaNATConfig`]): configuration.

    Source: Gu et al. 2018 (arXiv:1711.02281), simplified as in Zhou et al. 2020: no fertilities, no positional
        attention; decoder positions attend to themselves too, as in fairseq. Glancing: Qian et al. 2021
        (arXiv:2008.07905), but EOS is never masked, so never revealed, and the length loss counts in full, where the
        authors' counts by the share that is not revealed. OaXE: Du et al. 2021 (arXiv:2106.05093), but
        EOS stays at the end, and the margin is what it says (the authors' code compares a natural logarithm with one
        to base 2) and leaves label smoothing out too.
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
        self.glancing = Glancing(config) if config.is_glancing else None
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
        """Predicts all target tokens, at the gold length or on a given canvas.

        The canvas, by default masks and EOS at the length of the labels, switches glancing off where it is given;
        `generator` draws what glancing reveals. The source is needed beside `encoder_outputs`, too. For the arguments
        see [`NATPreTrainedModel`].

        Returns:
            [`NATSeq2SeqLMOutput`]: `loss` with `labels`, over all their positions but those revealed by glancing. In
            training with `labels`, `logits` is `None`.

        Raises:
            ValueError: if neither `labels` nor `decoder_input_ids` are given, or no source.
        """
        decoder_input_ids = self._canvas(labels, decoder_input_ids, decoder_attention_mask, kwargs)
        attention_mask = self.model.source_mask(input_ids, attention_mask, inputs_embeds)
        source = {"input_ids": input_ids, "attention_mask": attention_mask, "inputs_embeds": inputs_embeds}
        selected = None if labels is None else labels.ne(-100)
        shares = {}
        if decoder_input_ids is None:
            assert labels is not None and selected is not None
            masked = content_mask(selected)
            decoder_input_ids = labels.masked_fill(~selected, self.config.pad_token_id)
            decoder_input_ids = decoder_input_ids.masked_fill(masked, self.config.mask_token_id)
            ratio = self.glancing.next_ratio() if self.training and self.glancing is not None else 0.0
            if ratio:
                encoder_outputs = self.model.encode(**source, encoder_outputs=encoder_outputs, **kwargs)
                noise = TargetNoise(labels, self.training, generator)
                same, revealed = self._glance(decoder_input_ids, labels, ratio, noise, source, encoder_outputs)
                decoder_input_ids = torch.where(revealed, labels, decoder_input_ids)
                selected &= ~revealed
                shares["correct"] = token_share(same, masked, labels, num_items_in_batch)
                shares["glanced"] = token_share(revealed, masked, labels, num_items_in_batch)
        outputs = self._decode(decoder_input_ids, source, encoder_outputs, **kwargs)
        length_logits = self.length_predictor(outputs.encoder_last_hidden_state, attention_mask)
        logits, components = None, None
        if not self._skips_logits(labels, skip_logits):
            logits = self.lm_head(outputs.last_hidden_state)
        if labels is not None and selected is not None:
            kept, targets = None, labels
            if self.config.order_agnostic:
                kept, targets = self._reorder(outputs.last_hidden_state, selected, labels)
                shares["left_out"] = token_share(~kept, selected, labels, num_items_in_batch)
            components = {
                "word": self._word_loss(outputs.last_hidden_state, selected, targets, num_items_in_batch, kept),
                "length": self.length_predictor.loss(length_logits, labels, attention_mask, num_items_in_batch),
            }
        return NATSeq2SeqLMOutput.build(
            outputs, components, logits=logits, length_logits=length_logits, token_shares=shares or None
        )

    def _glance(
        self,
        canvas: torch.Tensor,
        labels: torch.Tensor,
        ratio: float,
        noise: TargetNoise,
        source: dict[str, torch.Tensor | None],
        encoder_outputs: BaseModelOutput,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Marks masks of a canvas `[B, T]`: those predicted right without help, and those to reveal.

        Of n masks that are predicted wrong, ratio * n choose a mask to reveal, a right or a wrong one.
        """
        masked = canvas.eq(self.config.mask_token_id)
        uniforms = noise.uniform(canvas.shape[1])
        with first_pass(canvas.device):
            hidden_states = self._decode(canvas, source, encoder_outputs).last_hidden_state
            hidden_states = take(hidden_states, selected_positions(masked))
            predicted = reduce_logits(hidden_states, self.lm_head.weight, lambda logits: logits.argmax(dim=1))
        same = masked & (canvas.masked_scatter(masked, predicted) == labels)
        return same, reveal(masked, ratio * (masked & ~same).sum(dim=1).double(), uniforms)

    def _reorder(
        self, hidden_states: torch.Tensor, selected: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Puts the labels `[B, T]` at selected positions into their most probable order, EOS left where it is.

        Returns:
            `tuple` of marks `[B, T]` of the positions whose labels reach the margin, and of those labels `[B, T]`.
        """
        moved = selected & content_mask(labels.ne(-100))
        ordered, log_probs = best_order(hidden_states, self.lm_head.weight, labels, moved)
        margin = self.config.order_agnostic_margin
        return selected & (log_probs >= math.log(margin)) if margin else selected, ordered

    def refine(self, state: NATState) -> NATState:
        """Predicts all content tokens; one round is all there is.

        Args:
            state ([`NATState`]): the state.

        Returns:
            [`NATState`]: the final state.
        """
        masked = state.tokens.eq(self.config.mask_token_id)
        hidden_states = self._states_at(state, masked)
        predicted, log_probs = best_tokens(state, hidden_states, self._special_token_ids(), state.with_scores)
        return dataclasses.replace(
            state,
            tokens=state.tokens.masked_scatter(masked, predicted),
            scores=state.scores.masked_scatter(masked, log_probs),
            finished=torch.ones_like(state.finished),
        )
