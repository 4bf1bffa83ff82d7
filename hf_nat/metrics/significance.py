"""Whether one system translates better than another by more than chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from sacrebleu.metrics import BLEU
from sacrebleu.metrics.base import Metric

from ..base.bounds import require_choice, require_number
from ..base.languages import find_language
from .bootstrap import Array, Bootstrap, bootstrap_samples
from .sentence_statistics import score_of
from .translation import DEFAULT_METRICS, MetricScore, check_sides, metric_recipes, score_translations


_TESTS = ("bootstrap", "permutation")
_ROUNDING = 1e-9  # Differences of scores, 0-100, this near are equal.


@dataclass(frozen=True)
class SystemScore:
    """Score of one system by one metric, compared with the baseline.

    Args:
        score (`float`): corpus score as in `MetricScore`; None if it cannot be computed.
        mean (`float`, *optional*): mean of the bootstrap samples' scores.
        confidence (`float`, *optional*): half the width of their 95 % interval.
        p_value (`float`, *optional*): probability (0-1) of a difference at least this large, in either direction,
            between systems that do not differ; 1 where the two scores are equal; None for the baseline.
        signature (`str`): how the number was made, with test, samples and seed; empty without a score.
        reason (`str`, *optional*): why there is no score.
    """

    score: float | None
    mean: float | None
    confidence: float | None
    p_value: float | None
    signature: str
    reason: str | None = None


def compare_systems(
    systems: Mapping[str, Sequence[str]],
    references: Sequence[str],
    *,
    target_lang: str,
    baseline: str,
    metrics: Sequence[str] = DEFAULT_METRICS,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    test: Literal["bootstrap", "permutation"] = "bootstrap",
    num_samples: int = 1000,
    seed: int = 12345,
) -> dict[str, dict[str, SystemScore]]:
    """Tests whether systems differ from a baseline by more than chance.

    Every metric and every system sees the same samples of sentences. Means and confidence come from `num_samples`
    bootstrap samples in both tests.

    Args:
        systems (`Mapping[str, Sequence[str]]`): detokenised translations by the name of their system.
        references (`Sequence[str]`): detokenised references.
        target_lang (`str`): language code; see `score_translations`.
        baseline (`str`): name of the system that the others are compared with.
        metrics (`Sequence[str]`, *optional*): see `score_translations`.
        options (`Mapping[str, Mapping[str, Any]]`, *optional*): see `score_translations`.
        test (`str`, *optional*, defaults to `"bootstrap"`): paired bootstrap resampling, or `"permutation"`: paired
            approximate randomisation, which swaps the two systems' outputs sentence by sentence.
        num_samples (`int`, *optional*, defaults to 1000): samples, >= 2.
        seed (`int`, *optional*, defaults to 12345): seed of the draws, >= 0.

    Returns:
        `dict[str, dict[str, SystemScore]]`: by system, the baseline first, and by metric, in the order of `metrics`.

    Raises:
        ValueError: if the baseline is not among the systems, nothing is compared with it, a system lacks sentences,
            the test is unknown, or a number is out of range.

    Source: Koehn 2004 and Efron & Tibshirani 1993, section 16.4 (bootstrap), Riezler & Maxwell 2005 (approximate
    randomisation). sacrebleu's tests of the same names give smaller p-values, which are too small for both: its
    bootstrap drops the sign of a sample's difference before it subtracts the mean, and both leave out samples whose
    difference is just the observed one, as most are where few sentences differ.
    """
    if baseline not in systems or len(systems) < 2:
        raise ValueError(
            f"`baseline` must be one of at least 2 systems, got {baseline!r} and the systems {sorted(systems)}."
        )
    require_choice("test", test, _TESTS)
    require_number("num_samples", num_samples, least=2)
    require_number("seed", seed, least=0)
    for hypotheses in systems.values():
        check_sides(hypotheses, references)
    names = [baseline, *(name for name in systems if name != baseline)]
    scored = {
        name: score_translations(systems[name], references, target_lang=target_lang, metrics=metrics, options=options)
        for name in names
    }
    comparison: dict[str, dict[str, SystemScore]] = {name: {} for name in names}
    for metric_name, recipe in metric_recipes(metrics, options).items():
        scores = [scored[name][metric_name] for name in names]
        if recipe.missing is not None:
            compared = [SystemScore(None, None, None, None, "", recipe.missing)] * len(names)
        else:
            compared = _compare(scores, recipe.build(find_language(target_lang)), test, num_samples, seed)
        for name, result in zip(names, compared, strict=True):
            comparison[name][metric_name] = result
    return comparison


def hierarchical_bootstrap(statistics: Array, *, num_samples: int = 1000, seed: int = 1) -> Bootstrap:
    """Measures the mean BLEU of the models of several seeds in samples of seeds and sentences.

    Each sample draws as many seeds as there are, with replacement, then as many sentences as there are: the same for
    all seeds, as every model translated the same test set. The difference of two systems is paired by both, the model
    of a seed beside the other system's of that seed. A single seed leaves the paired bootstrap of the test set, which
    knows nothing of what another seed would change; of two or three seeds it knows little.

    Args:
        statistics (`np.ndarray`): `[seeds, sentences, 10]`, see [`MetricScore`]; seeds and sentences stand in the
            same order for all systems that are compared.
        num_samples (`int`, *optional*, defaults to 1000): samples, at least 1.
        seed (`int`, *optional*, defaults to 1): of the draws.

    Returns:
        `Bootstrap`: the mean over seeds and its samples, 0-100; systems subtract.

    Raises:
        ValueError: if the statistics have another shape or nothing in them, or `num_samples` is below 1.

    Source: Koehn 2004 (sentences); Davison & Hinkley 1997, section 3.8 (hierarchical data).
    """
    statistics = np.asarray(statistics)
    if statistics.ndim != 3 or not statistics.size:
        raise ValueError(f"`statistics` must be [seeds, sentences, 10] and not empty, got {list(statistics.shape)}.")
    metric = BLEU()
    num_seeds, num_rows, _ = statistics.shape

    def scores(row_weights: Array) -> list[float]:
        return [score_of(metric, sums) for sums in np.tensordot(row_weights, statistics, (0, 1))]

    by_seed = bootstrap_samples(scores, num_rows, num_samples, seed)
    # Draws of their own, so that those of the sentences are the same for any number of seeds.
    drawn = np.random.default_rng([seed, num_seeds]).integers(num_seeds, size=(num_samples, num_seeds))
    samples = np.take_along_axis(by_seed, drawn, axis=1).mean(axis=1)
    value = float(np.mean(scores(np.ones(num_rows, dtype=np.int64))))
    return Bootstrap(value, samples, {"seeds": num_seeds, "rows": num_rows, "seed": seed})


def _compare(
    scores: Sequence[MetricScore], metric: Metric, test: str, num_samples: int, seed: int
) -> list[SystemScore]:
    """Tests one metric of all systems, the baseline first."""
    baseline, *others = (score.statistics for score in scores)

    def resampled(row_weights: Array) -> list[float]:
        return [score_of(metric, row_weights @ statistics) for statistics in (baseline, *others)]

    samples = bootstrap_samples(resampled, len(baseline), num_samples, seed)  # [samples, systems]
    low, high = np.sort(samples, axis=0)[[num_samples // 40, -(num_samples // 40) - 1]]
    p_values: list[float | None] = [None]
    for column, (score, statistics) in enumerate(zip(scores[1:], others, strict=True), 1):
        if test == "bootstrap":
            differences = samples[:, column] - samples[:, 0]
            differences -= differences.mean()
        else:
            differences = _swapped_differences(baseline, statistics, metric, num_samples, seed)
        observed = abs(score.score - scores[0].score) - _ROUNDING
        p_values.append(float((np.abs(differences) >= observed).sum() + 1) / (num_samples + 1))
    means, half_widths = samples.mean(axis=0).tolist(), ((high - low) / 2).tolist()
    return [
        SystemScore(score.score, mean, width, p, f"{score.signature}|test:{test}|samples:{num_samples}|seed:{seed}")
        for score, mean, width, p in zip(scores, means, half_widths, p_values, strict=True)
    ]


def _swapped_differences(one: Array, other: Array, metric: Metric, num_samples: int, seed: int) -> Array:
    """Differences of two systems after their outputs were swapped for half of the sentences by chance: `[samples]`."""
    rng = np.random.default_rng(seed)
    total, gained = one.sum(axis=0) + other.sum(axis=0), other - one
    differences = np.empty(num_samples)
    for sample in range(num_samples):
        first = one.sum(axis=0) + rng.integers(2, size=len(one), dtype=bool) @ gained
        differences[sample] = score_of(metric, first) - score_of(metric, total - first)
    return differences
