"""Error rates of translations, beside those of the references."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryDirectory

from datasets import Dataset

from ..alignment import align
from ..data import corpus_sides, tokenize
from ..metrics.error_rates import dropped_words, length_errors, repeated_words, unknown_words
from ..metrics.meteor import frequent_words


def translation_errors(
    sources: Sequence[str],
    references: Sequence[str],
    translations: Sequence[str],
    *,
    source_lang: str,
    target_lang: str,
    training_rows: Dataset | None = None,
) -> dict[str, dict[str, float]]:
    """Measures the errors in which non-autoregressive models differ, over lower-cased words.

    Args:
        sources (`Sequence[str]`): sentences.
        references (`Sequence[str]`): their references.
        translations (`Sequence[str]`): their translations by a model.
        source_lang (`str`): language code of the sources, and key of the training rows.
        target_lang (`str`): language code of the others.
        training_rows (`Dataset`, *optional*): parallel text, large, other than the sentences; needed to tell unknown
            and dropped words.

    Returns:
        `dict[str, dict[str, float]]`: rates, 0-100, of the `translations` and, for comparison, of the `references`:
            - `repeated_words`: words that are the same as the word before;
            - `empty`, `short`: translations without a word, and with less than half the words of the reference;
            - `length_ratio`: words of the translations by words of the references, not in percent;
            - `unknown_words`: words that the training targets do not have;
            - `dropped_words`: content words of the sources that our aligner, trained on the training text and the
              sentences themselves, links to nothing. Function words are those of METEOR's rule.
    """
    sides = {
        name: list(tokenize(texts, "moses", target_lang))
        for name, texts in (("translations", translations), ("references", references))
    }
    found = {
        name: {"repeated_words": repeated_words(words), **length_errors(words, sides["references"])}
        for name, words in sides.items()
    }
    if training_rows is None:
        return found
    cut = list(tokenize(sources, "moses", source_lang))
    with TemporaryDirectory(prefix="hf_nat-") as folder:
        languages = (source_lang, target_lang)
        left, right = (
            _StoredWords(Path(folder) / side, words)
            for side, words in zip(("source", "target"), corpus_sides(training_rows, languages, "moses"), strict=True)
        )
        vocabulary = set(chain.from_iterable(right))
        function_words = frequent_words(map(" ".join, left))
        for name, words in sides.items():
            links = align(chain(left, cut), chain(right, words), progress=True)
            found[name]["unknown_words"] = unknown_words(words, vocabulary)
            found[name]["dropped_words"] = dropped_words(cut, islice(links, len(training_rows), None), function_words)
    return found


class _StoredWords:
    """Words of the sentences of a corpus, in a file: they are cut once, and memory does not grow with the corpus.

    Args:
        file (`Path`): where they go.
        sentences (`Iterable[Sequence[str]]`): the words, which hold no space.
    """

    def __init__(self, file: Path, sentences: Iterable[Sequence[str]]) -> None:
        self._open = partial(file.open, encoding="utf-8", errors="surrogatepass", newline="\n")
        with self._open("w") as lines:
            lines.writelines(f"{' '.join(words)}\n" for words in sentences)

    def __iter__(self) -> Iterator[list[str]]:
        with self._open() as lines:
            yield from map(str.split, lines)
