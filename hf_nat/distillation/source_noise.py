"""Sources as people type them: made of clean ones by a seeded recipe, before a teacher decodes them."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..base.bounds import require_choice
from ..base.languages import find_language
from ..data import is_blank


NOISE = ("merge", "typos", "casing", "punctuation")
# The column of the clean source, and that of what was done to it.
NOISE_COLUMNS = ("clean_source", "source_noise")
_ENDS = ".!?…。！？"
# Words that are long enough to be read with a typo, and how many of them have one.
_WORD = re.compile(r"[^\W\d_]{4,}")
_WORDS_PER_TYPO = 10


@dataclass(frozen=True)
class SourceNoise:
    """Changes some of the sources of consecutive rows, by the seed, their numbers and the rows behind them.

    Args:
        shares (`Mapping[str, float]`): for each kind out of `NOISE`, the share (0-1) of the rows that get it, each
            kind on its own:
            - `merge`: the next row is put behind, its target too; the last row of a shard has none behind it;
            - `typos`: in one of ten words of four letters or more, and at least in one, two letters change places, one
              is left out or doubled;
            - `casing`: all lower-case, all capitals, or a capital for each word;
            - `punctuation`: the final mark is left out, or there is a full stop where none was.
        seed (`int`): seed of the recipe.
        source_lang (`str`): key of the source language.
        target_lang (`str`): key of the target language, which sources alone have not.

    Raises:
        ValueError: if a kind is unknown, or a share no number from 0 to 1.
    """

    shares: Mapping[str, float]
    seed: int
    source_lang: str
    target_lang: str

    def __post_init__(self) -> None:
        for kind, share in self.shares.items():
            require_choice("source_noise", kind, NOISE)
            if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
                raise ValueError(f"`source_noise` must give {kind} a share from 0 to 1, got {share!r}.")

    def __call__(
        self, pairs: Sequence[dict[str, str]], numbers: Sequence[int]
    ) -> tuple[list[dict[str, str]], list[dict[str, Any]]]:
        """Returns the pairs with their new sources, and for each the columns `NOISE_COLUMNS`.

        Args:
            pairs (`Sequence[dict[str, str]]`): real pairs of consecutive rows.
            numbers (`Sequence[int]`): their numbers in the split.
        """
        changed, columns = [], []
        for place, (pair, number) in enumerate(zip(pairs, numbers, strict=True)):
            draw = random.Random(f"{self.seed} {number}")
            # All are drawn, so that the share of one kind does not change what another does.
            wanted = [kind for kind in NOISE if draw.random() < self.shares.get(kind, 0)]
            new, done = dict(pair), []
            following = pairs[place + 1] if place + 1 < len(pairs) else None
            if "merge" in wanted and following is not None and not _any_blank([pair, following]):
                between = {lang: " " if find_language(lang).is_spaced else "" for lang in pair}
                new = {lang: f"{pair[lang]}{between[lang]}{following[lang]}" for lang in pair}
                done.append("merge")
            clean = text = new[self.source_lang]
            for kind, change in (("typos", _typos), ("casing", _casing), ("punctuation", _punctuation)):
                if kind in wanted and (other := change(text, draw)) != text and not is_blank(other):
                    text = other
                    done.append(kind)
            changed.append(new | {self.source_lang: text})
            columns.append(dict(zip(NOISE_COLUMNS, (clean, done), strict=True)))
        return changed, columns


def _any_blank(pairs: Sequence[Mapping[str, str]]) -> bool:
    return any(is_blank(text) for pair in pairs for text in pair.values())


def _typos(text: str, draw: random.Random) -> str:
    words = list(_WORD.finditer(text))
    chosen = draw.sample(words, min(len(words), max(1, round(len(words) / _WORDS_PER_TYPO))))
    for word in sorted(chosen, key=re.Match.start, reverse=True):
        at = draw.randrange(word.start(), word.end() - 1)
        first, second = text[at], text[at + 1]
        # Two equal letters may change places without anybody seeing it.
        typo = draw.choice([second + first] * (first != second) + [second, first + first + second])
        text = text[:at] + typo + text[at + 2 :]
    return text


def _casing(text: str, draw: random.Random) -> str:
    return draw.choice([str.lower, str.upper, _capitalized])(text)


def _capitalized(text: str) -> str:
    return re.sub(r"\S+", lambda word: word[0][:1].upper() + word[0][1:], text)


def _punctuation(text: str, draw: random.Random) -> str:
    text = "" if is_blank(text) else text.rstrip()
    return text.rstrip(_ENDS) if text.endswith(tuple(_ENDS)) else f"{text}." if text else ""
