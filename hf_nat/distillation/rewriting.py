"""The function that `datasets.map` calls on the rows of a corpus: new targets, scores and flags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..data import has_content
from ..decoding import Translation, encode_sources, max_source_length
from .arguments import DistillArguments
from .backends import Backend
from .flags import row_flags


Pairs = Sequence[dict[str, str]]

# Between the numbers of two sentences of a row: more than a corpus has rows.
_PART = 2**40


@dataclass(frozen=True)
class Rewriter:
    """Rewrites the targets of consecutive rows.

    Args:
        backend (`Backend`): the teacher that decodes.
        teacher (`PreTrainedModel`): the model behind it, whose positions limit a source.
        tokenizer (`PreTrainedTokenizerBase`): its tokenizer.
        args (`DistillArguments`): languages, strategy and what becomes of long sources.
    """

    backend: Backend
    teacher: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    args: DistillArguments

    def __call__(self, translations: Pairs, indices: Sequence[int], start: int) -> dict[str, list[Any]]:
        """Returns the columns of the distilled corpus.

        Args:
            translations (`Sequence[dict[str, str]]`): the real pairs.
            indices (`Sequence[int]`): their numbers in the shard.
            start (`int`): number of the shard's first row in the split.
        """
        args = self.args
        sources = teacher_sources(self.tokenizer, args, translations)
        real_targets = [pair[args.target_lang] for pair in translations]
        encoded, limit = self._encode(sources), max_source_length(self.teacher)
        too_long = [limit is not None and any(len(ids) > limit for ids in parts) for parts in encoded]
        keeps_real = [args.long_source == "real" and is_long for is_long in too_long]
        outputs = self._decode(sources, [start + index for index in indices], keeps_real, real_targets)
        texts = [
            real if keeps else output.text
            for keeps, real, output in zip(keeps_real, real_targets, outputs, strict=True)
        ]
        num_added = len(self.tokenizer(args.source_prefix or "")["input_ids"])
        flags = [
            row_flags(
                pair[args.source_lang] if any(parts) else "",
                text,
                num_source_tokens=sum(len(ids) - num_added for ids in token_ids),
                num_output_tokens=output.num_tokens,
                truncated=output.truncated,
                cut_source=is_long,
                kept_real=keeps,
            )
            for pair, parts, text, token_ids, output, is_long, keeps in zip(
                translations, sources, texts, encoded, outputs, too_long, keeps_real, strict=True
            )
        ]
        return {
            "id": [start + index for index in indices],
            "translation": [
                {args.source_lang: pair[args.source_lang], args.target_lang: text}
                for pair, text in zip(translations, texts, strict=True)
            ],
            "real_target": real_targets,
            "teacher_score": [None if output.score is None else round(output.score, 4) for output in outputs],
            "flags": flags,
        }

    def _encode(self, sources: Sequence[list[str]]) -> list[list[list[int]]]:
        """Returns the token ids of each sentence of each row."""
        encoded = iter(encode_sources(self.tokenizer, [text for texts in sources for text in texts]))
        return [list(islice(encoded, len(texts))) for texts in sources]

    def _decode(
        self, sources: Sequence[list[str]], numbers: Sequence[int], is_left: Sequence[bool], real_targets: list[str]
    ) -> list[Translation]:
        """Translates rows of sentences; blanks stand for those that are left, so that no other changes its place."""
        parts = [
            ("" if left else text, number + part * _PART)
            for texts, number, left in zip(sources, numbers, is_left, strict=True)
            for part, text in enumerate(texts)
        ]
        kwargs = self.args.translate_kwargs([number for _, number in parts], real_targets)
        outputs = iter(self.backend.translate([text for text, _ in parts], **kwargs))
        rows = [list(islice(outputs, len(texts))) for texts in sources]
        splitter = self.args.splitter
        return [output for (output,) in rows] if splitter is None else [splitter.join(row) for row in rows]

    def require_short_sources(self, rows: Dataset) -> None:
        """Raises at the first row whose source is longer than the teacher's positions.

        Raises:
            ValueError: naming the row.
        """
        limit, row = max_source_length(self.teacher), 0
        if limit is None:
            return
        for batch in rows.select_columns("translation").iter(batch_size=1000):
            for parts in self._encode(teacher_sources(self.tokenizer, self.args, batch["translation"])):
                longest = max(map(len, parts))
                if longest > limit:
                    raise ValueError(
                        f"Every source must have at most {limit} tokens, the teacher's positions, under "
                        f"`long_source: error`, but row {row} (from 0) of the training split has {longest}. Use "
                        "`long_source: truncate` to cut such sources, `real` to keep their real targets, or "
                        "`split_sentences` where a row is a document."
                    )
                row += 1


@dataclass(frozen=True)
class RealRows:
    """Keeps the real targets of consecutive rows, in the columns of a distilled corpus.

    Args:
        target_lang (`str`): key of the target language.
    """

    target_lang: str

    def __call__(self, translations: Pairs, indices: Sequence[int], start: int) -> dict[str, list[Any]]:
        """Returns the columns; see `Rewriter`."""
        return {
            "id": [start + index for index in indices],
            "translation": list(translations),
            "real_target": [pair[self.target_lang] for pair in translations],
            "teacher_score": [None] * len(translations),
            "flags": [[] for _ in translations],
        }


def teacher_sources(
    tokenizer: PreTrainedTokenizerBase, args: DistillArguments, translations: Pairs
) -> list[list[str]]:
    """Returns the source of each row as the teacher gets it: one text, or its sentences where these are split.

    What its tokenizer sees nothing of is empty.
    """
    prefix, splitter = args.source_prefix or "", args.splitter
    sources = [pair[args.source_lang] for pair in translations]
    rows = [[source] if splitter is None else splitter.split(source) for source in sources]
    present = iter(has_content(tokenizer, encode_sources(tokenizer, [text for row in rows for text in row])))
    return [[f"{prefix}{text}" if next(present) else "" for text in row] for row in rows]
