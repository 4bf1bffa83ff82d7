"""The sentences of a batch whose drafts a teacher verifies, each at its own place, and the teacher's cache of them.

Dimension letters: B batch, R sentences of it that have not ended, S source, T target, D draft, M model, V vocabulary,
W positions that one call of the teacher reads.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self, cast

import torch
from torch import Tensor
from transformers import LogitsProcessorList, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from .beam_search import CACHE


# Most scores that one call of the teacher computes, 1 GB in single precision; a longer draft is verified in parts.
_MAX_SCORES = 2**28


@dataclass(frozen=True)
class DraftedRows:
    """The sentences that have not ended.

    Args:
        numbers (`torch.LongTensor` of shape `(R,)`): their numbers in the batch.
        tokens (`torch.LongTensor` of shape `(R, T)`): start token, content, padding up to the longest output.
        lengths (`torch.LongTensor` of shape `(R,)`): tokens without padding.
        accepted (`torch.LongTensor` of shape `(R,)`): how many of them are accepted ones of the draft.
        draft (`torch.LongTensor` of shape `(R, D)`): the forced first token, where there is one, and the student's.
        draft_lengths (`torch.LongTensor` of shape `(R,)`): tokens of the drafts, EOS counted.
        following (`torch.LongTensor` of shape `(R,)`): place in the draft of the token that follows the sentence.
        num_forced (`int`): 1 where a first token is forced.
        source_mask (`torch.LongTensor` of shape `(R, S)`): 1 at source tokens.
        student_states (`torch.FloatTensor` of shape `(R, S, M)`, *optional*): the student's encoder states, if it
            drafts again.
    """

    numbers: Tensor
    tokens: Tensor
    lengths: Tensor
    accepted: Tensor
    draft: Tensor
    draft_lengths: Tensor
    following: Tensor
    num_forced: int
    source_mask: Tensor
    student_states: Tensor | None

    def select(self, rows: Tensor) -> Self:
        """Returns the sentences of some rows `[R']`."""
        values: dict[str, Any] = {name: value[rows] for name, value in vars(self).items() if isinstance(value, Tensor)}
        return dataclasses.replace(self, **values)

    def canvas(self, length: int, width: int) -> tuple[Tensor, Tensor]:
        """Returns the sentences with up to `length` tokens of the draft behind each, and where these are: `[R, W']`.

        W' is at most `width`.
        """
        num_drafted = (self.draft_lengths - self.following).clamp(min=0, max=length)
        ends = self.lengths + num_drafted
        tokens = self.tokens[:, : min(int(ends.max()), width)]
        places = places_of(tokens)
        is_draft = (places >= self.lengths[:, None]) & (places < ends[:, None])
        drafted = (places - self.lengths[:, None] + self.following[:, None]).clamp(0, self.draft.shape[1] - 1)
        return torch.where(is_draft, self.draft.gather(1, drafted), tokens), is_draft

    def go_on(self, canvas: Tensor, ends: Tensor, own: Tensor) -> Self:
        """Returns the sentences with `canvas` before the places `ends` `[R]`, and the teacher's tokens `[R, 1]` there.

        A sentence longer than the canvas stays as it is.
        """
        is_read = self.lengths <= canvas.shape[1]
        places, column = places_of(self.tokens), ends[:, None]
        tokens = torch.nn.functional.pad(canvas, (0, len(places) - canvas.shape[1]))
        tokens = torch.where(places < column, tokens, self.tokens).scatter(1, column, own)
        # The nearest place of the draft that holds the teacher's token, by default the one where it was expected.
        expected = self.following + ends - self.lengths
        distances = (places_of(self.draft) - expected[:, None]).abs()
        is_other = (self.draft != own) | (places_of(self.draft) >= self.draft_lengths[:, None])
        nearest, place = distances.masked_fill(is_other, len(places) + self.draft.shape[1]).min(dim=1)
        place = torch.where(nearest <= self.draft.shape[1], place, expected)
        return dataclasses.replace(
            self,
            tokens=torch.where(is_read[:, None], tokens, self.tokens),
            lengths=torch.where(is_read, ends + 1, self.lengths),
            accepted=torch.where(is_read, self.accepted + ends - self.lengths, self.accepted),
            following=torch.where(is_read, place + 1, self.following),
        )

    def end(self, eos_token_ids: Tensor | None, pad_token_id: int, num_given: int) -> tuple[Self, Tensor]:
        """Cuts the sentences behind their EOS, and tells which go on: `[R]`."""
        places = places_of(self.tokens)
        lengths = self.lengths
        is_live = lengths < len(places)
        if eos_token_ids is not None:
            is_end = torch.isin(self.tokens, eos_token_ids) & (places >= num_given) & (places < lengths[:, None])
            has_ended = is_end.any(dim=1)
            lengths = torch.where(has_ended, is_end.long().argmax(dim=1) + 1, lengths)
            is_live &= ~has_ended
        tokens = self.tokens.masked_fill(places >= lengths[:, None], pad_token_id)
        return dataclasses.replace(self, tokens=tokens, lengths=lengths), is_live


class CachedTeacher:
    """The model that verifies, with a cache of what all sentences have."""

    def __init__(
        self,
        model: PreTrainedModel,
        processors: LogitsProcessorList,
        sequences: Tensor,
        model_kwargs: Mapping[str, Any],
    ) -> None:
        self._model, self._processors, self._sequences = model, processors, sequences
        self._cache = model_kwargs[CACHE]
        self._states = model_kwargs["encoder_outputs"].last_hidden_state
        self._mask = model_kwargs.get("attention_mask")

    @property
    def num_cached(self) -> int:
        """How many tokens of each sentence the cache holds."""
        return self._cache.get_seq_length()

    def max_positions(self, num_rows: int) -> int:
        """How many positions of so many sentences one call may read."""
        return max(1, _MAX_SCORES // (num_rows * self._model.config.vocab_size))

    def scores(self, canvas: Tensor, numbers: Tensor) -> Tensor:
        """Returns the scores `[R, W, V]` of what follows each token of `canvas` `[R, T]` that is not in the cache."""
        cached = self.num_cached
        logits = self._model(
            encoder_outputs=BaseModelOutput(last_hidden_state=self._states),
            attention_mask=self._mask,
            decoder_input_ids=canvas[:, cached:],
            use_cache=True,
            **{CACHE: self._cache},
        ).logits.float()  # As `generate` does.
        if self._processors:
            # A processor may know the sentences of the batch by their number: it gets those that ended, too.
            sequences = self._sequences.clone()
            sequences[numbers, : canvas.shape[1]] = canvas
            batch = logits.new_zeros(len(sequences), logits.shape[2])
            for position in range(logits.shape[1]):
                batch[numbers] = logits[:, position]
                known = cast(Any, sequences[:, : cached + position + 1])
                logits[:, position] = self._processors(known, cast(Any, batch.clone()))[numbers]
        return logits

    def select(self, rows: Tensor) -> None:
        """Keeps the sentences of some rows `[R']`."""
        self._cache.batch_select_indices(rows)
        self._states = self._states[rows]
        self._mask = None if self._mask is None else self._mask[rows]

    def cut_back(self, length: int) -> None:
        """Keeps so many tokens of each sentence in the cache."""
        self._cache.crop(length - self.num_cached)


def places_of(tokens: Tensor) -> Tensor:
    """Returns the places of the columns of `tokens` `[R, T]`: `[T]`."""
    return torch.arange(tokens.shape[1], device=tokens.device)
