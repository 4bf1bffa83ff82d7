"""Sentence statistics, their record, and the bootstrap over seeds and sentences."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
from sacrebleu.metrics import BLEU

from hf_nat.base.languages import find_language
from hf_nat.metrics.sentence_statistics import bleu_record, bleu_statistics, score_of, training_bleu_bootstrap
from hf_nat.metrics.significance import hierarchical_bootstrap
from hf_nat.metrics.translation import metric_recipes, score_translations, training_bleu


RANDOM = random.Random(0)
WORDS = ["der", "die", "das", "Hund", "Katze", "geht", "läuft", "schläft"]
REFERENCES = [" ".join(RANDOM.choices(WORDS, k=RANDOM.randint(3, 9))) + "." for _ in range(30)] + ["", "ja"]


def translated(seed: int, errors: float = 0.3) -> list[str]:
    """The references with some words exchanged or left out."""
    generator = random.Random(seed)
    outputs = []
    for text in REFERENCES[:-2]:
        words = [w if generator.random() > errors else generator.choice([*WORDS, ""]) for w in text.split()]
        outputs.append(" ".join(filter(None, words)))
    return [*outputs, "nein", ""]


def counted(*outputs: list[str]) -> np.ndarray:
    return np.stack([training_bleu(texts, REFERENCES, target_lang="de").statistics for texts in outputs])


GOOD, BAD = counted(translated(1), translated(2), translated(3)), counted(*(translated(s, 0.5) for s in (4, 5, 6)))
DRAWS = {"num_samples": 200, "seed": 5}


@pytest.mark.parametrize("metric", ["bleu", "sacrebleu", "chrf", "ter", "ribes", "meteor"])
def test_statistics_sum_to_the_corpus_score(metric):
    score = score_translations(translated(1), REFERENCES, target_lang="de", metrics=[metric])[metric]
    assert len(score.statistics) == len(REFERENCES)
    built = metric_recipes([metric], None)[metric].build(find_language("de"))
    assert score_of(built, score.statistics.sum(axis=0)) == pytest.approx(score.score)


def test_record_gives_the_statistics_back():
    record = json.loads(json.dumps(bleu_record(GOOD[0])))
    found = bleu_statistics(record)
    assert found.tolist() == GOOD[0].tolist() and found.dtype == np.int64
    assert len(json.dumps(record)) < 16 * len(REFERENCES) + 60
    with pytest.raises(ValueError, match=r"one number a sentence, got \[31, 32\]"):
        bleu_statistics(record | {"lengths": record["lengths"].rsplit(" ", 1)[0]})


def test_samples_are_the_mean_score_of_drawn_seeds_on_drawn_sentences():
    result = hierarchical_bootstrap(GOOD, num_samples=20, seed=5)
    sentences = np.random.default_rng(5)
    seeds = np.random.default_rng([5, 3]).integers(3, size=(20, 3))
    outputs = [translated(1), translated(2), translated(3)]
    for sample, drawn in zip(result.samples, seeds, strict=True):
        rows = sentences.integers(len(REFERENCES), size=len(REFERENCES))
        references = [REFERENCES[i] for i in rows]
        scores = [
            score_translations([outputs[s][i] for i in rows], references, target_lang="de", metrics=["bleu"])["bleu"]
            for s in drawn
        ]
        assert sample == pytest.approx(np.mean([score.score for score in scores]))


def test_swapped_systems_mirror_the_interval_and_equal_ones_have_none():
    good, bad = hierarchical_bootstrap(GOOD, **DRAWS), hierarchical_bootstrap(BAD, **DRAWS)
    low, high = (good - bad).interval()
    assert 0 < low < (good - bad).value < high
    assert ((bad - good).value, *(bad - good).interval()) == pytest.approx((-(good - bad).value, -high, -low))
    assert (good - hierarchical_bootstrap(GOOD.copy(), **DRAWS)).interval() == (0.0, 0.0)


def test_one_seed_leaves_the_paired_bootstrap_of_the_test_set():
    one = hierarchical_bootstrap(GOOD[:1], **DRAWS) - hierarchical_bootstrap(BAD[:1], **DRAWS)
    sentences, metric = np.random.default_rng(5), BLEU()
    for sample in one.samples:
        rows = sentences.integers(len(REFERENCES), size=len(REFERENCES))
        good, bad = (metric._compute_score_from_stats(list(s[0][rows].sum(0))).score for s in (GOOD, BAD))
        assert sample == pytest.approx(good - bad)
    # Seeds that are copies of one another add nothing.
    copies = [hierarchical_bootstrap(np.repeat(system[:1], 3, axis=0), **DRAWS) for system in (GOOD, BAD)]
    assert (copies[0] - copies[1]).samples == pytest.approx(one.samples)


def test_seeds_that_differ_widen_the_interval():
    close = counted(translated(1), translated(1))
    apart = counted(translated(1, 0.1), translated(1, 0.6))
    (low, high), (low_apart, high_apart) = (hierarchical_bootstrap(s, **DRAWS).interval() for s in (close, apart))
    assert high_apart - low_apart > 1.5 * (high - low)


def test_order_of_seeds_pairs_them():
    noisy = counted(translated(1, 0.1), translated(2, 0.6))
    better = counted(translated(1, 0.05), translated(2, 0.55))
    paired, crossed = (
        hierarchical_bootstrap(better, **DRAWS) - hierarchical_bootstrap(other, **DRAWS)
        for other in (noisy, noisy[::-1])
    )
    assert paired.value == pytest.approx(crossed.value)
    assert np.std(paired.samples) < np.std(crossed.samples)


def test_training_bleu_is_resampled_by_real_rows():
    kept = np.array([5, 1, 0, 30])
    part = training_bleu_bootstrap(GOOD[0][kept], rows=kept, num_rows=len(REFERENCES), num_samples=20, seed=2)
    generator, metric = np.random.default_rng(2), BLEU()
    for sample in part.samples:
        rows = [i for i in generator.integers(len(REFERENCES), size=len(REFERENCES)) if i in kept]
        assert sample == pytest.approx(metric._compute_score_from_stats(GOOD[0][rows].sum(0).tolist()).score)
    whole = training_bleu_bootstrap(GOOD[0], num_samples=20, seed=2)
    alone = hierarchical_bootstrap(GOOD[:1], num_samples=20, seed=2)
    assert whole.samples == pytest.approx(alone.samples)
    assert len((whole - part).interval()) == 2


def test_bad_arguments_are_errors_with_the_value():
    with pytest.raises(ValueError, match=r"must be \[seeds, sentences, 10\] and not empty, got \[32, 10\]"):
        hierarchical_bootstrap(GOOD[0])
    with pytest.raises(ValueError, match=r"got \[0, 32, 10\]"):
        hierarchical_bootstrap(GOOD[:0])
    with pytest.raises(ValueError, match="must have the same draws"):
        hierarchical_bootstrap(GOOD, **DRAWS) - hierarchical_bootstrap(BAD[:2], **DRAWS)
