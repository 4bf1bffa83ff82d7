"""Hard mixture of experts: one Marian model, K experts told apart by the decoder's start token.

Dimension letters: B batch, S source, T target, D model, K experts, V vocabulary.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn
from transformers import GenerationConfig, MarianMTModel
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput
from transformers.models.marian.modeling_marian import shift_tokens_right
from transformers.utils import can_return_tuple

from .configuration_moe_marian import MoEMarianConfig


@dataclass
class MoESeq2SeqLMOutput(Seq2SeqLMOutput):
    """Output of a mixture of experts: `Seq2SeqLMOutput` of the winners, and who they are.

    Args:
        experts (`torch.LongTensor` of shape `(B,)`, *optional*): the winner of each sentence, in [0, K).
        expert_log_probs (`torch.FloatTensor` of shape `(B, K)`, *optional*): log p(labels | source, expert) in nats,
            summed over the target tokens.
        expert_counts (`torch.LongTensor` of shape `(K,)`, *optional*): sentences that each expert has won.
    """

    experts: torch.Tensor | None = None
    expert_log_probs: torch.Tensor | None = None
    expert_counts: torch.Tensor | None = None


class MoEMarianMTModel(MarianMTModel):
    """Marian as a uniform, hard mixture of experts that share every parameter but their start token.

    `forward` with `labels` alone is one step of online EM. E-step, without dropout and gradient: each expert's
    log-likelihood of each target; the prior is uniform, so the most likely expert wins the sentence (of equal ones the
    first). M-step, with dropout where the model trains: the cross entropy of the winner, over a new encoding of the
    source. With `decoder_input_ids` it is a plain Marian, whose first token says which expert speaks.

    The logits of the experts' tokens are -inf: none is ever generated, and the other tokens' probabilities sum to 1.

    Args:
        config ([`MoEMarianConfig`]): the model's configuration.

    Source: Shen et al. 2019, hMoEup (https://arxiv.org/abs/1902.07816), as used by Zhou et al. 2020, section 5.2.
    Differs: fairseq keeps the experts' tokens in the softmax.
    """

    config: MoEMarianConfig

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
        past_key_values: Any = None,
        inputs_embeds: torch.Tensor | None = None,
        decoder_inputs_embeds: torch.Tensor | None = None,
        labels: torch.LongTensor | None = None,
        use_cache: bool | None = None,
        num_items_in_batch: int | torch.Tensor | None = None,
        **kwargs: Any,
    ) -> MoESeq2SeqLMOutput:
        """Computes the winners' loss, or the logits of the expert that `decoder_input_ids` begins with.

        Args:
            input_ids (`torch.LongTensor` of shape `(B, S)`, *optional*): source tokens.
            attention_mask (`torch.Tensor` of shape `(B, S)`, *optional*): 1 for tokens, 0 for padding.
            decoder_input_ids (`torch.LongTensor` of shape `(B, T)`, *optional*): target tokens behind an expert's.
            decoder_attention_mask (`torch.Tensor` of shape `(B, T)`, *optional*): 1 for tokens, 0 for padding.
            encoder_outputs (`BaseModelOutput`, *optional*): of an encoder that need not run again.
            past_key_values (`Cache`, *optional*): of the tokens before.
            inputs_embeds (`torch.Tensor` of shape `(B, S, D)`, *optional*): instead of `input_ids`.
            decoder_inputs_embeds (`torch.Tensor` of shape `(B, T, D)`, *optional*): instead of `decoder_input_ids`.
            labels (`torch.LongTensor` of shape `(B, T)`, *optional*): targets with EOS; -100 is ignored.
            use_cache (`bool`, *optional*): whether to return `past_key_values`; not with `labels`.
            num_items_in_batch (`int` or `torch.Tensor`, *optional*): target tokens of the whole update; by default
                those of this batch.
            **kwargs: passed on to the encoder and the decoder.

        Returns:
            [`MoESeq2SeqLMOutput`]: `loss` in nats per target token, with `label_smoothing` as the config says;
            `logits` `(B, T, V)`; the winners, where there is a mixture.

        Raises:
            ValueError: if neither `labels` nor decoder inputs are given.
        """
        source = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "encoder_outputs": encoder_outputs,
            "inputs_embeds": inputs_embeds,
        }
        experts: dict[str, torch.Tensor] = {}
        if decoder_input_ids is None and decoder_inputs_embeds is None:
            if labels is None:
                raise ValueError(
                    "One of `labels` and `decoder_input_ids` must be given, got none. Give `labels` to train."
                )
            experts = self._winners(labels, source)
            decoder_input_ids = cast(torch.LongTensor, self._decoder_input_ids(labels, experts["experts"]))
        output = self._masked_forward(
            **source,
            decoder_input_ids=decoder_input_ids,
            decoder_attention_mask=decoder_attention_mask,
            past_key_values=past_key_values,
            decoder_inputs_embeds=decoder_inputs_embeds,
            use_cache=use_cache if labels is None else False,
            **kwargs,
        )
        logits = cast(torch.Tensor, output.logits)
        loss = None if labels is None else self._loss(logits, labels, num_items_in_batch)
        return MoESeq2SeqLMOutput(**{**output, "loss": loss, **experts})

    @torch.no_grad()
    def generate(  # type: ignore[override]
        self,
        inputs: torch.Tensor | None = None,
        generation_config: GenerationConfig | None = None,
        *,
        expert: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """Generates as every model of transformers does, with one expert.

        Args:
            inputs (`torch.LongTensor` of shape `(B, S)`, *optional*): source tokens; or `input_ids` by name.
            generation_config (`GenerationConfig`, *optional*): settings other than the model's own.
            expert (`int`, *optional*): the expert, in [0, K); by default `expert` of the generation config where it
                has one, else the one whose token is its `decoder_start_token_id`.
            **kwargs: see `GenerationMixin.generate`.

        Returns:
            `torch.LongTensor` of shape `(B, 1 + T)`, the expert's token first, or a `ModelOutput`.

        Raises:
            ValueError: if there is no such expert, or the decoder's start is given twice.
        """
        starts = [name for name in ("decoder_start_token_id", "decoder_input_ids") if kwargs.get(name) is not None]
        if expert is not None and starts:
            raise ValueError(f"Only one of `expert` and `{starts[0]}` must be given, got both. Leave one out.")
        if not starts:
            for settings in (generation_config, self.generation_config):
                expert = getattr(settings, "expert", None) if expert is None else expert
        if expert is not None:
            kwargs["decoder_start_token_id"] = self.expert_token_id(expert)
        return cast(Any, super()).generate(inputs, generation_config, **kwargs)

    def expert_token_id(self, expert: int) -> int:
        """Returns the start token of an expert.

        Args:
            expert (`int`): number of the expert, in [0, K).

        Raises:
            ValueError: if there is no such expert.
        """
        if not 0 <= expert < self.config.num_experts:
            raise ValueError(
                f"`expert` must be in [0, {self.config.num_experts}), the model's experts, got {expert}. "
                "The first is 0."
            )
        return self._expert_tokens[expert]

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
        with _evaluation_mode(self):
            if encoder_outputs is None:
                encoder = self.get_encoder()
                encoder_outputs = encoder(
                    input_ids=input_ids, attention_mask=attention_mask, inputs_embeds=inputs_embeds, return_dict=True
                )
            scores = []
            for expert in range(self.config.num_experts):
                output = self._masked_forward(
                    attention_mask=attention_mask,
                    encoder_outputs=encoder_outputs,
                    decoder_input_ids=self._decoder_input_ids(labels, labels.new_full((len(labels),), expert)),
                    use_cache=False,
                )
                scores.append(-_token_losses(cast(torch.Tensor, output.logits), labels).sum(dim=1))
        return torch.stack(scores, dim=1)

    def _winners(self, labels: torch.Tensor, source: dict[str, Any]) -> dict[str, torch.Tensor]:
        """The E-step: hard responsibilities under a uniform prior, as fields of the output."""
        scores = self.expert_log_probs(labels, **source)
        experts = scores.argmax(dim=1)
        counts = nn.functional.one_hot(experts, self.config.num_experts).sum(dim=0)
        return {"experts": experts, "expert_log_probs": scores, "expert_counts": counts}

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

    def _loss(
        self, logits: torch.Tensor, labels: torch.Tensor, num_items_in_batch: int | torch.Tensor | None
    ) -> torch.Tensor:
        """Cross entropy in nats per target token; smoothing leaves the experts' tokens out."""
        is_token, smoothing = labels.ne(-100), self.config.label_smoothing
        losses = _token_losses(logits, labels)
        if smoothing:
            logits = logits.float()
            is_expert = torch.zeros(logits.shape[-1], dtype=torch.bool, device=logits.device)
            is_expert[self._expert_tokens] = True
            mean = logits.masked_fill(is_expert, 0.0).sum(dim=-1) / (len(is_expert) - self.config.num_experts)
            uniform = (logits.logsumexp(dim=-1) - mean).masked_fill(~is_token, 0.0)
            losses = (1 - smoothing) * losses + smoothing * uniform
        return losses.sum() / (is_token.sum().clamp(min=1) if num_items_in_batch is None else num_items_in_batch)


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
