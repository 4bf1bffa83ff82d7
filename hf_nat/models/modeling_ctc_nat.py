"""CTC: one decoder pass over more frames than a translation has tokens; the frames collapse to it.

Dimension letters: B batch, S source, F frames, T target, D model, V vocabulary.
"""

from typing import Any

import torch
from torch import nn
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils import can_return_tuple

from .canvas import content_mask
from .configuration_ctc_nat import CTCNATConfig
from .ctc import best_alignment, is_feasible, label_scores, linear_ctc_loss
from .generation_ctc import CTCNATGenerationMixin
from .glancing import Glancing, first_pass
from .losses import reduce_logits, sentence_weights, token_share
from .modeling_nat import NATModel, NATPreTrainedModel, NATSeq2SeqLMOutput
from .noise import TargetNoise
from .selection import selected_positions, take
from .source_copy import SourceCopy


class CTCNATForConditionalGeneration(CTCNATGenerationMixin, NATPreTrainedModel):
    """Non-autoregressive Transformer with connectionist temporal classification.

    A canvas is `upsample_ratio` masks, the frames, for each source token, and EOS. The decoder reads a copy of the
    source at the masks. Each frame predicts a label or the blank; equal neighbours are merged, then blanks dropped, so
    that no length is predicted. The loss is the negative log-likelihood of the target over all its alignments.

    A target that does not fit into its frames has no alignment. Such pairs are left out of the loss;
    `token_shares["infeasible"]` is their share of the target tokens.

    Args:
        config ([`CTCNATConfig`]): configuration.

    Source: Libovický and Helcl 2018 (arXiv:1811.04719); Gu and Kong 2021 (arXiv:2012.15833). Differs: no EOS among
        the labels, the canvas has one behind the frames.
    """

    config: CTCNATConfig
    _tied_weights_keys = {"lm_head.weight": "model.shared.weight"}

    def __init__(self, config: CTCNATConfig) -> None:
        super().__init__(config)
        self.model = NATModel(config)
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
        """Predicts all frames and, with labels, adds up the alignments of the target with them.

        The canvas `(B, F + 1)`, by default masks and EOS, switches glancing off where it is given; `generator` draws
        what glancing reveals. The source is needed beside `encoder_outputs`, too. For the arguments see
        [`NATPreTrainedModel`].

        Returns:
            [`NATSeq2SeqLMOutput`]: `loss` with `labels`: the sum over the feasible sentences, per target token.
            `logits` cover the F + 1 positions of the canvas; in training with `labels` they are `None`.

        Raises:
            ValueError: if neither `labels` nor `decoder_input_ids` are given, or no source.
        """
        decoder_input_ids = self._canvas(labels, decoder_input_ids, decoder_attention_mask, kwargs)
        attention_mask = self.model.source_mask(input_ids, attention_mask, inputs_embeds)
        source = {"input_ids": input_ids, "attention_mask": attention_mask, "inputs_embeds": inputs_embeds}
        shares = {}
        if decoder_input_ids is None:
            assert labels is not None
            decoder_input_ids = self.initial_canvas(attention_mask)
            ratio = self.glancing.next_ratio() if self.training and self.glancing is not None else 0.0
            if ratio:
                encoder_outputs = self.model.encode(**source, encoder_outputs=encoder_outputs, **kwargs)
                noise = TargetNoise(labels, self.training, generator)
                masked = decoder_input_ids.eq(self.config.mask_token_id)
                same, revealed, shown = self._glance(decoder_input_ids, labels, ratio, noise, source, encoder_outputs)
                decoder_input_ids = torch.where(revealed, shown, decoder_input_ids)
                shares["correct"] = token_share(same, masked, labels, num_items_in_batch)
                shares["glanced"] = token_share(revealed, masked, labels, num_items_in_batch)
        outputs = self._decode(decoder_input_ids, source, encoder_outputs, **kwargs)
        logits, components = None, None
        if not self._skips_logits(labels, skip_logits):
            logits = self.lm_head(outputs.last_hidden_state)
        if labels is not None:
            is_frame = content_mask(decoder_input_ids.ne(self.config.pad_token_id))
            targets, num_labels = self._targets(labels)
            weights = sentence_weights(labels, num_items_in_batch)
            loss = linear_ctc_loss(
                outputs.last_hidden_state,
                self.lm_head.weight,
                is_frame,
                targets,
                num_labels,
                weights / labels.ne(-100).sum(dim=1).clamp(min=1),
                self._blank,
                self.config.label_smoothing,
            )
            components = {"word": loss}
            shares["infeasible"] = (weights * ~is_feasible(targets, num_labels, is_frame.sum(dim=1))).sum()
        return NATSeq2SeqLMOutput.build(outputs, components, logits=logits, token_shares=shares or None)

    def infeasible_pairs(self, attention_mask: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Marks the pairs that the loss leaves out: their target has no alignment with the frames of its source.

        Args:
            attention_mask (`torch.LongTensor` of shape `(B, S)`): 1 at source tokens.
            labels (`torch.LongTensor` of shape `(B, T)`): targets with EOS; -100 is ignored.

        Returns:
            `torch.BoolTensor` of shape `(B,)`: True where the target does not fit.
        """
        canvas = self.initial_canvas(attention_mask)
        num_frames = content_mask(canvas.ne(self.config.pad_token_id)).sum(dim=1)
        return ~is_feasible(*self._targets(labels), num_frames)

    @property
    def _blank(self) -> int:
        """Id of the blank, which the configuration has made sure of."""
        assert self.config.blank_token_id is not None
        return self.config.blank_token_id

    def _targets(self, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Takes EOS from labels `[B, T]`: targets `[B, T - 1]`, blanks behind them, and their lengths `[B]`."""
        content = content_mask(labels.ne(-100))
        return labels.masked_fill(~content, self._blank)[:, :-1], content.sum(dim=1)

    def _glance(
        self,
        canvas: torch.Tensor,
        labels: torch.Tensor,
        ratio: float,
        noise: TargetNoise,
        source: dict[str, torch.Tensor | None],
        encoder_outputs: BaseModelOutput,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Marks frames of a canvas `[B, F + 1]`: those right without help, and those to reveal; also what they show.

        The gold frames are the most probable alignment. Where n of F frames are right, each is revealed with
        probability ratio * (F - n) / F; one that holds a blank shows the label that follows it.

        Source: Qian et al. 2021 and their code for CTC.
        """
        masked = canvas.eq(self.config.mask_token_id)
        uniforms = noise.uniform(canvas.shape[1])
        targets, num_labels = self._targets(labels)
        num_frames = masked.sum(dim=1)
        with first_pass(canvas.device):
            hidden_states = self._decode(canvas, source, encoder_outputs).last_hidden_state
            scores = label_scores(hidden_states, self.lm_head.weight, targets, self._blank)
            hidden_states = take(hidden_states, selected_positions(masked))
            predicted = reduce_logits(hidden_states, self.lm_head.weight, lambda logits: logits.argmax(dim=1))
        states = best_alignment(scores, targets, num_labels, num_frames)
        # A column more: of a target without labels nothing is shown.
        following = torch.minimum(states // 2, num_labels.unsqueeze(1) - 1).clamp(min=0)
        shown = nn.functional.pad(targets, (0, 1), value=self._blank).gather(1, following)
        gold = torch.where(states % 2 == 1, shown, self._blank)
        same = masked & (states >= 0) & (canvas.masked_scatter(masked, predicted) == gold)
        wrong_shares = 1 - same.sum(dim=1) / num_frames
        eligible = (states >= 0) & (num_labels > 0).unsqueeze(1)
        return same, eligible & (uniforms < ratio * wrong_shares.unsqueeze(1)), shown
