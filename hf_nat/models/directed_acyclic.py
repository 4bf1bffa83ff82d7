"""Directed acyclic graphs of vertices: the probability of a target, summed over all paths that write it.

A path goes from vertex 0 to the last vertex of its row, always to later ones. It writes one token at each vertex.

Dimension letters: B batch, L vertices, M labels of a target, BOS and EOS among them, D model, V vocabulary.
"""

from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from transformers.utils.generic import maybe_autocast

from .losses import at_least_single, linear_cross_entropy, reduce_logits
from .selection import selected_positions, take


# Share of a sentence's weight below which single precision loses the gradient of a label among the others.
NEGLIGIBLE = 1e-7


def is_feasible(num_labels: torch.Tensor, num_vertices: torch.Tensor) -> torch.Tensor:
    """Tells which targets fit into their graphs: two labels at least, and a vertex for each.

    Args:
        num_labels (`torch.LongTensor` of shape `(B,)`): labels of each target, BOS and EOS among them.
        num_vertices (`torch.LongTensor` of shape `(B,)`): vertices of each graph.

    Returns:
        `torch.BoolTensor` of shape `(B,)`: True where at least one path exists.
    """
    return (num_labels >= 2) & (num_labels <= num_vertices)


@torch.compiler.disable
def graph_log_likelihood(
    match: torch.Tensor, links: torch.Tensor, num_labels: torch.Tensor, num_vertices: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Adds up the paths of each graph that write its target.

    Args:
        match (`torch.FloatTensor` of shape `(B, M, L)`): log-probability of each label at each vertex.
        links (`torch.FloatTensor` of shape `(B, L, L)`): log-probability of the step from the first to the second
            vertex; minus infinity unless the second is the later one.
        num_labels (`torch.LongTensor` of shape `(B,)`): labels of each target.
        num_vertices (`torch.LongTensor` of shape `(B,)`): vertices of each graph, at least 1.

    Returns:
        `tuple` of the log-likelihoods in nats (`torch.FloatTensor` of shape `(B,)`; minus infinity, with a gradient of
        0, for a target that does not fit) and the probability that a label is written at a vertex, given the target
        (`torch.FloatTensor` of shape `(B, M, L)`, without gradient; 0 for a target that does not fit). Both at least
        in single precision. Memory is that of `match` and `links`, however long the target.

    Source: Huang et al. 2022 (arXiv:2205.07459), section 3.2.
    """
    return _GraphLogLikelihood.apply(match, links, num_labels, num_vertices)


class _GraphLogLikelihood(torch.autograd.Function):
    """Makes the gradients in the forward pass, for an upstream gradient of 1."""

    @staticmethod
    def forward(
        ctx: Any, match: torch.Tensor, links: torch.Tensor, num_labels: torch.Tensor, num_vertices: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns log-likelihoods `[B]` and posteriors `[B, M, L]`, and keeps both gradients."""
        ctx.dtypes = match.dtype, links.dtype
        match, links = at_least_single(match), at_least_single(links)
        slack = _slack(num_labels, num_vertices, match.shape[2])
        prefixes = _prefixes(match, links, slack)
        rows = torch.arange(len(match), device=match.device)
        fits = is_feasible(num_labels, num_vertices)
        log_likelihood = prefixes[rows, num_labels - 1, num_vertices - 1].masked_fill(~fits, float("-inf"))
        posteriors, steps = _posteriors(match, links, prefixes, log_likelihood, num_labels, num_vertices, slack)
        ctx.save_for_backward(posteriors, steps)
        ctx.mark_non_differentiable(posteriors)
        return log_likelihood, posteriors

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor, _: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Scales the gradients of `match` and `links` by the one from above `[B]`; posteriors have none."""
        factor = grad.view(-1, 1, 1)
        gradients = (
            (saved * factor).to(dtype) if needed else None
            for saved, dtype, needed in zip(ctx.saved_tensors, ctx.dtypes, ctx.needs_input_grad, strict=False)
        )
        return (*gradients, None, None)


def _slack(num_labels: torch.Tensor, num_vertices: torch.Tensor, width: int) -> int:
    """Most vertices that the path of a target leaves out: label m lies at the vertices m to m + slack of its row."""
    if num_labels.is_meta:  # No value says it: the most that it can be.
        return width
    return int((num_vertices - num_labels).amax().clamp(min=0))


def _band(label: int, slack: int) -> tuple[slice, slice]:
    """Vertices at which the label before this one may lie, and those for this one."""
    return slice(label - 1, label + slack), slice(label, label + slack + 1)


def _prefixes(match: torch.Tensor, links: torch.Tensor, slack: int) -> torch.Tensor:
    """Log-probabilities `[B, M, L]` of all ways to write the labels up to one that ends at a vertex."""
    prefixes = torch.full_like(match, float("-inf"))
    prefixes[:, 0, 0] = match[:, 0, 0]
    for label in range(1, min(match.shape[1:])):
        before, own = _band(label, slack)
        arriving = (prefixes[:, label - 1, before].unsqueeze(2) + links[:, before, own]).logsumexp(dim=1)
        torch.add(match[:, label, own], arriving, out=prefixes[:, label, own])
    return prefixes


def _posteriors(
    match: torch.Tensor,
    links: torch.Tensor,
    prefixes: torch.Tensor,
    log_likelihood: torch.Tensor,
    num_labels: torch.Tensor,
    num_vertices: torch.Tensor,
    slack: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Given the target, probabilities `[B, M, L]` of labels at vertices, and mean numbers `[B, L, L]` of steps."""
    posteriors, steps = torch.zeros_like(match), torch.zeros_like(links)
    fits = log_likelihood.isfinite()
    total = log_likelihood.masked_fill(~fits, 0.0).unsqueeze(1)
    vertices = torch.arange(match.shape[2], device=match.device)
    ends = fits.unsqueeze(1) & (vertices == num_vertices.unsqueeze(1) - 1)
    for label in range(min(match.shape[1:]) - 1, -1, -1):
        posteriors[:, label].masked_fill_(ends & (num_labels == label + 1).unsqueeze(1), 1.0)
        if not label:
            break
        before, own = _band(label, slack)
        posterior = posteriors[:, label, own]
        # What comes after the label, whose own probability the prefix holds; of no interest where no path goes.
        suffix = torch.where(posterior > 0, posterior.log() + total - prefixes[:, label, own], float("-inf"))
        arriving = (suffix + match[:, label, own]).unsqueeze(1)
        leaving = (prefixes[:, label - 1, before] - total).unsqueeze(2)
        step = (links[:, before, own] + arriving).add_(leaving).exp_()
        steps[:, before, own] += step
        posteriors[:, label - 1, before] = step.sum(dim=2)
    return posteriors, steps


@torch.compiler.disable
@torch.no_grad()
def best_path(
    match: torch.Tensor, links: torch.Tensor, num_labels: torch.Tensor, num_vertices: torch.Tensor
) -> torch.Tensor:
    """Finds the most probable path of each graph that writes its target.

    Args:
        match (`torch.FloatTensor` of shape `(B, M, L)`): see [`graph_log_likelihood`], as for the other arguments.
        links (`torch.FloatTensor` of shape `(B, L, L)`): log-probabilities of the steps.
        num_labels (`torch.LongTensor` of shape `(B,)`): labels of each target.
        num_vertices (`torch.LongTensor` of shape `(B,)`): vertices of each graph.

    Returns:
        `torch.LongTensor` of shape `(B, M)`: vertex of each label; -1 behind the labels, and everywhere if the target
        has no path.
    """
    match, links = at_least_single(match), at_least_single(links)
    num_rows, max_labels, width = match.shape
    slack, rows = _slack(num_labels, num_vertices, width), torch.arange(num_rows, device=match.device)
    best = match.new_full((max_labels, num_rows, width), float("-inf"))
    best[0, :, 0] = match[:, 0, 0]
    for label in range(1, min(max_labels, width)):
        before, own = _band(label, slack)
        # Without the places of the maxima, which cost more than all else; the way back looks for its own few.
        arriving = (best[label - 1, :, before].unsqueeze(2) + links[:, before, own]).amax(dim=1)
        torch.add(arriving, match[:, label, own], out=best[label, :, own])
    vertex = num_vertices - 1
    fits = is_feasible(num_labels, num_vertices) & best[num_labels - 1, rows, vertex].isfinite()
    path = torch.full((num_rows, max_labels), -1, device=match.device)
    for label in range(max_labels - 1, -1, -1):
        on_path = fits & (label < num_labels)
        path[:, label] = torch.where(on_path, vertex, -1)
        if label:
            origin = (best[label - 1] + links[rows, :, vertex]).argmax(dim=1)
            vertex = torch.where(on_path, origin, vertex)
    return path


def label_log_probs(
    hidden_states: torch.Tensor, weight: torch.Tensor, is_vertex: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    """Computes the log-probabilities of the labels of each target at all vertices, without gradient.

    Args:
        hidden_states (`torch.FloatTensor` of shape `(B, L, D)`): states of the vertices.
        weight (`torch.FloatTensor` of shape `(V, D)`): weight of the output projection.
        is_vertex (`torch.BoolTensor` of shape `(B, L)`): True at the vertices, which come first in a row.
        labels (`torch.LongTensor` of shape `(B, M)`): targets, with any token behind them.

    Returns:
        `torch.FloatTensor` of shape `(B, M, L)`: log-probabilities in nats, at least in single precision; behind the
        vertices scores without meaning.
    """
    hidden_states = hidden_states.detach()
    vertices = take(hidden_states, selected_positions(is_vertex))
    normalisers = reduce_logits(vertices, weight, lambda logits: logits.logsumexp(dim=1))
    outputs = nn.functional.embedding(labels, weight.detach())
    with maybe_autocast(hidden_states.device.type, enabled=False):
        scores = at_least_single(outputs) @ at_least_single(hidden_states).transpose(1, 2)
    return scores - scores.new_zeros(is_vertex.shape).masked_scatter(is_vertex, normalisers.to(scores)).unsqueeze(1)


def linear_graph_loss(
    hidden_states: torch.Tensor,
    weight: torch.Tensor,
    links: torch.Tensor,
    is_vertex: torch.Tensor,
    labels: torch.Tensor,
    num_labels: torch.Tensor,
    weights: torch.Tensor,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """Projects states to the vocabulary and computes the weighted sum of the graphs' losses, without keeping logits.

    The gradient of the log-likelihood is that of the cross-entropy to the labels that a vertex writes, as probable as
    the target makes them. So the projection is computed twice: for the probabilities of the labels, and to learn them
    at the vertices that matter, in a trained model a part of all.

    Args:
        hidden_states (`torch.FloatTensor` of shape `(B, L, D)`): states of the vertices.
        weight (`torch.FloatTensor` of shape `(V, D)`): weight of the output projection.
        links (`torch.FloatTensor` of shape `(B, L, L)`): see [`graph_log_likelihood`].
        is_vertex (`torch.BoolTensor` of shape `(B, L)`): True at the vertices, which come first in a row.
        labels (`torch.LongTensor` of shape `(B, M)`): targets with BOS and EOS, and any token behind them.
        num_labels (`torch.LongTensor` of shape `(B,)`): labels of each target, BOS and EOS among them.
        weights (`torch.FloatTensor` of shape `(B,)`): weight of each sentence; those that do not fit are left out.
        label_smoothing (`float`, *optional*, defaults to 0.0): mass of what a vertex writes that is spread evenly over
            all V tokens; for its gradient the probabilities of the paths are constant.

    Returns:
        `torch.FloatTensor` of shape `()`: loss in nats.
    """
    num_vertices = is_vertex.sum(dim=1)
    weights = weights * is_feasible(num_labels, num_vertices)
    match = label_log_probs(hidden_states, weight, is_vertex, labels)
    log_likelihood, posteriors = graph_log_likelihood(match, links, num_labels, num_vertices)
    log_likelihood = log_likelihood.masked_fill(weights.eq(0), 0.0)
    posteriors = posteriors.transpose(1, 2)
    gains = posteriors * weights.view(-1, 1, 1)
    written = (posteriors > NEGLIGIBLE) & weights.ne(0).view(-1, 1, 1)
    words, positions = linear_word_loss(hidden_states, weight, labels, gains, written, label_smoothing)
    # `words` has the gradient of the words, the log-likelihood that of the links and, with the words, the value.
    expected = (take(gains.flatten(1), positions) * take(match.transpose(1, 2).flatten(1), positions)).sum()
    return words + (1 - label_smoothing) * (expected - (weights * log_likelihood).sum())


def linear_word_loss(
    hidden_states: torch.Tensor,
    weight: torch.Tensor,
    labels: torch.Tensor,
    gains: torch.Tensor,
    written: torch.Tensor,
    label_smoothing: float = 0.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Adds up the weighted cross-entropies of the labels at the vertices; a vertex that writes none is not projected.

    Args:
        hidden_states (`torch.FloatTensor` of shape `(B, L, D)`): states of the vertices.
        weight (`torch.FloatTensor` of shape `(V, D)`): weight of the output projection.
        labels (`torch.LongTensor` of shape `(B, M)`): targets.
        gains (`torch.FloatTensor` of shape `(B, L, M)`): weight of each label at each vertex.
        written (`torch.BoolTensor` of shape `(B, L, M)`): True where a label counts.
        label_smoothing (`float`, *optional*, defaults to 0.0): see [`linear_cross_entropy`].

    Returns:
        `tuple` of the loss in nats (`torch.FloatTensor` of shape `()`) and the selected positions of `written`.
    """
    learned = written.any(dim=2)
    # One row a vertex, its labels side by side.
    rows = (learned.flatten().cumsum(dim=0) - 1).view(learned.shape).unsqueeze(2).expand(written.shape)
    positions = selected_positions(written)
    words, _ = linear_cross_entropy(
        take(hidden_states, selected_positions(learned)),
        weight,
        take(labels.unsqueeze(1).expand(written.shape).flatten(1), positions),
        take(gains.flatten(1), positions),
        rows=take(rows.flatten(1), positions),
        label_smoothing=label_smoothing,
    )
    return words, positions
