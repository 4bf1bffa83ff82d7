"""Short lists: the target words that a source can be translated by, of which alone the graph chooses.

Dimension letters: B batch, S source, K words of a list, V vocabulary, N pairs of a corpus.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from ..alignment import align
from ..decoding import encode_sources


class ShortList(nn.Module):
    """For each source token the target tokens that it was aligned with most often, and those that fit everywhere.

    Args:
        best (`torch.LongTensor` of shape `(V, K)`): the tokens of each source token; a row is filled up with one of
            `always`.
        always (`torch.LongTensor` of shape `(A,)`): tokens that every sentence may use.
        vocab_size (`int`): size of the vocabulary (V).
    """

    def __init__(self, best: torch.Tensor, always: torch.Tensor, vocab_size: int) -> None:
        super().__init__()
        self.best: torch.Tensor
        self.always: torch.Tensor
        self.vocab_size = vocab_size
        self.register_buffer("best", best.int())
        self.register_buffer("always", always)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Joins the lists of a batch.

        Args:
            input_ids (`torch.LongTensor` of shape `(B, S)`): source tokens.

        Returns:
            `torch.LongTensor` of shape `(V',)`: the target tokens, in rising order.
        """
        listed = torch.cat([self.best[input_ids].flatten().long(), self.always])
        marks = torch.zeros(self.vocab_size, dtype=torch.long, device=input_ids.device)
        return marks.scatter(0, listed, 1).nonzero().squeeze(1)


def build_short_list(
    pairs: Iterable[tuple[str, str]],
    tokenizer: PreTrainedTokenizerBase,
    vocabulary: Sequence[int],
    vocab_size: int,
    *,
    num_best: int,
    num_frequent: int,
    kept: Sequence[int] = (),
) -> ShortList:
    """Aligns the tokens of a corpus and keeps the most frequent links of each source token.

    Args:
        pairs (`Iterable[tuple[str, str]]`): sources and targets (N).
        tokenizer (`PreTrainedTokenizerBase`): cuts both into tokens.
        vocabulary (`Sequence[int]`): the tokens that may be written.
        vocab_size (`int`): size of the vocabulary.
        num_best (`int`): tokens listed for a source token.
        num_frequent (`int`): most frequent target tokens, which every list has.
        kept (`Sequence[int]`): further tokens that every list has, such as the blank of CTC.

    Returns:
        [`ShortList`]: the lists.

    Source: the lexical shortlists of Marian (Junczys-Dowmunt et al. 2018) and CTranslate2's `vmap`, with links in
        place of probabilities.
    """
    allowed = set(vocabulary)
    sides = zip(*pairs, strict=True)
    sources, targets = (encode_sources(tokenizer, list(side)) for side in sides)
    frequent = Counter(token for ids in targets for token in ids if token in allowed)
    counts: dict[int, Counter[int]] = defaultdict(Counter)
    links = align(*([list(map(str, ids)) for ids in side] for side in (sources, targets)), symmetrize="grow-diag")
    for row, sentence in enumerate(links):
        for source, target in sentence:
            if (token := targets[row][target]) in allowed:
                counts[sources[row][source]][token] += 1
    always = sorted({*kept, *(token for token, _ in frequent.most_common(num_frequent))})
    best = torch.full((vocab_size, num_best), always[0])
    for source, found in counts.items():
        tokens = [token for token, _ in found.most_common(num_best)]
        best[source, : len(tokens)] = torch.tensor(tokens)
    return ShortList(best, torch.tensor(always), vocab_size)
