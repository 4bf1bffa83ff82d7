"""Graphs of vertices against enumeration of all their paths."""

from __future__ import annotations

import math
from itertools import combinations, product

import pytest
import torch
from torch.testing import assert_close

from hf_nat.models.directed_acyclic import (
    best_path,
    graph_log_likelihood,
    is_feasible,
    label_log_probs,
    linear_graph_loss,
)
from hf_nat.models.graph_decoding import follow, joint_viterbi, step_scores


# Vertex x token, and vertex x vertex; token 0 is BOS, 3 is EOS.
WORDS = torch.tensor(
    [[0.7, 0.1, 0.1, 0.1], [0.1, 0.6, 0.2, 0.1], [0.1, 0.2, 0.6, 0.1], [0.1, 0.1, 0.2, 0.6]], dtype=torch.float64
).log()
LINKS = torch.tensor(
    [[0.0, 0.5, 0.3, 0.2], [0.0, 0.0, 0.6, 0.4], [0.0, 0.0, 0.0, 1.0], [0.0] * 4], dtype=torch.float64
).log()


def random_graph(seed: int, size: int = 5, vocab_size: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    words = torch.randn(size, vocab_size, generator=generator, dtype=torch.float64).mul(2).log_softmax(1)
    links = torch.randn(size, size, generator=generator, dtype=torch.float64).mul(2)
    links = links.masked_fill(~torch.ones(size, size, dtype=torch.bool).triu(1), float("-inf")).log_softmax(1)
    links[-1] = float("-inf")
    return words, links


def paths(size: int, length: int) -> list[tuple[int, ...]]:
    """All paths of `length` vertices."""
    return [(0, *between, size - 1) for between in combinations(range(1, size - 1), length - 2)]


def log_prob(words: torch.Tensor, links: torch.Tensor, target: tuple[int, ...], path: tuple[int, ...]) -> float:
    score = sum(float(words[vertex, token]) for vertex, token in zip(path, target, strict=True))
    return score + sum(float(links[i, j]) for i, j in zip(path, path[1:], strict=False))


def arguments(words: torch.Tensor, links: torch.Tensor, target: tuple[int, ...]) -> tuple[torch.Tensor, ...]:
    match = words[:, list(target)].T.unsqueeze(0)
    return match, links.unsqueeze(0), torch.tensor([len(target)]), torch.tensor([len(words)])


@pytest.mark.parametrize(
    ("target", "value", "path", "path_value"),
    [
        ((0, 1, 3), -2.582299, (0, 1, 3), -2.987764),
        ((0, 2, 3), -2.381628, (0, 2, 3), -2.582299),
        ((0, 1, 2, 3), -3.093125, (0, 1, 2, 3), -3.093125),
        ((0, 3), -2.476938, (0, 3), -2.476938),
    ],
)
def test_known_values(target: tuple[int, ...], value: float, path: tuple[int, ...], path_value: float) -> None:
    given = arguments(WORDS, LINKS, target)
    assert graph_log_likelihood(*given)[0].item() == pytest.approx(value, abs=1e-6)
    assert best_path(*given).tolist() == [list(path)]
    assert log_prob(WORDS, LINKS, target, path) == pytest.approx(path_value, abs=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_every_target_of_a_random_graph(seed: int) -> None:
    words, links = random_graph(seed)
    size, vocab_size = words.shape
    total = 0.0
    for length in range(2, size + 1):
        for target in product(range(vocab_size), repeat=length):
            scores = {path: log_prob(words, links, target, path) for path in paths(size, length)}
            expected = math.log(sum(math.exp(score) for score in scores.values()))
            total += math.exp(expected)
            given = arguments(words, links, target)
            value, posteriors = graph_log_likelihood(*given)
            assert value.item() == pytest.approx(expected)
            for label, vertex in product(range(length), range(size)):
                mass = sum(math.exp(score) for path, score in scores.items() if path[label] == vertex)
                assert float(posteriors[0, label, vertex]) == pytest.approx(mass / math.exp(expected), abs=1e-12)
            assert tuple(best_path(*given)[0].tolist()) == max(scores, key=scores.get)
    assert total == pytest.approx(1.0)


def random_batch(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, ...]:
    """Graphs and targets of all sizes, one without a path; arguments of the DP."""
    generator = torch.Generator().manual_seed(3)
    num_labels, num_vertices = torch.tensor([4, 2, 5, 3, 6]), torch.tensor([7, 2, 5, 6, 4])
    match = torch.randn(5, 6, 7, generator=generator, dtype=dtype)
    links = torch.full((5, 7, 7), float("-inf"), dtype=dtype)
    for row, size in enumerate(num_vertices.tolist()):
        links[row, :size, :size] = random_graph(row, size)[1]
    return match, links, num_labels, num_vertices


def test_gradcheck() -> None:
    match, links, *lengths = random_batch()
    is_step = links.isfinite()

    def value(match: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
        graph = torch.full_like(links, float("-inf")).masked_scatter(is_step, steps)
        return graph_log_likelihood(match, graph, *lengths)[0][is_feasible(*lengths)]

    assert torch.autograd.gradcheck(value, (match.requires_grad_(), links[is_step].requires_grad_()))


def test_probabilities_of_labels_and_steps_add_up() -> None:
    match, links, num_labels, num_vertices = random_batch()
    fits = is_feasible(num_labels, num_vertices)
    assert fits.tolist() == [True, True, True, True, False]
    value, posteriors = graph_log_likelihood(match, links.requires_grad_(), num_labels, num_vertices)
    value[fits].sum().backward()
    assert value[~fits].eq(float("-inf")).all()
    assert_close(links.grad.sum(dim=(1, 2))[fits], (num_labels - 1).double()[fits])
    for row, count in enumerate(num_labels.tolist()):
        assert_close(posteriors[row].sum(1), torch.tensor([1.0] * count + [0.0] * (6 - count)).double() * fits[row])
    assert links.grad[~fits].eq(0).all()


def test_padding_does_not_matter() -> None:
    match, links, num_labels, num_vertices = random_batch()
    values, _ = graph_log_likelihood(match, links, num_labels, num_vertices)
    path = best_path(match, links, num_labels, num_vertices)
    for row, (labels, vertices) in enumerate(zip(num_labels.tolist(), num_vertices.tolist(), strict=True)):
        alone = (match[[row], :labels, :vertices], links[[row], :vertices, :vertices])
        lengths = (num_labels[[row]], num_vertices[[row]])
        assert_close(graph_log_likelihood(*alone, *lengths)[0][0], values[row])
        assert torch.equal(best_path(*alone, *lengths)[0], path[row, :labels])
        assert path[row, labels:].eq(-1).all()


def test_targets_longer_than_the_widest_graph() -> None:
    match, links = torch.randn(2, 4, 2), torch.tensor([[float("-inf"), 0.0], [float("-inf")] * 2]).expand(2, 2, 2)
    num_labels, num_vertices = torch.tensor([4, 2]), torch.tensor([2, 2])
    value, posteriors = graph_log_likelihood(match, links, num_labels, num_vertices)
    assert value[0] == float("-inf") and posteriors[0].eq(0).all()
    assert_close(value[1], match[1, 0, 0] + match[1, 1, 1])
    assert best_path(match, links, num_labels, num_vertices).tolist() == [[-1] * 4, [0, 1, -1, -1]]


def test_far_apart_probabilities_do_not_vanish() -> None:
    match, links, num_labels, num_vertices = random_batch(torch.float32)
    match *= 300
    value, posteriors = graph_log_likelihood(match, links, num_labels, num_vertices)
    double, exact = graph_log_likelihood(match.double(), links.double(), num_labels, num_vertices)
    fits = is_feasible(num_labels, num_vertices)
    assert value[fits].isfinite().all()
    assert_close(value.double(), double, rtol=1e-5, atol=1e-3)
    assert_close(posteriors.double(), exact, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_loss_has_the_value_and_gradients_of_plain_autograd(label_smoothing: float) -> None:
    _, links, num_labels, num_vertices = random_batch()
    generator = torch.Generator().manual_seed(1)
    hidden_states = torch.randn(5, 7, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(6, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(6, (5, 6), generator=generator)
    weights = torch.tensor([0.3, 0.1, 0.2, 0.4, 0.5], dtype=torch.float64)
    is_vertex = torch.arange(7) < num_vertices.unsqueeze(1)
    inputs = (hidden_states, weight, links.requires_grad_())
    loss = linear_graph_loss(*inputs, is_vertex, labels, num_labels, weights, label_smoothing)
    gradients = torch.autograd.grad(2 * loss, inputs)
    log_probs = (hidden_states @ weight.T).log_softmax(2)
    expected = torch.zeros((), dtype=torch.float64)
    for row in range(4):
        target, size = tuple(labels[row, : num_labels[row]].tolist()), int(num_vertices[row])
        match = log_probs[row][:size, list(target)].T
        scores = []
        for path in paths(size, len(target)):
            steps = [links[row, i, j] for i, j in zip(path, path[1:], strict=False)]
            scores.append(torch.stack([*(match[label, vertex] for label, vertex in enumerate(path)), *steps]).sum())
        expected = expected - weights[row] * (1 - label_smoothing) * torch.stack(scores).logsumexp(0)
        share = torch.zeros(size, dtype=torch.float64)
        for path, probability in zip(paths(size, len(target)), torch.stack(scores).softmax(0).detach(), strict=True):
            share[list(path)] += probability
        expected = expected - weights[row] * label_smoothing * (share * log_probs[row, :size].mean(1)).sum()
    assert_close(loss, expected, check_dtype=False, rtol=1e-5, atol=1e-5)
    for gradient, other in zip(gradients, torch.autograd.grad(2 * expected, inputs), strict=True):
        assert_close(gradient, other, rtol=1e-4, atol=1e-5)


def test_label_log_probs_are_those_of_the_softmax() -> None:
    hidden_states, weight = torch.randn(2, 5, 4), torch.randn(6, 4)
    labels, is_vertex = torch.tensor([[1, 2, 3], [3, 3, 0]]), torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    log_probs = (hidden_states @ weight.T).log_softmax(2)
    found = label_log_probs(hidden_states, weight, is_vertex, labels)
    for row, length in enumerate((5, 3)):
        assert_close(found[row, :, :length], log_probs[row, :length, labels[row]].T)


# Decoding


def marks(path: tuple[int, ...], size: int) -> list[bool]:
    return [vertex in path for vertex in range(size)]


def test_decodings_known_values() -> None:
    best = WORDS.amax(1)
    sizes = torch.tensor([4])
    assert follow((LINKS + best).unsqueeze(0), sizes, 4).tolist() == [marks((0, 1, 2, 3), 4)]
    for penalty, path, score in ((0.0, (2,), -1.714798), (0.5, (1, 2), -1.573754), (1.0, (1, 2), -1.112812)):
        found = joint_viterbi(LINKS.unsqueeze(0), best.unsqueeze(0), sizes, torch.tensor([2]), penalty)
        assert found.tolist() == [[marks(path, 4)]]
        steps = sum(float(LINKS[i, j]) for i, j in zip((0, *path), (*path, 3), strict=True))
        value = (steps + float(best[list(path)].sum())) / len(path) ** penalty
        assert value == pytest.approx(score, abs=1e-6)
    both = joint_viterbi(LINKS.unsqueeze(0), best.unsqueeze(0), sizes, torch.tensor([2]), 0.0, num_candidates=3)
    assert both.tolist() == [[marks((2,), 4), marks((1, 2), 4), marks((2,), 4)]]


@pytest.mark.parametrize("penalty", [0.0, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("seed", range(5))
def test_joint_viterbi_finds_the_best_path_of_each_length(seed: int, penalty: float) -> None:
    words, links = random_graph(seed, size=6)
    best = words.amax(1)
    for limit in (4, 2):
        scores = {}
        for length in range(1, limit + 1):
            for path in paths(6, length + 2):
                steps = sum(float(links[i, j]) for i, j in zip(path, path[1:], strict=False))
                scores[path] = (steps + sum(float(best[vertex]) for vertex in path[1:-1])) / length**penalty
        longest = {
            length: max((s, p) for p, s in scores.items() if len(p) == length + 2) for length in range(1, limit + 1)
        }
        expected = [path[1:-1] for _, path in sorted(longest.values(), reverse=True)]
        found = joint_viterbi(links[None], best[None], torch.tensor([6]), torch.tensor([limit]), penalty, limit)
        assert found[0].tolist() == [marks(path, 6) for path in expected]


@pytest.mark.parametrize("seed", range(5))
def test_follow_takes_the_best_step_at_each_vertex(seed: int) -> None:
    _, links = random_graph(seed, size=7)
    vertex, path = 0, [0]
    while vertex < 6:
        vertex = int(links[vertex].argmax())
        path.append(vertex)
    (found,) = follow(links[None], torch.tensor([7]), 7)
    assert found.tolist() == marks(tuple(path), 7)
    steps = step_scores(links[None], found[None])[0]
    assert [float(steps[j]) for j in path[1:]] == [float(links[i, j]) for i, j in zip(path, path[1:], strict=False)]


def test_decodings_of_a_batch_are_those_of_its_rows() -> None:
    _, links, _, num_vertices = random_batch()
    words = torch.randn(5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64).neg().exp().neg()
    limits = torch.tensor([5, 0, 2, 9, 1])
    together = joint_viterbi(links, words, num_vertices, limits, 1.0, 2)
    followed = follow(links, num_vertices, links.shape[1])
    for row, size in enumerate(num_vertices.tolist()):
        alone = joint_viterbi(
            links[[row], :size, :size], words[[row], :size], *(x[[row]] for x in (num_vertices, limits)), 1.0, 2
        )
        assert torch.equal(together[row, :, :size], alone[0]) and not together[row, :, size:].any()
        assert torch.equal(followed[row, :size], follow(links[[row], :size, :size], num_vertices[[row]], size)[0])
    assert not together[1].any()
