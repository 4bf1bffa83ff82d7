"""The function that `datasets.map` calls on the rows of a corpus: new targets, scores and flags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..data import has_content
from ..decoding import encode_sources, max_source_length
from .arguments import DistillArguments
from .backends import Backend
from .flags import row_flags


Pairs = Sequence[dict[str, str]]


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
        encoded, limit = encode_sources(self.tokenizer, sources), max_source_length(self.teacher)
        too_long = [limit is not None and len(ids) > limit for ids in encoded]
        keeps_real = [args.long_source == "real" and is_long for is_long in too_long]
        num_added = len(self.tokenizer(args.source_prefix or "")["input_ids"])
        # A blank is not decoded, and leaves the other rows their numbers.
        decodable = ["" if keeps else source for keeps, source in zip(keeps_real, sources, strict=True)]
        outputs = self.backend.translate(decodable, **args.translate_kwargs(start + indices[0], real_targets))
        texts = [
            real if keeps else output.text
            for keeps, real, output in zip(keeps_real, real_targets, outputs, strict=True)
        ]
        flags = [
            row_flags(
                pair[args.source_lang] if source else "",
                text,
                num_source_tokens=len(ids) - num_added,
                num_output_tokens=output.num_tokens,
                truncated=output.truncated,
                kept_real=keeps,
            )
            for pair, source, text, ids, output, keeps in zip(
                translations, sources, texts, encoded, outputs, keeps_real, strict=True
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

    def require_short_sources(self, rows: Dataset) -> None:
        """Raises at the first row whose source is longer than the teacher's positions.

        Raises:
            ValueError: naming the row.
        """
        limit, row = max_source_length(self.teacher), 0
        if limit is None:
            return
        for batch in rows.select_columns("translation").iter(batch_size=1000):
            for ids in encode_sources(
                self.tokenizer, teacher_sources(self.tokenizer, self.args, batch["translation"])
            ):
                if len(ids) > limit:
                    raise ValueError(
                        f"Every source must have at most {limit} tokens, the teacher's positions, under "
                        f"`long_source: error`, but row {row} (from 0) of the training split has {len(ids)}. Use "
                        "`long_source: truncate` to cut such sources, or `real` to keep their real targets."
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


def teacher_sources(tokenizer: PreTrainedTokenizerBase, args: DistillArguments, translations: Pairs) -> list[str]:
    """Returns the sources as the teacher gets them; one of which its tokenizer sees nothing is empty."""
    prefix = args.source_prefix or ""
    sources = [pair[args.source_lang] for pair in translations]
    present = has_content(tokenizer, encode_sources(tokenizer, sources))
    return [f"{prefix}{source}" if is_text else "" for source, is_text in zip(sources, present, strict=True)]
