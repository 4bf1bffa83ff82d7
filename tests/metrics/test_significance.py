from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from sacrebleu.metrics import CHRF
from sacrebleu.significance import PairedTest

from hf_nat.metrics.meteor import METEOR
from hf_nat.metrics.ribes import RIBES
from hf_nat.metrics.significance import compare_systems
from hf_nat.metrics.translation import PAPER_METRICS, score_translations


def corpus(errors: float, size: int = 40) -> tuple[list[str], list[str]]:
    """References of distinct words, and translations in which a share of the words is wrong."""
    rng = random.Random(0)
    references = [[f"wort{rng.randrange(500)}" for _ in range(rng.randint(6, 12))] for _ in range(size)]
    noise = random.Random(1)
    outputs = [[word if noise.random() > errors else "falsch" for word in words] for words in references]
    return [" ".join(words) for words in outputs], [" ".join(words) for words in references]


REFERENCES = corpus(0.0)[1]
SYSTEMS = {"noisy": corpus(0.4)[0], "base": corpus(0.35)[0], "clean": corpus(0.02)[0]}
SYSTEMS["copy"] = SYSTEMS["base"]
METRICS = ("bleu", "chrf", "ter", "ribes", "meteor")


def chrf(outputs: list[str], references: list[str]) -> float:
    return CHRF().corpus_score(outputs, [references]).score


@pytest.mark.parametrize("test", ["bootstrap", "permutation"])
def test_a_better_system_differs_and_a_copy_does_not(test):
    result = compare_systems(
        SYSTEMS, REFERENCES, target_lang="de", baseline="base", metrics=METRICS, test=test, num_samples=100
    )
    assert list(result) == ["base", "noisy", "clean", "copy"]
    for name in METRICS:
        assert result["base"][name].p_value is None
        assert result["clean"][name].p_value == pytest.approx(1 / 101)
        assert result["copy"][name].p_value == 1.0
        assert result["copy"][name].score == result["base"][name].score
        worse = result["clean"][name].score > result["base"][name].score
        assert worse == (name != "ter")
        for scores in result.values():
            assert abs(scores[name].mean - scores[name].score) < scores[name].confidence


def test_scores_are_those_of_score_translations():
    result = compare_systems(
        SYSTEMS, REFERENCES, target_lang="de", baseline="base", metrics=METRICS, num_samples=10, seed=7
    )
    for system, hypotheses in SYSTEMS.items():
        single = score_translations(hypotheses, REFERENCES, target_lang="de", metrics=METRICS)
        for name in METRICS:
            assert result[system][name].score == pytest.approx(single[name].score, abs=1e-9)
            assert result[system][name].signature == f"{single[name].signature}|test:bootstrap|samples:10|seed:7"
    assert "|tok:moses-de-sacremoses-" in result["base"]["ribes"].signature


def test_means_and_confidence_are_those_of_sacrebleus_paired_test(monkeypatch):
    monkeypatch.setenv("SACREBLEU_SEED", "99")
    metrics = {"RIBES": RIBES(), "METEOR": METEOR("de")}
    # The words have no punctuation, so their Moses tokens are the text.
    systems = {name: SYSTEMS[name] for name in ("base", "noisy")}
    _, expected = PairedTest(list(systems.items()), metrics, [REFERENCES], "bs", 50)()
    arguments = {"target_lang": "de", "baseline": "base", "metrics": ("ribes", "meteor"), "num_samples": 50}
    ours = compare_systems(systems, REFERENCES, seed=99, **arguments)
    for key, name in (("RIBES", "ribes"), ("METEOR(exact+stem)", "meteor")):
        for column, system in enumerate(systems):
            score, result = ours[system][name], expected[key][column]
            found, wanted = (score.score, score.mean, score.confidence), (result.score, result.mean, result.ci)
            assert found == pytest.approx(wanted, abs=1e-4)  # sacrebleu adds in single precision.


def test_bootstrap_is_a_loop_over_resampled_sentences():
    result = compare_systems(SYSTEMS, REFERENCES, target_lang="de", baseline="base", metrics=["chrf"], num_samples=50)
    rng, differences = np.random.default_rng(12345), []
    for _ in range(50):
        rows = rng.integers(len(REFERENCES), size=len(REFERENCES))
        noisy, base = ([SYSTEMS[name][row] for row in rows] for name in ("noisy", "base"))
        differences.append(
            chrf(noisy, [REFERENCES[row] for row in rows]) - chrf(base, [REFERENCES[row] for row in rows])
        )
    observed = abs(chrf(SYSTEMS["noisy"], REFERENCES) - chrf(SYSTEMS["base"], REFERENCES))
    mean = sum(differences) / 50
    larger = sum(abs(difference - mean) >= observed for difference in differences)
    assert result["noisy"]["chrf"].p_value == pytest.approx((larger + 1) / 51)


@pytest.mark.parametrize("changed", [1, 2, 3, 5])
def test_permutation_is_that_of_all_exchanges_of_the_sentences(changed):
    base, other = SYSTEMS["noisy"], list(SYSTEMS["noisy"])
    other[:changed] = SYSTEMS["clean"][:changed]
    observed = abs(chrf(other, REFERENCES) - chrf(base, REFERENCES))
    exact = 0.0
    for swapped in itertools.product([False, True], repeat=changed):
        first, second = list(base), list(other)
        for row, swap in enumerate(swapped):
            if swap:
                first[row], second[row] = second[row], first[row]
        exact += abs(chrf(first, REFERENCES) - chrf(second, REFERENCES)) >= observed - 1e-9
    systems = {"base": base, "other": other}
    arguments = {"baseline": "base", "metrics": ["chrf"], "test": "permutation", "num_samples": 3000}
    found = compare_systems(systems, REFERENCES, target_lang="de", **arguments)["other"]["chrf"].p_value
    assert found == pytest.approx(exact / 2**changed, abs=0.03)


@pytest.mark.parametrize("test", ["bootstrap", "permutation"])
def test_equal_systems_seldom_differ(test):
    """Of outputs whose sentences were dealt out by chance a share of 0.2 differs at p < 0.2."""
    rng, found = random.Random(3), []
    for _ in range(60):
        pairs = [rng.sample([one, other], 2) for one, other in zip(SYSTEMS["noisy"], SYSTEMS["base"], strict=True)]
        systems = {"one": [pair[0] for pair in pairs], "other": [pair[1] for pair in pairs]}
        arguments = {"baseline": "one", "metrics": ["bleu"], "test": test, "num_samples": 60}
        found.append(compare_systems(systems, REFERENCES, target_lang="de", **arguments)["other"]["bleu"].p_value)
    assert sum(p < 0.2 for p in found) / 60 == pytest.approx(0.2, abs=0.12)
    assert sum(p < 0.5 for p in found) / 60 == pytest.approx(0.5, abs=0.18)


def test_the_seed_decides():
    means = []
    for seed in (1, 2, 1):
        result = compare_systems(
            SYSTEMS, REFERENCES, target_lang="de", baseline="base", metrics=["ribes"], num_samples=20, seed=seed
        )
        means.append([scores["ribes"].mean for scores in result.values()])
    assert means[0] == means[2] != means[1]


def test_a_metric_without_a_score_says_why_for_every_system():
    result = compare_systems(
        SYSTEMS, REFERENCES, target_lang="de", baseline="base", metrics=("beer", "ribes"), num_samples=2
    )
    for scores in result.values():
        assert scores["beer"].score is None and "model_dir" in scores["beer"].reason
        assert scores["ribes"].score is not None and scores["ribes"].reason is None


def test_all_metrics_of_the_paper_have_an_interval_around_their_score():
    scores = score_translations(
        SYSTEMS["base"], REFERENCES, target_lang="de", metrics=PAPER_METRICS, num_bootstrap=200
    )
    for name in set(PAPER_METRICS) - {"beer"}:
        low, high = scores[name].interval
        assert low < scores[name].score < high
    assert scores["beer"].interval is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"baseline": "best"}, "`baseline` must be one of at least 2 systems, got 'best'"),
        ({"systems": {"base": REFERENCES}}, r"got 'base' and the systems \['base'\]"),
        ({"systems": {"base": REFERENCES, "short": REFERENCES[1:]}}, "got 39 and 40"),
        ({"test": "t-test"}, r"`test` must be one of \['bootstrap', 'permutation'\], got 't-test'"),
        ({"num_samples": 1}, "`num_samples` must be >= 2, got 1"),
        ({"seed": -1}, "`seed` must be >= 0, got -1"),
        ({"metrics": ["comet"]}, "got 'comet'"),
    ],
)
def test_bad_arguments_are_errors_with_the_value(change, message):
    arguments = {"systems": SYSTEMS, "target_lang": "de", "baseline": "base"} | change
    with pytest.raises(ValueError, match=message):
        compare_systems(references=REFERENCES, **arguments)
