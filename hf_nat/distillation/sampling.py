"""Sampling whose draws belong to the row, whatever batch, shard or process decodes it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import LogitsProcessor

from ..base.bounds import require_number


class RowSampler(LogitsProcessor):
    """Turns greedy search into sampling: leaves each row one token, drawn from its distribution.

    The t-th token of a row is where a uniform number falls into the cumulative distribution; that number depends on
    the seed, the row and t alone, and where a row has several samples on the number of the sample. Batches of other
    sizes change the distribution in its last bits only, so that a draw falls elsewhere once in some million tokens.

    Args:
        seed (`int`): seed of the corpus.
        rows (`Sequence[int]`): number of each of the batch's rows in the corpus.
        max_new_tokens (`int`): most tokens that are drawn for a row.
        top_k (`int`, *optional*): draw among the `top_k` most probable tokens only, their probabilities renormalised.
        top_p (`float`, *optional*): draw among the fewest most probable tokens that have at least this probability
            together, renormalised; after `top_k`.
        temperature (`float`, *optional*, defaults to 1.0): what the logits are divided by first.
        samples (`Sequence[int]`, *optional*): number of the sample that each of the batch's rows is; by default 0.

    Raises:
        ValueError: if `top_k` is below 1, `top_p` not above 0 and at most 1, or `temperature` not above 0.

    Source: Fan et al. 2018 (top-k); Holtzman et al. 2020 (top-p); Zhou, Gu & Neubig 2020, section 4.3.
    """

    def __init__(
        self,
        seed: int,
        rows: Sequence[int],
        max_new_tokens: int,
        top_k: int | None = None,
        top_p: float | None = None,
        temperature: float = 1.0,
        samples: Sequence[int] | None = None,
    ) -> None:
        all_tokens = "Use the strategy `sampling` for all tokens."
        require_number("top_k", top_k, least=1, remedy=all_tokens)
        require_number("top_p", top_p, above=0, most=1, remedy=all_tokens)
        require_number("temperature", temperature, above=0, remedy="Use 1.0 for none.")
        self._top_k, self._top_p, self._temperature = top_k, top_p, temperature
        samples = [0] * len(rows) if samples is None else samples
        # numpy takes a missing third number for 0.
        seeds = ([seed, row, sample] for row, sample in zip(rows, samples, strict=True))
        draws = np.stack([np.random.default_rng(own).random(max_new_tokens) for own in seeds])
        self._draws = torch.from_numpy(draws)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Returns scores [B, V] that are 0 for the drawn token of each row and minus infinity elsewhere.

        Args:
            input_ids (`Tensor`): decoder tokens so far, `[B, 1 + t]`.
            scores (`Tensor`): logits of the next token, `[B, V]`.
        """
        draws = self._draws[:, input_ids.shape[1] - 1, None].to(scores.device)
        logits, tokens = scores.double() / self._temperature, None
        if self._top_k is not None:
            logits, tokens = logits.topk(min(self._top_k, logits.shape[1]), dim=1)
        elif self._top_p is not None:
            logits, tokens = logits.sort(dim=1, descending=True, stable=True)
        cumulative = logits.softmax(dim=1).cumsum(dim=1)
        if self._top_p is not None:
            # Tokens are kept up to the one that reaches `top_p`; the first always is.
            last = (cumulative < self._top_p).sum(dim=1, keepdim=True).clamp(max=logits.shape[1] - 1)
            cumulative = cumulative.clamp(max=cumulative.gather(1, last))
        drawn = torch.searchsorted(cumulative, draws * cumulative[:, -1:], right=True).clamp(max=logits.shape[1] - 1)
        drawn = drawn if tokens is None else tokens.gather(1, drawn)
        return torch.full_like(scores, -torch.inf).scatter_(1, drawn, 0.0)
