"""Beam search of transformers from which finished sentences leave.

Dimension letters: B sentences of a batch, R of them still decoded, K beams, C candidates of a step, T tokens, V
vocabulary.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessorList,
    MarianMTModel,
    StoppingCriteriaList,
)
from transformers.modeling_outputs import Seq2SeqLMOutput


_UNREACHABLE = -1e9
# What AT models call their cache: transformers 5.24 has renamed it.
CACHE = "cache" if "cache" in {field.name for field in fields(Seq2SeqLMOutput)} else "past_key_values"


def beam_search(
    model: MarianMTModel,
    input_ids: Tensor,
    *,
    logits_processor: LogitsProcessorList,
    stopping_criteria: StoppingCriteriaList,
    generation_config: GenerationConfig,
    **prepared: Any,
) -> Tensor:
    """Finds what `generate` finds with `early_stopping=True`, without work for sentences that have their K outputs.

    `generate` keeps every sentence until the last one of the batch is finished, copies and adds to all B x K x V
    scores once more, and moves the keys and values of the source, which all beams of a sentence share.

    Args:
        model (`MarianMTModel`): a teacher; `generate` calls this with `custom_generate=beam_search`.
        input_ids (`torch.LongTensor` of shape `(B * K, T)`): first tokens of the outputs.
        logits_processor (`LogitsProcessorList`): changes log-probabilities `(R * K, V)`, each row by its own tokens.
        stopping_criteria (`StoppingCriteriaList`): which outputs end.
        generation_config (`GenerationConfig`): `num_beams`, `num_return_sequences`, `length_penalty`, `max_length`.
        **prepared: an empty cache, the states of the source `(B * K, S, D)` and its mask `(B * K, S)`, by the names
            that `generate` has for them; it would hand a name of the signature over as it was given, once a sentence.

    Returns:
        `torch.LongTensor` of shape `(B * num_return_sequences, T')`: the outputs of each sentence, best first.
    """
    config: Any = generation_config
    beams = _Beams(input_ids, config)
    cache: Any = prepared[CACHE]  # an `EncoderDecoderCache`
    states, attention_mask = prepared["encoder_outputs"].last_hidden_state, prepared["attention_mask"]
    tokens = input_ids
    while True:
        logits = model(
            encoder_outputs=(states,),
            attention_mask=attention_mask,
            decoder_input_ids=tokens,
            use_cache=True,
            **{CACHE: cache},
        ).logits[:, -1]
        log_probs = logits_processor(beams.running.flatten(0, 1), logits.float().log_softmax(dim=1))
        origins, left = beams.step(log_probs, stopping_criteria)
        if not len(origins):
            return beams.outputs()
        cache.self_attention_cache.reorder_cache(origins)
        if left:
            cache.cross_attention_cache.reorder_cache(origins)
            states, attention_mask = states[origins], attention_mask[origins]
        tokens = beams.running[:, :, -1].reshape(-1, 1)


class _Beams:
    """Hypotheses of the sentences that are still decoded, and the outputs of all."""

    def __init__(self, input_ids: Tensor, config: Any) -> None:
        self._config, self._num_beams, self._start = config, config.num_beams, input_ids.shape[1]
        self.running = input_ids.unflatten(0, (-1, self._num_beams))  # [R, K, T]
        num_rows, device = len(self.running), input_ids.device
        self._rows = torch.arange(num_rows, device=device)
        # At first all beams are alike.
        self._scores = torch.full((num_rows, self._num_beams), _UNREACHABLE, device=device)
        self._scores[:, 0] = 0.0
        self._final_scores = torch.full_like(self._scores, float("-inf"))
        shape = (num_rows, self._num_beams, config.max_length)
        self._final = input_ids.new_full(shape, int(config._pad_token_tensor))
        self._outputs = self._final[:, : config.num_return_sequences].clone()

    def step(self, log_probs: Tensor, stopping_criteria: StoppingCriteriaList) -> tuple[Tensor, bool]:
        """Goes on by one token.

        Args:
            log_probs (`Tensor` of shape `(R * K, V)`): log-probabilities of the next token.
            stopping_criteria (`StoppingCriteriaList`): which outputs end.

        Returns:
            `tuple` of the former place, in R * K, of each hypothesis that is left, and whether sentences left.
        """
        num_beams, length = self._num_beams, self.running.shape[2] + 1
        eos = self._config._eos_token_tensor
        num_candidates = max(2, 1 + (0 if eos is None else len(eos))) * num_beams
        # The best of a sentence are among the best of its beams.
        best, tokens = log_probs.topk(min(num_candidates, log_probs.shape[1]), dim=1)
        totals = (best.unflatten(0, (-1, num_beams)) + self._scores.unsqueeze(2)).flatten(1)
        scores, order = totals.topk(num_candidates, dim=1)
        beams, tokens = order // best.shape[1], tokens.view_as(totals).gather(1, order)
        candidates = torch.cat([_take(self.running, beams), tokens.unsqueeze(2)], dim=2)  # [R, C, T + 1]
        ended = stopping_criteria(candidates.flatten(0, 1), None).view_as(scores)
        self._end(candidates, scores / (length - self._start) ** self._config.length_penalty, ended)
        self._scores, order = scores.masked_fill(ended, _UNREACHABLE).topk(num_beams, dim=1)
        self.running, beams = _take(candidates, order), beams.gather(1, order)
        return self._leave(beams, ended)

    def _end(self, candidates: Tensor, scores: Tensor, ended: Tensor) -> None:
        """Keeps the K best outputs that have ended; one is among the K best hypotheses of its step."""
        scores = scores.masked_fill(~ended, float("-inf"))[:, : self._num_beams]
        new = torch.full_like(self._final, int(self._config._pad_token_tensor))
        new[:, :, : candidates.shape[2]] = candidates[:, : self._num_beams]
        self._final_scores, order = torch.cat([self._final_scores, scores], dim=1).topk(self._num_beams, dim=1)
        self._final = _take(torch.cat([self._final, new], dim=1), order)

    def _leave(self, beams: Tensor, ended: Tensor) -> tuple[Tensor, bool]:
        """Lets go of the sentences that have K outputs, and of all where none can go on."""
        places = beams + torch.arange(len(beams), device=beams.device).unsqueeze(1) * self._num_beams
        stays = ~(self._final_scores.isfinite().all(dim=1) | ended.all(dim=1))
        self._outputs[self._rows] = self._final[:, : self._outputs.shape[1]]
        left = not bool(stays.all())
        if left:
            places = places[stays]
            for name in ("running", "_rows", "_scores", "_final_scores", "_final"):
                setattr(self, name, getattr(self, name)[stays])
        return places.flatten(), left

    def outputs(self) -> Tensor:
        """Outputs `[B * num_return_sequences, T]` without the padding that all have."""
        outputs = self._outputs.flatten(0, 1)
        written = outputs.ne(int(self._config._pad_token_tensor)).any(dim=0).nonzero()
        return outputs[:, : max(self._start, int(written.max()) + 1 if len(written) else 0)]


def _take(values: Tensor, order: Tensor) -> Tensor:
    """Picks hypotheses `[R, N]` of values `[R, M, T]`."""
    return values.gather(1, order.unsqueeze(2).expand(-1, -1, values.shape[2]))
