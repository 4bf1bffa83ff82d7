"""RIBES: how well a translation keeps the word order of its reference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any

from sacrebleu.metrics.base import Signature

from .sentence_mean import SentenceMeanMetric


class RIBESSignature(Signature):
    """Signature of `RIBES`: case, alpha, beta and the definition that is followed."""

    def __init__(self, args: dict[str, Any]):
        super().__init__(args)
        self._abbr.update({"case": "c", "alpha": "a", "beta": "b", "tok": "tok", "def": "d"})
        self.info.update(
            {
                "case": "lc" if args["lowercase"] else "mixed",
                "alpha": args["alpha"],
                "beta": args["beta"],
                "tok": "none",
                "def": "RIBES.py-1.03.1",
            }
        )


class RIBES(SentenceMeanMetric):
    """Rank correlation of the matched words, times powers of precision and brevity; the corpus score is the mean.

    Text is split at white space: tokenise it first. A segment scores 100 * tau * precision**alpha * bp**beta, with
    tau = Kendall's tau of the matched words scaled to 0..1, precision = matched words / words of the hypothesis, and
    bp = min(1, exp(1 - words of the reference / words of the hypothesis)). Fewer than two matched words score 0, but a
    matched reference of one word has tau 1 and precision 1 / words of the hypothesis. An empty hypothesis scores 0; so
    does an empty reference, which the tool refuses or, with `-z`, leaves out. Of several references the best counts.

    Args:
        alpha (`float`, *optional*, defaults to 0.25): exponent of the precision, >= 0.
        beta (`float`, *optional*, defaults to 0.10): exponent of the brevity penalty, >= 0.
        lowercase (`bool`, *optional*, defaults to `True`): whether case is ignored, as in the tool.

    Raises:
        ValueError: if an exponent is negative.

    Source: Isozaki et al. 2010 (EMNLP), sections 3 and 4; details that the paper leaves open (the order in which the
    contexts of a repeated word are tried, references of one word) as in the authors' RIBES.py 1.03.1.
    """

    _SIGNATURE_TYPE = RIBESSignature

    def __init__(self, alpha: float = 0.25, beta: float = 0.10, lowercase: bool = True):
        super().__init__(lowercase)
        for name, value in (("alpha", alpha), ("beta", beta)):
            if value < 0:
                raise ValueError(f"`{name}` must be >= 0, got {value}. Use 0 to ignore that factor.")
        self.alpha = alpha
        self.beta = beta

    def _sentence(self, hypothesis: Sequence[str], reference: Sequence[str]) -> float:
        """RIBES (0-1) of one sentence against one reference."""
        if not hypothesis or not reference:
            return 0.0
        ranks = rank_alignment(hypothesis, reference)
        if len(ranks) >= 2:
            tau = sum(left < right for left, right in combinations(ranks, 2)) / math.comb(len(ranks), 2)
        else:
            tau = float(len(ranks) == len(reference) == 1)
        brevity = min(1.0, math.exp(1.0 - len(reference) / len(hypothesis)))
        return tau * (len(ranks) / len(hypothesis)) ** self.alpha * brevity**self.beta


def rank_alignment(hypothesis: Sequence[str], reference: Sequence[str]) -> list[int]:
    """Finds the reference position of each hypothesis word that can be told apart from its repetitions.

    A word matches if it occurs once on both sides. Otherwise its contexts are tried from short to long, the words
    before it ahead of the words after it: the first context that occurs once on both sides decides.

    Args:
        hypothesis (`Sequence[str]`): words of the translation.
        reference (`Sequence[str]`): words of the reference.

    Returns:
        `list[int]`: positions in the reference, from 0, in the order of the matched hypothesis words.

    Source: Isozaki et al. 2010, section 3.1; the order of the contexts as in RIBES.py 1.03.1. The paper's first
    example and nltk try the words after it ahead of the words before it; that decides only where both are unique.
    """
    positions: dict[str, list[int]] = {}
    for position, word in enumerate(reference):
        positions.setdefault(word, []).append(position)
    ranks = []
    for index, word in enumerate(hypothesis):
        if word in positions:
            rank = _rank(index, hypothesis, reference, positions[word])
            if rank is not None:
                ranks.append(rank)
    return ranks


def _rank(index: int, hypothesis: Sequence[str], reference: Sequence[str], candidates: list[int]) -> int | None:
    """Position in the reference of the hypothesis word at `index`, None if no context is unique on both sides."""
    # Positions whose context equals the word's own, on either side; a longer context can only lose some.
    own = [position for position, word in enumerate(hypothesis) if word == hypothesis[index]]
    if len(own) == len(candidates) == 1:
        return candidates[0]
    before, after = (candidates, own), (candidates, own)
    for distance in range(1, len(hypothesis)):
        before = _narrow(before, -distance, index, hypothesis, reference)
        if len(before[0]) == len(before[1]) == 1:
            return before[0][0]
        after = _narrow(after, distance, index, hypothesis, reference)
        if len(after[0]) == len(after[1]) == 1:
            return after[0][0]
        if not before[0] and not after[0]:
            break
    return None


def _narrow(
    pair: tuple[list[int], list[int]], offset: int, index: int, hypothesis: Sequence[str], reference: Sequence[str]
) -> tuple[list[int], list[int]]:
    """Keeps the positions (in the reference, in the hypothesis) whose word at `offset` equals that of `index`."""
    if not 0 <= index + offset < len(hypothesis):
        return [], []
    word = hypothesis[index + offset]
    candidates, own = pair
    return (
        [i for i in candidates if 0 <= i + offset < len(reference) and reference[i + offset] == word],
        [i for i in own if 0 <= i + offset < len(hypothesis) and hypothesis[i + offset] == word],
    )
