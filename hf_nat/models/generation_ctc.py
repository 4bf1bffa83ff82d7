"""Generation of the CTC model: frames, collapsed to a translation.

Dimension letters: S source, F frames, T target, D model, V vocabulary; R rows of a state, one for each sentence.
"""

import dataclasses
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch

from .canvas import content_mask, end_canvas, mask_canvas
from .ctc import collapse
from .generation_nat import NATGenerationMixin, NATState, forbid
from .source_copy import SourceCopyMixin


@dataclass(frozen=True)
class CTCState(NATState):
    """State of a CTC model; see [`NATState`] for the other fields. Before its only round a canvas is all frames.

    Args:
        max_length (`int`): longest translation in tokens, EOS counted; longer ones are cut.
    """

    max_length: int = 0


class CTCNATGenerationMixin(SourceCopyMixin, NATGenerationMixin):
    """Generation for a model whose frames collapse to a translation: one round, no length predictor."""

    generation_defaults = {**NATGenerationMixin.generation_defaults, "max_iterations": 1}
    ensemble_fields = (*NATGenerationMixin.ensemble_fields, "upsample_ratio", "blank_token_id")
    iteration_limit = 1

    def init_state(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        members: tuple[Any, ...],
        encoder_hidden_states: tuple[torch.Tensor, ...],
        settings: SimpleNamespace,
    ) -> CTCState:
        """See [`NATGenerationMixin.init_state`]; `max_length` is the longest translation, not the longest canvas."""
        tokens = self.frame_canvas(attention_mask)
        return CTCState(
            input_ids=input_ids,
            attention_mask=attention_mask,
            members=members,
            encoder_hidden_states=encoder_hidden_states,
            tokens=tokens,
            scores=torch.zeros(tokens.shape, device=tokens.device),
            finished=torch.zeros_like(tokens[:, 0], dtype=torch.bool),
            max_iterations=settings.max_iterations,
            max_length=settings.max_length,
        )

    def frame_canvas(self, attention_mask: torch.Tensor) -> torch.Tensor:
        """Builds canvases of masks, `upsample_ratio` for each source token, and EOS, within the model's positions.

        Args:
            attention_mask (`torch.LongTensor` of shape `(B, S)`): 1 at source tokens.

        Returns:
            `torch.LongTensor` of shape `(B, F + 1)`: the canvases.
        """
        config = self.config
        lengths = attention_mask.sum(dim=1) * config.upsample_ratio + 1
        lengths = lengths.clamp(max=config.max_position_embeddings)
        return mask_canvas(lengths, config.mask_token_id, config.eos_token_id, config.pad_token_id)

    def refine(self, state: CTCState) -> CTCState:  # type: ignore[override]
        """Writes the most probable label or blank into each frame and collapses the frames; the only round.

        The history also shows the frames. A token's score is that of its most probable frame.

        Args:
            state ([`CTCState`]): the state.

        Returns:
            [`CTCState`]: the final state.

        Source: Graves et al. 2006, section 3.2 (best path decoding).
        """
        config, blank = self.config, self.config.blank_token_id
        is_frame = content_mask(state.tokens.ne(config.pad_token_id))
        forbidden = [token for token in self._special_token_ids() if token != blank]
        logits = self._logits(state, "word_logits", is_frame)
        forbid(logits, forbidden)
        best, predicted = logits.max(dim=1)
        frames = state.tokens.masked_scatter(is_frame, predicted)
        scores = state.scores
        if state.with_scores:
            scores = scores.masked_scatter(is_frame, best - logits.logsumexp(dim=1))
        tokens, scores = collapse(frames, scores, is_frame, blank, config.pad_token_id)
        tokens, scores = end_canvas(tokens, scores, state.max_length, config.eos_token_id, config.pad_token_id)
        return dataclasses.replace(
            state, tokens=tokens, scores=scores, finished=torch.ones_like(state.finished), intermediate=(frames,)
        )

    def _special_token_ids(self) -> list[int]:
        """Returns the ids that never stand in the content of a translation, the blank's among them."""
        return [*super()._special_token_ids(), self.config.blank_token_id]
