"""The tokens that a corpus is measured in: words, or the pieces that a model sees."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path

from datasets import Dataset, IterableDataset

from ..base.languages import find_language, warn_of_unspaced_text
from ..base.utils import sha256_file
from .encoding import encode
from .tokenizer import load_tokenizer


_BLANKS = re.compile("[ \t]+")
# Sentences that are looked at for a script without spaces.
_NUM_CHECKED = 100


def tokenize(texts: Iterable[str], tokens: str = "space", lang: str | None = None) -> Iterator[list[str]]:
    """Cuts sentences into the tokens that alignment and the measures work on.

    Args:
        texts (`Iterable[str]`): sentences.
        tokens (`str`, *optional*, defaults to `"space"`): one of
            - `"space"`: what blanks (space and tab) separate, for text that is tokenised already;
            - `"moses"`: words and punctuation by the Moses tokenizer, lower-cased; in a language without spaces
              between words (Chinese, Japanese, Thai, ...) each character of its script, see `Language`;
            - folder or Hub id of a tokenizer: its tokens, EOS left out, as a model with it sees the text.
        lang (`str`, *optional*): language code in any spelling, for `"moses"`.

    Returns:
        `Iterator[list[str]]`: tokens of each sentence, none for a blank one.

    Raises:
        ValueError: if `"moses"` has no language.
    """
    if tokens == "space":
        return ([word for word in _BLANKS.split(text) if word] for text in texts)
    if tokens == "moses":
        return _words(texts, lang)
    return _pieces(texts, tokens)


def corpus_tokens(dataset: Dataset | IterableDataset, lang: str, tokens: str) -> Iterator[list[str]]:
    """Cuts one side of a corpus into tokens, see `tokenize`.

    Args:
        dataset (`Dataset` or `IterableDataset`): corpus with the `translation` feature.
        lang (`str`): key of the language, and the language code for `"moses"`.
        tokens (`str`): as `tokenize` takes it.

    Returns:
        `Iterator[list[str]]`: tokens of each row, in order.
    """
    return tokenize((row["translation"][lang] for row in dataset.select_columns("translation")), tokens, lang)


def tokenizer_checksum(tokens: str) -> str | None:
    """Returns the SHA-256 of the tokenizer in a local folder, None for other `tokens` of `tokenize`."""
    file = Path(tokens) / "tokenizer.json"
    return sha256_file(file) if file.exists() else None


def _words(texts: Iterable[str], lang: str | None) -> Iterator[list[str]]:
    if lang is None:
        raise ValueError('`lang` must be a language code for the tokens "moses", got None.')
    language, remaining = find_language(lang), iter(texts)
    first = list(islice(remaining, _NUM_CHECKED))
    warn_of_unspaced_text(language, first)
    cut = language.word_tokenizer()
    return (cut(text.lower()) for text in chain(first, remaining))


def _pieces(texts: Iterable[str], path: str | Path) -> Iterator[list[str]]:
    tokenizer, remaining = load_tokenizer(path, parameter="tokens"), iter(texts)
    while batch := list(islice(remaining, 1000)):
        for token_ids in encode(tokenizer, batch)["input_ids"]:
            yield list(tokenizer.convert_ids_to_tokens(token_ids[:-1]))
