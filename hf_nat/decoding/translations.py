"""Translated sentences, made of the token ids that a model writes."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Translation:
    """One translated sentence.

    Args:
        text (`str`): the translation, on one line and without blanks at its ends.
        score (`float`, *optional*): mean log-probability in nats, computed on request. Autoregressive model: of its
            tokens, EOS counted and a forced first token not, under the model's own distribution. NAT model: of its
            content tokens, as `generate` reports it.
        num_tokens (`int`): tokens of the output; EOS and a forced first token, such as a language code, not counted.
        truncated (`bool`): the source was cut to the model's positions, or an autoregressive output reached its
            length limit.
        iterations (`int`, *optional*): decoder rounds of a NAT model.
        teacher_calls (`int`, *optional*): decoder calls of an autoregressive model that verified a draft.
        accepted_tokens (`int`, *optional*): tokens of the draft that it accepted, EOS counted.
        candidate (`int`, *optional*, defaults to 0): number of the output among those of its sentence, the best first.
        quality (`float`, *optional*): what a judge that chose it among them says of it; higher is better.
    """

    text: str
    score: float | None
    num_tokens: int
    truncated: bool
    iterations: int | None
    teacher_calls: int | None = None
    accepted_tokens: int | None = None
    candidate: int = 0
    quality: float | None = None

    @property
    def has_scored_tokens(self) -> bool:
        """Whether the score is that of tokens: a NAT model's empty output has none and the best score, 0."""
        return self.score is not None and (bool(self.text) or self.iterations is None)


# From the numbers of some sentences and the texts of the outputs of each, the best first, to the quality of every
# output; higher is better.
RowJudge = Callable[[Sequence[int], Sequence[Sequence[str]]], Sequence[Sequence[float]]]


def highest(qualities: Sequence[float]) -> int:
    """Returns the index of the highest of some numbers, of equal ones the first."""
    return qualities.index(max(qualities))


def keep_best(candidates: Sequence[Sequence[Translation]], judge: RowJudge | None = None) -> list[Translation]:
    """Keeps one output of every sentence.

    Args:
        candidates (`Sequence[Sequence[Translation]]`): outputs of each sentence, the best first, with their scores;
            one alone, without a score, is that of a blank.
        judge (`Callable`, *optional*): see `RowJudge`; without one the first output is kept. Blanks are not judged.
    """
    kept = [own[0] for own in candidates]
    if judge is None:
        return kept
    rows = [row for row, output in enumerate(kept) if output.score is not None]
    qualities = judge(rows, [[output.text for output in candidates[row]] for row in rows]) if rows else []
    for row, own in zip(rows, qualities, strict=True):
        number = highest(own)
        kept[row] = replace(candidates[row][number], candidate=number, quality=own[number])
    return kept


def to_texts(tokenizer: PreTrainedTokenizerBase, sequences: list[list[int]]) -> list[str]:
    """Returns the text of each row of token ids, on one line, special tokens and blanks at its ends left out."""
    texts = tokenizer.batch_decode(sequences, skip_special_tokens=True) if sequences else []
    return [re.sub(r"[\r\n]+", " ", text).strip() for text in texts]


def to_translations(
    tokenizer: PreTrainedTokenizerBase,
    sequences: list[list[int]],
    scores: Sequence[float] | None = None,
    *,
    limit: int | None = None,
    **counts: Sequence[int],
) -> list[Translation]:
    """Makes translations of token ids.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): turns them into text.
        sequences (`list[list[int]]`): content, EOS, then anything; a row without EOS was cut.
        scores (`Sequence[float]`, *optional*): mean log-probability of each row, nats.
        limit (`int`, *optional*): tokens with EOS at which a row is marked as cut, though it ended there.
        **counts: for each row what is counted of its decoding: `iterations`; `teacher_calls` and `accepted_tokens`.
    """
    eos = tokenizer.eos_token_id
    num_tokens = [ids.index(eos) if eos in ids else len(ids) for ids in sequences]
    counted: list[dict[str, Any]] = [
        {"iterations": None, **{name: values[row] for name, values in counts.items()}} for row in range(len(sequences))
    ]
    return [
        Translation(
            text=text,
            score=None if scores is None else scores[row],
            num_tokens=num_tokens[row],
            truncated=num_tokens[row] == len(sequences[row]) or num_tokens[row] + 1 == limit,
            **counted[row],
        )
        for row, text in enumerate(to_texts(tokenizer, sequences))
    ]
