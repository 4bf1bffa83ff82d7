"""Documents translated sentence by sentence: split, decoded, joined again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from itertools import islice

from ..base.languages import find_language, require_language
from ..data.encoding import is_blank
from .translations import Translation


@dataclass(frozen=True)
class SentenceSplitter:
    """Splits documents into sentences by the rules of their language, and joins the translations of these.

    Args:
        source_lang (`str`): code of the documents' language; one without rules is split by those of English.
        target_lang (`str`): code of the language of the translations, which decides what stands between two of them.

    Raises:
        ImportError: if sentencex is not installed, with the remedy.
        ValueError: if the code of the documents' language is none.

    Source: sentencex of the Wikimedia Foundation (https://github.com/wikimedia/sentencex).
    """

    source_lang: str
    target_lang: str

    def __post_init__(self) -> None:
        require_language("source_lang", self.source_lang)
        _ = self._segment

    @cached_property
    def _segment(self) -> Callable[[str, str], list[str]]:
        try:
            from sentencex import segment
        except ImportError as error:
            raise ImportError(
                "`split_sentences` needs sentencex: pip install 'hf_nat[sentences]', or leave it out."
            ) from error
        return segment

    @property
    def name(self) -> str:
        """What splits, with its version, for records."""
        return f"sentencex {metadata.version('sentencex')}"

    def split(self, document: str) -> list[str]:
        """Returns the sentences of a document, blank ones left out; a blank document is one sentence."""
        sentences = self._segment(find_language(self.source_lang).code, document)
        return [text for text in sentences if not is_blank(text)] or [document]

    def join(self, translations: Sequence[Translation]) -> Translation:
        """Makes one translation of those of a document's sentences.

        Args:
            translations (`Sequence[Translation]`): at least one.

        Returns:
            [`Translation`]: texts, numbers of tokens and what was counted of drafts added up, the mean score of all
            tokens (a NAT model's empty sentence has none), cut where one is, and the most rounds of any.
        """
        if len(translations) == 1:
            return translations[0]
        separator = " " if find_language(self.target_lang).is_spaced else ""
        # An autoregressive model's EOS is scored too; a NAT model's empty sentence has no scored token.
        scored = [
            (part.score, part.num_tokens + (part.iterations is None))
            for part in translations
            if part.score is not None
        ]
        rounds = [part.iterations for part in translations if part.iterations is not None]
        calls = [part.teacher_calls for part in translations if part.teacher_calls is not None]
        accepted = [part.accepted_tokens for part in translations if part.accepted_tokens is not None]
        return Translation(
            text=separator.join(part.text for part in translations if part.text),
            score=_weighted_mean(scored),
            num_tokens=sum(part.num_tokens for part in translations),
            truncated=any(part.truncated for part in translations),
            iterations=max(rounds, default=None),
            teacher_calls=sum(calls) if calls else None,
            accepted_tokens=sum(accepted) if accepted else None,
        )

    def translate(
        self, documents: Sequence[str], decode: Callable[[list[str]], list[Translation]]
    ) -> list[Translation]:
        """Translates documents by what translates sentences.

        Args:
            documents (`Sequence[str]`): the documents.
            decode (`Callable`): from sentences to their translations.
        """
        split = [self.split(document) for document in documents]
        decoded = iter(decode([sentence for sentences in split for sentence in sentences]))
        return [self.join(list(islice(decoded, len(sentences)))) for sentences in split]


def _weighted_mean(weighted: Sequence[tuple[float, int]]) -> float | None:
    """The mean of numbers with their weights; where no weight is above 0 the first number, None without any."""
    total = sum(weight for _, weight in weighted)
    if not total:
        return weighted[0][0] if weighted else None
    return sum(number * weight for number, weight in weighted) / total
