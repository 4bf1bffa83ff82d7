"""Generation of the models that predict the target length first.

Dimension letters: B batch, K candidates of a sentence, S source, T target, D model, V vocabulary, N
positions of a batch; R = B * K rows of a state.
"""

from types import SimpleNamespace
from typing import Any, ClassVar

import torch

from .canvas import mask_canvas
from .generation_nat import NATGenerationMixin
from .generation_state import NATState
from .source_copy import SourceCopyMixin
from .word_choice import average_logits


class LengthNATGenerationMixin(NATGenerationMixin):
    """Generation for models with a `length_predictor`: all-mask canvases of the K most probable lengths."""

    generation_defaults = {**NATGenerationMixin.generation_defaults, "length_beam": 1}
    candidate_knobs: ClassVar[tuple[str, ...]] = ("length_beam",)
    ensemble_fields = (*NATGenerationMixin.ensemble_fields, "length_prediction", "num_length_bins")

    length_predictor: Any

    def init_state(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        members: tuple[Any, ...],
        encoder_hidden_states: tuple[torch.Tensor, ...],
        settings: SimpleNamespace,
    ) -> NATState:
        """See [`NATGenerationMixin.init_state`].

        Raises:
            ValueError: if `length_beam` exceeds the number of length classes.
        """
        length_beam, num_bins = settings.length_beam, self.length_predictor.num_bins
        if length_beam > num_bins:
            raise ValueError(f"`length_beam` must be at most the {num_bins} length classes, got {length_beam}.")
        length_logits = average_logits(
            [
                member.length_predictor(states, attention_mask)
                for member, states in zip(members, encoder_hidden_states, strict=True)
            ]
        )
        lengths = self.length_predictor.candidates(
            length_logits, attention_mask.sum(dim=1), length_beam, settings.max_length
        )
        config = self.config
        tokens = mask_canvas(lengths.flatten(), config.mask_token_id, config.eos_token_id, config.pad_token_id)
        if length_beam > 1:
            rows = torch.arange(input_ids.shape[0], device=input_ids.device).repeat_interleave(length_beam)
            input_ids, attention_mask = input_ids[rows], attention_mask[rows]
            encoder_hidden_states = tuple(states[rows] for states in encoder_hidden_states)
        return NATState(
            input_ids=input_ids,
            attention_mask=attention_mask,
            members=members,
            encoder_hidden_states=encoder_hidden_states,
            tokens=tokens,
            scores=torch.zeros(tokens.shape, device=tokens.device),
            finished=lengths.flatten() <= 1,
            max_iterations=settings.max_iterations,
        )


class SourceCopyNATGenerationMixin(SourceCopyMixin, LengthNATGenerationMixin):
    """Generation for models of a predicted length whose decoder reads a copy of the source at masks."""
