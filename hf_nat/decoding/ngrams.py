"""n-gram models estimated: interpolated, with modified Kneser-Ney smoothing.

Dimension letters: T words of a text, the markers of its sentences among them; N distinct n-grams of an order, n words
each; V words of the vocabulary.

Source: Chen & Goodman 1998 (TR-10-98, section 3); Heafield et al. 2013 (ACL P13-2121), whose `lmplz` gives the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..base.bounds import require_number
from ..data.tokens import BLANKS


UNK, BOS, EOS = SPECIAL_WORDS = ("<unk>", "<s>", "</s>")
# Longest n-grams.
MAX_ORDER = 10
# What counts of 1, 2 and more lose where a text is too small to tell.
_DISCOUNTS = (0.5, 1.0, 1.5)


@dataclass(frozen=True, eq=False)
class NGrams:
    """The distinct n-grams of one order.

    Attributes:
        words (`np.ndarray` of shape `(N, n)`): ids of their words.
        log_probs (`np.ndarray` of shape `(N,)`): log-probability of the last word, given the others, in nats.
        backoffs (`np.ndarray` of shape `(N,)`): log of what is left behind them for words that never followed; 0 where
            nothing ever did.
    """

    words: np.ndarray
    log_probs: np.ndarray
    backoffs: np.ndarray


@dataclass(frozen=True, eq=False)
class _Counts:
    """How often the n-grams of one order were seen.

    Attributes:
        words (`np.ndarray` of shape `(N, n)`): ids of their words.
        seen (`np.ndarray` of shape `(N,)`): how often.
        context (`np.ndarray` of shape `(N,)`): which n-gram of the order below their first words are.
        suffix (`np.ndarray` of shape `(N,)`): which their last words are.
    """

    words: np.ndarray
    seen: np.ndarray
    context: np.ndarray
    suffix: np.ndarray


def estimate(sentences: Iterable[Sequence[str]], order: int) -> tuple[list[str], list[NGrams]]:
    """Estimates an n-gram model; of the text some numbers for each word are held.

    Args:
        sentences (`Iterable[Sequence[str]]`): the words of each sentence; those without any are left out.
        order (`int`): length of the longest n-grams.

    Returns:
        `tuple` of the vocabulary, whose first words are `<unk>`, `<s>` and `</s>`, and the n-grams of each order, from
        1 on. `<unk>` stands for all words that were not seen, `<s>` is no prediction.

    Raises:
        ValueError: if `order` is below 1 or above 10, a word is one of the three or holds a blank, or there is no
            sentence.
    """
    require_number("order", order, least=1, most=MAX_ORDER)
    ids = {word: number for number, word in enumerate(SPECIAL_WORDS)}
    text = []
    for words in sentences:
        if found := next((word for word in words if ids.get(word, 3) < 3), None):
            raise ValueError(f"A word must be none of {', '.join(SPECIAL_WORDS)}, got {found} in {words!r:.80}.")
        if words:
            text += [ids[BOS], *(ids.setdefault(word, len(ids)) for word in words), ids[EOS]]
    if not text:
        raise ValueError("A language model must have a sentence with a word, got none. Give another text.")
    if found := next((word for word in ids if not BLANKS.isdisjoint(word)), None):
        raise ValueError(f"A word of a language model must have no blank in it, got {found!r:.80}.")
    counts = _count(np.array(text), len(ids), order)
    probabilities, smoothed, backoffs = np.array([1 / (len(ids) - 1)]), [], []
    for number, grams in enumerate(counts):
        adjusted = _adjusted(grams, counts[number + 1] if number + 1 < order else None)
        discounts = _discounts(adjusted)[np.minimum(adjusted, 3)]
        # Of all n-grams with one context.
        total = np.bincount(grams.context, weights=adjusted, minlength=len(probabilities))
        taken = np.bincount(grams.context, weights=discounts, minlength=len(probabilities))
        left = np.divide(taken, total, out=np.ones(len(total)), where=total > 0)
        own = (adjusted - discounts) / total[grams.context]
        backoffs.append(left)
        probabilities = own + left[grams.context] * probabilities[grams.suffix]
        smoothed.append(probabilities)
    backoffs = [*backoffs[1:], np.ones(len(probabilities))]
    logs = ([np.log(values) for values in lists] for lists in (smoothed, backoffs))
    return list(ids), [NGrams(grams.words, *values) for grams, *values in zip(counts, *logs, strict=True)]


def _count(text: np.ndarray, vocab_size: int, order: int) -> list[_Counts]:
    """Counts the n-grams of each order that lie in one sentence of `text` `(T,)`."""
    place = np.arange(len(text)) - np.maximum.accumulate(np.where(text == 1, np.arange(len(text)), 0))
    none = np.zeros(vocab_size, dtype=np.int64)
    counts = [_Counts(np.arange(vocab_size)[:, None], np.bincount(text, minlength=vocab_size), none, none)]
    ending = text  # which n-gram of the order below ends at each word
    for n in range(2, order + 1):
        ends = np.flatnonzero(place >= n - 1)
        keys = ending[ends - 1] * vocab_size + text[ends]
        distinct, first, which, seen = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
        context, last = np.divmod(distinct, vocab_size)
        words = np.concatenate([counts[-1].words[context], last[:, None]], axis=1)
        counts.append(_Counts(words, seen, context, ending[ends[first]]))
        ending = np.zeros(len(text), dtype=np.int64)
        ending[ends] = which
    return counts


def _adjusted(grams: _Counts, longer: _Counts | None) -> np.ndarray:
    """Counts `(N,)` different words before n-grams; how often they were seen where there are none, as behind `<s>`."""
    if longer is None:
        counts = grams.seen.copy()
    else:
        counts = np.bincount(longer.suffix, minlength=len(grams.seen))
        counts = np.where(grams.words[:, 0] == 1, grams.seen, counts)
    if grams.words.shape[1] == 1:
        counts[:2] = 0  # neither <unk> nor <s> is predicted
    return counts


def _discounts(counts: np.ndarray) -> np.ndarray:
    """Returns what counts of 0, 1, 2 and 3 or more lose."""
    one, two, three, four = ((counts == number).sum() for number in range(1, 5))
    if one and two and three:
        share = one / (one + 2 * two)
        found = np.array([1 - 2 * share * two / one, 2 - 3 * share * three / two, 3 - 4 * share * four / three])
        # What loses nothing would leave nothing for words that never followed: no file can hold that.
        if (found > 0).all():
            return np.array([0, *found])
    return np.array([0, *_DISCOUNTS])
