from __future__ import annotations

import itertools
import random
import runpy
from pathlib import Path

import numpy as np
import pytest

from hf_nat.base.utils import read_json
from hf_nat.data import Mode, ToyTask
from hf_nat.experiments.paper_claims import CLAIMS
from hf_nat.metrics import LanguagePosterior


ROOT = Path(__file__).parents[2]
script = runpy.run_path(str(ROOT / "scripts/toy_languages.py"))
outputs_of, told, seen = (script[name] for name in ("one_pass_outputs", "told", "seen"))
TASK = ToyTask(language_probs=(1 / 3, 1 / 3, 1 / 3))


def test_model_that_knows_the_language_writes_its_most_probable_translation() -> None:
    rng = random.Random(1)
    for _ in range(30):
        source, language = TASK.sample_source(rng), rng.randrange(3)
        weights = [float(other == language) for other in range(3)]
        likely = max(range(2), key=TASK.register_probs.__getitem__)
        words = TASK.translate(source, Mode(language, likely)).split()
        assert outputs_of(TASK, source, weights) == [[[word] for word in words]]


def test_even_weights_mix_languages() -> None:
    rng = random.Random(1)
    sources = [TASK.sample_source(rng) for _ in range(50)]
    whole = [{TASK.translate(source, mode) for mode, _ in TASK.modes} for source in sources]
    first = (" ".join(words[0] for words in outputs_of(TASK, source, [1 / 3] * 3)[0]) for source in sources)
    last = (" ".join(words[-1] for words in outputs_of(TASK, source, [1 / 3] * 3)[0]) for source in sources)
    assert sum(not {*pair} <= found for *pair, found in zip(first, last, whole, strict=True)) > 40


def test_concentration_is_a_mean_over_all_that_is_equally_probable() -> None:
    posterior = LanguagePosterior(("a", "b"), {"x": np.array([1.0, 0.0]), "y": np.array([0.2, 0.8])})
    ties = [[["x", "y"], ["x"], ["x", "y"]], [["y"]]]
    of_length = [posterior(itertools.product(*positions)).max(axis=1).mean() for positions in ties]
    assert script["mean_concentration"](ties, posterior) == pytest.approx(sum(of_length) / 2)


def test_corpora_with_the_same_best_model_have_the_same_concentration() -> None:
    rng = random.Random(1)
    sources = [TASK.sample_source(rng) for _ in range(5)]
    even = [(1.0, [1 / 3] * 3)]
    expected = script["expected_concentration"](TASK, sources, even)
    assert script["expected_concentration"](TASK, sources, list(told(3, 0.0))) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("weighings", [list(told(3, 0.3)), list(seen(3, 1)), list(seen(3, 4)), list(seen(2, 5))])
def test_weights_are_expectations_of_even_languages(weighings: list[tuple[float, list[float]]]) -> None:
    assert sum(prob for prob, _ in weighings) == pytest.approx(1)
    for _, weights in weighings:
        assert sum(weights) == pytest.approx(1)
    size = len(weighings[0][1])
    means = [sum(prob * weights[i] for prob, weights in weighings) for i in range(size)]
    assert means == pytest.approx([1 / size] * size)


def test_source_seen_once_is_one_that_tells_its_language() -> None:
    assert sorted(w for p, w in seen(3, 1) if p) == sorted(w for _, w in told(3, 1.0))


def test_page_holds_the_committed_calculation() -> None:
    results = read_json(ROOT / "configs/toy/results/languages.json")
    told_by = {row["share"]: row["concentration"] for row in results["told"]}
    by_heart = {row["times"]: row["concentration"] for row in results["seen"]}
    assert told_by[0.0] == pytest.approx(results["concatenated"], abs=1e-9)
    assert told_by[1.0] == pytest.approx(by_heart[1], abs=1e-9)
    known = next(claim.known for claim in CLAIMS if "drawn at random" in claim.text)
    for value in (results["concatenated"], told_by[0.0], told_by[0.05], told_by[0.3], by_heart[1], by_heart[20]):
        assert f"{value:.2f}" in known
    systems = read_json(ROOT / "configs/toy/results/multimodality.json")["systems"]
    trained = {row["name"]: row["concentration"] for row in systems}
    chosen, together = (f"{trained[f'NAT, {corpus}']:.2f}" for corpus in ("random selection", "concatenated"))
    assert f"random selection has {chosen} and all languages together {together}" in known
