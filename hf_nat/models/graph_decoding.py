"""Paths through directed acyclic graphs of vertices, of which each has a most probable token.

Dimension letters: R rows, L vertices, K candidates of a row.
"""

import torch


def follow(scores: torch.Tensor, num_vertices: torch.Tensor, most_vertices: int) -> torch.Tensor:
    """Goes from vertex 0 to the last one, at each vertex by the best step.

    Steps are doubled: from where a vertex goes in 1, 2, 4, ... steps follows where the path is after any number.

    Args:
        scores (`torch.FloatTensor` of shape `(R, L, L)`): score of each step; minus infinity where there is none.
        num_vertices (`torch.LongTensor` of shape `(R,)`): vertices of each graph, at least 2.
        most_vertices (`int`): a bound on L, which decides how often steps are doubled.

    Returns:
        `torch.BoolTensor` of shape `(R, L)`: True at the vertices of the path, the first and the last among them.
    """
    last = (num_vertices - 1).unsqueeze(1)
    vertices = torch.arange(scores.shape[1], device=scores.device).expand(scores.shape[:2])
    # The last one stays where it is.
    jumps = torch.where(vertices < last, scores.argmax(dim=2), last)
    visited = torch.zeros_like(jumps)
    for bit in range(max(1, most_vertices - 1).bit_length()):
        if bit:
            jumps = jumps.gather(1, jumps)
        visited = torch.where(vertices.bitwise_right_shift(bit) % 2 == 1, jumps.gather(1, visited), visited)
    return torch.zeros_like(vertices, dtype=torch.bool).scatter(1, visited, True)


def step_scores(links: torch.Tensor, paths: torch.Tensor) -> torch.Tensor:
    """Looks up the steps that lead to the vertices of paths.

    Args:
        links (`torch.FloatTensor` of shape `(R, L, L)`): log-probability of each step.
        paths (`torch.BoolTensor` of shape `(R, L)`): True at the vertices of a path that starts at vertex 0.

    Returns:
        `torch.FloatTensor` of shape `(R, L)`: log-probability of the step to each vertex of the path.
    """
    num_rows, width = paths.shape
    vertices = torch.arange(width, device=paths.device).expand(num_rows, -1)
    counts = paths.cumsum(dim=1)
    # The vertices of the path in a row behind vertex 0; the others go to a column that nobody reads.
    in_order = vertices.new_zeros(num_rows, width + 2).scatter(1, counts.masked_fill(~paths, width + 1), vertices)
    before = in_order.gather(1, counts - paths.long())
    return links.gather(1, before.unsqueeze(1)).squeeze(1)


def joint_viterbi(
    links: torch.Tensor,
    word_scores: torch.Tensor,
    num_vertices: torch.Tensor,
    max_words: torch.Tensor,
    length_penalty: float,
    num_candidates: int = 1,
) -> torch.Tensor:
    """Finds the best pairs of a path and its tokens, one of each length.

    A path of k tokens between the first vertex and the last has the score (log-probability of its steps and tokens)
    / k ** length_penalty. As it is negative, higher penalties make longer translations.

    Args:
        links (`torch.FloatTensor` of shape `(R, L, L)`): log-probability of each step.
        word_scores (`torch.FloatTensor` of shape `(R, L)`): log-probability of the best token of each vertex between.
        num_vertices (`torch.LongTensor` of shape `(R,)`): vertices of each graph, at least 2.
        max_words (`torch.LongTensor` of shape `(R,)`): longest path of each graph, in tokens between the ends (k).
        length_penalty (`float`): see above.
        num_candidates (`int`, *optional*, defaults to 1): paths to find (K).

    Returns:
        `torch.BoolTensor` of shape `(R, K, L)`: True at the vertices of the paths between the ends, best path first,
        and once more in the place of those that do not exist; none in a graph without vertices between.

    Source: Shao et al. 2022 (arXiv:2210.05193), joint Viterbi decoding.
    """
    num_rows, width = word_scores.shape
    last = (num_vertices - 1).unsqueeze(1)
    vertices = torch.arange(width, device=links.device)
    between = vertices < last
    most_words = int(max_words.max())
    if most_words < 1:
        return torch.zeros(num_rows, num_candidates, width, dtype=torch.bool, device=links.device)
    word_scores = word_scores.masked_fill(~between, float("-inf"))
    to_end = links.gather(2, last.unsqueeze(1).expand(-1, width, 1)).squeeze(2)
    best = links[:, 0] + word_scores
    finals, ends, origins = [], [], []
    for num_words in range(1, most_words + 1):
        if num_words > 1:
            best, origin = (best.unsqueeze(2) + links).max(dim=1)
            best = best + word_scores
            origins.append(origin.short())
        final, end = (best + to_end).max(dim=1)
        final = final.masked_fill(num_words > max_words, float("-inf"))
        finals.append(final / num_words**length_penalty)
        ends.append(end)
    scores = torch.stack(finals, dim=1)
    num_found = min(num_candidates, most_words)
    scores, order = scores.sort(dim=1, descending=True, stable=True)
    scores, lengths = scores[:, :num_found], order[:, :num_found] + 1
    vertex = torch.stack(ends, dim=1).gather(1, lengths - 1)
    exists = scores.isfinite()
    paths = torch.zeros(num_rows, num_found, width, dtype=torch.bool, device=links.device)
    for num_words in range(most_words, 0, -1):
        on_path = exists & (num_words <= lengths)
        paths |= on_path.unsqueeze(2) & (vertices == vertex.unsqueeze(2))
        if num_words > 1:
            vertex = torch.where(on_path, origins[num_words - 2].gather(1, vertex).long(), vertex)
    paths = torch.where(exists.unsqueeze(2), paths, paths[:, :1])
    return torch.cat([paths, paths[:, :1].expand(-1, num_candidates - num_found, -1)], dim=1)
