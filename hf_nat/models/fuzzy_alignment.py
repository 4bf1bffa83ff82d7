"""Fuzzy alignment: how many n-grams of a target a graph of vertices is expected to write, wherever it writes them.

Dimension letters: B batch, L vertices, M labels of a target, BOS and EOS among them, D model, V vocabulary.
"""

import torch
from transformers.utils.generic import maybe_autocast

from .directed_acyclic import NEGLIGIBLE, is_feasible, label_log_probs, linear_word_loss


def fuzzy_precision(
    match: torch.Tensor, links: torch.Tensor, labels: torch.Tensor, num_labels: torch.Tensor
) -> torch.Tensor:
    """Computes the expected clipped precision of bigrams, times the brevity penalty of the expected length.

    Args:
        match (`torch.FloatTensor` of shape `(B, M, L)`): log-probability of each label at each vertex.
        links (`torch.FloatTensor` of shape `(B, L, L)`): log-probability of the step from the first to the second
            vertex; minus infinity unless the second is the later one.
        labels (`torch.LongTensor` of shape `(B, M)`): targets, with any token behind them.
        num_labels (`torch.LongTensor` of shape `(B,)`): labels of each target, at least 2.

    Returns:
        `torch.FloatTensor` of shape `(B,)`: min(1, exp(1 - M / expected length)) * (sum over the bigrams of the target
        of min(expected count, count in the target)) / expected number of bigrams, in [0, 1].

    Source: Ma et al. 2023 (arXiv:2303.06662), n = 2.
    """
    steps, words = links.exp(), match.exp()
    # Probability that a path visits a vertex: that of vertex 0 is 1, the others are visited from the earlier ones.
    start = torch.zeros_like(steps[:, :, :1])
    start[:, 0] = 1.0
    system = torch.eye(steps.shape[1], dtype=steps.dtype, device=steps.device) - steps.transpose(1, 2)
    visits = torch.linalg.solve_triangular(system, start, upper=False, unitriangular=True).squeeze(2)
    length, num_bigrams = visits.sum(dim=1), (visits * steps.sum(dim=2)).sum(dim=1)
    with maybe_autocast(steps.device.type, enabled=False):
        expected = ((visits.unsqueeze(1) * words[:, :-1]) @ steps * words[:, 1:]).sum(dim=2)
    positions = torch.arange(labels.shape[1] - 1, device=labels.device)
    is_bigram = positions + 1 < num_labels.unsqueeze(1)
    same = is_bigram.unsqueeze(1) & is_bigram.unsqueeze(2)
    for tokens in (labels[:, :-1], labels[:, 1:]):
        same = same & (tokens.unsqueeze(1) == tokens.unsqueeze(2))
    is_first = is_bigram & ~same.tril(diagonal=-1).any(dim=2)
    found = torch.minimum(expected, same.sum(dim=2).to(expected.dtype)) * is_first
    brevity = (1 - num_labels / length).exp().clamp(max=1.0)
    return brevity * found.sum(dim=1) / num_bigrams


def linear_fuzzy_loss(
    hidden_states: torch.Tensor,
    weight: torch.Tensor,
    links: torch.Tensor,
    is_vertex: torch.Tensor,
    labels: torch.Tensor,
    num_labels: torch.Tensor,
    weights: torch.Tensor,
) -> torch.Tensor:
    """Projects states to the vocabulary and computes the weighted sum of 1 - [`fuzzy_precision`], without logits.

    Args:
        hidden_states (`torch.FloatTensor` of shape `(B, L, D)`): states of the vertices.
        weight (`torch.FloatTensor` of shape `(V, D)`): weight of the output projection.
        links (`torch.FloatTensor` of shape `(B, L, L)`): see [`fuzzy_precision`].
        is_vertex (`torch.BoolTensor` of shape `(B, L)`): True at the vertices, which come first in a row.
        labels (`torch.LongTensor` of shape `(B, M)`): targets with BOS and EOS, and any token behind them.
        num_labels (`torch.LongTensor` of shape `(B,)`): labels of each target, BOS and EOS among them.
        weights (`torch.FloatTensor` of shape `(B,)`): weight of each sentence; those that do not fit are left out.

    Returns:
        `torch.FloatTensor` of shape `()`: loss, a number without unit.
    """
    weights = weights * is_feasible(num_labels, is_vertex.sum(dim=1))
    match = label_log_probs(hidden_states, weight, is_vertex, labels)
    # Behind its vertices a graph has no words.
    match = match.masked_fill(~is_vertex.unsqueeze(1), 0.0).requires_grad_()
    loss = (weights * (1 - fuzzy_precision(match, links, labels, num_labels))).sum()
    if not torch.is_grad_enabled():
        return loss
    (gradient,) = torch.autograd.grad(loss, match, retain_graph=True)
    # More of a word never means fewer bigrams: the gradient is that of a cross-entropy.
    gains = -gradient.transpose(1, 2)
    written = gains > NEGLIGIBLE * weights.view(-1, 1, 1)
    words, _ = linear_word_loss(hidden_states, weight, labels, gains, written)
    return loss + words - words.detach()
