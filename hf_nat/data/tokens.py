"""The tokens that a corpus is measured in: words, or the pieces that a model sees."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

from datasets import Dataset, IterableDataset

from ..base.languages import find_language, warn_of_unspaced_text
from .encoding import encode
from .pretrained import hub_commit
from .tokenizer import load_tokenizer, tokenizer_files


# What separates words in files of words, those of n-gram models too.
BLANKS = frozenset(" \t\n\v\f\r\0")
_BLANKS = re.compile(f"[{''.join(BLANKS)}]+")
WORDS = ("space", "moses")
# Sentences that are looked at for a script without spaces.
_NUM_CHECKED = 100


def tokenize(
    texts: Iterable[str], tokens: str = "space", lang: str | None = None, *, is_target: bool = False
) -> Iterator[list[str]]:
    """Cuts sentences into the tokens that alignment and the measures work on; tabs and line ends are spaces.

    Args:
        texts (`Iterable[str]`): sentences.
        tokens (`str`, *optional*, defaults to `"space"`): one of
            - `"space"`: what blanks separate, for text that is tokenised already;
            - `"moses"`: words and punctuation by the Moses tokenizer, lower-cased; in a language without spaces
              between words (Chinese, Japanese, Thai, ...) each character of its script, see `Language`;
            - folder or Hub id of a tokenizer: its tokens, as a model with it sees the text, but for those that it
              adds to every sentence (EOS, a language).
        lang (`str`, *optional*): language code in any spelling, for `"moses"`.
        is_target (`bool`, *optional*, defaults to `False`): the sentences are translations, which some tokenizers
            (Marian's) cut by other rules than sources.

    Returns:
        `Iterator[list[str]]`: tokens of each sentence, none for a blank one.

    Raises:
        ValueError: if `"moses"` has no language.
    """
    texts = (_BLANKS.sub(" ", text) for text in texts)
    if tokens == "space":
        return ([word for word in text.split(" ") if word] for text in texts)
    if tokens == "moses":
        return _words(texts, lang)
    return _pieces(texts, tokens, is_target)


def corpus_tokens(
    dataset: Dataset | IterableDataset, lang: str, tokens: str, *, is_target: bool = False
) -> Iterator[list[str]]:
    """Cuts one side of a corpus into tokens, see `tokenize`.

    Args:
        dataset (`Dataset` or `IterableDataset`): corpus with the `translation` feature.
        lang (`str`): key of the language, and the language code for `"moses"`.
        tokens (`str`): as `tokenize` takes it.
        is_target (`bool`, *optional*, defaults to `False`): as `tokenize` takes it.

    Returns:
        `Iterator[list[str]]`: tokens of each row, in order.
    """
    texts = (row["translation"][lang] for row in dataset.select_columns("translation"))
    return tokenize(texts, tokens, lang, is_target=is_target)


def corpus_sides(
    dataset: Dataset | IterableDataset, languages: Sequence[str], tokens: str
) -> tuple[Iterator[list[str]], Iterator[list[str]]]:
    """Cuts both sides of a corpus into tokens, see `tokenize`.

    Args:
        dataset (`Dataset` or `IterableDataset`): corpus with the `translation` feature.
        languages (`Sequence[str]`): keys of source and target language.
        tokens (`str`): as `tokenize` takes it.

    Returns:
        `tuple` of two `Iterator[list[str]]`: tokens of each source and of each target, in order.
    """
    source_lang, target_lang = languages
    return (
        corpus_tokens(dataset, source_lang, tokens),
        corpus_tokens(dataset, target_lang, tokens, is_target=True),
    )


def tokenizer_checksum(tokens: str) -> str | None:
    """Returns what pieces depend on: the SHA-256 of a tokenizer's folder, the commit of a Hub id, None for words.

    Of a folder with a `tokenizer.json` this file counts, else vocabulary, pieces and settings together.
    """
    if tokens in WORDS:
        return None
    if not Path(tokens).is_dir():
        load_tokenizer(tokens, parameter="tokens")
        return hub_commit(tokens)
    files = tokenizer_files(tokens)
    if "tokenizer.json" in files:
        return files["tokenizer.json"]
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()


def _words(texts: Iterable[str], lang: str | None) -> Iterator[list[str]]:
    if lang is None:
        raise ValueError('`lang` must be a language code for the tokens "moses", got None.')
    language, remaining = find_language(lang), iter(texts)
    first = list(islice(remaining, _NUM_CHECKED))
    warn_of_unspaced_text(language, first)
    cut = language.word_tokenizer()
    return (cut(text.lower()) for text in chain(first, remaining))


def _pieces(texts: Iterable[str], path: str | Path, is_target: bool) -> Iterator[list[str]]:
    tokenizer, remaining = load_tokenizer(path, parameter="tokens"), iter(texts)

    def cut(batch: list[str]) -> list[list[int]]:
        return (
            encode(tokenizer, [""] * len(batch), batch)["labels"]
            if is_target
            else encode(tokenizer, batch)["input_ids"]
        )

    added = {*cut([""])[0]}
    while batch := list(islice(remaining, 1000)):
        for token_ids in cut(batch):
            yield list(tokenizer.convert_ids_to_tokens([token for token in token_ids if token not in added]))
