"""Generation of the CTC model: frames, collapsed to a translation.

Dimension letters: B batch, K candidates of a sentence, S source, F frames, T target, D model, V vocabulary; rows of a
state are R = B * K, candidates of a sentence side by side.
"""

import dataclasses
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch

from .canvas import content_mask, end_canvas, mask_canvas
from .ctc import collapse
from .ctc_beam import label_peaks, prefix_beam_search
from .generation_nat import NATGenerateOutput, NATGenerationMixin, NATState, first_candidate_scores
from .source_copy import SourceCopyMixin


@dataclass(frozen=True)
class CTCState(NATState):
    """State of a CTC model; see [`NATState`] for the other fields. Before its only round a canvas is all frames.

    Args:
        max_length (`int`): longest translation in tokens, EOS counted; longer ones are cut.
        beam_size (`int`): hypotheses of the beam search (K); 1 takes the best path instead.
    """

    max_length: int = 0
    beam_size: int = 1


class CTCNATGenerationMixin(SourceCopyMixin, NATGenerationMixin):
    """Generation for a model whose frames collapse to a translation: one round, no length predictor.

    With a `ctc_beam_size` above 1, as many candidates come from a prefix beam search, which adds up frame strings that
    collapse alike.
    """

    generation_defaults = {**NATGenerationMixin.generation_defaults, "max_iterations": 1, "ctc_beam_size": 1}
    candidate_knobs = ("ctc_beam_size",)
    ensemble_fields = (*NATGenerationMixin.ensemble_fields, "upsample_ratio", "blank_token_id")
    is_traceable = True
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
        rows = torch.arange(input_ids.shape[0], device=input_ids.device).repeat_interleave(settings.ctc_beam_size)
        tokens = self.frame_canvas(attention_mask)[rows]
        return CTCState(
            input_ids=input_ids[rows],
            attention_mask=attention_mask[rows],
            members=members,
            encoder_hidden_states=tuple(states[rows] for states in encoder_hidden_states),
            tokens=tokens,
            scores=torch.zeros(tokens.shape, device=tokens.device),
            finished=torch.zeros_like(rows, dtype=torch.bool),
            max_iterations=settings.max_iterations,
            max_length=settings.max_length,
            beam_size=settings.ctc_beam_size,
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
        """Writes labels and blanks into the frames and collapses them; the only round.

        A token's score is that of its most probable frame, in the most probable alignment of the translation. Without
        beam search the history also shows the frames.

        Args:
            state ([`CTCState`]): the state.

        Returns:
            [`CTCState`]: the final state.

        Source: Graves et al. 2006, section 3.2 (best path decoding).
        """
        config, blank = self.config, self.config.blank_token_id
        sentences = state.select(torch.arange(0, state.tokens.shape[0], state.beam_size, device=state.tokens.device))
        is_frame = content_mask(sentences.tokens.ne(config.pad_token_id))
        forbidden = [token for token in self._special_token_ids() if token != blank]
        shown: tuple[torch.Tensor, ...] = ()
        if state.beam_size == 1:
            members = zip(state.members, state.encoder_hidden_states, strict=True)
            hidden_states = [member.canvas_states(state, states)[is_frame] for member, states in members]
            predicted, log_probs = self._best_tokens(state, hidden_states, forbidden, state.with_scores)
            frames = state.tokens.masked_scatter(is_frame, predicted)
            scores = state.scores.masked_scatter(is_frame, log_probs)
            tokens, scores = collapse(frames, scores, is_frame, blank, config.pad_token_id)
            shown = (frames,)
        else:
            logits = self._logits(sentences, "word_logits", is_frame)
            logits = logits.index_fill(1, torch.tensor(forbidden, device=logits.device), float("-inf"))
            tokens, scores = self._search(logits.log_softmax(dim=1), is_frame, state.beam_size)
        tokens, scores = end_canvas(tokens, scores, state.max_length, config.eos_token_id, config.pad_token_id)
        return dataclasses.replace(
            state, tokens=tokens, scores=scores, finished=torch.ones_like(state.finished), intermediate=shown
        )

    def _search(
        self, log_probs: torch.Tensor, is_frame: torch.Tensor, beam_size: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Searches for candidates, best first, given log-probabilities `[N, V]` of frames: tokens and scores `[R, F]`.

        Where there are fewer than K, the best one is repeated.
        """
        blank, pad = self.config.blank_token_id, self.config.pad_token_id
        targets, likelihoods = prefix_beam_search(log_probs, is_frame, blank, beam_size)
        targets = torch.where(likelihoods.isfinite().unsqueeze(2), targets, targets[:, :1]).flatten(0, 1)
        dense = log_probs.new_zeros(*is_frame.shape, log_probs.shape[1])
        dense[is_frame] = log_probs
        rows = torch.arange(len(is_frame), device=targets.device).repeat_interleave(beam_size)
        is_label = targets.ne(blank)
        peaks = label_peaks(dense, targets, is_label.sum(dim=1), is_frame.sum(dim=1)[rows], rows, blank)
        return targets.masked_fill(~is_label, pad), peaks

    def _candidate_scores(self, state: NATState, output: NATGenerateOutput) -> torch.Tensor:
        """Returns scores by which the first candidate, the most probable one, wins."""
        return first_candidate_scores(output.sequences, state.beam_size)  # type: ignore[attr-defined]

    def _special_token_ids(self) -> list[int]:
        """Returns the ids that never stand in the content of a translation, the blank's among them."""
        return [*super()._special_token_ids(), self.config.blank_token_id]
