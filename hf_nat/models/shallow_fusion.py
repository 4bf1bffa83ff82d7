"""Shallow fusion: a language model takes part in a beam search over prefixes.

Dimension letters: R rows, W hypotheses of a row, T tokens of a prefix, C tokens that a prefix may grow by.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, cast

import torch

from .ctc_search import NO_MODEL


# From the ids of a translation's first tokens, without BOS, and the id of the next one or of EOS, to its
# log-probability in nats.
LanguageModel = Callable[[tuple[int, ...], int], float]


class _Prefixes:
    """A language model whose states are the tokens so far."""

    start: tuple[int, ...] = ()

    def __init__(self, score: LanguageModel) -> None:
        self._score = score

    def advance(self, state: tuple[int, ...], token: int) -> tuple[float, tuple[int, ...]]:
        """See [`NGramAutomaton.advance`]."""
        return self._score(state, token), (*state, token)


class ShallowFusion:
    """What a beam search adds to the scores of its hypotheses: a language model, and a bonus for each token.

    Each token behind each prefix is asked for once; the answers are forgotten with the search.

    Args:
        language_model (`LanguageModel`, *optional*): the language model; if it has an [`NGramAutomaton`] as
            `automaton`, CTC's search asks this instead.
        weight (`float`): factor of its log-probabilities.
        length_bonus (`float`, *optional*, defaults to 0.0): what a token adds, in nats.

    Attributes:
        states ([`NGramAutomaton`] or the like): the language model by its states, with `start` and `advance`.
    """

    def __init__(self, language_model: LanguageModel | None, weight: float, length_bonus: float = 0.0) -> None:
        if not weight:
            language_model = None
        self.weight = 0.0 if language_model is None else float(weight)
        self.length_bonus = float(length_bonus)
        self._score = None if language_model is None else cache(language_model)
        automaton = NO_MODEL if language_model is None else getattr(language_model, "automaton", None)
        self.states: Any = (
            automaton if isinstance(automaton, tuple) else _Prefixes(cast(LanguageModel, language_model))
        )

    def __call__(self, prefixes: torch.Tensor, lengths: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Returns what prefixes gain by the tokens that they may grow by.

        Args:
            prefixes (`torch.LongTensor` of shape `(R, W, T)`): prefixes, with any token behind them.
            lengths (`torch.LongTensor` of shape `(R, W)`): tokens of each.
            tokens (`torch.LongTensor` of shape `(R, W, C)`): tokens to score; a negative number for none.

        Returns:
            `torch.FloatTensor` of shape `(R, W, C)`: gains in nats, in double precision.
        """
        return self._weighted(prefixes, lengths, tokens) + self.length_bonus

    def end(
        self, prefixes: torch.Tensor, lengths: torch.Tensor, exists: torch.Tensor, eos_token_id: int
    ) -> torch.Tensor:
        """Returns what prefixes gain `(R, W)` by EOS, those that exist `(R, W)`; for the others see `__call__`."""
        ends = torch.where(exists, eos_token_id, -1).unsqueeze(2)
        return self._weighted(prefixes, lengths, ends).squeeze(2)

    def _weighted(self, prefixes: torch.Tensor, lengths: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        gains = torch.zeros(tokens.shape, dtype=torch.float64, device=tokens.device)
        if self._score is None:
            return gains
        rows = zip(*(values.flatten(0, 1).tolist() for values in (prefixes, lengths, tokens)), strict=True)
        found = [self._ask(self._score, *row) for row in rows]
        return self.weight * torch.tensor(found, dtype=torch.float64, device=tokens.device).view(tokens.shape)

    @staticmethod
    def _ask(score: LanguageModel, prefix: Sequence[int], length: int, tokens: Sequence[int]) -> list[float]:
        known = tuple(prefix[:length])
        return [score(known, token) if token >= 0 else 0.0 for token in tokens]
