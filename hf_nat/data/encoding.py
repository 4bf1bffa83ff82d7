"""Text to token ids: one function for training and inference, and its application to a whole corpus."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
from datasets import Dataset, Features, IterableDataset, List, Value
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging

from ..base.bounds import require_choice


logger = logging.get_logger(__name__)

# Spaces, controls, and what Unicode says is not to be seen (Default_Ignorable_Code_Point), the empty Braille cell too.
_BLANKS = re.compile(
    r"[\s\x00-\x1f\x7f-\xa0\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    r"\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]*"
)

# Faults of a row, one bit each in the column `status`: the fields of the report.
_FAULT_BITS = {"empty_source": 1, "empty_target": 2, "long_source": 4, "long_target": 8}
_FEATURES = {
    "input_ids": List(Value("int32")),
    "attention_mask": List(Value("int8")),
    "labels": List(Value("int32")),
    "length": Value("int32"),
    "status": Value("int8"),
}


@dataclass(frozen=True)
class EncodingReport:
    """What `encode_corpus` met in a corpus, in rows. A row may count under several faults.

    Args:
        total (`int`): rows of the corpus.
        kept (`int`): rows of the encoded corpus.
        empty_source (`int`): rows whose source has no token of its text, see `has_content`.
        empty_target (`int`): rows whose target has none.
        long_source (`int`): rows whose source has more than `max_source_length` tokens, EOS included.
        long_target (`int`): rows whose target has more than `max_target_length` tokens, EOS included.
    """

    total: int
    kept: int
    empty_source: int
    empty_target: int
    long_source: int
    long_target: int


def encode(
    tokenizer: PreTrainedTokenizerBase,
    sources: Sequence[str],
    targets: Sequence[str] | None = None,
    *,
    max_source_length: int | None = None,
    max_target_length: int | None = None,
) -> dict[str, list[list[int]]]:
    """Encodes sentences, or sentence pairs, without padding; training and inference both go through here.

    Blanks around a sentence are removed, and a sentence of which nothing can be seen is empty. The spelling of a
    special token inside a sentence is plain text. Every sequence ends in EOS, a cut one too.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): tokenizer that ends sentences with EOS (`load_tokenizer`).
        sources (`Sequence[str]`): source sentences.
        targets (`Sequence[str]`, *optional*): their targets.
        max_source_length (`int`, *optional*): longer sources are cut to so many tokens, EOS included.
        max_target_length (`int`, *optional*): the same for targets.

    Returns:
        `dict[str, list[list[int]]]`: `input_ids`, `attention_mask` (all 1) and, with targets, `labels`.

    Raises:
        ValueError: if a maximum leaves no room for a token beside those that the tokenizer adds, the numbers of
            sources and targets differ, or the tokenizer does not end its sequences with EOS.
    """
    _require_room(tokenizer, "max_source_length", max_source_length, "text")
    input_ids = _token_ids(tokenizer, sources, max_source_length, "text")
    encoded = {"input_ids": input_ids, "attention_mask": [[1] * len(ids) for ids in input_ids]}
    if targets is not None:
        if len(targets) != len(sources):
            raise ValueError(f"`targets` must be as many as `sources`, got {len(targets)} and {len(sources)}.")
        _require_room(tokenizer, "max_target_length", max_target_length, "text_target")
        encoded["labels"] = _token_ids(tokenizer, targets, max_target_length, "text_target")
    return encoded


def has_content(tokenizer: PreTrainedTokenizerBase, token_ids: Sequence[Sequence[int]]) -> list[bool]:
    """Says of encoded sentences whether they have any token of their text: what has none is blank.

    Special tokens and those that the tokenizer adds to every sentence, such as a language, are none, and neither is a
    piece of spaces or invisible characters alone. An unknown token is one: there was something to read.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): the tokenizer, set to the languages that it encoded with.
        token_ids (`Sequence[Sequence[int]]`): token ids of each sentence, sources or targets.

    Returns:
        `list[bool]`: for each sentence, True unless it is blank.
    """
    special = {*tokenizer.all_special_ids} - {tokenizer.unk_token_id}
    added = {*tokenizer("")["input_ids"], *tokenizer(text_target="")["input_ids"]}
    known = dict.fromkeys(special | added, False)

    def is_content(token_id: int) -> bool:
        if token_id not in known:
            known[token_id] = not is_blank(cast(str, tokenizer.decode([token_id])))
        return known[token_id]

    return [any(map(is_content, ids)) for ids in token_ids]


def is_blank(text: str) -> bool:
    """Says whether nothing of a text can be seen: spaces, controls and other invisible characters alone."""
    return _BLANKS.fullmatch(text) is not None


def encode_corpus(
    dataset: Dataset | IterableDataset,
    tokenizer: PreTrainedTokenizerBase,
    *,
    source_lang: str,
    target_lang: str,
    max_source_length: int,
    max_target_length: int,
    unusable: Literal["drop", "truncate", "error"] = "drop",
) -> tuple[Dataset | IterableDataset, EncodingReport | None]:
    """Encodes a corpus for training; what cannot be trained on leaves by an explicit rule and is counted.

    A row is unusable where a side is empty (no token of its text, see `has_content`) or longer than its maximum.

    Args:
        dataset (`Dataset` or `IterableDataset`): corpus with the `translation` feature.
        tokenizer (`PreTrainedTokenizerBase`): tokenizer that ends sentences with EOS.
        source_lang (`str`): key of the source language.
        target_lang (`str`): key of the target language.
        max_source_length (`int`): largest source in tokens, EOS included.
        max_target_length (`int`): largest target in tokens, EOS included.
        unusable (`str`, *optional*, defaults to `"drop"`): `"drop"` removes unusable rows, `"truncate"` cuts long ones
            and keeps empty ones, `"error"` raises at the first.

    Returns:
        `tuple`: the rows in their order with the columns `input_ids`, `attention_mask`, `labels` and `length` (of the
        longer side, in tokens), and the `EncodingReport`, which is also logged. A stream has no report (`None`).

    Raises:
        ValueError: if `unusable` is none of the three, a maximum leaves no room for a token beside those that the
            tokenizer adds, no row is left, or a row is unusable under `"error"`.
    """
    require_choice("unusable", unusable, ("drop", "error", "truncate"))
    _require_room(tokenizer, "max_source_length", max_source_length, "text")
    _require_room(tokenizer, "max_target_length", max_target_length, "text_target")
    encoded = dataset.map(
        _encode_batch,
        batched=True,
        with_indices=True,
        input_columns=["translation"],
        remove_columns=dataset.column_names or list(next(iter(dataset))),
        features=Features(_FEATURES),
        fn_kwargs={
            "tokenizer": tokenizer,
            "languages": (source_lang, target_lang),
            "max_source_length": max_source_length,
            "max_target_length": max_target_length,
            "unusable": unusable,
        },
    )
    report = _count(encoded, unusable) if isinstance(encoded, Dataset) else None
    if unusable == "drop":
        encoded = encoded.filter(_is_usable, input_columns=["status"])
    return encoded.remove_columns("status"), report


def _encode_batch(
    translations: list[dict[str, str]],
    rows: list[int],
    tokenizer: PreTrainedTokenizerBase,
    languages: tuple[str, str],
    max_source_length: int,
    max_target_length: int,
    unusable: str,
) -> dict[str, list[Any]]:
    sources, targets = ([translation[lang] for translation in translations] for lang in languages)
    encoded: dict[str, list[Any]] = {**encode(tokenizer, sources, targets)}
    sides = encoded["input_ids"], encoded["labels"]
    has_text = (has_content(tokenizer, side) for side in sides)
    status = []
    for row, source, target, *texts in zip(rows, *sides, *has_text, strict=True):
        faults = {
            "empty_source": not texts[0],
            "empty_target": not texts[1],
            "long_source": len(source) > max_source_length,
            "long_target": len(target) > max_target_length,
        }
        status.append(sum(_FAULT_BITS[name] for name, present in faults.items() if present))
        if unusable == "error" and status[-1]:
            names = [name for name, present in faults.items() if present]
            raise ValueError(
                f"Every row must be usable, but row {row} has {names} ({len(source)} source and {len(target)} target "
                'tokens). Use `unusable="drop"` to leave such rows out.'
            )
    if unusable == "truncate" and any(status):
        limits = {"max_source_length": max_source_length, "max_target_length": max_target_length}
        encoded.update(encode(tokenizer, sources, targets, **limits))
    encoded["length"] = [max(map(len, pair)) for pair in zip(encoded["input_ids"], encoded["labels"], strict=True)]
    return {**encoded, "status": status}


def _is_usable(status: int) -> bool:
    return status == 0


def _count(encoded: Dataset, unusable: str) -> EncodingReport:
    """Counts and logs the faults of the rows of `encoded`."""
    status = np.asarray(encoded.with_format("numpy")["status"][:])
    counts = {name: int(np.count_nonzero(status & bit)) for name, bit in _FAULT_BITS.items()}
    kept = int(np.count_nonzero(status == 0)) if unusable == "drop" else len(status)
    report = EncodingReport(total=len(status), kept=kept, **counts)
    logger.info(f"Encoded {report.kept} of {report.total} rows (unusable: {unusable}): {counts}.")
    if not kept:
        raise ValueError(f"An encoded corpus must keep at least one row, got none of {report.total}: {counts}.")
    return report


def _token_ids(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_length: int | None, side: str
) -> list[list[int]]:
    """Encodes `texts` as `side` (`"text"` or `"text_target"`), each ending in EOS."""
    if not texts:
        return []
    stripped = ["" if is_blank(text) else text.strip() for text in texts]
    # verbose=False: no warning on what is longer than the model; the maximum below decides.
    options = {"split_special_tokens": True, "return_attention_mask": False, "verbose": False}
    token_ids: list[list[int]] = tokenizer(**{side: stripped}, **options)["input_ids"]
    eos_token_id = tokenizer.eos_token_id
    for text, ids in zip(stripped, token_ids, strict=True):
        if not ids or ids[-1] != eos_token_id:
            raise ValueError(
                f"The tokenizer must end every sequence with EOS ({eos_token_id}), got {ids[-3:]} after {text!r:.80}."
            )
    if max_length is None:
        return token_ids
    return [ids if len(ids) <= max_length else [*ids[: max_length - 1], eos_token_id] for ids in token_ids]


def _require_room(tokenizer: PreTrainedTokenizerBase, name: str, length: int | None, side: str) -> None:
    """Raises ValueError unless a maximum has room for a token beside those that the tokenizer adds to `side`."""
    if length is None:
        return
    num_added = len(tokenizer(**{side: ""})["input_ids"])
    if length <= num_added:
        added = "EOS" if num_added == 1 else "those that the tokenizer adds"
        raise ValueError(f"`{name}` must be >= {num_added + 1} (one token and {added}), got {length}.")
