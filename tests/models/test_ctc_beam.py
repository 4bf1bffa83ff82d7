"""Prefix beam search against enumeration and against a search over dictionaries."""

from __future__ import annotations

import math
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable

import numpy as np
import pytest
import torch
from nat_model_tester import PAD, assert_translations, tiny_batch, tiny_model, tiny_teacher
from test_ctc import BLANK, PROBABILITIES, likelihoods
from torch.testing import assert_close

from hf_nat.decoding.language_model import to_automaton
from hf_nat.decoding.ngrams import NGrams
from hf_nat.models import ctc_beam
from hf_nat.models.ctc_beam import label_peaks, prefix_beam_search, rows_of
from hf_nat.models.ctc_search import NGramAutomaton, _best_labels, _compiled_best_labels, compiled_search
from hf_nat.models.shallow_fusion import ShallowFusion


# Targets that one of the ways has found.
_FOUND: dict[int, torch.Tensor] = {}


@pytest.fixture(params=["plain", "compiled"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test runs in plain Python, too."""
    if request.param == "plain":
        monkeypatch.setattr(ctc_beam, "compiled_search", lambda: None)
    elif compiled_search() is None:
        pytest.skip("numba is not installed")


def random_log_probs(seed: int, frames: int = 5, labels: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(frames, labels, generator=generator, dtype=torch.float64).mul(2).log_softmax(1)


def search(log_probs: torch.Tensor, beam_size: int) -> list[tuple[tuple[int, ...], float]]:
    """Targets and log-likelihoods, those that exist."""
    tokens, scores, _ = prefix_beam_search(
        log_probs, torch.ones(1, len(log_probs), dtype=torch.bool), BLANK, beam_size
    )
    rows = zip(tokens[0].tolist(), scores[0].tolist(), strict=True)
    found = [(tuple(token for token in row if token != BLANK), score) for row, score in rows]
    return [(target, score) for target, score in found if score > -math.inf]


def search_with_dictionaries(
    log_probs: torch.Tensor, beam_size: int, gain: Callable[[tuple[int, ...]], float] = lambda prefix: 0.0
) -> dict[tuple[int, ...], float]:
    beam = {(): (1.0, 0.0)}
    for scores in log_probs.exp().tolist():
        after: dict[tuple[int, ...], list[float]] = defaultdict(lambda: [0.0, 0.0])
        for prefix, (blank, label) in beam.items():
            after[prefix][0] += (blank + label) * scores[BLANK]
            if prefix:
                after[prefix][1] += label * scores[prefix[-1]]
            for token, score in enumerate(scores):
                if token != BLANK:
                    repeats = bool(prefix) and token == prefix[-1]
                    after[*prefix, token][1] += (blank if repeats else blank + label) * score
        best = sorted(after.items(), key=lambda item: -sum(item[1]) * math.exp(gain(item[0])))[:beam_size]
        beam = {prefix: (blank, label) for prefix, (blank, label) in best}
    return {prefix: math.log(sum(parts)) for prefix, parts in beam.items()}


@pytest.mark.parametrize("seed", range(3))
def test_unlimited_beam_finds_every_target_with_its_likelihood(seed: int) -> None:
    log_probs = random_log_probs(seed, frames=4, labels=3)
    expected = {
        target: math.log(sum(math.exp(score) for score, _ in paths))
        for target, paths in likelihoods(log_probs).items()
    }
    found = search(log_probs, beam_size=40)
    assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)
    assert len(found) == len(expected) and dict(found) == pytest.approx(expected)


def test_known_values() -> None:
    found = dict(search(PROBABILITIES.log(), beam_size=20))
    assert math.exp(found[1, 2]) == pytest.approx(0.276) and math.exp(found[()]) == pytest.approx(0.048)
    assert search(PROBABILITIES.log(), beam_size=20)[0][0] == (1,)


@pytest.mark.parametrize("beam_size", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", range(6))
def test_beam_is_that_of_a_search_over_dictionaries(seed: int, beam_size: int) -> None:
    log_probs = random_log_probs(seed, frames=7)
    assert dict(search(log_probs, beam_size)) == pytest.approx(search_with_dictionaries(log_probs, beam_size))


@pytest.mark.parametrize("sharpness", [0.5, 4.0])
@pytest.mark.parametrize("bonus", [-1.0, 0.0, 2.0])
@pytest.mark.parametrize("seed", range(3))
def test_what_cannot_survive_is_left_out_and_nothing_else(seed: int, bonus: float, sharpness: float) -> None:
    # More labels than are asked for, and frames that are sure of their blank.
    log_probs = random_log_probs(seed, frames=12, labels=15).mul(sharpness)
    log_probs[::3, BLANK] += 12
    log_probs = log_probs.log_softmax(1)
    expected = search_with_dictionaries(log_probs, 4, lambda prefix: bonus * len(prefix))
    is_frame = torch.ones(1, 12, dtype=torch.bool)
    fusion = ShallowFusion(None, 0.0, bonus)
    tokens, likelihood, scores = prefix_beam_search(log_probs, is_frame, BLANK, 4, fusion=fusion)
    rows = zip(tokens[0].tolist(), likelihood[0].tolist(), strict=True)
    assert {tuple(t for t in row if t != BLANK): score for row, score in rows} == pytest.approx(expected)
    assert scores[0].tolist() == sorted(scores[0].tolist(), reverse=True)


def test_rows_of_a_batch_are_searched_alone() -> None:
    lengths = [5, 2, 7, 1]
    rows = [random_log_probs(seed, frames=length) for seed, length in enumerate(lengths)]
    is_frame = torch.arange(7) < torch.tensor(lengths).unsqueeze(1)
    tokens, scores, _ = prefix_beam_search(torch.cat(rows), is_frame, BLANK, 4)
    for row, log_probs in enumerate(rows):
        alone = prefix_beam_search(log_probs, torch.ones(1, len(log_probs), dtype=torch.bool), BLANK, 4)
        alive = alone[1][0].isfinite()
        assert torch.equal(tokens[row, alive, : len(log_probs)], alone[0][0, alive])
        assert tokens[row, alive, len(log_probs) :].eq(BLANK).all()
        assert_close(scores[row], alone[1][0])


def likes_twos(prefix: tuple[int, ...], token: int) -> float:
    """A language model: 2 is likely unless it repeats; 9 is EOS."""
    return -0.2 * len(prefix) - (0.1 if token == 2 and prefix[-1:] != (2,) else 1.5)


@pytest.mark.parametrize(("weight", "bonus"), [(0.4, 0.0), (2.0, 0.0), (0.0, 1.5), (0.4, 2.2)])
@pytest.mark.parametrize("seed", range(3))
def test_language_model_and_length_bonus_count_for_every_target(seed: int, weight: float, bonus: float) -> None:
    log_probs = random_log_probs(seed, frames=4, labels=3)
    expected = {}
    for target, strings in likelihoods(log_probs).items():
        value = math.log(sum(math.exp(score) for score, _ in strings)) + bonus * len(target)
        extended = (*target, 9)
        expected[target] = value + weight * sum(likes_twos(extended[:i], token) for i, token in enumerate(extended))
    fusion = ShallowFusion(likes_twos, weight, bonus)
    is_frame = torch.ones(1, 4, dtype=torch.bool)
    tokens, likelihood, scores = prefix_beam_search(log_probs, is_frame, BLANK, 40, fusion=fusion, eos_token_id=9)
    found = {
        tuple(token for token in row if token != BLANK): score
        for row, score in zip(tokens[0].tolist(), scores[0].tolist(), strict=True)
        if score > -math.inf
    }
    assert found == pytest.approx(expected)
    assert scores[0].tolist() == sorted(scores[0].tolist(), reverse=True)
    plain = dict(search(log_probs, 40))
    assert likelihood[0, : len(plain)].exp().sum() == pytest.approx(sum(map(math.exp, plain.values())))


@pytest.mark.parametrize("weight", [0.7, -0.7])
@pytest.mark.parametrize("beam_size", [2, 3, 5])
@pytest.mark.parametrize("seed", range(4))
def test_beam_with_a_language_model_is_that_of_a_search_over_dictionaries(
    seed: int, beam_size: int, weight: float
) -> None:
    log_probs = random_log_probs(seed, frames=7, labels=3)

    def gain(prefix: tuple[int, ...]) -> float:
        return sum(weight * likes_twos(prefix[:i], token) + 0.3 for i, token in enumerate(prefix))

    expected = search_with_dictionaries(log_probs, beam_size, gain)
    fusion, is_frame = ShallowFusion(likes_twos, weight, 0.3), torch.ones(1, 7, dtype=torch.bool)
    tokens, likelihood, _ = prefix_beam_search(log_probs, is_frame, BLANK, beam_size, fusion=fusion, eos_token_id=9)
    rows = zip(tokens[0].tolist(), likelihood[0].tolist(), strict=True)
    assert {tuple(t for t in row if t != BLANK): score for row, score in rows} == pytest.approx(expected)


class BigramModel:
    """All bigrams of labels, with random numbers: a function of the prefix, and an automaton."""

    def __init__(self, seed: int, num_labels: int) -> None:
        generator = np.random.default_rng(seed)
        words = ["<s>", "</s>", *map(str, range(num_labels))]
        pairs = np.array([(i, j) for i in range(len(words)) for j in range(len(words)) if generator.random() < 0.7])
        ones = NGrams(np.arange(len(words))[:, None], *-generator.random((2, len(words))))
        twos = NGrams(pairs, -generator.random(len(pairs)), np.zeros(len(pairs)))
        self.automaton: NGramAutomaton = to_automaton(words, [ones, twos], [*words[2:], "</s>"], num_labels)

    def __call__(self, prefix: tuple[int, ...], token: int) -> float:
        state = self.automaton.start
        for label in prefix:
            _, state = self.automaton.advance(state, label)
        return self.automaton.advance(state, token)[0]


@pytest.mark.parametrize("weight", [0.6, -0.6])
@pytest.mark.parametrize("seed", range(4))
def test_an_automaton_is_asked_as_the_function_is(seed: int, weight: float) -> None:
    model, lengths = BigramModel(seed, 6), [7, 3, 9]
    log_probs = torch.cat([random_log_probs(10 * seed + length, length, 6) for length in lengths])
    is_frame = torch.arange(9) < torch.tensor(lengths).unsqueeze(1)
    automaton, function = (
        prefix_beam_search(
            log_probs, is_frame, BLANK, 4, fusion=ShallowFusion(asked, weight, 0.4), eos_token_id=len(log_probs[0])
        )
        for asked in (model, lambda prefix, token: model(prefix, token))
    )
    assert torch.equal(automaton[0], function[0])
    assert_close(automaton[1:], function[1:])


def test_what_is_kept_of_the_compiled_search_needs_no_class_of_ours() -> None:
    compiled = pytest.importorskip("numba") and compiled_search()
    fusion, is_frame = ShallowFusion(BigramModel(0, 4), 1, 2), torch.ones(1, 5, dtype=torch.bool)
    prefix_beam_search(random_log_probs(0).float(), is_frame, BLANK, 4, fusion=fusion, eos_token_id=4)
    # And numbers that are no fractions are no reason to compile once more.
    assert len({str(signature[-2:]) for signature in compiled.signatures}) == 1
    assert "NGramAutomaton" not in str(compiled.signatures)


def test_scores_in_half_precision_that_are_equal_are_chosen_alike() -> None:
    for seed in range(40):
        log_probs = random_log_probs(seed, frames=8, labels=30).bfloat16()
        tokens, _, _ = prefix_beam_search(log_probs, torch.ones(1, 8, dtype=torch.bool), BLANK, 3)
        if seed not in _FOUND:
            _FOUND[seed] = tokens
        assert torch.equal(tokens[0, 0], _FOUND[seed][0, 0])


@pytest.mark.parametrize("size", [0, 1])
def test_batch_without_rows_or_frames(size: int) -> None:
    tokens, likelihood, _ = prefix_beam_search(torch.zeros(0, 6), torch.zeros(size, 3, dtype=torch.bool), BLANK, 2)
    assert tokens.shape == (size, 2, 3) and tokens.eq(BLANK).all()
    assert likelihood[:, 0].eq(0).all() and likelihood[:, 1:].eq(-math.inf).all()


def test_a_vocabulary_without_the_blank_is_refused() -> None:
    with pytest.raises(ValueError, match="`vocabulary` must hold the blank 0 once, got it 0 times"):
        prefix_beam_search(
            torch.zeros(1, 2), torch.ones(1, 1, dtype=torch.bool), BLANK, 2, vocabulary=torch.tensor([3, 4])
        )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", range(5))
def test_best_labels_are_found_in_blocks_as_in_one_go(seed: int, dtype: type) -> None:
    generator = np.random.default_rng(seed)
    # Three blocks, the last of which is not full; some scores are equal.
    scores = generator.normal(size=160).round(1).astype(dtype)
    scores[generator.integers(0, 160, 20)] = -np.inf
    for number in (1, 4, 200):
        for floor in (-math.inf, -1.0, float(scores[3]), 0.35, 9.0):
            one, other = (find(scores, 7, number, floor) for find in (_best_labels, _compiled_best_labels))
            assert scores[one].tolist() == scores[other].tolist()
            assert 7 not in other and (scores[other] > floor).all() and len(set(other)) == len(other)
            expected = np.sort(np.delete(scores, 7))[::-1]
            assert scores[other].tolist() == expected[expected > floor][:number].tolist()


@pytest.mark.parametrize("seed", range(3))
def test_columns_may_be_those_of_a_vocabulary(seed: int) -> None:
    log_probs, is_frame = random_log_probs(seed, frames=6, labels=5), torch.ones(1, 6, dtype=torch.bool)
    fusion = ShallowFusion(likes_twos, 0.7, 0.3)
    expected = prefix_beam_search(log_probs, is_frame, BLANK, 4, fusion=fusion, eos_token_id=9)
    vocabulary = torch.randperm(log_probs.shape[1], generator=torch.Generator().manual_seed(seed))
    found = prefix_beam_search(
        log_probs[:, vocabulary], is_frame, BLANK, 4, vocabulary=vocabulary, fusion=fusion, eos_token_id=9
    )
    for one, other in zip(found, expected, strict=True):
        assert_close(one, other)


@pytest.mark.slow
def test_search_is_compiled_where_nothing_can_be_kept() -> None:
    code = (
        "from numba.core import caching\n"
        "from hf_nat.models import ctc_search\n"
        "caching.CompileResultCacheImpl._locator_classes = []\n"
        "assert ctc_search.compiled_search() is not None"
    )
    pytest.importorskip("numba")
    subprocess.run([sys.executable, "-c", code], check=True)


def test_length_bonus_of_the_model_makes_longer_translations() -> None:
    model, source = tiny_model("ctc_nat"), tiny_batch()["input_ids"]
    lengths = [
        model.generate(source, ctc_beam_size=5, ctc_length_bonus=bonus).ne(PAD).sum(1) for bonus in (-9.0, 0.0, 9.0)
    ]
    assert (lengths[0] <= lengths[1]).all() and (lengths[1] <= lengths[2]).all() and (lengths[0] < lengths[2]).any()
    with pytest.raises(ValueError, match="`ctc_length_bonus` must be a finite number, got nan"):
        model.generate(source, ctc_beam_size=5, ctc_length_bonus=math.nan)


def test_candidates_are_returned_best_first() -> None:
    model, batch = tiny_model("ctc_nat"), tiny_batch()
    best = model.generate(batch["input_ids"], ctc_beam_size=4)
    several = model.generate(batch["input_ids"], ctc_beam_size=4, num_return_sequences=3)
    assert several.shape[0] == 12
    assert_translations(several)
    rows = [tuple(row) for row in several.tolist()]
    for sentence, row in enumerate(best.tolist()):
        assert rows[3 * sentence][: len(row)] == tuple(row)
        assert len(set(rows[3 * sentence : 3 * sentence + 3])) == 3
    with pytest.raises(ValueError, match=r"`num_return_sequences` must be in \[1, 1\].* got 2. Set `ctc_beam_size`"):
        model.generate(batch["input_ids"], num_return_sequences=2)


def test_label_peaks_are_the_surest_frames_of_the_best_alignment() -> None:
    targets, is_frame = torch.tensor([[1, 2, 0], [1, 0, 0]]), torch.ones(1, 3, dtype=torch.bool)
    index, both = rows_of(is_frame), torch.tensor([0, 0])
    peaks = label_peaks(PROBABILITIES.log(), is_frame[both], index[both], targets, torch.tensor([2, 1]), BLANK)
    # Best alignments: blank 1 2, and blank 1 blank.
    assert_close(peaks.exp(), torch.tensor([[0.5, 0.4, 1.0], [0.5, 1.0, 1.0]]).double())


def test_model_translates_with_a_beam() -> None:
    model, batch = tiny_model("ctc_nat"), tiny_batch()
    calls: list[int] = []
    model.get_decoder().register_forward_hook(
        lambda _, inputs, kwargs, out: calls.append(len(out[0])), with_kwargs=True
    )
    best_path = model.generate(batch["input_ids"], return_dict_in_generate=True)
    beam = model.generate(batch["input_ids"], ctc_beam_size=5, return_dict_in_generate=True)
    assert calls == [4, 4]  # one decoder pass over each sentence, not over each candidate
    assert_translations(beam.sequences)
    assert not torch.equal(beam.sequences, best_path.sequences)
    content = beam.sequences.ne(PAD) & beam.sequences.ne(2)
    assert (beam.token_scores[content] < 0).all() and (beam.token_scores[~content] == 0).all()
    for row in range(4):
        alone = model.generate(**tiny_batch([row], extra_padding=2), ctc_beam_size=5, return_dict_in_generate=True)
        width = alone.sequences.shape[1]
        assert torch.equal(alone.sequences[0], beam.sequences[row, :width])
        assert_close(alone.token_scores[0], beam.token_scores[row, :width], rtol=1e-4, atol=1e-5)
    history = model.generate(batch["input_ids"], ctc_beam_size=5, return_history=True).history
    assert [len(canvases) for canvases in history] == [2] * 4
    chosen = model.generate(batch["input_ids"], ctc_beam_size=5, teacher=tiny_teacher())
    assert_translations(chosen)
    assert not torch.equal(chosen, beam.sequences)


def test_model_finds_the_most_probable_translation() -> None:
    model, source = tiny_model("ctc_nat"), torch.tensor([[5, 2]])
    log_probs = model(source, labels=torch.tensor([[5, 2]])).logits[0, :4].detach().double()
    log_probs[:, [PAD, 2, 4]] = float("-inf")
    log_probs = log_probs.log_softmax(1)
    order = [1, *(label for label in range(24) if label not in (0, 1, 2, 4))]  # the blank first
    totals = {
        target: math.log(sum(math.exp(score) for score, _ in paths))
        for target, paths in likelihoods(log_probs[:, order]).items()
    }
    best = [order[label] for label in max(totals, key=totals.get)]
    assert model.generate(source, ctc_beam_size=30).tolist() == [[*best, 2]]
