"""FlowSeq: latent variables from an invertible flow carry what depends on what, then all tokens come at once.

Dimension letters: B batch, S source, T target padded to a multiple of `length_unit`, D model, M length classes,
V vocabulary.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqModelOutput
from transformers.models.marian.modeling_marian import MarianAttention
from transformers.utils import can_return_tuple

from .configuration_flowseq import FlowSeqConfig
from .flow_layers import (
    ActNorm,
    Grid,
    InvertibleLinear,
    WeightNormLinear,
    gaussian_log_prob,
    make_grids,
    standard_normal,
)
from .flows import PositionalAttention, PriorFlow
from .flowseq_posterior import FlowSeqPosterior
from .generation_flowseq import FlowSeqGenerationMixin
from .length_flowseq import FlowSeqLengthPredictor
from .losses import linear_cross_entropy, num_items
from .modeling_nat import NATModel, NATPreTrainedModel, NATSeq2SeqLMOutput
from .noise import TargetNoise
from .selection import counter_value, selected_positions, take


class FlowSeqForConditionalGeneration(FlowSeqGenerationMixin, NATPreTrainedModel):
    """Translation model with latent variables, one vector for each target token, whose prior is a generative flow.

    A target is padded with EOS to a multiple of `length_unit`; the padding is predicted like its tokens, and a
    translation ends at its first EOS.

    Training has two phases, counted by the forward passes in training mode with `labels` alone (updates times
    accumulated batches) in the buffer `num_batches`. For `init_steps` batches posterior, decoder and length predictor
    learn to reconstruct targets, without noise. After them the loss is the negative evidence lower bound (ELBO), where
    the weight of the KL divergence rises for `kl_annealing_steps`. The first batch of each phase sets the scales of
    the layers that come into use. All this is in buffers: a checkpoint goes on as if nothing had happened.

    Args:
        config ([`FlowSeqConfig`]): configuration.

    Source: Ma et al. 2019 (arXiv:1909.02480). Differs: blocks are Marian's (`attention_output_projection`), a target
        always has an EOS.
    """

    config: FlowSeqConfig
    _tied_weights_keys = {"lm_head.weight": "model.shared.weight"}

    num_batches: torch.Tensor
    num_initialized: torch.Tensor

    def __init__(self, config: FlowSeqConfig) -> None:
        super().__init__(config)
        self.model = NATModel(config)
        self.posterior = FlowSeqPosterior(config)
        self.prior = PriorFlow(config)
        self.positional_attention = PositionalAttention(config, config.d_model, config.decoder_attention_heads)
        self.length_predictor = FlowSeqLengthPredictor(config)
        self.lm_head = nn.Linear(config.d_model, config.vocab_size)
        self.register_buffer("num_batches", torch.zeros((), dtype=torch.long))
        # Of the two groups of layers whose scales come from data: the posterior's means, then all others.
        self.register_buffer("num_initialized", torch.zeros((), dtype=torch.long))
        if not config.attention_output_projection:
            for module in self.modules():
                if isinstance(module, MarianAttention):
                    module.out_proj = nn.Identity()  # type: ignore[assignment]
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, ActNorm | InvertibleLinear | WeightNormLinear):
            module.reset_parameters()
        elif isinstance(module, FlowSeqForConditionalGeneration):
            init.zeros_(module.num_batches)
            init.zeros_(module.num_initialized)

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
        """Reconstructs the labels from a sample of the posterior, or decodes the most probable noise of the prior.

        In training mode with `labels` it counts the batch, see the class. In evaluation mode the loss is the whole
        negative ELBO in both phases, with a KL weight of 1: values from different moments of a training compare.

        Only the number of tokens of a canvas `(B, T')` matters. It switches sampling off, which `generator` draws:
        latent variables are the flow's image of noise 0. With labels `(B, T')`, which then give the number, the loss
        has no KL divergence. For the arguments see [`NATPreTrainedModel`].

        Returns:
            [`NATSeq2SeqLMOutput`]: `loss` with `labels`: the sum over positions, padding included, and sentences, per
            target token. `logits` cover the T' positions given; in training with `labels` they are `None`. States of
            the decoder cover T positions, a multiple of `length_unit`.

        Raises:
            ValueError: if neither `labels` nor `decoder_input_ids` are given.
        """
        decoder_input_ids = self._canvas(labels, decoder_input_ids, decoder_attention_mask, kwargs)
        if labels is not None:
            is_token = labels.ne(-100)
        else:
            assert decoder_input_ids is not None
            is_token = decoder_input_ids.ne(self.config.pad_token_id)
        attention_mask = self.model.source_mask(input_ids, attention_mask, inputs_embeds)
        encoder_outputs = self.model.encode(input_ids, attention_mask, inputs_embeds, encoder_outputs, **kwargs)
        states: Any = encoder_outputs.last_hidden_state
        grids = self.make_grids(is_token, states, attention_mask)
        sums, logits, components = {}, None, None
        if labels is not None and decoder_input_ids is None:
            noise = TargetNoise(labels, self.training, generator)
            hidden_states = self._read_targets(labels, grids, attention_mask)
            sample = self._sample_in_training if self.training else self._sample_posterior
            latents, sums["kl"] = sample(hidden_states, grids, noise)
        else:
            latents = self.prior.inverse(states.new_zeros(*grids[0].mask.shape, states.shape[2]), grids)
        outputs: Any = self._decode(latents, grids, attention_mask, encoder_outputs, **kwargs)
        length_logits = self.length_predictor(states, attention_mask)
        if not self._skips_logits(labels, skip_logits):
            logits = self.lm_head(outputs.last_hidden_state[:, : is_token.shape[1]])
        if labels is not None:
            sums["word"] = self._reconstruction_loss(outputs.last_hidden_state, labels, grids[0].mask)
            sums["length"] = self.length_predictor.loss(length_logits, labels, attention_mask)
            divisor = num_items(labels, num_items_in_batch)
            components = {name: total / divisor for name, total in sums.items()}
        return NATSeq2SeqLMOutput.build(outputs, components, logits=logits, length_logits=length_logits)

    def make_grids(
        self, is_token: torch.Tensor, encoder_hidden_states: torch.Tensor, attention_mask: torch.Tensor
    ) -> list[Grid]:
        """Pads targets to multiples of `length_unit` and builds what the layers of the flow share.

        Args:
            is_token (`torch.BoolTensor` of shape `(B, T')`): True at the tokens of right-padded targets.
            encoder_hidden_states (`torch.FloatTensor` of shape `(B, S, D)`): final encoder states.
            attention_mask (`torch.LongTensor` of shape `(B, S)`): 1 at source tokens.

        Returns:
            `list[Grid]`: one for each level; the first has all T positions.
        """
        unit = self.config.length_unit
        width = (is_token.shape[1] + unit - 1) // unit * unit
        lengths = (is_token.sum(dim=1).clamp(min=1) + unit - 1) // unit * unit
        mask = torch.arange(width, device=is_token.device) < lengths.unsqueeze(1)
        return make_grids(self.config, mask, encoder_hidden_states, attention_mask)

    def _pad(self, labels: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Pads labels `[B, T']` with EOS at the positions of `mask [B, T]`, and behind it with padding."""
        targets = nn.functional.pad(labels, (0, mask.shape[1] - labels.shape[1]), value=-100)
        targets = targets.masked_fill(targets.eq(-100), self.config.eos_token_id)
        return targets.masked_fill(~mask, self.config.pad_token_id)

    def _read_targets(self, labels: torch.Tensor, grids: Sequence[Grid], attention_mask: torch.Tensor) -> torch.Tensor:
        """Returns the posterior's states `[B, T, D]`."""
        mask = grids[0].mask
        embeds = self.model.shared(self._pad(labels, mask))
        return self.posterior(embeds, mask, grids[0].encoder_hidden_states, attention_mask)

    def _sample_posterior(
        self, hidden_states: torch.Tensor, grids: Sequence[Grid], noise: TargetNoise
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Draws latent variables `[B, T, D]` and estimates the KL divergence from them, summed over the batch."""
        mean, log_std = self.posterior.moments(hidden_states)
        draws = standard_normal(noise, *mean.shape[1:])
        latents = mean + log_std.exp() * draws
        if self.training and counter_value(self.num_initialized) < 2:
            self.prior.initialize(latents, grids)
        return latents, (self._log_posterior(draws, log_std, grids) - self.prior.log_prob(latents, grids)).sum()

    def _log_posterior(self, draws: torch.Tensor, log_std: torch.Tensor, grids: Sequence[Grid]) -> torch.Tensor:
        """Returns the log-densities `[B]` of samples whose standardised values are `draws`."""
        mask = grids[0].mask
        return gaussian_log_prob(draws, mask) - (log_std.sum(dim=2) * mask).sum(dim=1)

    def _sample_in_training(
        self, hidden_states: torch.Tensor, grids: Sequence[Grid], noise: TargetNoise
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Does what the phase asks for: latent variables `[B, T, D]` and the weighted KL divergence of the batch."""
        mask, batches = grids[0].mask, counter_value(self.num_batches) - self.config.init_steps
        self.num_batches += 1
        if counter_value(self.num_initialized) < 1:
            self.posterior.mean.initialize(hidden_states, mask)
            self.num_initialized.fill_(1)
        if batches < 0:
            # Every parameter gets a gradient in every batch, as data-parallel training wants it; not the pieces of one
            # that FSDP and ZeRO-3 make outside its layer.
            idle = [*self.posterior.log_variance.parameters(), *self.prior.parameters()]
            sums = [p.sum() for p in idle if type(p) is nn.Parameter and p.numel()]
            return self.posterior.mean(hidden_states).float(), 0.0 * sum(sums, mask.new_zeros((), dtype=torch.float))
        if counter_value(self.num_initialized) < 2:
            self.posterior.log_variance.initialize(hidden_states, mask)
        latents, kl = self._sample_posterior(hidden_states, grids, noise)
        self.num_initialized.fill_(2)
        return latents, min(1.0, (batches + 1) / self.config.kl_annealing_steps) * kl

    def _decode(
        self,
        latents: torch.Tensor,
        grids: Sequence[Grid],
        attention_mask: torch.Tensor,
        encoder_outputs: BaseModelOutput | None = None,
        **kwargs: Any,
    ) -> Seq2SeqModelOutput:
        """Runs the decoder on latent variables `[B, T, D]`."""
        states = grids[0].encoder_hidden_states
        embeds = self.positional_attention(latents.to(states.dtype), grids[0].attention_mask)
        # The decoder multiplies what it takes for token embeddings.
        scale = math.sqrt(self.config.d_model) if self.config.scale_embedding else 1.0
        return self.model(
            attention_mask=attention_mask,
            encoder_outputs=BaseModelOutput(states) if encoder_outputs is None else encoder_outputs,
            decoder_inputs_embeds=embeds / scale,
            decoder_attention_mask=grids[0].mask,
            **kwargs,
        )

    def _reconstruction_loss(
        self, hidden_states: torch.Tensor, labels: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        """Cross-entropy of the padded labels at the positions of `mask [B, T]`, summed over the batch."""
        positions = selected_positions(mask)
        targets = take(self._pad(labels, mask), positions)
        weights = torch.ones(targets.shape, device=targets.device)
        smoothing = self.config.label_smoothing
        return linear_cross_entropy(
            take(hidden_states, positions),
            self.lm_head.weight,
            targets,
            weights,
            bias=self.lm_head.bias,
            label_smoothing=smoothing,
        )[0]

    def log_likelihood(
        self,
        labels: torch.Tensor,
        grids: Sequence[Grid],
        attention_mask: torch.Tensor,
        noise: TargetNoise,
        num_samples: int,
    ) -> torch.Tensor:
        """Estimates the log-likelihood of targets, given source and length, by importance sampling.

        Args:
            labels (`torch.LongTensor` of shape `(B, T')`): targets with EOS; -100 is ignored.
            grids (`Sequence[Grid]`): see `make_grids`.
            attention_mask (`torch.LongTensor` of shape `(B, S)`): 1 at source tokens.
            noise ([`TargetNoise`]): source of the samples.
            num_samples (`int`): samples of the posterior for each target (k).

        Returns:
            `torch.FloatTensor` of shape `(B,)`: log(1/k * sum of p(z) p(y | z) / q(z | y)) in nats.

        Source: Ma et al. 2019, section 3.5.
        """
        mask = grids[0].mask
        targets = self._pad(labels, mask).unsqueeze(2)
        mean, log_std = self.posterior.moments(self._read_targets(labels, grids, attention_mask))
        log_weights = []
        for draws in standard_normal(noise, mean.shape[1], num_samples, mean.shape[2]).unbind(dim=2):
            latents = mean + log_std.exp() * draws
            logits = self.lm_head(self._decode(latents, grids, attention_mask).last_hidden_state).float()
            words = logits.gather(2, targets).squeeze(2) - logits.logsumexp(dim=2)
            log_joint = (words * mask).sum(dim=1) + self.prior.log_prob(latents, grids)
            log_weights.append(log_joint - self._log_posterior(draws, log_std, grids))
        return torch.stack(log_weights).logsumexp(dim=0) - math.log(num_samples)
