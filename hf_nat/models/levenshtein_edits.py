"""The expert of the Levenshtein Transformer: which tokens of a canvas to delete, and what to insert, to get a target.

Dimension letters: B batch, X canvas, Y target.
"""

import torch


def kept_tokens(canvas: torch.Tensor, target: torch.Tensor, pad_token_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Finds the tokens that the shortest path of insertions and deletions from canvas to target keeps.

    They form a longest common subsequence. The other canvas tokens are to be deleted, the other target tokens to be
    inserted. Where several shortest paths exist, the path is the one found from the end of the rows backwards if an
    insertion is preferred to a deletion, and both to keeping: of equal neighbours the first is kept.

    `ends[i, k]` below is the shortest prefix of the target that has k tokens in common with i canvas tokens. A token
    is kept exactly where it shortens that prefix, so the path costs X steps forward and X steps backward, each of them
    over all rows and all k at once.

    Args:
        canvas (`torch.LongTensor` of shape `(B, X)`): right-padded rows.
        target (`torch.LongTensor` of shape `(B, Y)`): right-padded rows.
        pad_token_id (`int`): id of padding.

    Returns:
        `tuple` of `torch.BoolTensor`, of shapes `(B, X)` and `(B, Y)`: True at the kept tokens of canvas and target,
        equally many in each row.

    Source: Gu et al. 2019, section 3.2 (the expert policy); path and ties are those of the authors' edit distance,
        whose substitution costs 2. The prefix lengths are Hunt and Szymanski's (1977).
    """
    (batch_size, canvas_width), target_width = canvas.shape, target.shape[1]
    device, beyond = canvas.device, target_width + 1
    # next_match[b, i, p]: length of the shortest prefix of the target, longer than p, that ends with canvas token i
    matches = (canvas.unsqueeze(2) == target.flip(1).unsqueeze(1)) & canvas.ne(pad_token_id).unsqueeze(2)
    lengths = torch.arange(target_width, 0, -1, device=device)
    next_match = torch.full((batch_size, canvas_width, beyond + 1), beyond, device=device)
    next_match[:, :, :target_width] = torch.where(matches, lengths, beyond).cummin(dim=2).values.flip(2)

    ends = torch.full((canvas_width + 1, batch_size, min(canvas_width, target_width) + 1), beyond, device=device)
    ends[:, :, 0] = 0
    for i in range(canvas_width):
        torch.minimum(ends[i, :, 1:], next_match[:, i].gather(1, ends[i, :, :-1]), out=ends[i + 1, :, 1:])

    shortened = ends[1:] < ends[:-1]  # [X, B, K]
    num_common = ends[-1].lt(beyond).sum(dim=1, keepdim=True) - 1
    ranks = torch.empty((canvas_width, batch_size, 1), dtype=torch.long, device=device)
    for i in reversed(range(canvas_width)):
        ranks[i] = num_common
        num_common = num_common - shortened[i].gather(1, num_common).long()
    kept = shortened.gather(2, ranks).squeeze(2).T  # [B, X]
    # Tokens that are not kept write to column 0, which is dropped.
    columns = ends[1:].gather(2, ranks).squeeze(2).T * kept
    kept_in_target = torch.zeros((batch_size, beyond), dtype=torch.bool, device=device).scatter_(1, columns, True)
    return kept, kept_in_target[:, 1:]


def insertion_counts(kept: torch.Tensor, target_mask: torch.Tensor) -> torch.Tensor:
    """Counts the tokens to insert before each kept token of a target.

    Args:
        kept (`torch.BoolTensor` of shape `(B, Y)`): True at the kept tokens; the last token of a target is kept.
        target_mask (`torch.BoolTensor` of shape `(B, Y)`): True at the tokens of the targets.

    Returns:
        `torch.LongTensor` of shape `(B, Y)`: the counts, at the kept tokens; elsewhere 0.
    """
    dropped = (target_mask & ~kept).long().cumsum(dim=1)
    before = dropped.masked_fill(~kept, 0).cummax(dim=1).values
    counts = dropped.clone()
    counts[:, 1:] -= before[:, :-1]
    return counts.masked_fill(~kept, 0)
