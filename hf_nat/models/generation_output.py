"""What `generate` returns: finished rows in order, the best candidates of a sentence.

Dimension letters: B batch, K candidates of a sentence, T target; R rows that finish in one round.
"""

from dataclasses import dataclass

import torch
from transformers.utils import ModelOutput

from .canvas import stable_order


@dataclass
class NATGenerateOutput(ModelOutput):
    """Output of `generate` under `return_dict_in_generate=True`.

    Args:
        sequences (`torch.LongTensor` of shape `(B, T)`): content, EOS, padding; no BOS and no mask.
        sequences_scores (`torch.FloatTensor` of shape `(B,)`): mean log-probability (nats) of the content tokens, the
            confidence in them, which candidates need not be sorted by; 0 for an empty translation. None with
            `output_scores=False`, as the other scores are.
        token_scores (`torch.FloatTensor` of shape `(B, T)`): log-probability (nats) of each content token; else 0, and
            also at the tokens of terms.
        sequences_log_probs (`torch.FloatTensor` of shape `(B,)`, *optional*): log-probability (nats) of the whole
            translation as it was found, before `max_length` and `collapse_repeats` cut it: with a beam over all
            alignments or paths that it followed, without one of the best frames, or of path and words. Minus infinity
            where candidates have run out and an earlier one is repeated. Of models that write it in one round from
            upsampled canvases.
        iterations (`torch.LongTensor` of shape `(B,)`): rounds that were executed for the sentence.
        history (`list[list[torch.LongTensor]]`, *optional*): for each sentence its canvases without padding: the
            initial one, then those of every round; with `return_history=True`.
    """

    sequences: torch.Tensor
    sequences_scores: torch.Tensor = None  # type: ignore[assignment]
    token_scores: torch.Tensor = None  # type: ignore[assignment]
    sequences_log_probs: torch.Tensor | None = None
    iterations: torch.Tensor = None  # type: ignore[assignment]
    history: list[list[torch.Tensor]] | None = None


def gather_rows(
    done: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor, int]],
    history: list[list[torch.Tensor]] | None,
    with_scores: bool,
    pad_token_id: int,
) -> NATGenerateOutput:
    """Puts finished rows back in their order and scores them, unless nobody asks.

    Args:
        done (`list` of `tuple`): for each round in which rows finished: their indices `(R,)`, tokens and scores
            `(R, T)`, and the number of the round.
        history (`list[list[torch.LongTensor]]`, *optional*): canvases of each row.
        with_scores (`bool`): whether `sequences_scores` are read.
        pad_token_id (`int`): id of padding.

    Returns:
        [`NATGenerateOutput`]: all rows.
    """
    rows, sequences, token_scores, iteration = done[0]
    iterations = torch.full_like(rows, iteration)
    if len(done) > 1:
        num_rows = sum(len(rows) for rows, *_ in done)
        shape = (num_rows, max(tokens.shape[1] for _, tokens, *_ in done))
        sequences, token_scores = sequences.new_full(shape, pad_token_id), token_scores.new_zeros(shape)
        iterations = rows.new_zeros(num_rows)
        for rows, tokens, scores, iteration in done:
            sequences[rows, : tokens.shape[1]] = tokens
            token_scores[rows, : tokens.shape[1]] = scores
            iterations[rows] = iteration
    sequences_scores = token_scores[:, 0]
    if with_scores:
        sequences_scores = token_scores.sum(dim=1) / (sequences.ne(pad_token_id).sum(dim=1) - 1).clamp(min=1)
    return NATGenerateOutput(
        sequences=sequences,
        sequences_scores=sequences_scores,
        token_scores=token_scores,
        iterations=iterations,
        history=history,
    )


def choose_candidates(output: NATGenerateOutput, scores: torch.Tensor, number: int) -> NATGenerateOutput:
    """Keeps the candidates of each sentence with the best scores, the first of equal ones.

    Args:
        output ([`NATGenerateOutput`]): B * K rows, candidates of a sentence side by side.
        scores (`torch.FloatTensor` of shape `(B, K)`): what they are chosen by.
        number (`int`): how many of a sentence are kept.

    Returns:
        [`NATGenerateOutput`]: B * `number` rows, best first.
    """
    num_sentences, num_candidates = scores.shape
    best = stable_order(scores, descending=True)[:, :number]
    rows = (torch.arange(num_sentences, device=scores.device).unsqueeze(1) * num_candidates + best).flatten()
    tensors = {name: value[rows] for name, value in output.items() if isinstance(value, torch.Tensor)}
    return NATGenerateOutput(
        **tensors,
        history=None if output.history is None else [output.history[row] for row in rows.tolist()],
    )


def trim(output: NATGenerateOutput, pad_token_id: int) -> NATGenerateOutput:
    """Cuts off the columns in which every sentence has padding, in place.

    Args:
        output ([`NATGenerateOutput`]): the output.
        pad_token_id (`int`): id of padding.

    Returns:
        [`NATGenerateOutput`]: `output`.
    """
    width = int(output.sequences.ne(pad_token_id).any(dim=0).sum())
    if width < output.sequences.shape[1]:
        output.sequences, output.token_scores = output.sequences[:, :width], output.token_scores[:, :width]
    return output


def usable(output: NATGenerateOutput, with_scores: bool) -> NATGenerateOutput:
    """Copies an output of inference mode to tensors that training may use.

    Args:
        output ([`NATGenerateOutput`]): the output.
        with_scores (`bool`): whether anybody has asked for the scores.

    Returns:
        [`NATGenerateOutput`]: its copy, without scores that nobody has asked for.
    """
    left_out = () if with_scores else ("sequences_scores", "token_scores", "sequences_log_probs")
    tensors = {name: value.clone() for name, value in output.items() if isinstance(value, torch.Tensor)}
    tensors = {name: value for name, value in tensors.items() if name not in left_out}
    history = output.history and [[canvas.clone() for canvas in canvases] for canvases in output.history]
    return NATGenerateOutput(**tensors, history=history)
