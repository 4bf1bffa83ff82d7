"""Translated sentences, made of the token ids that a model writes."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Translation:
    """One translated sentence.

    Args:
        text (`str`): the translation, on one line and without blanks at its ends.
        score (`float`, *optional*): mean log-probability in nats. Autoregressive model: of its tokens, EOS counted and
            a forced first token not, under the model's own distribution; only computed on request. NAT model: of its
            content tokens, as `generate` reports it.
        num_tokens (`int`): tokens of the output; EOS and a forced first token, such as a language code, not counted.
        truncated (`bool`): the source was cut to the model's positions, or an autoregressive output reached its
            length limit.
        iterations (`int`, *optional*): decoder rounds of a NAT model.
        teacher_calls (`int`, *optional*): decoder calls of an autoregressive model that verified a draft.
        accepted_tokens (`int`, *optional*): tokens of the draft that it accepted, EOS counted.
    """

    text: str
    score: float | None
    num_tokens: int
    truncated: bool
    iterations: int | None
    teacher_calls: int | None = None
    accepted_tokens: int | None = None


# From the number of a sentence and the texts of its outputs, the best first, to the index of the one that is kept.
Choose = Callable[[int, Sequence[str]], int]


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
    return [
        Translation(
            text=text,
            score=None if scores is None else scores[row],
            num_tokens=num_tokens[row],
            truncated=num_tokens[row] == len(sequences[row]) or num_tokens[row] + 1 == limit,
            **{"iterations": None, **{name: values[row] for name, values in counts.items()}},
        )
        for row, text in enumerate(to_texts(tokenizer, sequences))
    ]
