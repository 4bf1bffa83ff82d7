"""Errors in which non-autoregressive translations differ from others: they repeat, drop and invent words."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence


# A translation with fewer words than this share of its reference is short.
SHORT = 0.5


def repeated_words(sentences: Iterable[Sequence[str]]) -> float:
    """Measures how often a word is the same as the word right before it.

    Args:
        sentences (`Iterable[Sequence[str]]`): words of each sentence.

    Returns:
        `float`: share of all words, 0-100; 0 where there is none.

    Source: Saharia et al. 2020, section 5.3 ("token repetition").
    """
    num_words = repeated = 0
    for words in sentences:
        num_words += len(words)
        repeated += sum(left == right for left, right in zip(words, words[1:], strict=False))
    return _percent(repeated, num_words)


def length_errors(sentences: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Counts translations without a word, and those with fewer than half the words of their reference.

    Args:
        sentences (`Sequence[Sequence[str]]`): words of each translation.
        references (`Sequence[Sequence[str]]`): words of its reference, in the same order.

    Returns:
        `dict[str, float]`: `empty` and `short` (not empty, but short), shares of the sentences whose reference has a
        word, 0-100; `length_ratio`, words of all translations by words of all references (0 where these have none).

    Raises:
        ValueError: if the two numbers of sentences differ.
    """
    pairs = [(len(words), len(reference)) for words, reference in zip(sentences, references, strict=True)]
    lengths = [pair for pair in pairs if pair[1]]
    total = sum(reference for _, reference in pairs)
    return {
        "empty": _percent(sum(not length for length, _ in lengths), len(lengths)),
        "short": _percent(sum(0 < length < SHORT * reference for length, reference in lengths), len(lengths)),
        "length_ratio": sum(length for length, _ in pairs) / total if total else 0.0,
    }


def unknown_words(sentences: Iterable[Sequence[str]], vocabulary: Collection[str]) -> float:
    """Measures how many words the training text does not know: most are pieces of several words run together.

    Args:
        sentences (`Iterable[Sequence[str]]`): words of each sentence.
        vocabulary (`Collection[str]`): the words of the training text, cut in the same way.

    Returns:
        `float`: share of the words that hold a letter, 0-100; 0 where there is none.

    Source: Helcl et al. 2022, section 5 (errors to look at).
    """
    words = [word for sentence in sentences for word in sentence if any(map(str.isalpha, word))]
    return _percent(sum(word not in vocabulary for word in words), len(words))


def dropped_words(
    sources: Iterable[Sequence[str]],
    links: Iterable[Sequence[tuple[int, int]]],
    function_words: Collection[str],
) -> float:
    """Measures how many content words of the sources no word of the translation is linked to.

    Args:
        sources (`Iterable[Sequence[str]]`): words of each source.
        links (`Iterable[Sequence[tuple[int, int]]]`): links (source index, target index) to its translation.
        function_words (`Collection[str]`): words of the sources that count for nothing; see `frequent_words`.

    Returns:
        `float`: share of the words that hold a letter and are no function word, 0-100; 0 where there is none.

    Raises:
        ValueError: if the two numbers of sentences differ.
    """
    num_words = dropped = 0
    for words, pairs in zip(sources, links, strict=True):
        linked = {index for index, _ in pairs}
        content = [
            index for index, word in enumerate(words) if word not in function_words and any(map(str.isalpha, word))
        ]
        num_words += len(content)
        dropped += sum(index not in linked for index in content)
    return _percent(dropped, num_words)


def _percent(part: int, whole: int) -> float:
    return 100 * part / whole if whole else 0.0
