"""Mixture of experts: one Marian model, K experts told apart by the decoder's start token.

Dimension letters: B batch, S source, T target, D model, K experts, V vocabulary.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn
from transformers import MarianMTModel
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput
from transformers.models.marian.modeling_marian import shift_tokens_right
from transformers.utils import can_return_tuple

from .configuration_moe_marian import MoEMarianConfig
from .generation_moe_marian import MoEGenerationMixin
from .losses import num_items
from .moe_gating import GatingNetwork


@dataclass
class MoESeq2SeqLMOutput(Seq2SeqLMOutput):
    """Output of a mixture of experts: `Seq2SeqLMOutput`, and what the E-step found.

    Args:
        experts (`torch.LongTensor` of shape `(B,)`, *optional*): the most probable expert of each sentence, in [0, K).
        expert_log_probs (`torch.FloatTensor` of shape `(B, K)`, *optional*): log p(labels | source, expert) in nats,
            summed over the target tokens.
        expert_posteriors (`torch.FloatTensor` of shape `(B, K)`, *optional*): p(expert | source, labels).
        expert_counts (`torch.FloatTensor` of shape `(K,)`, *optional*): sentences that each expert is responsible for:
            those that it has won, or under soft assignment the sum of its posteriors. They sum to B.
    """

    experts: torch.Tensor | None = None
    expert_log_probs: torch.Tensor | None = None
    expert_posteriors: torch.Tensor | None = None
    expert_counts: torch.Tensor | None = None


class MoEMarianMTModel(MoEGenerationMixin, MarianMTModel):
    """Marian as a mixture of experts z that share every parameter but their start token.

    `forward` with `labels` alone is one step of online EM.

    - E-step, without dropout and gradient: log p(y | x, z) of each target y under each expert, and with it the
      responsibilities r(z) of the sentence. `assignment="soft"`: the posterior p(z | x, y), in proportion to
      p(z | x) p(y | x, z). `"hard"`: 1 for its most probable expert (of equal ones the first), 0 for the others.
    - M-step, with gradient, and with dropout where the model trains, over a new encoding of the source: the loss of a
      sentence is sum_z r(z) [-log p(y | x, z) - log p(z | x) + log r(z)], in which r is a constant. That is one pass
      of the decoder under hard assignment, and K under soft.

    So the loss is the variational bound on the negative log-likelihood -log sum_z p(z | x) p(y | x, z). Where there is
    neither dropout nor label smoothing, as in evaluation, the soft loss is equal to the negative log-likelihood, and
    so is its gradient. The hard loss is -log p(y, z* | x) of the winner z*, never below it. The uniform prior,
    p(z | x) = 1 / K, cancels out in the responsibilities and adds log K to the loss of a sentence, but not under hard
    assignment, where that constant is left out: the loss is the winner's cross entropy.

    With `decoder_input_ids` it is a plain Marian, whose first token says which expert speaks.

    The logits of the experts' tokens are -inf: none is ever generated, and the other tokens' probabilities sum to 1.

    Args:
        config ([`MoEMarianConfig`]): the model's configuration.

    Source: Shen et al. 2019 (https://arxiv.org/abs/1902.07816): hMoEup, hMoElp, sMoEup and sMoElp by `assignment` and
        `prior`; hMoEup as used by Zhou et al. 2020, section 5.2. Differs: fairseq keeps the experts' tokens in the
        softmax, reports logsumexp_z of the M-step in the place of the bound, which has the same gradient, and leaves
        log K out of the soft loss too.
    """

    config: MoEMarianConfig

    def __init__(self, config: MoEMarianConfig) -> None:
        super().__init__(config)
        self.gating_network = GatingNetwork(config) if config.prior == "learned" else None
        self.post_init()

    @property
    def _expert_tokens(self) -> list[int]:
        return cast(list[int], self.config.expert_token_ids)

    @property
    def prepare_decoder_input_ids_from_labels(self) -> Any:
        """Not there: `DataCollatorForSeq2Seq` would add `decoder_input_ids`, which switch the mixture off."""
        raise AttributeError("The start token depends on the sentence: give `labels` and no `decoder_input_ids`.")

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        decoder_input_ids: torch.LongTensor | None = None,
        decoder_attention_mask: torch.Tensor | None = None,
        encoder_outputs: tuple[torch.Tensor] | BaseModelOutput | None = None,
        inputs_embeds: torch.Tensor | None = None,
        decoder_inputs_embeds: torch.Tensor | None = None,
        labels: torch.LongTensor | None = None,
        use_cache: bool | None = None,
        num_items_in_batch: int | torch.Tensor | None = None,
        **kwargs: Any,
    ) -> MoESeq2SeqLMOutput:
        """Computes the mixture's loss, or the logits of the expert that `decoder_input_ids` begins with.

        Args:
            input_ids (`torch.LongTensor` of shape `(B, S)`, *optional*): source tokens.
            attention_mask (`torch.Tensor` of shape `(B, S)`, *optional*): 1 for tokens, 0 for padding.
            decoder_input_ids (`torch.LongTensor` of shape `(B, T)`, *optional*): target tokens behind an expert's.
            decoder_attention_mask (`torch.Tensor` of shape `(B, T)`, *optional*): 1 for tokens, 0 for padding.
            encoder_outputs (`BaseModelOutput`, *optional*): of an encoder that need not run again.
            inputs_embeds (`torch.Tensor` of shape `(B, S, D)`, *optional*): instead of `input_ids`.
            decoder_inputs_embeds (`torch.Tensor` of shape `(B, T, D)`, *optional*): instead of `decoder_input_ids`.
            labels (`torch.LongTensor` of shape `(B, T)`, *optional*): targets with EOS; -100 is ignored.
            use_cache (`bool`, *optional*): whether to return a cache; not with `labels`.
            num_items_in_batch (`int` or `torch.Tensor`, *optional*): target tokens of the whole update; by default
                those of this batch.
            **kwargs: passed on to the encoder and the decoder, a cache among them.

        Returns:
            [`MoESeq2SeqLMOutput`]: `loss` in nats per target token, with `label_smoothing` as the config says;
            `logits` `(B, T, V)`, those of `experts` where there is a mixture; under soft assignment no decoder states.

        Raises:
            ValueError: if neither `labels` nor decoder inputs are given.
        """
        source = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "encoder_outputs": encoder_outputs,
            "inputs_embeds": inputs_embeds,
        }
        if decoder_input_ids is None and decoder_inputs_embeds is None:
            if labels is None:
                raise ValueError(
                    "One of `labels` and `decoder_input_ids` must be given, got none. Give `labels` to train."
                )
            return self._em_step(
                source, labels, num_items_in_batch, decoder_attention_mask=decoder_attention_mask, **kwargs
            )
        output = self._masked_forward(
            **source,
            decoder_input_ids=decoder_input_ids,
            decoder_attention_mask=decoder_attention_mask,
            decoder_inputs_embeds=decoder_inputs_embeds,
            use_cache=use_cache if labels is None else False,
            **kwargs,
        )
        loss = None
        if labels is not None:
            nats = self._sentence_losses(cast(torch.Tensor, output.logits), labels).sum()
            loss = nats / num_items(labels, num_items_in_batch)
        return MoESeq2SeqLMOutput(**{**output, "loss": loss})

    @torch.no_grad()
    def expert_log_probs(
        self,
        labels: torch.Tensor,
        *,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        encoder_outputs: Any = None,
        inputs_embeds: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Computes log p(labels | source, expert) of every expert, with one encoder pass and without dropout.

        Args:
            labels (`torch.LongTensor` of shape `(B, T)`): targets with EOS; -100 is ignored.
            input_ids (`torch.LongTensor` of shape `(B, S)`, *optional*): source tokens.
            attention_mask (`torch.Tensor` of shape `(B, S)`, *optional*): 1 for tokens, 0 for padding.
            encoder_outputs (`BaseModelOutput`, *optional*): of an encoder that need not run again.
            inputs_embeds (`torch.Tensor` of shape `(B, S, D)`, *optional*): instead of `input_ids`.

        Returns:
            `torch.FloatTensor` of shape `(B, K)`: nats, summed over the target tokens, not smoothed.
        """
        source = {"input_ids": input_ids, "attention_mask": attention_mask, "inputs_embeds": inputs_embeds}
        return self._e_step({**source, "encoder_outputs": encoder_outputs}, labels)[0]

    @torch.no_grad()
    def _e_step(self, source: dict[str, Any], labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """log p(labels | source, expert) and p(expert | source, labels), two `(B, K)`, without dropout."""
        with _evaluation_mode(self):
            encoded = self._encoded(source)
            scores = []
            for expert in range(self.config.num_experts):
                decoder_input_ids = self._decoder_input_ids(labels, labels.new_full((len(labels),), expert))
                logits = self._masked_forward(**encoded, decoder_input_ids=decoder_input_ids, use_cache=False).logits
                scores.append(-_token_losses(cast(torch.Tensor, logits), labels).sum(dim=1))
            log_probs = torch.stack(scores, dim=1)
            return log_probs, (log_probs + self._prior_log_probs(encoded)).softmax(dim=1)

    def _em_step(
        self,
        source: dict[str, Any],
        labels: torch.Tensor,
        num_items_in_batch: int | torch.Tensor | None,
        **inputs: Any,
    ) -> MoESeq2SeqLMOutput:
        """The E-step and the M-step of the class's docstring."""
        log_probs, posteriors = self._e_step(source, labels)
        winners = posteriors.argmax(dim=1)
        if self.config.assignment == "soft":
            responsibilities = posteriors
            passes = [torch.full_like(winners, expert) for expert in range(self.config.num_experts)]
        else:
            responsibilities = nn.functional.one_hot(winners, self.config.num_experts).float()
            passes = [winners]
        encoded = self._encoded(source, **inputs)
        nats = -(responsibilities * self._prior_log_probs(encoded) + torch.special.entr(responsibilities)).sum()
        logits = None
        for experts in passes:
            decoder_input_ids = self._decoder_input_ids(labels, experts)
            output = self._masked_forward(**encoded, decoder_input_ids=decoder_input_ids, use_cache=False, **inputs)
            expert_logits = cast(torch.Tensor, output.logits)
            weights = responsibilities.gather(1, experts.unsqueeze(1)).squeeze(1)
            nats = nats + (weights * self._sentence_losses(expert_logits, labels)).sum()
            is_winner = experts.eq(winners)[:, None, None]
            logits = expert_logits if logits is None else torch.where(is_winner, expert_logits, logits)
        fields = {name: value for name, value in output.items() if len(passes) == 1 or name.startswith("encoder")}
        e_step = {"experts": winners, "expert_log_probs": log_probs, "expert_posteriors": posteriors}
        counts = responsibilities.sum(dim=0)
        loss = nats / num_items(labels, num_items_in_batch)
        return MoESeq2SeqLMOutput(**{**fields, "loss": loss, "logits": logits, **e_step, "expert_counts": counts})

    def _encoded(self, source: dict[str, Any], **inputs: Any) -> dict[str, Any]:
        """The encoder's output and the mask that belongs to it, as inputs of the decoder."""
        encoder_inputs = dict(source)
        encoder_outputs = encoder_inputs.pop("encoder_outputs")
        if encoder_outputs is None:
            encoder_outputs = self.get_encoder()(**encoder_inputs, **inputs, return_dict=True)
        return {"encoder_outputs": encoder_outputs, "attention_mask": source["attention_mask"]}

    def _prior_log_probs(self, encoded: dict[str, Any]) -> torch.Tensor:
        """log p(expert | source) `(B, K)`; 0 in the place of the constant that a hard assignment leaves out."""
        hidden_states = encoded["encoder_outputs"][0]
        if self.gating_network is not None:
            return self.gating_network(hidden_states, encoded["attention_mask"])
        num_experts = self.config.num_experts
        constant = -math.log(num_experts) if self.config.assignment == "soft" else 0.0
        return torch.full((len(hidden_states), num_experts), constant, device=hidden_states.device)

    def _decoder_input_ids(self, labels: torch.Tensor, experts: torch.Tensor) -> torch.Tensor:
        """Shifts `labels` `(B, T)` to the right, behind the token of each sentence's expert `(B,)`."""
        shifted = shift_tokens_right(labels, cast(int, self.config.pad_token_id), self._expert_tokens[0])
        shifted[:, 0] = experts.new_tensor(self._expert_tokens)[experts]
        return shifted

    def _masked_forward(self, **inputs: Any) -> Seq2SeqLMOutput:
        """Marian's forward pass without a loss, in which the experts' tokens have no probability."""
        output = super().forward(**inputs, return_dict=True)
        logits = cast(torch.Tensor, output.logits)
        for token_id in self._expert_tokens:
            logits[..., token_id] = float("-inf")
        return output

    def _sentence_losses(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Cross entropy `(B,)` in nats, summed over the target tokens; smoothing leaves the experts' tokens out."""
        losses, smoothing = _token_losses(logits, labels), self.config.label_smoothing
        if smoothing:
            logits = logits.float()
            is_expert = torch.zeros(logits.shape[-1], dtype=torch.bool, device=logits.device)
            is_expert[self._expert_tokens] = True
            mean = logits.masked_fill(is_expert, 0.0).sum(dim=-1) / (len(is_expert) - self.config.num_experts)
            uniform = (logits.logsumexp(dim=-1) - mean).masked_fill(labels.eq(-100), 0.0)
            losses = (1 - smoothing) * losses + smoothing * uniform
        return losses.sum(dim=1)


def _token_losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Negative log-likelihoods `(B, T)` in nats and single precision of `labels` `(B, T)`; 0 where they are -100."""
    return nn.functional.cross_entropy(logits.float().transpose(1, 2), labels, ignore_index=-100, reduction="none")


@contextmanager
def _evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Switches dropout off, and puts every module back into the mode that it was in, also after an error."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
        # Weights that autocast has cast without a gradient would be used again with one.
        torch.clear_autocast_cache()
