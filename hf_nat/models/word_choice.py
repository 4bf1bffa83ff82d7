"""From decoder states to tokens: the output layer, an ensemble's mean, forbidden tokens and a short vocabulary.

Dimension letters: R rows of a state, T target, D model, V vocabulary; N positions that are predicted.
"""

import math
from collections.abc import Sequence

import torch
from torch import nn

from .generation_state import NATState
from .losses import chunk_rows
from .noise import sample


# Classes of which the largest is found at once.
_BLOCK = 64
# Logits that stay in the cache of a CPU between two steps.
CACHED_ELEMENTS = 2**19


def best_tokens(
    state: NATState,
    hidden_states: Sequence[torch.Tensor],
    forbidden: Sequence[int],
    with_scores: bool = True,
    num_tokens: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Finds the most probable tokens at some positions; the logits of a few of these at a time are held.

    Args:
        state ([`NATState`]): gives the ensemble and the vocabulary, in which no forbidden token may be.
        hidden_states (`Sequence` of `torch.FloatTensor` of shape `(N, D)`): decoder states of each member.
        forbidden (`Sequence[int]`): tokens that get no probability.
        with_scores (`bool`, *optional*, defaults to `True`): without, the log-probability of a best token is 0.
        num_tokens (`int`, *optional*): how many tokens are wanted at each position, by default the best alone.

    Returns:
        `tuple` of `torch.LongTensor` and `torch.FloatTensor`, both of shape `(N,)`, or `(N, num_tokens)`: tokens, best
        first, and their log-probabilities in nats.
    """
    heads = _heads(state)
    if state.vocabulary is not None:
        forbidden = ()
    # A graph has no loop over rows that it cannot count.
    num_rows = None if torch.compiler.is_exporting() else chunk_rows(heads[0][0])
    tokens, log_probs = [], []
    for chunks in zip(*(states.split(num_rows) if num_rows else [states] for states in hidden_states), strict=True):
        logits = _project_all(heads, chunks)
        forbid(logits, forbidden)
        if num_tokens is not None:
            best, predicted = logits.topk(num_tokens, dim=1)
            best = best - logits.logsumexp(dim=1, keepdim=True)
        else:
            predicted = _argmax(logits)
            best = _log_prob(logits, predicted) if with_scores else logits.new_zeros(len(logits))
        tokens.append(predicted)
        log_probs.append(best)
    words = torch.cat(tokens)
    return words if state.vocabulary is None else state.vocabulary[words], torch.cat(log_probs)


def all_logits(state: NATState, hidden_states: Sequence[torch.Tensor]) -> torch.Tensor:
    """Scores all tokens at some positions: what `best_tokens` chooses from.

    Args:
        state ([`NATState`]): gives the ensemble and the vocabulary.
        hidden_states (`Sequence` of `torch.FloatTensor` of shape `(N, D)`): decoder states of each member.

    Returns:
        `torch.FloatTensor` of shape `(N, V)`: unnormalised scores; with a vocabulary those of its tokens, and in a
        graph minus infinity behind them.
    """
    return _project_all(_heads(state), hidden_states)


def write_words(
    logits: torch.Tensor,
    selected: torch.Tensor,
    tokens: torch.Tensor,
    scores: torch.Tensor,
    vocabulary: torch.Tensor | None,
    forbidden: Sequence[int],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Writes the most probable token, and its log-probability, at the selected positions.

    Args:
        logits (`torch.FloatTensor` of shape `(N, V)`): unnormalised scores at these positions, changed in place; with
            a vocabulary those of its tokens.
        selected (`torch.BoolTensor` of shape `(R, T)`): True at N positions.
        tokens (`torch.LongTensor` of shape `(R, T)`): canvases.
        scores (`torch.FloatTensor` of shape `(R, T)`): scores of their tokens.
        vocabulary (`torch.LongTensor` of shape `(V',)`, *optional*): the tokens that may be written, none forbidden.
        forbidden (`Sequence[int]`): without a vocabulary, the tokens that may not.

    Returns:
        `tuple` of `torch.LongTensor` and `torch.FloatTensor`, both of shape `(R, T)`: tokens and scores.
    """
    if vocabulary is None:
        forbid(logits, forbidden)
    predicted = _argmax(logits)
    words = predicted if vocabulary is None else vocabulary[predicted]
    scores = scores.masked_scatter(selected, _log_prob(logits, predicted))
    return tokens.masked_scatter(selected, words), scores


def choose_words(
    uniforms: torch.Tensor | None, forbidden: Sequence[int], logits: torch.Tensor, first: int
) -> torch.Tensor:
    """Chooses a model's own words in training, for a roll-in on them; see `choose` of [`linear_cross_entropy`].

    Args:
        uniforms (`torch.FloatTensor` of shape `(N,)`, *optional*): draws a word for each position; by default the most
            probable ones are taken.
        forbidden (`Sequence[int]`): tokens that get no probability.
        logits (`torch.FloatTensor` of shape `(n, V)`): unnormalised scores of some positions, changed in place.
        first (`int`): the first of these positions.

    Returns:
        `torch.LongTensor` of shape `(n,)`: tokens.
    """
    forbid(logits, forbidden)
    return logits.argmax(dim=1) if uniforms is None else sample(logits, uniforms[first : first + len(logits)])


def forbid(logits: torch.Tensor, token_ids: Sequence[int]) -> None:
    """Takes all probability from some tokens, in place and without a tensor of their ids.

    Args:
        logits (`torch.FloatTensor` of shape `(..., V)`): unnormalised scores.
        token_ids (`Sequence[int]`): the tokens.
    """
    for token_id in token_ids:
        logits[..., token_id] = float("-inf")


def to_log_probs(logits: torch.Tensor) -> torch.Tensor:
    """Makes log-probabilities of logits, in place: a few rows at a time, which stay in the cache of a CPU.

    Args:
        logits (`torch.FloatTensor` of shape `(N, V)`): unnormalised scores.

    Returns:
        `torch.FloatTensor` of shape `(N, V)`: `logits`, log-probabilities in nats.
    """
    num_rows = CACHED_ELEMENTS // logits.shape[1] if logits.device.type == "cpu" else len(logits)
    for chunk in logits.split(max(1, num_rows)):
        chunk.copy_(chunk.log_softmax(dim=1))
    return logits


def project(head: nn.Linear, hidden_states: torch.Tensor, vocabulary: torch.Tensor | None) -> torch.Tensor:
    """Scores the tokens that may be chosen.

    Args:
        head (`nn.Linear`): the output projection, from D to V.
        hidden_states (`torch.FloatTensor` of shape `(..., D)`): decoder states.
        vocabulary (`torch.LongTensor` of shape `(V',)`, *optional*): the tokens, by default all.

    Returns:
        `torch.FloatTensor` of shape `(..., V')`: unnormalised scores.
    """
    if vocabulary is None:
        return head(hidden_states)
    return nn.functional.linear(hidden_states, *_choose_rows(head, vocabulary))


def average_logits(logits: list[torch.Tensor]) -> torch.Tensor:
    """Averages the probabilities of an ensemble.

    Args:
        logits (`list` of `torch.FloatTensor` of shape `(..., C)`): unnormalised scores, one tensor for each member.

    Returns:
        `torch.FloatTensor` of shape `(..., C)`: unnormalised scores in single precision; those of a single member,
        otherwise the logarithms of the mean probabilities.
    """
    if len(logits) == 1:
        return logits[0].float()
    log_probs = torch.stack([scores.float().log_softmax(dim=-1) for scores in logits])
    return log_probs.logsumexp(dim=0) - math.log(len(logits))


def _heads(state: NATState) -> list[tuple[torch.Tensor, torch.Tensor | None]]:
    """Returns weight and bias of each member's output layer, those of the vocabulary alone where there is one."""
    if state.vocabulary is None:
        heads = [(member.lm_head.weight, member.lm_head.bias) for member in state.members]
    else:
        heads = [_choose_rows(member.lm_head, state.vocabulary) for member in state.members]
    return [_whole_blocks(*head) for head in heads] if torch.compiler.is_exporting() else heads


def _choose_rows(head: nn.Linear, classes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Returns weight and bias of some classes.

    ONNX Runtime keeps the operator that this becomes in 8 bits. For an index it would make floats of the whole weight,
    at every call.
    """
    return head.weight.index_select(0, classes), None if head.bias is None else head.bias.index_select(0, classes)


def _project_all(
    heads: Sequence[tuple[torch.Tensor, torch.Tensor | None]], hidden_states: Sequence[torch.Tensor]
) -> torch.Tensor:
    """Averages what the output layers say of the states `[N, D]` of each member."""
    pairs = zip(hidden_states, heads, strict=True)
    return average_logits([nn.functional.linear(states, *head) for states, head in pairs])


def _argmax(logits: torch.Tensor) -> torch.Tensor:
    """Returns the class `[N]` of the largest of the logits `[N, C]`, the first of equal ones.

    A maximum without its place is several times as fast, so it is looked for in blocks first.
    """
    num_classes = logits.shape[1]
    if not isinstance(num_classes, int) or num_classes % _BLOCK:
        return logits.argmax(dim=1)
    blocks = logits.view(-1, num_classes // _BLOCK, _BLOCK)
    block = blocks.amax(dim=2).argmax(dim=1)
    inside = blocks.gather(1, block.view(-1, 1, 1).expand(-1, 1, _BLOCK)).squeeze(1).argmax(dim=1)
    return block * _BLOCK + inside


def _whole_blocks(weight: torch.Tensor, bias: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Appends classes without probability to a head `[C, D]`, `[C]`, up to whole blocks, where C is known."""
    num_classes = weight.shape[0]  # `len` would want a number
    missing = -num_classes % _BLOCK if isinstance(num_classes, int) else 0
    if not missing:
        return weight, bias
    bias = weight.new_zeros(num_classes) if bias is None else bias
    return (
        nn.functional.pad(weight, (0, 0, 0, missing)),
        nn.functional.pad(bias, (0, missing), value=float("-inf")),
    )


def _log_prob(logits: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Returns log-probabilities `[N]` of classes `[N]`, given logits `[N, C]`; faster in a graph than `logsumexp`."""
    return logits.softmax(dim=1).gather(1, classes.unsqueeze(1)).squeeze(1).log()
