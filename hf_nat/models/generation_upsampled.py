"""Generation of the models whose canvas is longer than its translation: one round, no length predictor.

Dimension letters: B batch, K candidates of a sentence, S source, T canvas, D model; R = B * K rows of a state.
"""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch

from .generation_nat import NATGenerationMixin
from .generation_output import NATGenerateOutput
from .generation_state import NATState
from .shallow_fusion import ShallowFusion
from .source_copy import SourceCopyMixin


@dataclass(frozen=True)
class UpsampledState(NATState):
    """State of such a model; see [`NATState`] for the other fields. Before its only round a canvas is all unknown.

    Args:
        settings (`SimpleNamespace`): the knobs; `max_length` is the longest translation, not the longest canvas.
    """

    settings: SimpleNamespace = None  # type: ignore[assignment]


class UpsampledNATGenerationMixin(SourceCopyMixin, NATGenerationMixin):
    """Generation in one round from canvases of a fixed number of tokens for each source token.

    The first candidate of a sentence, by the score of the search, is the translation, unless a teacher chooses.
    """

    generation_defaults = {**NATGenerationMixin.generation_defaults, "max_iterations": 1}
    iteration_limit = 1

    def initial_canvas(self, attention_mask: torch.Tensor) -> torch.Tensor:
        """Builds the canvases of sources, within the model's positions.

        Args:
            attention_mask (`torch.LongTensor` of shape `(B, S)`): 1 at source tokens.

        Returns:
            `torch.LongTensor` of shape `(B, T)`: the canvases.
        """
        raise NotImplementedError(f"{type(self).__name__} must define `initial_canvas`.")

    def init_state(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        members: tuple[Any, ...],
        encoder_hidden_states: tuple[torch.Tensor, ...],
        settings: SimpleNamespace,
    ) -> UpsampledState:
        """See [`NATGenerationMixin.init_state`]; `max_length` is the longest translation, not the longest canvas."""
        rows = torch.arange(input_ids.shape[0], device=input_ids.device)
        rows = rows.repeat_interleave(self._num_candidates(settings))
        tokens = self.initial_canvas(attention_mask)[rows]
        return UpsampledState(
            input_ids=input_ids[rows],
            attention_mask=attention_mask[rows],
            members=members,
            encoder_hidden_states=tuple(states[rows] for states in encoder_hidden_states),
            tokens=tokens,
            scores=torch.zeros(tokens.shape, device=tokens.device),
            finished=torch.zeros_like(rows, dtype=torch.bool),
            max_iterations=settings.max_iterations,
            settings=settings,
        )

    def _sentences(self, state: UpsampledState) -> UpsampledState:
        """Returns the state of one row for each sentence: all that the decoder has to read."""
        step = self._num_candidates(state.settings)
        return state.select(torch.arange(0, state.tokens.shape[0], step, device=state.tokens.device))

    def _fusion(self, settings: SimpleNamespace, length_bonus: float = 0.0) -> ShallowFusion | None:
        """What a beam search adds to its scores, if anything."""
        if settings.language_model is None and not length_bonus:
            return None
        return ShallowFusion(settings.language_model, settings.lm_weight, length_bonus)

    def _candidate_scores(self, state: NATState, output: NATGenerateOutput) -> torch.Tensor:
        """Returns scores by which the candidates, found in the order of their search, stay in it."""
        num_candidates = self._num_candidates(state.settings)  # type: ignore[attr-defined]
        rows = torch.arange(len(output.sequences), device=output.sequences.device)
        return -rows.remainder(num_candidates).float()
