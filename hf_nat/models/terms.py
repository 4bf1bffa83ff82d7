"""Terms: tokens that a translation must contain, one beside the other and in their order.

Dimension letters: B batch, K candidates of a sentence, T target, V vocabulary; R = B * K rows of a decoding state.
"""

from collections.abc import Sequence
from itertools import chain

import torch


# Marks of a canvas: what is no part of a term is 0.
TERM_START, TERM_INSIDE = 1, 2

# Of each sentence its terms, of each term its tokens.
Terms = Sequence[Sequence[Sequence[int]]]


def check_terms(
    terms: Terms, num_sentences: int, vocab_size: int, special_token_ids: Sequence[int], max_tokens: int
) -> None:
    """Raises ValueError unless terms are some for each sentence, of tokens of text, and fit in a translation.

    Args:
        terms (`Sequence[Sequence[Sequence[int]]]`): terms of each sentence.
        num_sentences (`int`): sentences of the batch.
        vocab_size (`int`): size of the vocabulary.
        special_token_ids (`Sequence[int]`): tokens that are no text.
        max_tokens (`int`): most tokens of a translation without EOS.
    """
    if len(terms) != num_sentences:
        raise ValueError(
            f"`terms` must be as many as the {num_sentences} sentences, got {len(terms)}. Give an empty list "
            "to a sentence without."
        )
    for row in terms:
        for term in row:
            if not term or any(not 0 <= token < vocab_size or token in special_token_ids for token in term):
                raise ValueError(
                    f"A term of `terms` must be tokens out of the {vocab_size} of the vocabulary, special ones "
                    f"{sorted(special_token_ids)} left out, got {list(term)}."
                )
        if (size := sum(map(len, row))) > max_tokens:
            raise ValueError(f"`terms` of a sentence must be at most {max_tokens} tokens, got {size}. Give fewer.")


def check_continuations(
    continuations: torch.Tensor, vocab_size: int, special_token_ids: Sequence[int], device: torch.device
) -> torch.Tensor:
    """Returns the marks of tokens that go on with a word, without special ones, which are no text.

    Args:
        continuations (`torch.BoolTensor` of shape `(V,)`): True at these tokens.
        vocab_size (`int`): V.
        special_token_ids (`Sequence[int]`): tokens that are no text.
        device (`torch.device`): where the marks are wanted.

    Raises:
        ValueError: if it is something else.
    """
    is_tensor = isinstance(continuations, torch.Tensor)
    if not is_tensor or continuations.dtype != torch.bool or continuations.shape != (vocab_size,):
        raise ValueError(
            f"`continuations` must be a `torch.BoolTensor` of shape ({vocab_size},), got {continuations!r:.80}."
        )
    marks = continuations.clone()
    marks[list(special_token_ids)] = False
    return marks.to(device)


def behind_terms(marks: torch.Tensor) -> torch.Tensor:
    """Returns True `[R, T]` right behind each term, where no other one begins; `marks` `[R, T]` are those of terms."""
    behind = torch.zeros_like(marks, dtype=torch.bool)
    behind[:, 1:] = marks[:, 1:].eq(0) & marks[:, :-1].gt(0)
    return behind


def glued_to_terms(
    tokens: torch.Tensor, marks: torch.Tensor, kept: torch.Tensor, continuations: torch.Tensor
) -> torch.Tensor:
    """Finds what would go on with a term once other tokens are gone.

    Args:
        tokens (`torch.LongTensor` of shape `(R, T)`): canvases.
        marks (`torch.LongTensor` of shape `(R, T)`): marks of the terms.
        kept (`torch.BoolTensor` of shape `(R, T)`): True at tokens that stay, those of terms among them.
        continuations (`torch.BoolTensor` of shape `(V,)`): True at tokens that go on with a word.

    Returns:
        `torch.BoolTensor` of shape `(R, T)`: True at the kept tokens that only such stand between and their term.
    """
    held, places = marks.gt(0), torch.arange(1, tokens.shape[1] + 1, device=tokens.device)
    goes_on = kept & ~held & continuations[tokens]
    last_held = (held * places).cummax(dim=1).values
    last_other = ((kept & ~held & ~goes_on) * places).cummax(dim=1).values
    return goes_on & (last_held > last_other)


def forbid_continuations(
    logits: torch.Tensor, behind: torch.Tensor, continuations: torch.Tensor, vocabulary: torch.Tensor | None
) -> None:
    """Takes all probability from tokens that would go on with a term, in place.

    Args:
        logits (`torch.FloatTensor` of shape `(N, V)`): unnormalised scores; with a vocabulary those of its tokens.
        behind (`torch.BoolTensor` of shape `(N,)`): True right behind a term.
        continuations (`torch.BoolTensor` of shape `(V,)`): True at tokens that go on with a word.
        vocabulary (`torch.LongTensor` of shape `(V',)`, *optional*): the tokens that may be chosen, by default all.
    """
    goes_on = continuations if vocabulary is None else continuations[vocabulary]
    logits.masked_fill_(behind.unsqueeze(1) & goes_on, float("-inf"))


def term_counts(terms: Terms, device: torch.device) -> torch.Tensor:
    """Returns the number of tokens `[B]` of the terms of each sentence."""
    return torch.tensor([sum(map(len, row)) for row in terms], device=device)


def term_canvas(
    terms: Terms, eos_token_id: int, pad_token_id: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Builds canvases that hold the terms of each sentence in their order, and nothing else.

    Args:
        terms (`Sequence[Sequence[Sequence[int]]]`): terms of each sentence.
        eos_token_id (`int`): id written behind them.
        pad_token_id (`int`): id written behind EOS.
        device (`torch.device`): where the canvases lie.

    Returns:
        `tuple` of `torch.LongTensor`, both of shape `(B, T)`: tokens, and marks of the terms.
    """
    width = 1 + max(sum(map(len, row)) for row in terms)
    tokens = [[*chain.from_iterable(row), eos_token_id] for row in terms]
    marks = [[*chain.from_iterable(map(_marks, row))] for row in terms]
    return (
        torch.tensor([row + [pad_token_id] * (width - len(row)) for row in tokens], device=device),
        torch.tensor([row + [0] * (width - len(row)) for row in marks], device=device),
    )


def place_terms(log_probs: torch.Tensor, terms: Sequence[Sequence[int]]) -> list[int]:
    """Chooses where the terms of one sentence stand: side by side, with the highest sum of log-probabilities.

    They stand in the order of the places that each alone would have, of equal ones in that of the list.

    Args:
        log_probs (`torch.FloatTensor` of shape `(T, V)`): log-probability (nats) of every token at every content
            position; T is at least the number of tokens of the terms.
        terms (`Sequence[Sequence[int]]`): the terms, of at least one token each.

    Returns:
        `list[int]`: position of the first token of each term.
    """
    num_positions, lengths = len(log_probs), [len(term) for term in terms]
    scores = []
    for term in terms:
        ends = num_positions - len(term) + 1
        tokens = [log_probs[i : ends + i, token] for i, token in enumerate(term)]
        # Finite, or a term that the model thinks impossible would find no place.
        scores.append(torch.stack(tokens).double().clamp(min=-1e6).sum(dim=0))
    order = sorted(range(len(terms)), key=lambda k: int(scores[k].argmax()))
    # best[k][t]: highest sum of the first k terms in the first t positions
    best = [[0.0] * (num_positions + 1)]
    for k in order:
        own, row = scores[k].tolist(), [float("-inf")]
        for end in range(1, num_positions + 1):
            start = end - lengths[k]
            row.append(max(row[-1], best[-1][start] + own[start]) if start >= 0 else row[-1])
        best.append(row)
    starts, end = [0] * len(terms), num_positions
    for index in range(len(order), 0, -1):
        while best[index][end - 1] == best[index][end]:
            end -= 1
        end -= lengths[order[index - 1]]
        starts[order[index - 1]] = end
    return starts


def write_terms(
    tokens: torch.Tensor, marks: torch.Tensor, row: int, terms: Sequence[Sequence[int]], starts: Sequence[int]
) -> None:
    """Writes terms, and their marks, at their places of a row of `tokens` and `marks` `[R, T]`, in place."""
    for term, start in zip(terms, starts, strict=True):
        tokens[row, start : start + len(term)] = tokens.new_tensor(term)
        marks[row, start : start + len(term)] = marks.new_tensor(_marks(term))


def _marks(term: Sequence[int]) -> list[int]:
    return [TERM_START, *[TERM_INSIDE] * (len(term) - 1)]
