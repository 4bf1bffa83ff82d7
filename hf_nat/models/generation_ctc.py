"""Generation of the CTC model: frames, collapsed to a translation.

Dimension letters: B batch, K candidates of a sentence, S source, F frames, T target, D model, V vocabulary; rows of a
state are R = B * K, candidates of a sentence side by side.
"""

import dataclasses
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import torch

from .canvas import content_mask, end_canvas, mask_canvas
from .ctc import collapse
from .ctc_beam import label_peaks, prefix_beam_search, rows_of
from .ctc_search import compiled_search
from .generation_nat import NATGenerationMixin
from .generation_upsampled import UpsampledNATGenerationMixin, UpsampledState
from .word_choice import all_logits, best_tokens, forbid, to_log_probs


class CTCNATGenerationMixin(UpsampledNATGenerationMixin):
    """Generation for a model whose frames collapse to a translation.

    With a `ctc_beam_size` above 1, as many candidates come from a prefix beam search, which adds up frame strings that
    collapse alike. A candidate Y has the score log P(Y) + `ctc_length_bonus` * |Y|, and with a `language_model`
    `lm_weight` * log P_LM(Y) more.
    """

    generation_defaults = {
        **UpsampledNATGenerationMixin.generation_defaults,
        "ctc_beam_size": 1,
        "ctc_length_bonus": 0.0,
        "lm_weight": 0.4,
    }
    candidate_knobs = ("ctc_beam_size",)
    search_knobs = ("ctc_beam_size", "ctc_length_bonus", "lm_weight")
    ensemble_fields = (*NATGenerationMixin.ensemble_fields, "upsample_ratio", "blank_token_id")
    canvas_places = "frames"

    def require_beam(self, settings: SimpleNamespace) -> None:
        """See [`NATGenerationMixin.require_beam`]."""
        if not self._searches(settings):
            raise ValueError("`ctc_beam_size` must be > 1 with a `language_model`, got 1. Try 20.")

    def idle_knobs(self, settings: SimpleNamespace) -> dict[str, str]:
        """See [`NATSettingsMixin.idle_knobs`]."""
        names = () if self._searches(settings) else ("ctc_length_bonus", "lm_weight")
        return dict.fromkeys(names, "with `ctc_beam_size: 1`, the best path")

    def warm_up(self, given: Mapping[str, Any]) -> None:
        """See [`NATSettingsMixin.warm_up`]: compiles the search."""
        if self._searches(self._resolve_settings(None, dict(given))):
            compiled_search()

    def _searches(self, settings: SimpleNamespace) -> bool:
        return settings.ctc_beam_size > 1

    def initial_canvas(self, attention_mask: torch.Tensor) -> torch.Tensor:
        """Builds canvases of masks, `upsample_ratio` for each source token, and EOS, within the model's positions.

        Args:
            attention_mask (`torch.LongTensor` of shape `(B, S)`): 1 at source tokens.

        Returns:
            `torch.LongTensor` of shape `(B, F + 1)`: the canvases.
        """
        config = self.config
        width = min(attention_mask.shape[1] * config.upsample_ratio + 1, config.max_position_embeddings)
        lengths = (attention_mask.sum(dim=1) * config.upsample_ratio + 1).clamp(max=width)
        return mask_canvas(lengths, config.mask_token_id, config.eos_token_id, config.pad_token_id, width)

    def refine(self, state: UpsampledState) -> UpsampledState:  # type: ignore[override]
        """Writes labels and blanks into the frames and collapses them; the only round.

        A token's score is that of its most probable frame, in the most probable alignment of the translation. Without
        beam search the history also shows the frames.

        Args:
            state ([`UpsampledState`]): the state.

        Returns:
            [`UpsampledState`]: the final state.

        Source: Graves et al. 2006, section 3.2 (best path decoding).
        """
        config, blank, settings = self.config, self.config.blank_token_id, state.settings
        sentences, sequences_log_probs = self._sentences(state), None
        is_frame = content_mask(sentences.tokens.ne(config.pad_token_id))
        forbidden = self._forbidden_token_ids()
        shown: tuple[torch.Tensor, ...] = ()
        if settings.ctc_beam_size == 1:
            hidden_states = self._states_at(state, is_frame)
            predicted, log_probs = best_tokens(state, hidden_states, forbidden, state.with_scores)
            frames = state.tokens.masked_scatter(is_frame, predicted)
            scores = state.scores.masked_scatter(is_frame, log_probs)
            if state.with_scores:
                sequences_log_probs = scores.sum(dim=1)
            tokens, scores = collapse(frames, scores, is_frame, blank, config.pad_token_id)
            shown = (frames,)
        else:
            logits, vocabulary = self.frame_logits(sentences, is_frame)
            if vocabulary is None:
                forbid(logits, forbidden)
            tokens, scores, sequences_log_probs = self._search(logits, vocabulary, is_frame, settings)
        tokens, scores = end_canvas(tokens, scores, settings.max_length, config.eos_token_id, config.pad_token_id)
        return dataclasses.replace(
            state,
            tokens=tokens,
            scores=scores,
            log_probs=sequences_log_probs,
            finished=torch.ones_like(state.finished),
            intermediate=shown,
        )

    def frame_logits(self, state: UpsampledState, is_frame: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Scores labels and blank at the frames: what a beam search reads.

        Args:
            state ([`UpsampledState`]): the state, of one row for each sentence (B).
            is_frame (`torch.BoolTensor` of shape `(B, F + 1)`): True at the frames of each canvas, N in all.

        Returns:
            `tuple` of unnormalised scores (`torch.FloatTensor` of shape `(N, V)`) and the tokens that they are of
            (`torch.LongTensor` of shape `(V,)`), None where these are all.
        """
        return all_logits(state, self._states_at(state, is_frame)), state.vocabulary

    def _search(
        self,
        logits: torch.Tensor,
        vocabulary: torch.Tensor | None,
        is_frame: torch.Tensor,
        settings: SimpleNamespace,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Searches for candidates, best first, given unnormalised scores `[N, V]` at frames.

        Returns:
            `tuple` of tokens and scores `[R, F]` and log P(Y) `[R]`; where there are fewer than K, the best one is
            repeated and this is minus infinity.
        """
        blank, pad, beam_size = self.config.blank_token_id, self.config.pad_token_id, settings.ctc_beam_size
        fusion = self._fusion(settings, settings.ctc_length_bonus)
        eos = self.config.eos_token_id
        targets, likelihoods, scores = prefix_beam_search(
            logits, is_frame, blank, beam_size, vocabulary=vocabulary, fusion=fusion, eos_token_id=eos
        )
        targets = torch.where(scores.isfinite().unsqueeze(2), targets, targets[:, :1]).flatten(0, 1)
        rows = torch.arange(len(is_frame), device=targets.device).repeat_interleave(beam_size)
        is_label = targets.ne(blank)
        tokens = targets.masked_fill(~is_label, pad)
        if not settings.output_scores:
            return tokens, likelihoods.new_zeros(tokens.shape), likelihoods.flatten()
        if vocabulary is not None:
            columns = torch.zeros(self.config.vocab_size, dtype=torch.long, device=vocabulary.device)
            columns[vocabulary] = torch.arange(len(vocabulary), device=vocabulary.device)
            targets, blank = columns[targets], int(columns[blank])
        peaks = label_peaks(
            to_log_probs(logits), is_frame[rows], rows_of(is_frame)[rows], targets, is_label.sum(dim=1), blank
        )
        return tokens, peaks, likelihoods.flatten()

    def _special_token_ids(self) -> list[int]:
        """Returns the ids that never stand in the content of a translation, the blank's among them."""
        return [*super()._special_token_ids(), self.config.blank_token_id]

    def _forbidden_token_ids(self) -> list[int]:
        return [token_id for token_id in self._special_token_ids() if token_id != self.config.blank_token_id]
