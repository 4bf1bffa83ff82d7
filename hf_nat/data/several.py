"""Several corpora as one, and several targets of a source as rows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from datasets import Dataset, Features, IterableDataset, Translation, concatenate_datasets

from ..base.folders import require_folder_name
from .locations import has_configurations


Rows = TypeVar("Rows", Dataset, IterableDataset)

# Columns of a distilled corpus that keeps several targets of each source, the best first, and their scores.
TARGETS, TARGET_SCORES = "targets", "target_scores"
# What its other columns say of a source, whichever its target.
_OF_SOURCE = ("id", "real_target")


def corpus_place(text: str) -> dict[str, Any]:
    """Parts `CORPUS#CONFIGURATION` into `corpus` and `config_name`; what exists is taken as it is."""
    corpus, _, config_name = text.partition("#")
    is_named = config_name and not os.path.exists(text)
    return {"corpus": corpus, "config_name": config_name} if is_named else {"corpus": text}


def validation_place(
    corpus: str | Sequence[str], config_name: str | None, validation_corpus: str | None
) -> dict[str, Any]:
    """Returns `corpus` and `config_name` of what a run validates on.

    Args:
        corpus (`str` or `Sequence[str]`): corpora that it is trained on; the first is validated on.
        config_name (`str`, *optional*): configuration of a single corpus.
        validation_corpus (`str`, *optional*): another corpus.
    """
    if validation_corpus is None:
        if isinstance(corpus, str):
            return {"corpus": corpus, "config_name": config_name}
        return {"config_name": None, **corpus_place(corpus[0])}
    kept = config_name if has_configurations(validation_corpus) else None
    return {"config_name": kept, **corpus_place(validation_corpus)}


def named_corpora(corpora: Sequence[str], **others: str) -> dict[str, str]:
    """Splits `NAME=CORPUS` into name and corpus; the name is by default that of the folder.

    Args:
        corpora (`Sequence[str]`): what users wrote; what exists is a corpus, whatever its name.
        **others (`str`): corpora that go before, by their names.

    Raises:
        ValueError: if names repeat, or one cannot be that of a folder.
    """
    pairs = list(others.items())
    for text in corpora:
        name, _, corpus = ("", "", text) if "=" not in text or os.path.exists(text) else text.partition("=")
        pairs.append((name or Path(corpus).name.replace("=", "_"), corpus))
    if len(dict(pairs)) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"Names of corpora must be distinct, got {names}. Give them as NAME=CORPUS.")
    # A corpus has a folder of its name.
    for name, _ in pairs:
        require_folder_name("Names of corpora", name, remedy="Give it as NAME=CORPUS.")
    return dict(pairs)


def expand_targets(rows: Rows, source_lang: str, target_lang: str, number: int | None = None) -> Rows:
    """Makes a row of every target of a source, where a corpus keeps several in its column `targets`.

    Args:
        rows (`Dataset` or `IterableDataset`): corpus with the `translation` feature.
        source_lang (`str`): key of the source language.
        target_lang (`str`): key of the target language.
        number (`int`, *optional*): the first so many targets of each source; by default all.

    Returns:
        `Dataset` or `IterableDataset`: the pairs, those of a source one after the other, the best first, with `id` and
        `real_target` of their row where it has them; `rows` where there is no such column. A row whose list is empty
        keeps its `translation`.

    Raises:
        ValueError: if the column is no list of text.
    """
    # A stream of text does not know its columns before its first row.
    names = rows.column_names or list(next(iter(rows), {}))
    if TARGETS not in names:
        return rows
    kept = [name for name in _OF_SOURCE if name in names]
    features = None
    if rows.features is not None:
        others = {name: rows.features[name] for name in kept}
        features = Features({**pair_features(source_lang, target_lang), **others})
    return rows.map(
        _pairs,
        batched=True,
        remove_columns=names,
        features=features,
        fn_kwargs={"source_lang": source_lang, "target_lang": target_lang, "number": number, "kept": kept},
    )


def concatenate_pairs(corpora: Sequence[Dataset], source_lang: str, target_lang: str) -> Dataset:
    """Puts the pairs of several corpora one after the other, without their other columns."""
    features = pair_features(source_lang, target_lang)
    return concatenate_datasets([rows.select_columns("translation").cast(features) for rows in corpora])


def pair_features(*languages: str) -> Features:
    """The column `translation` alone, of the languages of a pair or of one."""
    return Features({"translation": Translation(list(languages))})


def _pairs(
    batch: dict[str, list[Any]], source_lang: str, target_lang: str, number: int | None, kept: Sequence[str]
) -> dict[str, list[Any]]:
    for own in batch[TARGETS]:
        if not isinstance(own, list | None) or not all(isinstance(text, str) for text in own or []):
            raise ValueError(
                f"`{TARGETS}` must be a list of texts in each row of a corpus, got {own!r:.60}. Rename the column, or "
                "leave out what is no text."
            )
    found = [
        (row, {source_lang: pair[source_lang], target_lang: text})
        for row, (pair, own) in enumerate(zip(batch["translation"], batch[TARGETS], strict=True))
        for text in (own or [pair[target_lang]])[:number]
    ]
    return {
        "translation": [pair for _, pair in found],
        **{name: [batch[name][row] for row, _ in found] for name in kept},
    }
