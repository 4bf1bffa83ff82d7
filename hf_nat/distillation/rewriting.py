"""The function that `datasets.map` calls on the rows of a corpus: new targets, scores and flags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from datasets import Dataset, IterableDataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..data import has_content
from ..decoding import RowJudge, SentenceSplitter, Translation, encode_sources, keep_best, max_source_length
from .arguments import DistillArguments
from .backends import Backend
from .flags import FLAGS, row_flags
from .judges import Judge
from .shards import corpus_features, empty_values


Pairs = Sequence[dict[str, str]]

# Between the numbers of two sentences of a row: more than a corpus has rows.
_PART = 2**40


@dataclass(frozen=True)
class FurtherTeacher:
    """A teacher whose candidates are added to those of the first.

    Args:
        backend (`Backend`): decodes it.
        prefix (`str`): text put before every source.
    """

    backend: Backend
    prefix: str


@dataclass(frozen=True)
class Rewriter:
    """Rewrites the targets of consecutive rows.

    Args:
        backend (`Backend`): the teacher that decodes.
        teacher (`PreTrainedModel`): the model behind it, whose positions limit a source.
        tokenizer (`PreTrainedTokenizerBase`): its tokenizer.
        args (`DistillArguments`): languages, strategy and what becomes of long sources.
        judge (`Judge`, *optional*): what chooses among candidates, where the strategy does.
        further (`Sequence[FurtherTeacher]`, *optional*): teachers whose candidates are judged too.
    """

    backend: Backend
    teacher: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    args: DistillArguments
    judge: Judge | None = None
    further: Sequence[FurtherTeacher] = ()

    def __call__(self, translations: Pairs, indices: Sequence[int], start: int) -> dict[str, list[Any]]:
        """Returns the columns of the distilled corpus.

        Args:
            translations (`Sequence[dict[str, str]]`): the real pairs.
            indices (`Sequence[int]`): their numbers in the shard.
            start (`int`): number of the shard's first row in the split.
        """
        args, numbers = self.args, [start + index for index in indices]
        made_from: list[dict[str, Any]] = [{} for _ in numbers]
        if args.noise is not None:
            translations, made_from = args.noise(translations, numbers)
        sources = teacher_sources(self.tokenizer, args, translations)
        encoded, limit = self._encode(sources), max_source_length(self.teacher)
        num_added = len(self.tokenizer(args.source_prefix or "")["input_ids"])
        is_long = [limit is not None and any(len(ids) > limit for ids in parts) for parts in encoded]
        keeps_real = [args.long_source == "real" and own for own in is_long]
        # A blank is not decoded, and leaves the other rows their numbers.
        decodable = [[""] * len(texts) if keeps else texts for keeps, texts in zip(keeps_real, sources, strict=True)]
        outputs = self._decode(decodable, translations, numbers)
        rows = []
        for row, (number, pair, texts) in enumerate(zip(numbers, translations, sources, strict=True)):
            marks = {
                "source": pair[args.source_lang] if any(texts) else "",
                "num_source_tokens": sum(len(ids) - num_added for ids in encoded[row]),
                "cut_source": is_long[row],
                "kept_real": keeps_real[row],
            }
            rows.append(self._row(number, pair, outputs[row], marks) | made_from[row])
        if args.expand:
            rows = [row for own in rows for row in _expanded(own, args.target_lang)]
        names = [*corpus_features(args.source_lang, args.target_lang, args.extra_columns)]
        return {name: [row[name] for row in rows] for name in names}

    def _decode(
        self, rows: Sequence[list[str]], translations: Pairs, numbers: Sequence[int]
    ) -> list[list[Translation]]:
        """Returns the outputs of each source that become targets, at least one, the best first."""
        if self.args.splitter is not None:
            return [[output] for output in self._decode_sentences(rows, numbers, self.args.splitter)]
        sources = [source for (source,) in rows]
        kwargs = self.args.translate_kwargs(numbers)
        if self.args.strategy == "n-best":
            return [_distinct(own) for own in self.backend.candidates(sources, **kwargs)]
        if self.judge is not None:
            kwargs["judge"] = self._judge_of(translations, self.judge)
        if self.further:
            return [[output] for output in self._decode_all(sources, translations, numbers, **kwargs)]
        return [[output] for output in self.backend.translate(sources, **kwargs)]

    def _decode_sentences(
        self, rows: Sequence[list[str]], numbers: Sequence[int], splitter: SentenceSplitter
    ) -> list[Translation]:
        """Translates the sentences of each row one by one and joins them."""
        parts = [
            (text, number + part * _PART)
            for texts, number in zip(rows, numbers, strict=True)
            for part, text in enumerate(texts)
        ]
        kwargs = self.args.translate_kwargs([number for _, number in parts])
        outputs = iter(self.backend.translate([text for text, _ in parts], **kwargs))
        return [splitter.join(list(islice(outputs, len(texts)))) for texts in rows]

    def _decode_all(
        self, sources: Sequence[str], translations: Pairs, numbers: Sequence[int], judge: RowJudge, **kwargs: Any
    ) -> list[Translation]:
        """Returns the best of the candidates of all teachers; they count from the first teacher's to the last's."""
        lists = [self.backend.candidates(sources, **kwargs)]
        plain = [pair[self.args.source_lang] for pair in translations]
        for number, teacher in enumerate(self.further, start=1):
            texts = [f"{teacher.prefix}{text}" if source else "" for text, source in zip(plain, sources, strict=True)]
            lists.append(teacher.backend.candidates(texts, **self.args.translate_kwargs(numbers, number)))
        # A teacher whose tokenizer sees nothing in a source has no candidate of it.
        joined = [
            [
                replace(output, candidate=number * self.args.num_outputs + output.candidate)
                for number, outputs in enumerate(own)
                for output in outputs
                if number == 0 or output.score is not None
            ]
            for own in zip(*lists, strict=True)
        ]
        kept = zip(keep_best(joined, judge), joined, strict=True)
        return [replace(output, candidate=own[output.candidate].candidate) for output, own in kept]

    def _judge_of(self, translations: Pairs, judge: Judge) -> RowJudge:
        """Makes of a judge of texts one of these rows."""
        args = self.args
        sources = [pair[args.source_lang] for pair in translations]
        real_targets = [pair.get(args.target_lang, "") for pair in translations]
        return lambda rows, candidates: judge(
            [sources[row] for row in rows], [real_targets[row] for row in rows], candidates
        )

    def _row(
        self, number: int, pair: dict[str, str], outputs: Sequence[Translation], marks: dict[str, Any]
    ) -> dict[str, Any]:
        """Makes a row of the corpus, with every column that a strategy may have.

        `marks` are the arguments of `row_flags` that are the source's, whichever output is its target.
        """
        args, best = self.args, outputs[0]
        real = pair.get(args.target_lang)  # Sources alone have none.
        texts = [pair[args.target_lang]] if marks["kept_real"] else [output.text for output in outputs]
        flags = [
            row_flags(
                output=text,
                num_output_tokens=output.num_tokens,
                truncated=output.truncated,
                source_alone=real is None,
                **marks,
            )
            for text, output in zip(texts, outputs, strict=True)
        ]
        scores = [_rounded(output.score) for output in outputs]
        return {
            "id": number,
            "translation": {args.source_lang: pair[args.source_lang], args.target_lang: texts[0]},
            "real_target": real,
            "teacher_score": scores[0],
            "flags": [flag for flag in FLAGS if any(flag in own for own in flags)],
            "candidate": None if best.quality is None else best.candidate,
            "quality": _rounded(best.quality),
            "teacher": None if best.quality is None else best.candidate // args.num_outputs,
            "targets": texts,
            "target_scores": scores,
            "rank": 0,
            "all_flags": flags,
        }

    def _encode(self, sources: Sequence[list[str]]) -> list[list[list[int]]]:
        """Returns the token ids of each sentence of each row."""
        encoded = iter(encode_sources(self.tokenizer, [text for texts in sources for text in texts]))
        return [list(islice(encoded, len(texts))) for texts in sources]

    def require_short_sources(self, rows: Dataset | IterableDataset) -> None:
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
        extra (`Sequence[str]`, *optional*): columns that the strategy adds, see `corpus_features`.
    """

    target_lang: str
    extra: Sequence[str] = ()

    def __call__(self, translations: Pairs, indices: Sequence[int], start: int) -> dict[str, list[Any]]:
        """Returns the columns; see `Rewriter`."""
        number = len(translations)
        return {
            "id": [start + index for index in indices],
            "translation": list(translations),
            "real_target": [pair[self.target_lang] for pair in translations],
            "teacher_score": [None] * number,
            "flags": [[] for _ in translations],
            **{name: empty_values(name, number) for name in self.extra},
        }


def _expanded(row: dict[str, Any], target_lang: str) -> list[dict[str, Any]]:
    """Makes a row for each of the targets of one."""
    return [
        row
        | {"translation": row["translation"] | {target_lang: text}, "teacher_score": score}
        | {"flags": flags, "rank": rank}
        for rank, (text, score, flags) in enumerate(
            zip(row["targets"], row["target_scores"], row["all_flags"], strict=True)
        )
    ]


def _distinct(outputs: Sequence[Translation]) -> list[Translation]:
    """The outputs of different texts, of equal ones the best, by their scores."""
    kept: dict[str, Translation] = {}
    for output in sorted(outputs, key=lambda output: 0.0 if output.score is None else -output.score):
        kept.setdefault(output.text, output)
    return list(kept.values())


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


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
