"""Beam search over the prefixes of a graph against enumeration of all that it writes, and inside the model."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from nat_model_tester import BOS, EOS, MASK, PAD, VOCAB_SIZE, assert_translations, tiny_batch, tiny_model, tiny_teacher
from test_directed_acyclic import LINKS, WORDS, paths, random_graph
from torch.testing import assert_close

from hf_nat.models.graph_beam import GraphCandidates, GraphWords, graph_beam_search
from hf_nat.models.shallow_fusion import ShallowFusion


Target = tuple[int, ...]


def likelihoods(words: torch.Tensor, links: torch.Tensor) -> dict[Target, float]:
    """Log-probabilities of all that is written between the first vertex and the last, by enumeration of the paths."""
    size, vocab_size = words.shape
    found = {}
    for length in range(size - 1):
        for target in product(range(vocab_size), repeat=length):
            total = 0.0
            for path in paths(size, length + 2):
                written = sum(float(words[vertex, token]) for vertex, token in zip(path[1:-1], target, strict=True))
                total += math.exp(written + sum(float(links[i, j]) for i, j in zip(path, path[1:], strict=False)))
            found[target] = math.log(total)
    return found


def words_of(log_probs: torch.Tensor, number: int) -> GraphWords:
    values, tokens = log_probs.topk(number, dim=-1)
    return GraphWords(tokens, values)


def search(words: torch.Tensor, links: torch.Tensor, beam_size: int, penalty: float = 0.0, **kw) -> GraphCandidates:
    size, vocab_size = words.shape
    number = min(beam_size, vocab_size)
    return graph_beam_search(
        words_of(words[None], number),
        links[None],
        torch.tensor([size]),
        torch.tensor([size - 2]),
        beam_size=beam_size,
        length_penalty=penalty,
        eos_token_id=9,
        **kw,
    )


def listed(found: GraphCandidates, row: int = 0) -> list[tuple[Target, float]]:
    """Translations and their scores, those that exist."""
    rows = zip(found.tokens[row].tolist(), found.lengths[row].tolist(), found.scores[row].tolist(), strict=True)
    return [(tuple(tokens[:length]), score) for tokens, length, score in rows if score > -math.inf]


@pytest.mark.parametrize("seed", range(4))
def test_unlimited_beam_finds_every_translation_with_its_likelihood(seed: int) -> None:
    words, links = random_graph(seed)
    expected = likelihoods(words, links)
    assert sum(map(math.exp, expected.values())) == pytest.approx(1.0)
    found = search(words, links, beam_size=60, num_candidates=len(expected) + 3)
    assert dict(listed(found)) == pytest.approx(expected) and len(listed(found)) == len(expected)
    scores = found.scores[0, : len(expected)].tolist()
    assert scores == sorted(scores, reverse=True)
    # Behind the last the best is repeated.
    assert found.scores[0, len(expected) :].isinf().all()
    assert torch.equal(found.tokens[0, -1], found.tokens[0, 0])


def test_known_values() -> None:
    # Of 2.5 in which the vertices at the ends write their tokens with 0.7 and 0.6.
    found = dict(listed(search(WORDS, LINKS, beam_size=40, num_candidates=20)))
    ends = math.log(0.7) + math.log(0.6)
    for target, value in (((1,), -2.582299), ((2,), -2.381628), ((1, 2), -3.093125), ((), -2.476938)):
        assert found[target] + ends == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("penalty", [0.0, 1.1, 3.0])
@pytest.mark.parametrize("seed", range(3))
def test_translations_are_sorted_by_length_penalty(seed: int, penalty: float) -> None:
    words, links = random_graph(seed)
    expected = {target: value / (len(target) + 1) ** penalty for target, value in likelihoods(words, links).items()}
    best = sorted(expected, key=expected.get, reverse=True)[:5]
    found = listed(search(words, links, beam_size=60, penalty=penalty, num_candidates=5))
    assert [target for target, _ in found] == best
    assert dict(found) == pytest.approx({target: expected[target] for target in best})


@pytest.mark.parametrize("beam_size", [1, 2, 4])
@pytest.mark.parametrize("seed", range(4))
def test_beam_is_that_of_a_search_over_lists(seed: int, beam_size: int) -> None:
    words, links = random_graph(seed, size=6, vocab_size=4)
    totals = likelihoods(words, links)
    tops = words.topk(beam_size, dim=1).indices.tolist()

    def prefix_mass(prefix: Target) -> float:
        """Probability that a path writes the prefix with words that the search knows."""
        mass = 0.0
        for length in range(len(prefix), 5):
            for path in paths(6, length + 2):
                if all(token in tops[vertex] for vertex, token in zip(path[1:], prefix, strict=False)):
                    written = sum(
                        float(words[vertex, token])
                        for vertex, token in zip(path[1 : len(prefix) + 1], prefix, strict=True)
                    )
                    mass += math.exp(written + sum(float(links[i, j]) for i, j in zip(path, path[1:], strict=False)))
        return mass

    beam, kept = [()], [()]
    for _ in range(4):
        grown = [(*prefix, token) for prefix in beam for token in range(4)]
        masses = {prefix: prefix_mass(prefix) for prefix in grown}
        beam = sorted((p for p in grown if masses[p] > 0), key=masses.get, reverse=True)[:beam_size]
        kept += beam
    found = listed(search(words, links, beam_size, num_candidates=30))
    assert {target for target, _ in found} == set(kept)
    if beam_size == 4:
        assert dict(found) == pytest.approx({target: totals[target] for target in kept})


def test_scores_of_tokens_add_up_to_the_likelihood() -> None:
    words, links = random_graph(1)
    found = search(words, links, beam_size=60, num_candidates=40)
    totals = likelihoods(words, links)
    for row, (target, _) in enumerate(listed(found)):
        mass = sum(math.exp(value) for other, value in totals.items() if other[: len(target)] == target)
        assert float(found.token_scores[0, row, : len(target)].sum()) == pytest.approx(math.log(mass))
        assert float(found.log_probs[0, row]) == pytest.approx(totals[target])


def bigrams(prefix: Target, token: int) -> float:
    """A language model with a taste: repeating is unlikely, ending late too."""
    return -2.0 if prefix and token == prefix[-1] else -0.1 * (token + len(prefix))


@pytest.mark.parametrize("weight", [0.5, 4.0])
@pytest.mark.parametrize("seed", range(3))
def test_language_model_counts_for_every_token_and_the_end(seed: int, weight: float) -> None:
    words, links = random_graph(seed)
    expected = {}
    for target, value in likelihoods(words, links).items():
        extended = (*target, 9)
        value += weight * sum(bigrams(extended[:i], token) for i, token in enumerate(extended))
        expected[target] = value / len(extended) ** 1.1
    found = search(words, links, 60, 1.1, num_candidates=len(expected), fusion=ShallowFusion(bigrams, weight))
    assert dict(listed(found)) == pytest.approx(expected)
    assert listed(found)[0][0] == max(expected, key=expected.get)


def test_language_model_that_forbids_leaves_the_others() -> None:
    words, links = random_graph(0)
    fusion = ShallowFusion(lambda prefix, token: -math.inf if token == 1 else 0.0, 0.5)
    expected = {target: value for target, value in likelihoods(words, links).items() if 1 not in target}
    found = dict(listed(search(words, links, 60, num_candidates=50, fusion=fusion)))
    assert found == pytest.approx(expected)


def test_rows_of_a_batch_are_searched_alone() -> None:
    sizes = [5, 2, 3, 6]
    graphs = [random_graph(seed, size) for seed, size in enumerate(sizes)]
    log_probs = torch.zeros(4, 6, 3, dtype=torch.float64)
    links = torch.full((4, 6, 6), -math.inf, dtype=torch.float64)
    for row, (words, steps) in enumerate(graphs):
        log_probs[row, : len(words)], links[row, : len(words), : len(words)] = words, steps
    options = {"beam_size": 3, "length_penalty": 1.0, "eos_token_id": 9, "num_candidates": 4}
    limits = torch.tensor([2, 0, 1, 4])
    found = graph_beam_search(words_of(log_probs, 3), links, torch.tensor(sizes), limits, **options)
    for row, (words, steps) in enumerate(graphs):
        alone = graph_beam_search(
            words_of(words[None], 3), steps[None], torch.tensor(sizes[row : row + 1]), limits[row : row + 1], **options
        )
        assert [target for target, _ in listed(found, row)] == [target for target, _ in listed(alone)]
        assert dict(listed(found, row)) == pytest.approx(dict(listed(alone)))
        assert all(len(target) <= limits[row] for target, _ in listed(found, row))


def test_long_graphs_stay_in_the_range_of_single_precision() -> None:
    generator = torch.Generator().manual_seed(0)
    log_probs = torch.randn(1, 200, 50, generator=generator).mul(3).log_softmax(2)
    links = torch.randn(1, 200, 200, generator=generator).mul(3)
    links = links.masked_fill(~torch.ones(200, 200, dtype=torch.bool).triu(1), -math.inf).log_softmax(2)
    links[:, -1] = -math.inf
    # One vertex after the other: 198 words, of a likelihood far below the smallest number.
    links[0, torch.arange(199), torch.arange(1, 200)] += 40
    links[0, :-1] = links[0, :-1].log_softmax(1)
    options = {"beam_size": 4, "length_penalty": 1.0, "eos_token_id": 9}
    args = torch.tensor([200]), torch.tensor([198])
    found = graph_beam_search(words_of(log_probs, 4), links, *args, **options)
    double = graph_beam_search(words_of(log_probs.double(), 4), links.double(), *args, **options)
    assert found.lengths.item() == 198 and found.log_probs.item() < -120
    assert torch.equal(found.tokens, double.tokens)
    assert_close(found.log_probs.double(), double.log_probs, rtol=1e-4, atol=1e-3)


def test_model_finds_the_most_probable_translation() -> None:
    model, source = tiny_model("da_transformer"), torch.tensor([[5, EOS]])
    output = model(source, labels=torch.tensor([[5, EOS]]))
    words, links = output.logits[0].detach().double(), output.links[0].detach().double()
    words[:, [PAD, BOS, EOS, MASK]] = -math.inf
    assert len(links) == 8
    knobs = {"graph_decoding": "beam", "graph_beam_size": 60, "return_dict_in_generate": True}
    # Twice the source is the longest that the model tries.
    short = [target for target, _ in listed(search(words.log_softmax(1), links, 60, 1.1, num_candidates=60))]
    short = [target for target in short if len(target) <= 4][:3]
    best = model.generate(source, num_candidates=3, num_return_sequences=3, **knobs)
    assert [row[: row.index(EOS)] for row in best.sequences.tolist()] == [list(target) for target in short]
    assert torch.equal(model.generate(source, **knobs).sequences[0], best.sequences[0][best.sequences[0] != PAD])
    assert (best.token_scores[best.sequences.ne(PAD) & best.sequences.ne(EOS)] < 0).all()
    assert len(set(best.sequences_scores.tolist())) == 3


def test_model_translates_rows_alone_and_with_other_knobs() -> None:
    model, batch = tiny_model("da_transformer"), tiny_batch()
    calls: list[int] = []
    model.get_decoder().register_forward_hook(lambda _, inputs, output: calls.append(len(output[0])))
    knobs = {"graph_decoding": "beam", "num_candidates": 3, "return_dict_in_generate": True}
    beam = model.generate(batch["input_ids"], return_history=True, **knobs)
    assert calls == [4]  # one decoder pass over each sentence, not over each candidate
    assert_translations(beam.sequences)
    assert [len(canvases) for canvases in beam.history] == [2] * 4
    for row in range(4):
        alone = model.generate(**tiny_batch([row], extra_padding=2), **knobs)
        width = alone.sequences.shape[1]
        assert torch.equal(alone.sequences[0], beam.sequences[row, :width])
        assert_close(alone.token_scores[0], beam.token_scores[row, :width], rtol=1e-4, atol=1e-5)
    lengths = [
        model.generate(batch["input_ids"], graph_decoding="beam", graph_beam_length_penalty=penalty).ne(PAD).sum(1)
        for penalty in (0.0, 1.0, 4.0)
    ]
    assert (lengths[0] <= lengths[1]).all() and (lengths[1] <= lengths[2]).all() and (lengths[0] < lengths[2]).any()
    chosen = model.generate(batch["input_ids"], teacher=tiny_teacher(), **knobs)
    assert_translations(chosen.sequences)
    for cap in (1, 2, 3):
        assert model.generate(batch["input_ids"], graph_decoding="beam", max_length=cap).shape[1] <= cap
    ensemble = model.generate(batch["input_ids"], ensemble=[model], **knobs)
    assert torch.equal(ensemble.sequences, beam.sequences)
    other = model.generate(batch["input_ids"], ensemble=[tiny_model("da_transformer", seed=1)], **knobs)
    assert not torch.equal(other.sequences, beam.sequences)


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"graph_beam_size": 0}, r"`graph_beam_size` must be in \[1, 64\], got 0"),
        ({"graph_beam_size": 65}, r"`graph_beam_size` must be in \[1, 64\], got 65"),
        ({"graph_beam_length_penalty": math.nan}, "`graph_beam_length_penalty` must be a finite number, got nan"),
        ({"lm_weight": math.inf}, "`lm_weight` must be a finite number, got inf"),
        ({"num_candidates": 2, "num_return_sequences": 3}, r"in \[1, 2\], the candidates .* got 3. Set `num_candid"),
    ],
)
def test_bad_knob_is_an_error(knobs: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_model("da_transformer").generate(torch.tensor([[5, EOS]]), graph_decoding="beam", **knobs)


@pytest.mark.parametrize("graph_decoding", ["lookahead", "viterbi", "beam"])
def test_candidates_that_nobody_chooses_among_are_told(graph_decoding: str) -> None:
    model, knobs = tiny_model("da_transformer"), {"graph_decoding": graph_decoding, "num_candidates": 3}
    with pytest.raises(ValueError, match="`num_candidates` must be left out without a `reranker`"):
        model.require_knobs(knobs)
    model.require_knobs(knobs, reranker="a teacher")
    model.require_knobs({"graph_decoding": graph_decoding, "num_candidates": 1})


@pytest.mark.parametrize(
    ("model_type", "knobs", "message"),
    [
        ("da_transformer", {}, "`graph_decoding` must be 'beam' with a `language_model`, got 'lookahead'"),
        ("ctc_nat", {}, "`ctc_beam_size` must be > 1 with a `language_model`, got 1"),
        ("cmlm", {}, "`language_model` must be left out for CMLMForConditionalGeneration, which has no beam search"),
    ],
)
def test_language_model_without_a_beam_is_an_error(model_type: str, knobs: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_model(model_type).generate(torch.tensor([[5, EOS]]), language_model=lambda prefix, token: 0.0, **knobs)


@pytest.mark.parametrize(
    ("model_type", "knobs"), [("ctc_nat", {"ctc_beam_size": 5}), ("da_transformer", {"graph_decoding": "beam"})]
)
def test_language_model_takes_part_in_the_model(model_type: str, knobs: dict) -> None:
    model, source = tiny_model(model_type), tiny_batch()["input_ids"]
    plain = model.generate(source, **knobs)
    asked: list[tuple[Target, int]] = []

    def likes(prefix: Target, token: int) -> float:
        asked.append((prefix, token))
        return 0.0 if token in (20, EOS) else -50.0

    assert torch.equal(model.generate(source, language_model=likes, lm_weight=0.0, **knobs), plain) and not asked
    flat = model.generate(source, language_model=lambda prefix, token: -1e-9, lm_weight=0.5, **knobs)
    assert torch.equal(flat, plain)
    sequences = model.generate(source, language_model=likes, lm_weight=2.0, **knobs)
    assert_translations(sequences)
    assert set(sequences.flatten().tolist()) <= {20, EOS, PAD}
    assert not {token for prefix, token in asked for token in (*prefix, token)} & {PAD, BOS, MASK}
    assert all(0 <= token < VOCAB_SIZE for _, token in asked) and EOS in {token for _, token in asked}
    assert max(len(prefix) for prefix, _ in asked) > 1
