"""Generation of the models that grow a translation from nothing.

Dimension letters: B batch, K candidates of a sentence, S source, T target, D model; R = B * K rows of a state.
"""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from transformers import GenerationConfig

from .generation_nat import NATGenerationMixin
from .generation_state import NATState


# The least that a canvas may always hold, in tokens.
_SMALLEST_CAP = 10


@dataclass(frozen=True)
class InsertionState(NATState):
    """State of a model that inserts; see [`NATState`] for the other fields.

    Args:
        candidate (`torch.LongTensor` of shape `(R,)`): which candidate of its sentence a row is, from 0 to K - 1. In
            round 0 candidate k takes the k-th best choice; all later choices are the best ones.
        length_caps (`torch.LongTensor` of shape `(R,)`): longest canvas of each row, in tokens, EOS counted.
        eos_penalty (`float`): what the choice to insert nothing loses, in nats.
        num_candidates (`int`): candidates of a sentence (K).
    """

    candidate: torch.Tensor = None  # type: ignore[assignment]
    length_caps: torch.Tensor = None  # type: ignore[assignment]
    eos_penalty: float = 0.0
    num_candidates: int = 1

    @property
    def ranks(self) -> torch.Tensor | None:
        """How many better choices each row `(R,)` passes over in this round; `None` where no row does."""
        is_later = not isinstance(self.iteration, torch.Tensor) and self.iteration > 0
        return None if is_later or self.num_candidates == 1 else self.candidate * (self.iteration == 0)

    def is_unchanged(self, unchanged: torch.Tensor) -> torch.Tensor:
        """Tells which of the rows `(R,)` that a round left unchanged every later one would leave so, too."""
        return unchanged if self.ranks is None else unchanged & self.ranks.eq(0)  # others choose better in round 1


class InsertionNATGenerationMixin(NATGenerationMixin):
    """Generation for models that start from an empty canvas: candidates that differ from the first round on.

    A canvas holds at most `max_length_ratio` times as many tokens as its source, or 10 where that is more.

    Source: the ratio of 2 and the least cap of 10 are fairseq's.
    """

    generation_defaults = {
        **NATGenerationMixin.generation_defaults,
        "eos_penalty": 0.0,
        "num_candidates": 1,
        "max_length_ratio": 2.0,
    }
    candidate_knobs = ("num_candidates",)

    def _resolve_settings(self, generation_config: GenerationConfig | None, kwargs: dict[str, Any]) -> SimpleNamespace:
        settings = super()._resolve_settings(generation_config, kwargs)
        if settings.eos_penalty < 0:
            raise ValueError(f"`eos_penalty` must be >= 0, got {settings.eos_penalty}.")
        if settings.max_length_ratio <= 0:
            raise ValueError(f"`max_length_ratio` must be > 0, got {settings.max_length_ratio}.")
        return settings

    def init_state(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        members: tuple[Any, ...],
        encoder_hidden_states: tuple[torch.Tensor, ...],
        settings: SimpleNamespace,
    ) -> InsertionState:
        """See [`NATGenerationMixin.init_state`]; the canvases are empty."""
        num_candidates = settings.num_candidates
        rows = torch.arange(input_ids.shape[0], device=input_ids.device).repeat_interleave(num_candidates)
        longest = min(settings.max_length, *(member.config.longest_target for member in members))
        caps = (settings.max_length_ratio * attention_mask.sum(dim=1)).long().clamp(min=_SMALLEST_CAP)
        return InsertionState(
            input_ids=input_ids[rows],
            attention_mask=attention_mask[rows],
            members=members,
            encoder_hidden_states=tuple(states[rows] for states in encoder_hidden_states),
            tokens=input_ids.new_full((rows.shape[0], 1), self.config.eos_token_id),
            scores=torch.zeros(rows.shape[0], 1, device=input_ids.device),
            finished=torch.zeros_like(rows, dtype=torch.bool),
            max_iterations=settings.max_iterations,
            candidate=torch.arange(num_candidates, device=rows.device).repeat(input_ids.shape[0]),
            length_caps=caps.clamp(max=longest)[rows],
            eos_penalty=settings.eos_penalty,
            num_candidates=num_candidates,
        )
