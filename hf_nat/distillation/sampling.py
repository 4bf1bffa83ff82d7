"""Ancestral sampling whose draws belong to the row, whatever batch, shard or process decodes it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import LogitsProcessor


class RowSampler(LogitsProcessor):
    """Turns greedy search into sampling: leaves each row one token, drawn from its distribution.

    The t-th token of a row is where a uniform number falls into the cumulative distribution; that number depends on
    the seed, the row and t alone. Batches of other sizes change the distribution in its last bits only, so that a draw
    falls elsewhere once in some million tokens.

    Args:
        seed (`int`): seed of the corpus.
        rows (`Sequence[int]`): number of each of the batch's rows in the corpus.
        max_new_tokens (`int`): most tokens that are drawn for a row.
        top_k (`int`, *optional*): draw among the `top_k` most probable tokens only, their probabilities renormalised.

    Raises:
        ValueError: if `top_k` is below 1.

    Source: Fan et al. 2018 (top-k); Zhou, Gu & Neubig 2020, section 4.3.
    """

    def __init__(self, seed: int, rows: Sequence[int], max_new_tokens: int, top_k: int | None = None) -> None:
        if top_k is not None and top_k < 1:
            raise ValueError(f"`top_k` must be >= 1, got {top_k}. Use the strategy `sampling` for all tokens.")
        self._top_k = top_k
        draws = np.stack([np.random.default_rng([seed, row]).random(max_new_tokens) for row in rows])
        self._draws = torch.from_numpy(draws)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Returns scores [B, V] that are 0 for the drawn token of each row and minus infinity elsewhere.

        Args:
            input_ids (`Tensor`): decoder tokens so far, `[B, 1 + t]`.
            scores (`Tensor`): logits of the next token, `[B, V]`.
        """
        draws = self._draws[:, input_ids.shape[1] - 1, None].to(scores.device)
        logits, tokens = scores.double(), None
        if self._top_k is not None:
            logits, tokens = logits.topk(min(self._top_k, logits.shape[1]), dim=1)
        cumulative = logits.softmax(dim=1).cumsum(dim=1)
        drawn = torch.searchsorted(cumulative, draws * cumulative[:, -1:], right=True).clamp(max=logits.shape[1] - 1)
        drawn = drawn if tokens is None else tokens.gather(1, drawn)
        return torch.full_like(scores, -torch.inf).scatter_(1, drawn, 0.0)
