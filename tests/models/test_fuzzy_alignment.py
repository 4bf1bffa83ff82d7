"""Fuzzy alignment against enumeration of all that a graph can write."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise, product
from pathlib import Path

import pytest
import torch
from nat_model_tester import tiny_batch, tiny_model
from test_directed_acyclic import LINKS, WORDS, log_prob, paths, random_graph
from torch.testing import assert_close
from transformers import AutoModelForSeq2SeqLM

from hf_nat.models.fuzzy_alignment import fuzzy_precision, linear_fuzzy_loss


def expectations(words: torch.Tensor, links: torch.Tensor) -> tuple[Counter, float]:
    """Expected counts of all bigrams, and the expected length, by enumeration of all outputs."""
    size, vocab_size = words.shape
    counts, length = Counter(), 0.0
    for number in range(2, size + 1):
        for path in paths(size, number):
            for tokens in product(range(vocab_size), repeat=number):
                probability = math.exp(log_prob(words, links, tokens, path))
                length += probability * number
                for bigram in pairwise(tokens):
                    counts[bigram] += probability
    return counts, length


@pytest.mark.parametrize("target", [(0, 1, 2), (0, 1, 0, 1, 0), (2, 2, 2, 2, 2, 2), (1, 2)])
@pytest.mark.parametrize("seed", range(2))
def test_precision_is_that_of_all_outputs(target: tuple[int, ...], seed: int) -> None:
    words, links = random_graph(seed)
    counts, length = expectations(words, links)
    reference = Counter(pairwise(target))
    found = sum(min(counts[bigram], count) for bigram, count in reference.items())
    expected = min(1.0, math.exp(1 - len(target) / length)) * found / sum(counts.values())
    labels = torch.tensor([[*target, *target]])
    value = fuzzy_precision(words[:, labels[0]].T[None], links[None], labels, torch.tensor([len(target)]))
    assert value.item() == pytest.approx(expected)


def test_known_values_of_the_expected_length() -> None:
    counts, length = expectations(WORDS, LINKS)
    assert length == pytest.approx(3.1) and sum(counts.values()) == pytest.approx(2.1)
    # Longer than expected, so that brevity counts.
    target = (0, 1, 2, 3)
    found = sum(min(counts[bigram], 1) for bigram in pairwise(target))
    value = fuzzy_precision(WORDS[:, list(target)].T[None], LINKS[None], torch.tensor([target]), torch.tensor([4]))
    assert value.item() == pytest.approx(math.exp(1 - 4 / 3.1) * found / 2.1)


def graphs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Links, vertices, labels and their number: the last target does not fit."""
    links = torch.full((3, 6, 6), float("-inf"), dtype=torch.float64)
    for row, size in enumerate((6, 4, 3)):
        links[row, :size, :size] = random_graph(row, size)[1]
    labels = torch.tensor([[0, 1, 2, 1, 3], [0, 2, 3, 0, 0], [0, 1, 1, 2, 3]])
    return links, torch.arange(6) < torch.tensor([[6], [4], [3]]), labels, torch.tensor([5, 3, 5])


def test_loss_has_the_gradients_of_plain_autograd() -> None:
    links, is_vertex, labels, num_labels = graphs()
    generator = torch.Generator().manual_seed(0)
    hidden_states = torch.randn(3, 6, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(7, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    weights = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    inputs = (hidden_states, weight, links.requires_grad_())
    loss = linear_fuzzy_loss(*inputs, is_vertex, labels, num_labels, weights)
    gradients = torch.autograd.grad(2 * loss, inputs)
    log_probs = (hidden_states @ weight.T).log_softmax(2)
    match = log_probs.gather(2, labels.unsqueeze(1).expand(-1, 6, -1)).transpose(1, 2)
    values = fuzzy_precision(match, links, labels, num_labels)
    expected = (weights[:2] * (1 - values[:2])).sum()
    assert_close(loss, expected, check_dtype=False, rtol=1e-5, atol=1e-5)
    for gradient, other in zip(gradients, torch.autograd.grad(2 * expected, inputs), strict=True):
        assert_close(gradient, other, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        assert_close(linear_fuzzy_loss(*inputs, is_vertex, labels, num_labels, weights), loss)


def test_autocast_leaves_the_graph_in_single_precision() -> None:
    model = tiny_model("da_transformer", fuzzy_alignment=True).train()
    expected = model(**tiny_batch()).loss
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(**tiny_batch()).loss
    loss.backward()
    assert loss.dtype == torch.float32
    assert_close(loss, expected, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("glancing_ratio", [0.0, 0.5])
def test_checkpoint_goes_on_with_the_fuzzy_alignment(tmp_path: Path, glancing_ratio: float) -> None:
    tiny_model("da_transformer", glancing_ratio=glancing_ratio).save_pretrained(tmp_path)
    model = AutoModelForSeq2SeqLM.from_pretrained(tmp_path, fuzzy_alignment=True).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    torch.manual_seed(0)
    losses = []
    for _ in range(30):
        output = model(**tiny_batch())
        output.loss.backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
        optimizer.step()
        optimizer.zero_grad()
        losses.append(output.loss.item())
    assert set(output.loss_components) == {"fuzzy"} and all(0 <= loss <= 1 for loss in losses)
    assert losses[-1] < losses[0] - 0.1


def test_loss_of_an_empty_target_is_finite() -> None:
    model = tiny_model("da_transformer", fuzzy_alignment=True).train()
    output = model(torch.tensor([[2], [2]]), labels=torch.tensor([[2], [2]]))
    output.loss.backward()
    assert output.loss.isfinite()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)
