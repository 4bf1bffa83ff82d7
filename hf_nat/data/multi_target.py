"""One corpus out of several with the same sources and targets in several languages: modes that are known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from datasets import Dataset, Features, Translation, Value, concatenate_datasets

from .corpora import load_corpus


MULTI_TARGET_LANG = "multi"


def concatenate_targets(
    corpus: str,
    source_lang: str,
    target_langs: Sequence[str],
    split: str = "train",
    *,
    config_name: str | None = None,
) -> Dataset:
    """Puts the pairs of every target language one after the other.

    Args:
        corpus (`str`): a corpus that holds all the languages, see `load_corpus`.
        source_lang (`str`): key of the source language.
        target_langs (`Sequence[str]`): keys of the target languages.
        split (`str`, *optional*, defaults to `"train"`): split to load.
        config_name (`str`, *optional*): configuration of a Hub corpus.

    Returns:
        `Dataset`: rows `{"translation": {source_lang: ..., "multi": ...}, "language": ...}`.

    Raises:
        ValueError: if there is no target language, one is named twice, or the corpora have different sources.

    Source: Zhou, Gu & Neubig 2020, section 3.1 (En-De/Es/Fr of Europarl).
    """
    if not target_langs:
        raise ValueError("`target_langs` must name at least 1 language, got none.")
    if len(set(target_langs)) < len(target_langs):
        raise ValueError(f"`target_langs` must name each language once, got {list(target_langs)}.")
    features = Features({"translation": Translation([source_lang, MULTI_TARGET_LANG]), "language": Value("string")})
    parts: list[Dataset] = []
    for lang in target_langs:
        rows = load_corpus(corpus, split, source_lang=source_lang, target_lang=lang, config_name=config_name)
        part = rows.map(
            _as_multi,
            batched=True,
            remove_columns=rows.column_names,
            features=features,
            fn_kwargs={"source_lang": source_lang, "lang": lang},
        )
        if parts and not _have_same_sources(part, parts[0], source_lang):
            raise ValueError(
                f"Corpora must have the same sources, but those of {lang!r} and {target_langs[0]!r} differ."
            )
        parts.append(part)
    return concatenate_datasets(parts)


def select_targets(
    corpus: str,
    source_lang: str,
    target_langs: Sequence[str],
    split: str = "train",
    seed: int = 1,
    *,
    config_name: str | None = None,
) -> Dataset:
    """Takes for every source one target, in a language drawn uniformly at random.

    Args:
        corpus (`str`): as `concatenate_targets` takes it.
        source_lang (`str`): key of the source language.
        target_langs (`Sequence[str]`): keys of the target languages.
        split (`str`, *optional*, defaults to `"train"`): split to load.
        seed (`int`, *optional*, defaults to 1): seed of the draws.
        config_name (`str`, *optional*): configuration of a Hub corpus.

    Returns:
        `Dataset`: as many rows as the corpus has, in its order, as `concatenate_targets` gives them.

    Raises:
        ValueError: as `concatenate_targets`.

    Source: Zhou, Gu & Neubig 2020, section 3.1 ("random selection").
    """
    rows = concatenate_targets(corpus, source_lang, target_langs, split, config_name=config_name)
    num_sources = len(rows) // len(target_langs)
    drawn = np.random.default_rng(seed).integers(len(target_langs), size=num_sources)
    return rows.select(drawn * num_sources + np.arange(num_sources))


def _as_multi(batch: dict[str, list], source_lang: str, lang: str) -> dict[str, list]:
    pairs = [{source_lang: pair[source_lang], MULTI_TARGET_LANG: pair[lang]} for pair in batch["translation"]]
    return {"translation": pairs, "language": [lang] * len(pairs)}


def _have_same_sources(one: Dataset, other: Dataset, source_lang: str) -> bool:
    """Compares the sources of two corpora, a batch at a time."""
    if len(one) != len(other):
        return False
    pairs = zip(*(rows.with_format("arrow").iter(batch_size=10_000) for rows in (one, other)), strict=True)
    sides = ([table["translation"].combine_chunks().field(source_lang) for table in pair] for pair in pairs)
    return all(ours.equals(theirs) for ours, theirs in sides)
