"""CTC against enumeration of all frame strings and against torch."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from torch.testing import assert_close

from hf_nat.models.ctc import (
    best_alignment,
    collapse,
    ctc_log_likelihood,
    is_feasible,
    label_scores,
    linear_ctc_loss,
)


BLANK, PAD = 0, 9
PROBABILITIES = torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.4, 0.2, 0.4]], dtype=torch.float64)


def collapsed(frames: tuple[int, ...]) -> tuple[int, ...]:
    merged = [label for i, label in enumerate(frames) if i == 0 or label != frames[i - 1]]
    return tuple(label for label in merged if label != BLANK)


def likelihoods(log_probs: torch.Tensor) -> dict[tuple[int, ...], list[tuple[float, tuple[int, ...]]]]:
    """From every target to the log-probabilities of its frame strings, by enumeration of log_probs `[F, V]`."""
    found: dict[tuple[int, ...], list[tuple[float, tuple[int, ...]]]] = {}
    for frames in product(range(log_probs.shape[1]), repeat=len(log_probs)):
        score = sum(float(log_probs[t, label]) for t, label in enumerate(frames))
        found.setdefault(collapsed(frames), []).append((score, frames))
    return found


def relative(log_probs: torch.Tensor, target: tuple[int, ...]) -> tuple[torch.Tensor, ...]:
    """Arguments of the DP for one target."""
    labels = torch.tensor([target], dtype=torch.long).reshape(1, -1)
    scores = log_probs[:, labels[0]] - log_probs[:, [BLANK]]
    return scores.unsqueeze(0), labels, torch.tensor([len(target)]), torch.tensor([len(log_probs)])


def log_likelihood(log_probs: torch.Tensor, target: tuple[int, ...]) -> float:
    return float(ctc_log_likelihood(*relative(log_probs, target)) + log_probs[:, BLANK].sum())


@pytest.mark.parametrize(
    ("target", "probability"),
    [((), 0.048), ((1,), 0.318), ((2,), 0.224), ((1, 2), 0.276), ((2, 1), 0.076), ((1, 1), 0.012), ((1, 2, 1), 0.018)],
)
def test_log_likelihood_known_values(target: tuple[int, ...], probability: float) -> None:
    assert math.exp(log_likelihood(PROBABILITIES.log(), target)) == pytest.approx(probability)


def test_best_alignment_known_value() -> None:
    arguments = relative(PROBABILITIES.log(), (1, 2))
    assert best_alignment(*arguments).tolist() == [[0, 1, 3]]
    frames = PROBABILITIES.log()[range(3), (BLANK, 1, 2)]  # the labels of these states
    assert float(frames.sum()) == pytest.approx(-2.120264, abs=1e-6)


def test_known_values_of_the_most_probable_frames() -> None:
    frames = PROBABILITIES.argmax(1, keepdim=True).T
    # Of the last frame both 0 and 2 are as probable; the first counts.
    assert frames.tolist() == [[0, 1, 0]]
    tokens, _ = collapse(frames, torch.zeros(1, 3), torch.ones(1, 3, dtype=torch.bool), BLANK, PAD)
    assert tokens.tolist() == [[1, PAD, PAD]]
    assert sum(
        math.exp(log_likelihood(PROBABILITIES.log(), target)) for target in likelihoods(PROBABILITIES.log())
    ) == (pytest.approx(1.0))


@pytest.mark.parametrize("seed", range(4))
def test_every_target_of_a_random_lattice(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    log_probs = torch.randn(4, 3, generator=generator, dtype=torch.float64).mul(2).log_softmax(1)
    total = 0.0
    for target, paths in likelihoods(log_probs).items():
        expected = math.log(sum(math.exp(score) for score, _ in paths))
        total += math.exp(expected)
        assert log_likelihood(log_probs, target) == pytest.approx(expected)
        (states,) = best_alignment(*relative(log_probs, target)).tolist()
        frames = tuple(target[state // 2] if state % 2 else BLANK for state in states)
        assert collapsed(frames) == target
        assert all(0 <= later - earlier <= 2 for earlier, later in zip(states, states[1:], strict=False))
        assert sum(float(log_probs[t, label]) for t, label in enumerate(frames)) == pytest.approx(max(paths)[0])
    assert total == pytest.approx(1.0)


def test_is_feasible_is_to_have_an_alignment() -> None:
    reachable = set(likelihoods(torch.zeros(3, 3)))
    targets = [target for length in range(5) for target in product((1, 2), repeat=length)]
    labels = torch.tensor([[*target, *[1] * (4 - len(target))] for target in targets])
    lengths = torch.tensor([len(target) for target in targets])
    feasible = is_feasible(labels, lengths, torch.full_like(lengths, 3))
    assert feasible.tolist() == [target in reachable for target in targets]
    assert not is_feasible(torch.tensor([[1, 1, 2]]), torch.tensor([3]), torch.tensor([3]))


def random_batch(dtype: torch.dtype = torch.float64, width: int = 5) -> dict[str, torch.Tensor]:
    """Rows of all kinds: repeats, an empty target, one without an alignment, padding on both sides."""
    generator = torch.Generator().manual_seed(1)
    rows = [[1, 2, 2, 3], [3], [], [1, 1, 1, 1], [4, 3, 2, 1]]
    return {
        "hidden_states": torch.randn(5, 7, width, generator=generator, dtype=dtype),
        "weight": torch.randn(6, width, generator=generator, dtype=dtype),
        "labels": torch.tensor([[*row, *[BLANK] * (4 - len(row))] for row in rows]),
        "num_labels": torch.tensor([len(row) for row in rows]),
        "num_frames": torch.tensor([7, 3, 2, 6, 4]),
        "weights": torch.tensor([0.3, 0.1, 0.2, 0.4, 0.5], dtype=dtype),
    }


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_loss_and_gradients_are_those_of_torch(label_smoothing: float) -> None:
    batch = random_batch()
    num_frames = batch.pop("num_frames")
    inputs = [batch[name].requires_grad_() for name in ("hidden_states", "weight")]
    is_frame = torch.arange(7) < num_frames.unsqueeze(1)
    loss = linear_ctc_loss(**batch, is_frame=is_frame, blank=BLANK, label_smoothing=label_smoothing)
    gradients = torch.autograd.grad(2 * loss, inputs)
    log_probs = torch.nn.functional.linear(*inputs).log_softmax(2)
    feasible = torch.tensor([True, True, True, False, True])
    nll = torch.nn.functional.ctc_loss(
        log_probs.transpose(0, 1)[:, feasible],
        batch["labels"][feasible],
        num_frames[feasible],
        batch["num_labels"][feasible],
        blank=BLANK,
        reduction="none",
    )
    uniform = -(log_probs.mean(2) * is_frame).sum(1)[feasible]
    expected = (batch["weights"][feasible] * ((1 - label_smoothing) * nll + label_smoothing * uniform)).sum()
    assert_close(loss, expected, check_dtype=False, rtol=1e-5, atol=1e-6)
    for gradient, other in zip(gradients, torch.autograd.grad(2 * expected, inputs), strict=True):
        assert_close(gradient, other, rtol=1e-5, atol=1e-6)


def test_gradcheck() -> None:
    batch = random_batch()
    lengths = batch["num_labels"], batch["num_frames"]
    scores = label_scores(batch["hidden_states"], batch["weight"], batch["labels"], BLANK).requires_grad_()
    fits = is_feasible(batch["labels"], *lengths)
    assert torch.autograd.gradcheck(lambda s: ctc_log_likelihood(s, batch["labels"], *lengths)[fits], (scores,))


def test_target_that_does_not_fit_has_no_gradient() -> None:
    scores = torch.randn(1, 3, 3, requires_grad=True)
    labels, num_labels, num_frames = torch.tensor([[1, 1, 2]]), torch.tensor([3]), torch.tensor([3])
    value = ctc_log_likelihood(scores, labels, num_labels, num_frames)
    value.backward()
    assert value.item() == float("-inf") and scores.grad.eq(0).all()
    assert best_alignment(scores, labels, num_labels, num_frames).tolist() == [[-1, -1, -1]]


def test_padding_does_not_matter() -> None:
    batch = random_batch()
    scores = label_scores(batch["hidden_states"], batch["weight"], batch["labels"], BLANK)
    lengths = batch["num_labels"], batch["num_frames"]
    values = ctc_log_likelihood(scores, batch["labels"], *lengths)
    states = best_alignment(scores, batch["labels"], *lengths)
    for row, (labels, frames) in enumerate(zip(*lengths, strict=True)):
        alone = (scores[[row], :frames, :labels], batch["labels"][[row], :labels], labels[None], frames[None])
        assert_close(ctc_log_likelihood(*alone)[0], values[row])
        assert torch.equal(best_alignment(*alone)[0], states[row, :frames])
        assert states[row, frames:].eq(-1).all()


def test_scores_of_half_precision_are_summed_in_single() -> None:
    batch = random_batch(torch.bfloat16)
    scores = label_scores(batch["hidden_states"], batch["weight"], batch["labels"], BLANK)
    assert scores.dtype == torch.float32
    halves = scores.bfloat16().requires_grad_()
    value = ctc_log_likelihood(halves, batch["labels"], batch["num_labels"], batch["num_frames"])
    value[0].backward()
    assert value.dtype == torch.float32 and halves.grad.dtype == torch.bfloat16


def test_collapse_merges_first_and_keeps_the_surest_frame() -> None:
    frames = torch.tensor([[0, 1, 1, 0, 1, 2, 2], [1, 2, 2, 2, 7, 7, 7], [0, 0, 0, 0, 0, 0, 0]])
    scores = -torch.arange(1.0, 8.0).repeat(3, 1)
    is_frame = torch.tensor([[True] * 7, [True] * 4 + [False] * 3, [True] * 7])
    tokens, kept = collapse(frames, scores, is_frame, BLANK, PAD)
    assert tokens.tolist() == [[1, 1, 2, PAD, PAD, PAD, PAD], [1, 2, *[PAD] * 5], [PAD] * 7]
    assert kept.tolist() == [[-2, -5, -6, 0, 0, 0, 0], [-1, -2, 0, 0, 0, 0, 0], [0] * 7]
