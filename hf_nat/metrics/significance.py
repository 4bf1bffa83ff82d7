"""Whether one system translates better than another by more than chance."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from sacrebleu.metrics import BLEU
from sacrebleu.significance import PairedTest

from ..base.bounds import require_choice, require_number
from .bootstrap import Array, Bootstrap, bootstrap_samples
from .sentence_statistics import score_of
from .translation import (
    DEFAULT_METRICS,
    MetricRecipe,
    PreparedTexts,
    check_sides,
    language_of_texts,
    metric_recipes,
    sign_words,
)


_TESTS = {"bootstrap": "bs", "permutation": "ar"}


@dataclass(frozen=True)
class SystemScore:
    """Score of one system by one metric, compared with the baseline.

    Args:
        score (`float`): corpus score as in `MetricScore`; None if it cannot be computed.
        mean (`float`, *optional*): mean of the bootstrap samples' scores.
        confidence (`float`, *optional*): half the width of their 95 % interval.
        p_value (`float`, *optional*): probability (0-1) of a difference this large between systems that do not
            differ; 1 where the two scores are equal; None for the baseline.
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

    Every metric and every system sees the same samples of sentences; the words of all are in memory. Means and
    confidence come from `num_samples` bootstrap samples in both tests.

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
        seed (`int`, *optional*, defaults to 12345): seed of the draws, >= 1.

    Returns:
        `dict[str, dict[str, SystemScore]]`: by system, the baseline first, and by metric, in the order of `metrics`.

    Raises:
        ValueError: if the baseline is not among the systems, nothing is compared with it, a system lacks sentences,
            the test is unknown, or a number is out of range.

    Source: Koehn 2004 (bootstrap), Riezler & Maxwell 2005 (approximate randomisation); computed by sacrebleu.
    """
    if baseline not in systems or len(systems) < 2:
        raise ValueError(
            f"`baseline` must be one of at least 2 systems, got {baseline!r} and the systems {sorted(systems)}."
        )
    require_choice("test", test, sorted(_TESTS))
    require_number("num_samples", num_samples, least=2)
    require_number("seed", seed, least=1, remedy="sacrebleu takes 0 for no seed.")
    for hypotheses in systems.values():
        check_sides(hypotheses, references)
    names = [baseline, *(name for name in systems if name != baseline)]
    comparison: dict[str, dict[str, SystemScore]] = {name: {} for name in names}
    texts = PreparedTexts(language_of_texts(target_lang, references))
    for metric_name, recipe in metric_recipes(metrics, options).items():
        if recipe.missing is not None:
            scores = [SystemScore(None, None, None, None, "", recipe.missing)] * len(names)
        else:
            sides = [*(systems[name] for name in names), references]
            scores = _paired_test(sides, texts, recipe, _TESTS[test], num_samples, seed)
        for name, score in zip(names, scores, strict=True):
            comparison[name][metric_name] = score
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


def _paired_test(
    sides: Sequence[Sequence[str]],
    texts: PreparedTexts,
    recipe: MetricRecipe,
    test: str,
    num_samples: int,
    seed: int,
) -> list[SystemScore]:
    """One metric of all systems, the baseline first; the references are the last side."""
    *outputs, references = (texts.prepare(recipe.tokenized, side) for side in sides)
    named = [(str(k), hypotheses) for k, hypotheses in enumerate(outputs)]
    metric = recipe.build(texts.language)
    confidence = num_samples if test == "ar" else -1
    with _sacrebleu_seed(seed):
        signatures, columns = PairedTest(named, {"": metric}, [references], test, num_samples, confidence)()
    ((name, signature),) = signatures.items()
    signed = sign_words(texts.language, name, signature.format(short=False))
    scores: list[SystemScore] = []
    for result in columns[name]:
        score, mean, half_width, p_value = (
            None if value is None else float(value)
            for value in (getattr(result, field) for field in ("score", "mean", "ci", "p_value"))
        )
        if scores and score == scores[0].score:
            # sacrebleu counts the samples with a larger difference, so no difference at all would be significant.
            p_value = 1.0
        scores.append(SystemScore(score, mean, half_width, p_value, signed))
    return scores


@contextmanager
def _sacrebleu_seed(seed: int) -> Iterator[None]:
    """sacrebleu takes its seed from the environment only."""
    before = os.environ.get("SACREBLEU_SEED")
    os.environ["SACREBLEU_SEED"] = str(seed)
    try:
        yield
    finally:
        if before is None:
            del os.environ["SACREBLEU_SEED"]
        else:
            os.environ["SACREBLEU_SEED"] = before
