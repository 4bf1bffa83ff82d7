"""RIBES: how well a translation keeps the word order of its reference."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any, NamedTuple

from sacrebleu.metrics.base import Signature

from ..base.bounds import require_number
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
            require_number(name, value, least=0, remedy="Use 0 to ignore that factor.")
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
    before = _unique_contexts(hypothesis, reference)
    # The same from right to left, and back.
    after = [
        context and _Context(context.length, len(reference) - 1 - context.rank)
        for context in _unique_contexts(hypothesis[::-1], reference[::-1])[::-1]
    ]
    ranks = []
    for index in range(len(hypothesis)):
        contexts = [context for context in (before[index], after[index]) if context is not None]
        if contexts:
            # Of equal ones the first, the words before.
            ranks.append(min(contexts, key=lambda context: context.length).rank)
    return ranks


class _Context(NamedTuple):
    """A run of words that occurs once on both sides: its length, and the reference position of the word it is for."""

    length: int
    rank: int


def _unique_contexts(hypothesis: Sequence[str], reference: Sequence[str]) -> list[_Context | None]:
    """The shortest run of words up to and with each hypothesis word that occurs once on both sides, None without one.

    A longer run occurs at no more places, so it has to be longer than what any other place shares with it.
    """
    places: dict[str, tuple[list[int], list[int]]] = {}
    for side, words in enumerate((hypothesis, reference)):
        for position, word in enumerate(words):
            places.setdefault(word, ([], []))[side].append(position)
    # Words in common before and at each place with the same word, for the last hypothesis word and this one.
    own: dict[int, int] = {}
    others: dict[int, int] = {}
    contexts: list[_Context | None] = []
    for index, word in enumerate(hypothesis):
        own = {place: own.get(place - 1, 0) + 1 for place in places[word][0] if place != index}
        others = {place: others.get(place - 1, 0) + 1 for place in places[word][1]}
        longest, second = (*heapq.nlargest(2, others.values()), 0, 0)[:2]
        length = 1 + max(second, *own.values(), 0)
        found = longest >= length
        contexts.append(_Context(length, max(others, key=others.__getitem__)) if found else None)
    return contexts
