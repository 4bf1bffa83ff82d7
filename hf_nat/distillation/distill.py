"""Rewrites the targets of a corpus with a teacher: resumable, in any number of processes, always the same bytes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..data.corpora import load_corpus
from ..inference import (
    Translation,
    decoding_expert,
    encode_sources,
    max_source_length,
    process_state,
    set_languages,
    translate,
)
from ..utils import environment, progress_bar, write_json
from .arguments import DistillArguments
from .checksums import recorded_checksums, remove_checksums
from .flags import row_flags
from .manifest import check_identity, claim_folder, corpus_identity, write_manifest
from .shards import Shard, corpus_features, plan_shards, remove_claims, without_datasets_bars
from .strategies import translate_kwargs


T = TypeVar("T")
# From consecutive sources and the arguments of `translate` to what waits for their translations.
Decode = Callable[..., Callable[[], list[Translation]]]
# From the `translation` column of consecutive rows and their numbers among them to the columns of the new corpus.
Rewrite = Callable[[list[dict[str, str]], list[int]], dict[str, list[Any]]]


def distill(teacher: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, args: DistillArguments) -> Path:
    """Writes a corpus whose training targets are the teacher's translations; validation and test stay real.

    Every row is kept, in its order: the source, the teacher's output, the real target, the output's mean
    log-probability per token (nats, 4 decimals) and the flags of `hf_nat.distillation.flags`. A blank source gets a
    blank output, and the flags that say so. `args.long_source` decides what becomes of a source that is longer than
    the teacher's positions.

    The work is cut into shards. Each appears whole or not at all, and its bytes depend on the arguments alone, so a
    run that was killed is resumed by the same command and ends with the same files, and so does a run of several
    processes (`accelerate launch` or `torchrun`), on one machine or several: each claims a shard as soon as it is
    free. All processes must see the same `output_dir`. A shard whose bytes are not those that were written, or of
    which nobody recorded what was written, is made again with a warning.

    Args:
        teacher (`PreTrainedModel`): any seq2seq model, on the device of this process.
        tokenizer (`PreTrainedTokenizerBase`): its tokenizer. Both are set to the languages of `args`, where it names
            the teacher's.
        args (`DistillArguments`): corpus, decoding and output folder. `args.teacher` and `args.teacher_revision` are
            only names here.

    Returns:
        `Path`: `output_dir`, with `data/*.parquet`, `manifest.json` (deterministic) and `metrics.json` (times).

    Raises:
        ValueError: if `output_dir` holds a corpus of another teacher, corpus or setting; the field is named. Before
            anything is written, if an expert or a language is asked of a teacher that has none, the backend cannot
            decode the teacher, or a source is too long under `long_source: error`.
        ImportError: if the backend is not installed.

    Source: Kim & Rush 2016 (sequence-level knowledge distillation), as used by Zhou, Gu & Neubig 2020, section 2.2.
    """
    state = process_state()
    output_dir = Path(args.output_dir)
    teacher.eval()
    with state.main_process_first():
        splits = _load_splits(args)
    args = replace(args, expert=decoding_expert(teacher, args.expert))
    set_languages(teacher, tokenizer, args.teacher_source_lang, args.teacher_target_lang)
    decode = _decoder(teacher, tokenizer, args)
    if args.long_source == "error":
        _require_short_sources(splits["train"], teacher, tokenizer, args)
    identity = corpus_identity(teacher, tokenizer, splits, args)
    if state.is_main_process:
        claim_folder(output_dir, identity)
        remove_claims(output_dir)
    state.wait_for_everyone()
    check_identity(output_dir, identity)
    shards = plan_shards(output_dir, identity["counts"], args.shard_size)
    checksums = recorded_checksums(output_dir, [shard.path for shard in shards])
    pending = [shard for shard in shards if not shard.is_written(checksums.get(shard.path.name))]
    # Nobody writes before everybody has listed what is missing: the lists must agree.
    state.wait_for_everyone()

    started = time.perf_counter()
    rewrite = partial(_start_rewriting, decode, teacher, tokenizer, args)
    _write_shards(pending, splits, rewrite, args)
    state.wait_for_everyone()
    if state.is_main_process:
        seconds = time.perf_counter() - started
        checksums = recorded_checksums(output_dir, [shard.path for shard in shards])
        write_manifest(output_dir, identity, shards, checksums, teacher, args)
        remove_checksums(output_dir)
        remove_claims(output_dir)
        if pending:
            _write_metrics(output_dir, pending, seconds, state.num_processes)
    state.wait_for_everyone()
    return output_dir


def _load_splits(args: DistillArguments) -> dict[str, Dataset]:
    """Loads the splits by the names they will have in the distilled corpus."""
    names = {"train": args.train_split, "validation": args.validation_split, "test": args.test_split}
    splits = {}
    for split, name in names.items():
        if name:
            splits[split] = load_corpus(
                args.corpus,
                name,
                source_lang=args.source_lang,
                target_lang=args.target_lang,
                config_name=args.config_name,
            )
    if args.max_samples is not None:
        splits["train"] = splits["train"].select(range(min(args.max_samples, len(splits["train"]))))
    return splits


def _require_short_sources(
    rows: Dataset, teacher: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, args: DistillArguments
) -> None:
    """Raises at the first row whose source is longer than the teacher's positions."""
    limit = max_source_length(teacher)
    if limit is None:
        return
    row = 0
    for batch in rows.select_columns("translation").iter(batch_size=1000):
        for ids in encode_sources(tokenizer, _teacher_sources(args, batch["translation"])):
            if len(ids) > limit:
                raise ValueError(
                    f"Every source must have at most {limit} tokens, the teacher's positions, under "
                    f"`long_source: error`, but row {row} (from 0) of the training split has {len(ids)}. Use "
                    "`long_source: truncate` to cut such sources, or `real` to keep their real targets."
                )
            row += 1


def _decoder(teacher: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, args: DistillArguments) -> Decode:
    """What decodes: `translate`, when its result is asked for, or CTranslate2, from now on in the background."""
    if args.backend == "torch":
        scored = partial(translate, max_batch_tokens=args.max_batch_tokens, with_scores=True)
        return partial(partial, scored, teacher, tokenizer)
    try:
        from .ct2 import CT2Teacher
    except ImportError as error:
        raise ImportError("`backend: ct2` needs CTranslate2: pip install 'hf_nat[ct2]'.") from error
    ct2_teacher = CT2Teacher(
        teacher,
        tokenizer,
        compute_type=args.compute_type,
        max_batch_tokens=args.max_batch_tokens,
        expert=args.expert,
    )
    return ct2_teacher.start


def _write_shards(
    shards: list[Shard], splits: dict[str, Dataset], start_rewriting: Callable[..., Rewrite], args: DistillArguments
) -> None:
    """Writes the shards that this process can claim, decoding one ahead.

    The main process shows the progress of all: the shards before the one that it has claimed are claimed as well.
    """
    features = corpus_features(args.source_lang, args.target_lang)
    total = sum(shard.stop - shard.start for shard in shards)

    def started() -> Iterator[tuple[Shard, Dataset, Rewrite, int]]:
        position = 0
        for shard in shards:
            position += shard.stop - shard.start
            if not shard.claim():
                continue
            rows = splits[shard.split].select(range(shard.start, shard.stop))
            is_distilled = shard.split == "train"
            rewrite = start_rewriting(shard, rows) if is_distilled else partial(_real_rows, args, shard.start)
            yield shard, rows, rewrite, position

    with (
        progress_bar(total, "Distilling", disable=not process_state().is_main_process) as bar,
        without_datasets_bars(),
    ):
        for shard, rows, rewrite, position in _one_ahead(started()):
            shard.write(
                rows.map(
                    rewrite,
                    batched=True,
                    batch_size=len(rows),
                    with_indices=True,
                    input_columns=["translation"],
                    remove_columns=rows.column_names,
                    features=features,
                    keep_in_memory=True,
                    load_from_cache_file=False,
                    # Given, because the hash of a function that holds a model is another one in every process.
                    new_fingerprint=f"distilled-{shard.path.stem}",
                )
            )
            bar.update(position - bar.n)


def _one_ahead(items: Iterator[T]) -> Iterator[T]:
    """Yields the items, each only once the next one has been made."""
    previous = deque(islice(items, 1))
    for item in items:
        yield previous.popleft()
        previous.append(item)
    yield from previous


def _start_rewriting(
    decode: Decode,
    teacher: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    args: DistillArguments,
    shard: Shard,
    rows: Dataset,
) -> Rewrite:
    """Begins to decode the rows of a shard and returns the function that writes them."""
    sources = _teacher_sources(args, rows["translation"])
    real_targets = [pair[args.target_lang] for pair in rows["translation"]]
    encoded, limit = encode_sources(tokenizer, sources), max_source_length(teacher)
    too_long = [limit is not None and len(ids) > limit for ids in encoded]
    keeps_real = [args.long_source == "real" and is_long for is_long in too_long]
    num_added = len(tokenizer(args.source_prefix or "")["input_ids"])
    # A blank is not decoded, and leaves the other rows their numbers.
    decodable = ["" if keeps else source for keeps, source in zip(keeps_real, sources, strict=True)]
    pending = decode(decodable, **translate_kwargs(args, shard.start, real_targets))

    def rewrite(translations: list[dict[str, str]], indices: list[int]) -> dict[str, list[Any]]:
        outputs = pending()
        texts = [
            real if keeps else output.text
            for keeps, real, output in zip(keeps_real, real_targets, outputs, strict=True)
        ]
        return {
            "id": [shard.start + index for index in indices],
            "translation": [
                {args.source_lang: pair[args.source_lang], args.target_lang: text}
                for pair, text in zip(translations, texts, strict=True)
            ],
            "real_target": real_targets,
            "teacher_score": [None if output.score is None else round(output.score, 4) for output in outputs],
            "flags": [
                row_flags(
                    pair[args.source_lang],
                    text,
                    num_source_tokens=len(ids) - num_added,
                    num_output_tokens=output.num_tokens,
                    truncated=output.truncated,
                    kept_real=keeps,
                )
                for pair, text, ids, output, keeps in zip(
                    translations, texts, encoded, outputs, keeps_real, strict=True
                )
            ],
        }

    return rewrite


def _teacher_sources(args: DistillArguments, translations: Sequence[dict[str, str]]) -> list[str]:
    """The sources as the teacher gets them; a blank one stays blank."""
    prefix = args.source_prefix or ""
    sources = (pair[args.source_lang] for pair in translations)
    return [f"{prefix}{source}" if source.strip() else "" for source in sources]


def _real_rows(
    args: DistillArguments, start: int, translations: list[dict[str, str]], indices: list[int]
) -> dict[str, list[Any]]:
    return {
        "id": [start + index for index in indices],
        "translation": translations,
        "real_target": [pair[args.target_lang] for pair in translations],
        "teacher_score": [None] * len(translations),
        "flags": [[] for _ in translations],
    }


def _write_metrics(output_dir: Path, written: list[Shard], seconds: float, num_processes: int) -> None:
    """Writes what this run, from its start or its resumption on, decoded and how fast."""
    num_sentences = sum(shard.stop - shard.start for shard in written if shard.split == "train")
    metrics = {
        "num_sentences": num_sentences,
        "seconds": round(seconds, 3),
        "sentences_per_second": round(num_sentences / seconds, 3),
        "num_processes": num_processes,
        "environment": environment(),
    }
    write_json(output_dir / "metrics.json", metrics)
