"""Which language an output is in, token by token: how well a model keeps to one of several modes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from .bootstrap import bootstrap


@dataclass(frozen=True)
class LanguagePosterior:
    """p(language | token) by Bayes' law, from the frequency of each token in each language; all languages are equally
    probable beforehand.

    Args:
        languages (`tuple[str, ...]`): L names.
        by_token (`dict[str, np.ndarray]`): `[L]` for each token that is known.

    Source: Zhou, Gu & Neubig 2020, section 3.1, Equation 2.
    """

    languages: tuple[str, ...]
    by_token: dict[str, np.ndarray]

    @classmethod
    def from_corpora(cls, corpora: Mapping[str, Iterable[Sequence[str]]]) -> LanguagePosterior:
        """Counts the tokens of a corpus of each language.

        Args:
            corpora (`Mapping[str, Iterable[Sequence[str]]]`): language -> tokens of each sentence.

        Raises:
            ValueError: if there is no language, or one without tokens.
        """
        if not corpora:
            raise ValueError("`corpora` must name at least 1 language, got none.")
        counts = {lang: Counter(chain.from_iterable(sentences)) for lang, sentences in corpora.items()}
        for lang, found in counts.items():
            if not found:
                raise ValueError(f"Every language must have tokens, got none of {lang!r}.")
        tokens = list(dict.fromkeys(chain.from_iterable(counts.values())))
        frequencies = np.array([[found[token] for found in counts.values()] for token in tokens], dtype=float)
        frequencies /= [found.total() for found in counts.values()]
        frequencies /= frequencies.sum(axis=1, keepdims=True)
        return cls(tuple(corpora), dict(zip(tokens, frequencies, strict=True)))

    def __call__(self, sentences: Iterable[Sequence[str]]) -> np.ndarray:
        """Returns the mean posterior of the known tokens of each sentence: `[sentences, L]`, rows sum to 1.

        An unknown token tells nothing and does not count, see `unknown_share`; a sentence without a known one has
        1 / L for each language.
        """
        nothing = np.full(len(self.languages), 1 / len(self.languages))
        known = ([self.by_token[token] for token in tokens if token in self.by_token] for tokens in sentences)
        rows = [np.mean(posteriors, axis=0) if posteriors else nothing for posteriors in known]
        return np.array(rows).reshape(-1, len(self.languages))

    def unknown_share(self, sentences: Iterable[Sequence[str]]) -> float:
        """Returns the share (0-1) of the tokens of all sentences that no language has; 0 without a token."""
        is_unknown = [token not in self.by_token for tokens in sentences for token in tokens]
        return sum(is_unknown) / max(1, len(is_unknown))


def concentration(
    posteriors: np.ndarray, *, num_bootstrap: int = 0, seed: int = 1
) -> tuple[float, tuple[float, float] | None]:
    """Tells how near points of a simplex lie to its corners: the mean of each point's largest coordinate.

    1 where every sentence is in one language, 1 / L where all are mixed evenly. Tokens that languages share, such as
    punctuation, keep real text below 1.

    Args:
        posteriors (`np.ndarray`): `[sentences, L]`.
        num_bootstrap (`int`, *optional*, defaults to 0): samples of the bootstrap over sentences; 0 for no interval.
        seed (`int`, *optional*, defaults to 1): of the bootstrap.

    Returns:
        `tuple[float, tuple[float, float] | None]`: the mean, and its 95 % interval.

    Raises:
        ValueError: if there is no sentence.
    """
    if not len(posteriors):
        raise ValueError("`posteriors` must have a sentence, got none.")
    largest = posteriors.max(axis=1)
    interval = None
    if num_bootstrap:
        interval = bootstrap(
            lambda weights: float(np.average(largest, weights=weights)),
            len(largest),
            num_samples=num_bootstrap,
            seed=seed,
        ).interval()
    return float(largest.mean()), interval
