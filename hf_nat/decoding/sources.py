"""Sentences as a model reads them: encoded, cut to its positions, in batches of similar length."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, replace

from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from ..data.encoding import encode, has_content
from .translations import Translation


logger = logging.get_logger(__name__)

_ROUNDED_TO = 8


@dataclass(frozen=True)
class EncodedSources:
    """The sentences of a list that are not blank, as token ids.

    Args:
        num_sentences (`int`): length of the list.
        rows (`Sequence[int]`): number of each sentence in the list.
        input_ids (`Sequence[Sequence[int]]`): its tokens, cut to the model's positions.
        cut (`Set[int]`): which of them were cut.
    """

    num_sentences: int
    rows: Sequence[int]
    input_ids: Sequence[list[int]]
    cut: Set[int]

    def in_order(self, outputs: Iterable[Sequence[Translation]]) -> list[list[Translation]]:
        """Puts the outputs of these sentences into the list's order: a blank's is a blank, a cut one's are marked."""
        results = [[Translation("", None, 0, False, None)] for _ in range(self.num_sentences)]
        for i, (row, own) in enumerate(zip(self.rows, outputs, strict=True)):
            results[row] = [replace(output, truncated=output.truncated or i in self.cut) for output in own]
        return results


def encode_non_blank(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    sentences: Sequence[str],
    source_prefix: str | None = None,
) -> EncodedSources:
    """Encodes the sentences that are not blank, cut to the model's positions, with a warning that counts these.

    Blank is what has no token of its text (`hf_nat.data.has_content`).

    Args:
        model (`PreTrainedModel`): a seq2seq model.
        tokenizer (`PreTrainedTokenizerBase`): its tokenizer.
        sentences (`Sequence[str]`): source sentences.
        source_prefix (`str`, *optional*): text put before every sentence that is not blank.

    Returns:
        [`EncodedSources`]: what to decode, and how to put the outputs in order.
    """
    encoded = encode_sources(tokenizer, sentences)
    rows = [row for row, present in enumerate(has_content(tokenizer, encoded)) if present]
    input_ids = [encoded[row] for row in rows]
    if source_prefix:
        sentences = [f"{source_prefix}{sentence}" for sentence in sentences]
        input_ids = encode_sources(tokenizer, [sentences[row] for row in rows])
    limit = max_source_length(model)
    cut = {i for i, ids in enumerate(input_ids) if limit is not None and len(ids) > limit}
    if cut:
        logger.warning(f"Cut {len(cut)} of {len(rows)} sources to the {limit} positions of the model.")
        shortened = encode_sources(tokenizer, [sentences[rows[i]] for i in sorted(cut)], limit)
        for i, ids in zip(sorted(cut), shortened, strict=True):
            input_ids[i] = ids
    return EncodedSources(len(sentences), rows, input_ids, cut)


def output_limits(
    source_lengths: Sequence[int], max_new_tokens: int, max_length_a: float | None = None, max_length_b: int = 0
) -> list[int]:
    """Returns how long the output of each source may be: a * (source tokens) + b tokens, EOS counted.

    Source tokens are rounded up to a multiple of 8, so that sentences of similar length share a limit and a batch.

    Args:
        source_lengths (`Sequence[int]`): tokens of each source, EOS counted.
        max_new_tokens (`int`): longest output whatever the source.
        max_length_a (`float`, *optional*): output tokens for each source token; by default the source sets no limit.
        max_length_b (`int`, *optional*, defaults to 0): output tokens beside them.

    Source: fairseq's `--max-len-a` and `--max-len-b`; the rounding is ours.
    """
    if max_length_a is None:
        return [max_new_tokens] * len(source_lengths)
    rounded = (-(-length // _ROUNDED_TO) * _ROUNDED_TO for length in source_lengths)
    return [max(1, min(max_new_tokens, int(max_length_a * length) + max_length_b)) for length in rounded]


def token_batches(
    lengths: Sequence[int], max_batch_tokens: int, limits: Sequence[int] | None = None
) -> list[list[int]]:
    """Groups sequences of similar length, the longest first, so that no padded batch exceeds a number of tokens.

    Args:
        lengths (`Sequence[int]`): tokens of each sequence.
        max_batch_tokens (`int`): largest product of a batch's size and its longest sequence; a sequence longer than
            this is a batch of its own.
        limits (`Sequence[int]`, *optional*): a number for each sequence, the same for all of a batch.

    Returns:
        `list[list[int]]`: the indices of each batch, a function of the arguments alone.
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        first = batches[-1][0] if batches else index
        has_room = batches and (len(batches[-1]) + 1) * lengths[first] <= max_batch_tokens
        if has_room and (limits is None or limits[index] == limits[first]):
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def encode_sources(
    tokenizer: PreTrainedTokenizerBase, sentences: Sequence[str], max_length: int | None = None
) -> list[list[int]]:
    """Encodes sources as `encode` does; also for a tokenizer that puts more tokens behind EOS, as mBART a language.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): tokenizer of any seq2seq model.
        sentences (`Sequence[str]`): source sentences.
        max_length (`int`, *optional*): longer sources are cut to so many tokens, those that the tokenizer adds
            included; a cut source has them too.

    Returns:
        `list[list[int]]`: token ids of each sentence, not padded.

    Raises:
        ValueError: if the tokenizer puts no EOS behind a sentence, or `max_length` leaves no room for a sentence.
    """
    added: list[int] = tokenizer("")["input_ids"]
    if tokenizer.eos_token_id not in added or added[-1] == tokenizer.eos_token_id:
        return encode(tokenizer, sentences, max_source_length=max_length)["input_ids"]
    if max_length is not None and max_length <= len(added):
        raise ValueError(f"`max_length` must be > {len(added)} for this tokenizer, got {max_length}.")
    stripped = [sentence.strip() for sentence in sentences]
    input_ids: list[list[int]] = (
        tokenizer(stripped, split_special_tokens=True, verbose=False)["input_ids"] if stripped else []
    )
    suffix = added[added.index(tokenizer.eos_token_id) :]
    return [
        ids if max_length is None or len(ids) <= max_length else [*ids[: max_length - len(suffix)], *suffix]
        for ids in input_ids
    ]


def max_source_length(model: PreTrainedModel) -> int | None:
    """Returns the longest source that `model` has positions for, in tokens; `None` where nothing limits it."""
    return getattr(model.config, "max_position_embeddings", None)
