"""n-gram language models over the pieces of a tokenizer, for beam search."""

from __future__ import annotations

import bz2
import gzip
import lzma
import math
import os
import zlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from ..base.utils import require_plain_file
from ..data.locations import local_folder
from ..data.tokenizer import TOKENIZER_FILES, load_tokenizer
from ..models.ctc_search import NGramAutomaton
from .arpa import read_arpa
from .ngrams import BOS, EOS, SPECIAL_WORDS, UNK, NGrams


# What `hf-nat language-model` writes into a model's folder.
LANGUAGE_MODEL_FILE = "language_model.arpa.gz"
# Contexts that are remembered; sentences of one corpus share most of theirs.
_REMEMBERED = 2**17
# How packed files begin.
_PACKED: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
# How KenLM's binary form begins.
_KENLM = b"mmap lm "
# Log-probability of `<unk>`, to base 10, where a file has none: KenLM's.
_NEVER = -100.0


class NGramLanguageModel:
    """An n-gram model that scores token ids, called as `generate` calls its `language_model`.

    It must have been made of text that the tokenizer has cut into pieces, blanks between them.

    Args:
        path (`str` or `Path`): file of the model in ARPA form, plain or packed (.gz, .bz2, .xz), or a folder or Hub id
            with what `hf-nat language-model` wrote, see [`language_model_file`].
        tokenizer (`PreTrainedTokenizerBase`): the tokenizer.

    Attributes:
        automaton ([`NGramAutomaton`]): the model, for a search that asks for it.

    Raises:
        OSError: if there is no such file.
        ValueError: if the file is damaged, or of other words than the tokenizer's pieces, or these have no EOS.
    """

    def __init__(self, path: str | Path, tokenizer: PreTrainedTokenizerBase) -> None:
        place, path = str(path), language_model_file(path)
        if place != tokenizer.name_or_path:  # Of a Hub id there is no other way to know it.
            _require_same_pieces(path, tokenizer)
        if tokenizer.eos_token_id is None:
            raise ValueError("`language_model` must be of a tokenizer with an EOS token, got one without.")
        pieces = list(tokenizer.convert_ids_to_tokens(list(range(len(tokenizer)))))
        try:
            vocabulary, orders = _read(path)
            self.automaton = to_automaton(vocabulary, orders, pieces, tokenizer.eos_token_id)
        except PermissionError:
            raise
        except (EOFError, OSError, ValueError, lzma.LZMAError, zlib.error) as error:
            raise ValueError(
                f"`language_model` must be an n-gram model in ARPA form, got {str(path)!r}: {error}. The file is "
                "damaged, or something else. Make it anew with `hf-nat language-model`."
            ) from error
        _require_words(path, vocabulary, pieces, tokenizer.all_special_tokens)
        self._order = len(orders)
        self._state = lru_cache(_REMEMBERED)(self._read_context)
        self._advance = lru_cache(_REMEMBERED)(self.automaton.advance)

    def __call__(self, prefix: tuple[int, ...], token: int) -> float:
        """Scores a token.

        Args:
            prefix (`tuple[int, ...]`): ids of all tokens before it.
            token (`int`): its id; that of EOS for the end.

        Returns:
            `float`: log-probability in nats. A piece that the model does not know is its `<unk>`.
        """
        # The last n - 1 tokens are all that counts, and the start only where there are fewer.
        width = self._order - 1
        context = prefix[max(len(prefix) - width, 0) :]
        return self._advance(self._state(context, len(prefix) <= width), token)[0]

    def _read_context(self, context: tuple[int, ...], is_start: bool) -> int:
        """The state behind some tokens, at the start of a sentence or in its middle."""
        state = self.automaton.start if is_start else 0
        for token in context:
            _, state = self._advance(state, token)
        return state


def to_automaton(
    vocabulary: Sequence[str], orders: Sequence[NGrams], pieces: Sequence[str], eos_token_id: int
) -> NGramAutomaton:
    """Makes an n-gram model an automaton over the tokens of a tokenizer.

    Args:
        vocabulary (`Sequence[str]`): the words by id.
        orders (`Sequence[NGrams]`): the n-grams of each order, see [`estimate`].
        pieces (`Sequence[str]`): the word that each token is.
        eos_token_id (`int`): the token that is `</s>`.

    Returns:
        [`NGramAutomaton`]: the automaton.

    Raises:
        ValueError: if the context of an n-gram is missing, or an n-gram stands there twice.
    """
    vocabulary = [UNK if word == "<UNK>" else word for word in vocabulary]
    words = {word: number for number, word in enumerate(vocabulary, start=1)}
    if len(words) < len(vocabulary):
        raise ValueError(f"`{UNK}` and `<UNK>` are one word, got both")
    first = orders[0]
    if UNK not in words:
        words[UNK] = len(words) + 1
        first = NGrams(
            np.append(first.words, [[len(vocabulary)]], axis=0),
            np.append(first.log_probs, _NEVER * math.log(10)),
            np.append(first.backoffs, 0.0),
        )
    # An n-gram is the number of its context times this and that of its last word.
    base = len(words) + 1
    keys = np.zeros(0, dtype=np.int64)
    # Of all n-grams so far, the one without words first.
    parts: dict[str, list[np.ndarray]] = {
        **{name: [np.zeros(1, dtype=np.int64)] for name in ("contexts", "last_words", "shorter")},
        **{name: [np.zeros(1)] for name in ("log_probs", "backoffs")},
    }

    def find(context: np.ndarray, word: np.ndarray) -> np.ndarray:
        wanted = context * base + word
        places = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
        return np.where(keys[places] == wanted, places + 1, 0)

    for n, grams in enumerate([first, *orders[1:]], start=1):
        context = np.zeros(len(grams.words), dtype=np.int64)
        for column in (grams.words[:, :-1] + 1).T:
            context = find(context, column)
            if not context.all():
                missing = " ".join(vocabulary[word] for word in grams.words[context.argmin(), :-1])
                raise ValueError(f"the context {missing!r} of one of its {n}-grams must be an n-gram, too")
        new = context * base + grams.words[:, -1] + 1
        order = new.argsort()
        context, word, new = context[order], grams.words[order, -1] + 1, new[order]
        if twice := np.flatnonzero(new[1:] == new[:-1])[:1].tolist():
            text = " ".join(vocabulary[number] for number in grams.words[order[twice[0]]])
            raise ValueError(f"each n-gram must be there once, got {text!r} twice")
        # The end of an n-gram is the end of its context, or an end of that, and its last word.
        end, ends = np.concatenate(parts["shorter"]), np.zeros(len(new), dtype=np.int64)
        if n > 1:
            state = end[context]
            ends = find(state, word)
            while not ends.all():
                state = np.where(ends > 0, state, end[state])
                ends = np.where(ends > 0, ends, find(state, word))
        keys = np.append(keys, new)
        values = (context, word, ends, grams.log_probs[order], grams.backoffs[order])
        for part, value in zip(parts.values(), values, strict=True):
            part.append(value)
    arrays = {name: np.concatenate(part) for name, part in parts.items()}
    following = np.bincount(arrays.pop("contexts")[1:], minlength=len(keys) + 1)
    unknown = words[UNK]
    of_tokens = np.array([words.get(piece, unknown) for piece in pieces])
    of_tokens[eos_token_id] = words.get(EOS, unknown)
    return NGramAutomaton(
        start=words.get(BOS, 0),
        words=of_tokens,
        unknown=unknown,
        first=1 + np.concatenate([[0], following.cumsum()]),
        **arrays,
    )


def language_model_file(path: str | Path) -> Path:
    """Finds the file of an n-gram model.

    Args:
        path (`str` or `Path`): the file; or a model's folder, or its Hub id, with `language_model.arpa.gz`.

    Raises:
        OSError: if there is no such file.
        ValueError: if it is a pipe or the like.
    """
    if os.path.exists(path) and not os.path.isdir(path):
        require_plain_file(path)
        return Path(path)
    patterns = [LANGUAGE_MODEL_FILE, *TOKENIZER_FILES]
    file = local_folder(path, parameter="language_model", patterns=patterns) / LANGUAGE_MODEL_FILE
    if not file.is_file():
        raise FileNotFoundError(
            f"`language_model` must be a file of an n-gram model, or a folder or Hub id with {file.name}, got "
            f"{str(path)!r} without. Run `hf-nat language-model`."
        )
    return file


def _require_same_pieces(file: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raises ValueError for what `hf-nat language-model` wrote into the folder of a model with other pieces."""
    folder = file.parent
    has_tokenizer = any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json"))
    is_own = os.path.realpath(folder) == os.path.realpath(tokenizer.name_or_path)
    if file.name != LANGUAGE_MODEL_FILE or not has_tokenizer or is_own:
        return
    if load_tokenizer(folder, parameter="language_model").get_vocab() != tokenizer.get_vocab():
        raise ValueError(
            f"`language_model` must be of the model's own tokenizer, got {str(folder)!r}, whose tokenizer has other "
            "pieces. Run `hf-nat language-model` for this model."
        )


def _read(path: Path) -> tuple[list[str], list[NGrams]]:
    """Reads a file as `read_arpa` does."""
    with open(path, "rb") as file:
        magic = file.read(8)
    if magic == _KENLM:
        raise ValueError("it is KenLM's binary form; give the ARPA file that it was made from")
    opener = next((opener for start, opener in _PACKED.items() if magic.startswith(start)), open)
    with opener(path, "rb") as file:
        return read_arpa(file)


def _require_words(path: Path, vocabulary: Sequence[str], pieces: Sequence[str], special: Sequence[str]) -> None:
    """Raises ValueError for a model of other words than the pieces of a tokenizer.

    A word with a character of none of them is no fault: tokenizers spell out what they do not know.
    """
    ordinary = [piece for piece in pieces if piece not in special]
    if not set(ordinary).intersection(vocabulary):
        raise ValueError(
            f"`language_model` must know pieces of the tokenizer, such as {ordinary[-1]!r}, got a model of other "
            f"words at {str(path)!r}. Make it of text that the tokenizer has cut."
        )
    known = {*pieces, *SPECIAL_WORDS, "<UNK>"}
    characters = {*"".join(known)}
    for word in vocabulary:
        if word not in known and characters.issuperset(word):
            raise ValueError(
                f"`language_model` must be an n-gram model of the tokenizer's pieces, got one with the word "
                f"{word!r} in {str(path)!r}. Make it of text that the tokenizer has cut: `hf-nat language-model`."
            )
