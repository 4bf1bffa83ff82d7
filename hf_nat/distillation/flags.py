"""Marks on the rows of a distilled corpus that a user may want to leave out; no row is ever dropped here."""

from __future__ import annotations

import re

from ..data import is_blank


# One side may have so many tokens more than twice those of the other: short sentences vary freely.
LENGTH_SLACK = 5
# Four repetitions, one right after the other, of a string of 2 to 50 characters that starts with a letter.
_LOOP = re.compile(r"([^\W\d_].{1,49}?)\1{3}", re.DOTALL)

FLAGS = (
    "empty_source",
    "empty_output",
    "truncated",
    "cut_source",
    "length_ratio",
    "looping",
    "kept_real",
    "source_alone",
)
# Flags that say where a row comes from and nothing against its target.
HARMLESS = ("kept_real", "source_alone")


def row_flags(
    source: str,
    output: str,
    *,
    num_source_tokens: int,
    num_output_tokens: int,
    truncated: bool,
    cut_source: bool = False,
    kept_real: bool = False,
    source_alone: bool = False,
) -> list[str]:
    """Names what is suspicious about a teacher's output.

    Args:
        source (`str`): the source sentence, empty where the teacher's tokenizer has no token of it.
        output (`str`): the teacher's translation.
        num_source_tokens (`int`): tokens of the source; EOS and what else a tokenizer adds not counted.
        num_output_tokens (`int`): tokens of the output; EOS and a forced language code not counted.
        truncated (`bool`): the source was cut, or the output reached its length limit.
        cut_source (`bool`, *optional*, defaults to `False`): the source, or a sentence of it, was cut.
        kept_real (`bool`, *optional*, defaults to `False`): `output` is the real target, the source being too long for
            the teacher.
        source_alone (`bool`, *optional*, defaults to `False`): the source has no real target.

    Returns:
        `list[str]`: out of `FLAGS`, in their order:
            - `empty_source`: nothing to translate but blanks and invisible characters;
            - `empty_output`: nothing else as its translation;
            - `truncated`: as given;
            - `cut_source`: as given, a part of those before;
            - `length_ratio`: the longer side has more than 2 * shorter + 5 tokens, neither being empty;
            - `looping`: the output repeats a string four times in a row, and the source does not;
            - `kept_real`: as given; then there is no output that could be cut, out of proportion or looping;
            - `source_alone`: as given.
    """
    is_empty = {"source": is_blank(source), "output": is_blank(output)}
    shorter, longer = sorted((num_source_tokens, num_output_tokens))
    present = {
        "empty_source": is_empty["source"],
        "empty_output": is_empty["output"],
        "truncated": truncated and not kept_real,
        "cut_source": cut_source and not kept_real,
        "length_ratio": not kept_real and not any(is_empty.values()) and longer > 2 * shorter + LENGTH_SLACK,
        "looping": not kept_real and _loops(output) and not _loops(source),
        "kept_real": kept_real,
        "source_alone": source_alone,
    }
    return [flag for flag in FLAGS if present[flag]]


def _loops(text: str) -> bool:
    # The blank lets the last repetition of a word be like the others.
    return _LOOP.search(text + " ") is not None
