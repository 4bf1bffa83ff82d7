"""fast_align once more, word by word in plain Python: sums where the package has closed forms, dicts as tables."""

from __future__ import annotations

import math
from collections import Counter, defaultdict

import torch


NULL = None
P0, ALPHA = 0.08, 0.01


def prior(i: int, j: int, m: int, n: int, tension: float) -> float:
    """P(a_j = i), with the normaliser as a sum."""
    z = sum(math.exp(-tension * abs(k / n - j / m)) for k in range(1, n + 1))
    return (1 - P0) * math.exp(-tension * abs(i / n - j / m)) / z


def mean_feature(j: int, m: int, n: int, tension: float) -> float:
    """What the tool takes for the expected feature: its normaliser has m and n exchanged."""
    features = [-abs(i / n - j / m) for i in range(1, n + 1)]
    total = sum(h * math.exp(tension * h) for h in features)
    diagonal = j * m // n

    def series(first: int, terms: int) -> float:
        start, ratio = math.exp(-tension * abs(first / m - j / n)), math.exp(-tension / m)
        return start / (1 - ratio) if terms < 0 else sum(start * ratio**k for k in range(terms))

    return total / (series(diagonal, diagonal) + series(diagonal + 1, m - diagonal))


def psi(x: float) -> float:
    return float(torch.digamma(torch.tensor(x, dtype=torch.float64)))


class Oracle:
    """Trains on sentence pairs; `scores[row][j]` then holds the weight of NULL and of each source word."""

    def __init__(self, sources: list[list[str]], targets: list[list[str]]) -> None:
        self.pairs = [(s, t) for s, t in zip(sources, targets, strict=True) if s and t]
        self.tension = 4.0
        self.table: dict = defaultdict(lambda: 1e-9)
        for iteration in range(1, 5):
            self._iterate(iteration)
        self.scores = [
            [self._weights(source, target, j) for j in range(1, len(target) + 1)] if source else [[1.0]] * len(target)
            for source, target in zip(sources, targets, strict=True)
        ]

    def _weights(self, source: list[str], target: list[str], j: int) -> list[float]:
        m, n = len(target), len(source)
        word = target[j - 1]
        return [
            P0 * self.table[NULL, word],
            *(prior(i, j, m, n, self.tension) * self.table[source[i - 1], word] for i in range(1, n + 1)),
        ]

    def _iterate(self, iteration: int) -> None:
        counts: dict = defaultdict(float)
        observed = 0.0
        for source, target in self.pairs:
            m, n = len(target), len(source)
            for j, word in enumerate(target, start=1):
                weights = self._weights(source, target, j)
                for i, weight in enumerate(weights):
                    posterior = weight / sum(weights)
                    counts[source[i - 1] if i else NULL, word] += posterior
                    observed -= posterior * abs(i / n - (j - 1) / m) if i else 0.0
        num_words = sum(len(target) for _, target in self.pairs)
        if iteration > 1:
            shapes = Counter((len(target), len(source)) for source, target in self.pairs)
            for _ in range(8):
                expected = sum(
                    count * mean_feature(j, m, n, self.tension)
                    for (m, n), count in shapes.items()
                    for j in range(1, m + 1)
                )
                self.tension += 20 * (observed - expected) / num_words
                self.tension = min(max(self.tension, 0.1), 14.0)
        totals: dict = defaultdict(float)
        for (source_word, _), count in counts.items():
            totals[source_word] += count + ALPHA
        self.table = {pair: math.exp(psi(count + ALPHA) - psi(totals[pair[0]])) for pair, count in counts.items()}


def grow(forward: set, reverse: set, method: str) -> list[tuple[int, int]]:
    """Joins the links of one sentence, one candidate after the other."""
    links = forward & reverse
    if method in ("intersect", "union"):
        return sorted(links if method == "intersect" else forward | reverse)

    def unlinked(link: tuple[int, int]) -> list[bool]:
        return [all(other[side] != link[side] for other in links) for side in (0, 1)]

    added = True
    while added:
        added = False
        for i, j in sorted((forward | reverse) - links):
            near = any((i + a, j + b) in links for a in (-1, 0, 1) for b in (-1, 0, 1))
            if near and any(unlinked((i, j))):
                links.add((i, j))
                added = True
    if method != "grow-diag":
        condition = all if method == "grow-diag-final-and" else any
        for candidates in (forward, reverse):
            for link in sorted(candidates):
                if condition(unlinked(link)):
                    links.add(link)
    return sorted(links)
