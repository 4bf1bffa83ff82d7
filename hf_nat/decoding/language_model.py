"""n-gram language models of KenLM over the pieces of a tokenizer, for beam search (extra `lm`)."""

from __future__ import annotations

import bz2
import gzip
import importlib
import lzma
import math
import os
import re
import zlib
from collections.abc import Callable, Set
from contextlib import suppress
from functools import lru_cache, partial
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from ..base.utils import require_plain_file
from ..data.locations import local_folder
from ..data.tokenizer import TOKENIZER_FILES, load_tokenizer
from .ngrams import SPECIAL_WORDS, UNK


# What `hf-nat language-model` writes into a model's folder.
LANGUAGE_MODEL_FILE = "language_model.arpa.gz"
# Contexts and answers that are remembered; sentences of one corpus share most of theirs.
_REMEMBERED = 2**17
# How files begin that KenLM unpacks.
_PACKED: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
_NEGATIVE = re.compile(rb"ngram\s+\d+\s*=\s*-")
_PLACE_IN_KENLM = re.compile(r"\S+\.(?:cc|hh):\d+ in .*? threw \w+(?: because `.*?')?\.?\s*|\s+Byte: \d+", re.DOTALL)


class NGramLanguageModel:
    """An n-gram model that scores token ids, called as `generate` calls its `language_model`.

    It must have been made of text that the tokenizer has cut into pieces, blanks between them.

    Args:
        path (`str` or `Path`): file of the model, ARPA (packed as .gz too) or KenLM's binary form, or a folder or Hub
            id with what `hf-nat language-model` wrote, see [`language_model_file`].
        tokenizer (`PreTrainedTokenizerBase`): the tokenizer.

    Raises:
        ImportError: if KenLM is missing.
        OSError: if there is no such file.
        ValueError: if the file is damaged, or of other words than the tokenizer's pieces.
    """

    def __init__(self, path: str | Path, tokenizer: PreTrainedTokenizerBase) -> None:
        place, path = str(path), language_model_file(path)
        if place != tokenizer.name_or_path:  # Of a Hub id there is no other way to know it.
            _require_same_pieces(path, tokenizer)
        kenlm = import_kenlm()
        self._pieces = list(tokenizer.convert_ids_to_tokens(list(range(len(tokenizer)))))
        _require_words(path, {*self._pieces, *SPECIAL_WORDS, "<UNK>"})
        config = kenlm.Config()
        config.show_progress, config.arpa_complain = False, kenlm.ARPALoadComplain.NONE
        try:
            self._model = kenlm.Model(str(path), config)
        except (OSError, RuntimeError, UnicodeDecodeError) as error:
            reason = _PLACE_IN_KENLM.sub("", str(error)).rstrip(".")
            raise ValueError(
                f"`language_model` must be an n-gram model in ARPA or KenLM's binary form, got {str(path)!r}: "
                f"{reason}. The file is damaged, or something else. Make it anew with `hf-nat language-model`."
            ) from error
        ordinary = [piece for piece in self._pieces if piece not in tokenizer.all_special_tokens]
        if not any(piece in self._model for piece in ordinary):
            raise ValueError(
                f"`language_model` must know pieces of the tokenizer, such as {ordinary[-1]!r}, got a model of other "
                f"words at {str(path)!r}. Make it of text that the tokenizer has cut."
            )
        self._pieces[tokenizer.eos_token_id] = "</s>"
        self._new_state = kenlm.State
        self._state = lru_cache(_REMEMBERED)(self._read)
        self._score = lru_cache(_REMEMBERED)(self._ask)

    def __call__(self, prefix: tuple[int, ...], token: int) -> float:
        """Scores a token.

        Args:
            prefix (`tuple[int, ...]`): ids of all tokens before it.
            token (`int`): its id; that of EOS for the end.

        Returns:
            `float`: log-probability in nats. A piece that the model does not know is its `<unk>`.
        """
        # The last n - 1 tokens are all that counts, and the start only where there are fewer.
        width = self._model.order - 1
        return self._score(
            prefix[len(prefix) - width :] if len(prefix) > width else prefix, len(prefix) <= width, token
        )

    def _ask(self, context: tuple[int, ...], is_start: bool, token: int) -> float:
        after = self._new_state()
        log10 = self._model.BaseScore(self._state(context, is_start), self._piece(token), after)
        return log10 * math.log(10)

    def _read(self, context: tuple[int, ...], is_start: bool) -> Any:
        """The state behind some tokens, at the start of a sentence or in its middle."""
        state = self._new_state()
        if is_start:
            self._model.BeginSentenceWrite(state)
        else:
            self._model.NullContextWrite(state)
        for token in context:
            before, state = state, self._new_state()
            self._model.BaseScore(before, self._piece(token), state)
        return state

    def _piece(self, token: int) -> str:
        # The vocabulary of a model may be larger than its tokenizer's.
        return self._pieces[token] if token < len(self._pieces) else "<unk>"


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


def _require_words(path: str | Path, words: Set[str]) -> None:
    """Raises ValueError for an ARPA file with a count below 0, of which KenLM dies, or with other words than these.

    A word with a character of none of them is no fault: tokenizers spell out what they do not know.
    """
    known = {*"".join(words)}
    with open(path, "rb") as file:
        magic = file.read(8)
    opener = next((opener for start, opener in _PACKED.items() if magic.startswith(start)), open)
    with suppress(EOFError, OSError, lzma.LZMAError, zlib.error), opener(path, "rb") as file:
        lines = iter(partial(file.readline, 1000), b"")  # a line of something else may be all of it
        for line in islice(lines, 100):
            if line.strip() == b"\\1-grams:":
                break
            if _NEGATIVE.match(line):
                raise ValueError(
                    f"`language_model` must be an n-gram model with counts >= 0, got "
                    f"{line.decode(errors='replace').strip()!r} in {str(path)!r}. The file is damaged."
                )
        else:
            return
        for fields in takewhile(bool, map(bytes.split, lines)):
            word = fields[1].decode(errors="replace") if len(fields) > 1 else UNK
            if word not in words and known.issuperset(word):
                raise ValueError(
                    f"`language_model` must be an n-gram model of the tokenizer's pieces, got one with the word "
                    f"{word!r} in {str(path)!r}. Make it of text that the tokenizer has cut: `hf-nat language-model`."
                )


def import_kenlm() -> Any:
    """Imports KenLM.

    Raises:
        ImportError: if it is missing, with the remedy.
    """
    try:
        return importlib.import_module("kenlm")
    except ImportError as error:
        raise ImportError("An n-gram language model needs KenLM: pip install 'hf_nat[lm]'.") from error
