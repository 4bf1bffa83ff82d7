#!/usr/bin/env python
"""How far a one-pass model mixes languages that it learns from a corpus where they cannot be told from the source.

    python scripts/toy_languages.py --output configs/toy/results/languages.json

The toy corpus with three equally probable languages, where p(y|x) is known. The best one-pass model chooses the most
probable length, then at each position the most probable word, so its output follows from how it weighs the languages;
the concentration is a mean over all outputs that are equally probable:

- *concatenated*, every source once in each language: evenly;
- *random*, one language drawn for each sentence. For a new source the best weights are p(language | source): evenly
  again, but for the share that the source tells of its language. For a source learned by heart they are the counts of
  the times that it was seen; all counts are enumerated.
"""

from __future__ import annotations

import argparse
import itertools
import math
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from statistics import mean
from typing import Any

from hf_nat.base.reporting import Table
from hf_nat.base.utils import environment, write_json
from hf_nat.data import Mode, ToyTask
from hf_nat.metrics import LanguagePosterior


TASK = ToyTask(language_probs=(1 / 3, 1 / 3, 1 / 3))


def one_pass_outputs(task: ToyTask, source: str, weights: Sequence[float]) -> list[list[list[str]]]:
    """Returns what the best one-pass model may write, which weighs the languages so.

    Returns:
        `list[list[list[str]]]`: for each of the most probable lengths the most probable words of each position. One of
            each is written; where there are several they are tied, and equally probable.
    """
    lengths: dict[int, float] = defaultdict(float)
    translations = []
    for language, share, words in _translations(task, source):
        translations.append((words, weights[language] * share))
        lengths[len(words)] += weights[language] * share
    outputs = []
    for length in _most_probable(lengths):
        positions: list[dict[str, float]] = [defaultdict(float) for _ in range(length)]
        for words, prob in translations:
            if len(words) == length:
                for probs, word in zip(positions, words, strict=True):
                    probs[word] += prob
        outputs.append([_most_probable(probs) for probs in positions])
    return outputs


@cache
def _translations(task: ToyTask, source: str) -> list[tuple[int, float, list[str]]]:
    """Returns the translations of a source: language, probability of the register, words."""
    return [
        (language, share, task.translate(source, Mode(language, register)).split())
        for language in range(len(task.orders))
        for register, share in enumerate(task.register_probs)
    ]


def _most_probable(probs: Mapping[Any, float]) -> list[Any]:
    best = max(probs.values())
    return [value for value, prob in probs.items() if math.isclose(prob, best, rel_tol=1e-9)]


def mean_concentration(outputs: Sequence[Sequence[Sequence[str]]], posterior: LanguagePosterior) -> float:
    """The concentration of p(language | output), a mean over all ways to break the ties."""
    points = {word: posterior.by_token[word].tolist() for of in outputs for words in of for word in words}
    found = []
    for positions in outputs:
        # Sums of p(language | word), with their probability.
        sums = {tuple(0.0 for _ in posterior.languages): 1.0}
        for words in positions:
            longer: dict[tuple[float, ...], float] = defaultdict(float)
            for (total, prob), word in itertools.product(sums.items(), words):
                # Rounded, so that equal sums are one.
                longer[tuple(round(a + b, 9) for a, b in zip(total, points[word], strict=True))] += prob / len(words)
            sums = longer
        found.append(sum(prob * max(total) for total, prob in sums.items()) / len(positions))
    return mean(found)


def told(num_languages: int, share: float) -> Iterator[tuple[float, list[float]]]:
    """Yields weights with their probability, where the source tells its language with this share of certainty."""
    for language in range(num_languages):
        even = (1 - share) / num_languages
        yield 1 / num_languages, [even + share * (other == language) for other in range(num_languages)]


def seen(num_languages: int, times: int) -> Iterator[tuple[float, list[float]]]:
    """Yields weights with their probability for a source seen so many times, each time in a language drawn evenly."""
    for counts in itertools.product(range(times + 1), repeat=num_languages):
        if sum(counts) == times:
            ways = math.factorial(times) / math.prod(map(math.factorial, counts))
            yield ways / num_languages**times, [count / times for count in counts]


def expected_concentration(
    task: ToyTask, sources: Sequence[str], weighings: Sequence[tuple[float, list[float]]]
) -> float:
    """The concentration of p(language | output), a mean over sources, expected over the weights and ties."""
    posterior = _posterior(task, sources)
    return sum(
        prob * mean(mean_concentration(one_pass_outputs(task, source, weights), posterior) for source in sources)
        for prob, weights in weighings
    )


def _posterior(task: ToyTask, sources: Sequence[str]) -> LanguagePosterior:
    """p(language | word) from all translations; registers in whole parts of their probability."""
    corpora: dict[str, list[list[str]]] = {}
    parts = [round(100 * share) for share in task.register_probs]
    for language in range(len(task.orders)):
        corpora[f"L{language}"] = [
            task.translate(source, Mode(language, register)).split()
            for source in sources
            for register, times in enumerate(parts)
            for _ in range(times)
        ]
    return LanguagePosterior.from_corpora(corpora)


def table(results: dict[str, Any]) -> Table:
    """Makes the table of the page."""
    rows = [["concatenated", f"{results['concatenated']:.3f}"]]
    rows += [
        [f"random, source tells {100 * row['share']:.0f} %", f"{row['concentration']:.3f}"] for row in results["told"]
    ]
    rows += [[f"random, by heart, seen {row['times']} x", f"{row['concentration']:.3f}"] for row in results["seen"]]
    return Table(["corpus", "concentration"], rows)


def main(argv: Sequence[str] | None = None) -> None:
    """Writes the JSON file, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num_sources", type=int, default=200)
    parser.add_argument("--shares", nargs="+", type=float, default=[0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0])
    parser.add_argument("--times", nargs="+", type=int, default=[1, 2, 3, 5, 10, 20])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", required=True)
    args = parser.parse_args(argv)
    rng, num_languages = random.Random(args.seed), len(TASK.orders)
    sources = [TASK.sample_source(rng) for _ in range(args.num_sources)]

    def measured(weighings: Iterator[tuple[float, list[float]]]) -> float:
        return expected_concentration(TASK, sources, list(weighings))

    results = {
        "num_sources": args.num_sources,
        "seed": args.seed,
        "concatenated": measured(iter([(1.0, [1 / num_languages] * num_languages)])),
        "told": [{"share": s, "concentration": measured(told(num_languages, s))} for s in args.shares],
        "seen": [{"times": n, "concentration": measured(seen(num_languages, n))} for n in args.times],
        "environment": environment(),
    }
    write_json(args.output, results)
    print(table(results).markdown())


if __name__ == "__main__":
    main()
