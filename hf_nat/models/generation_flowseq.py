"""Generation of FlowSeq: noise, the inverse flow, one pass of the decoder.

Dimension letters: K candidates of a sentence, S source, T target, D model, V vocabulary; R rows of a state.
"""

import dataclasses
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch

from .canvas import content_mask
from .flow_layers import standard_normal
from .generation_length import LengthNATGenerationMixin
from .generation_output import NATGenerateOutput
from .generation_state import NATState
from .noise import TargetNoise
from .word_choice import forbid, project


# Posterior samples that the likelihood of a candidate is estimated with, as in FlowSeq's code.
_NUM_IMPORTANCE_SAMPLES = 4


@dataclass(frozen=True, kw_only=True)
class FlowSeqState(NATState):
    """Where decoding stands, with the sample of the prior that each row decodes.

    Args:
        sample (`torch.LongTensor` of shape `(R,)`): number of the sample; that of number 0 is noise 0.
        num_samples (`int`): samples for each length.
        num_candidates (`int`): rows of a sentence (K).
        temperature (`float`): standard deviation of the noise.
    """

    sample: torch.Tensor
    num_samples: int
    num_candidates: int
    temperature: float


class FlowSeqGenerationMixin(LengthNATGenerationMixin):
    """Generation from the most probable noise, or from several lengths (`length_beam`) and samples (`num_samples`).

    The first sample of each length is noise 0. The others are Gaussian with standard deviation `latent_temperature`
    (transformers saves no `temperature` without `do_sample`) and depend on the source alone: a sentence is translated
    alike in any batch. Of several candidates the one with the highest importance-weighted log-likelihood per token
    wins, the length's own included, or the one that a teacher chooses.

    Source: Ma et al. 2019, section 3.5.
    """

    generation_defaults = {
        **LengthNATGenerationMixin.generation_defaults,
        "max_iterations": 1,
        "num_samples": 1,
        "latent_temperature": 1.0,
    }
    candidate_knobs = ("length_beam", "num_samples")
    iteration_limit = 1

    make_grids: Any
    prior: Any
    log_likelihood: Any
    _decode: Any

    def idle_knobs(self, settings: SimpleNamespace) -> dict[str, str]:
        """See [`NATSettingsMixin.idle_knobs`]."""
        names = ("latent_temperature",) if settings.num_samples == 1 else ()
        return dict.fromkeys(names, "with `num_samples: 1`, the most probable noise")

    def init_state(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        members: tuple[Any, ...],
        encoder_hidden_states: tuple[torch.Tensor, ...],
        settings: SimpleNamespace,
    ) -> FlowSeqState:
        """See [`NATGenerationMixin.init_state`].

        Raises:
            ValueError: if `length_beam` exceeds the number of length classes, or `latent_temperature` is negative.
        """
        if settings.latent_temperature < 0:
            raise ValueError(
                f"`latent_temperature` must be >= 0, got {settings.latent_temperature}. Use 1 for the prior itself."
            )
        lengths = super().init_state(input_ids, attention_mask, members, encoder_hidden_states, settings)
        num_rows, num_samples = lengths.tokens.shape[0], settings.num_samples
        samples = torch.arange(num_rows * num_samples, device=input_ids.device)
        return FlowSeqState(
            **vars(lengths.select(samples // num_samples)),
            sample=samples % num_samples,
            num_samples=num_samples,
            num_candidates=settings.length_beam * num_samples,
            temperature=settings.latent_temperature,
        )

    def word_logits(self, state: FlowSeqState, encoder_hidden_states: torch.Tensor) -> torch.Tensor:
        """Scores the vocabulary at every position, for latent variables of this model's own.

        Args:
            state ([`FlowSeqState`]): the state; of its canvases only the lengths matter.
            encoder_hidden_states (`torch.FloatTensor` of shape `(R, S, D)`): this model's encoder states.

        Returns:
            `torch.FloatTensor` of shape `(R, T, V)`: unnormalised scores, of the state's vocabulary where it has one;
            T is a multiple of `length_unit`.
        """
        is_token = state.tokens.ne(self.config.pad_token_id)
        grids = self.make_grids(is_token, encoder_hidden_states, state.attention_mask)
        noise = _prior_noise(state, grids[0].mask.shape[1], encoder_hidden_states.shape[2])
        hidden_states = self._decode(self.prior.inverse(noise, grids), grids, state.attention_mask).last_hidden_state
        return project(self.lm_head, hidden_states, state.vocabulary)

    def refine(self, state: FlowSeqState) -> FlowSeqState:  # type: ignore[override]
        """Decodes the noise of each row, up to its first EOS, at the latest at the end of the canvas.

        Args:
            state ([`FlowSeqState`]): the state.

        Returns:
            [`FlowSeqState`]: the state after the only round.
        """
        eos, pad = self.config.eos_token_id, self.config.pad_token_id
        logits = self._logits(state, "word_logits")[:, : state.tokens.shape[1]]
        if state.vocabulary is None:
            forbid(logits, self._forbidden_token_ids())
        best, tokens = logits.max(dim=2)
        if state.vocabulary is not None:
            tokens = state.vocabulary[tokens]
        can_go_on = content_mask(state.tokens.ne(pad)) & tokens.ne(eos)
        num_content = (~can_go_on).cumsum(dim=1).eq(0).sum(dim=1, keepdim=True)
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        scores = state.scores
        if state.with_scores:
            scores = (best - logits.logsumexp(dim=2)).masked_fill(positions >= num_content, 0.0)
        return dataclasses.replace(
            state,
            tokens=tokens.masked_fill(positions == num_content, eos).masked_fill(positions > num_content, pad),
            scores=scores,
            finished=torch.ones_like(state.finished),
        )

    def _forbidden_token_ids(self) -> list[int]:
        return [token_id for token_id in self._special_token_ids() if token_id != self.config.eos_token_id]

    def _candidate_scores(  # type: ignore[override]
        self, state: FlowSeqState, output: NATGenerateOutput
    ) -> torch.Tensor:
        """See [`NATGenerationMixin`]: importance-weighted log-likelihoods of candidates and lengths, per token."""
        if state.num_candidates == 1:
            return super()._candidate_scores(state, output)
        pad = self.config.pad_token_id
        is_token, source_lengths = state.tokens.ne(pad), state.attention_mask.sum(dim=1)
        labels = output.sequences.masked_fill(output.sequences.eq(pad), -100)
        log_likelihoods = []
        for member, states in zip(state.members, state.encoder_hidden_states, strict=True):
            grids = member.make_grids(is_token, states, state.attention_mask)
            lengths = grids[0].mask.sum(dim=1)
            classes = member.length_predictor.classes(lengths, source_lengths)
            length_logits = member.length_predictor(states, state.attention_mask).float()
            log_lengths = length_logits.log_softmax(dim=1).gather(1, classes.unsqueeze(1)).squeeze(1)
            noise = TargetNoise(labels, training=False)
            words = member.log_likelihood(labels, grids, state.attention_mask, noise, _NUM_IMPORTANCE_SAMPLES)
            log_likelihoods.append(words + log_lengths)
        return torch.stack(log_likelihoods).logsumexp(dim=0) / lengths


def _prior_noise(state: FlowSeqState, length: int, width: int) -> torch.Tensor:
    """Returns the noise `[R, length, width]` of each row's sample."""
    if state.num_samples == 1:
        return torch.zeros(state.sample.shape[0], length, width, device=state.sample.device)
    source = state.input_ids.masked_fill(state.attention_mask.eq(0), -100)
    draws = standard_normal(TargetNoise(source, training=False), length, state.num_samples - 1, width)
    draws = torch.cat([torch.zeros_like(draws[:, :, :1]), draws * state.temperature], dim=2)
    return draws[torch.arange(len(draws), device=draws.device), :, state.sample]
