"""The joint BPE tokenizer of our own models, and the preparation of any existing one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from datasets import Dataset, IterableDataset
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.utils import logging

from ..base.bounds import require_number
from ..base.utils import sha256_files
from .pretrained import load_pretrained_tokenizer


logger = logging.get_logger(__name__)

# The word mark of a piece. Where a text has that character it is written as ESCAPE + MARK, and, for every text to come
# back, ESCAPE itself as ESCAPE + SELF. These three are noncharacters, which Unicode keeps out of texts.
_WORD_MARK = "\u2581"
_ESCAPE, _SELF, _MARK = "\ufdd0", "\ufdd1", "\ufdd2"

# The files of a folder that decide how a text is cut.
TOKENIZER_FILES = (
    *("tokenizer*.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.*", "merges.txt", "*.spm", "*.model"),
)

# Ids 0 to 4 of every tokenizer trained here.
SPECIAL_TOKENS = {
    "pad_token": "<pad>",
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}


def corpus_texts(dataset: Dataset | IterableDataset, source_lang: str, target_lang: str) -> Iterator[str]:
    """Yields the source and the target of every row, the text that a joint tokenizer is trained on.

    Args:
        dataset (`Dataset` or `IterableDataset`): corpus with the `translation` feature.
        source_lang (`str`): key of the source language.
        target_lang (`str`): key of the target language.

    Returns:
        `Iterator[str]`: source, target, source, target ... in the order of the corpus.
    """
    for batch in dataset.select_columns("translation").iter(batch_size=1000):
        for translation in batch["translation"]:
            yield translation[source_lang]
            yield translation[target_lang]


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Trains a BPE tokenizer whose sentences end in `</s>` and carry no `<s>`.

    Ids: `<pad>` 0, `<s>` 1, `</s>` 2, `<unk>` 3, `<mask>` 4. Text is brought to Unicode NFC and otherwise comes back
    exactly from `decode`, but for leading spaces and characters that the training text lacks. A special token's
    spelling inside a sentence is plain text, never the token. The same texts in the same order give the same
    tokenizer.

    Args:
        texts (`Iterable[str]`): sentences of both languages, read once.
        vocab_size (`int`): number of tokens, special ones included. A small corpus may give fewer.

    Returns:
        `PreTrainedTokenizerFast`: right-padding tokenizer, loadable by `AutoTokenizer` once saved.

    Raises:
        ValueError: if there is no text, or `vocab_size` is below 1 or has no room for every character of it.

    Source: Sennrich et al. 2016 (BPE), with the word marks of SentencePiece (Kudo & Richardson 2018).
    """
    require_number("vocab_size", vocab_size, least=1)
    backend = Tokenizer(models.BPE(unk_token=SPECIAL_TOKENS["unk_token"]))
    backend.normalizer = normalizers.Sequence(
        [
            normalizers.NFC(),
            normalizers.Replace(_ESCAPE, _ESCAPE + _SELF),
            normalizers.Replace(_WORD_MARK, _ESCAPE + _MARK),
        ]
    )
    # A "<" stays a token of its own: no merge can then spell a special token and take its id.
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(prepend_scheme="always"), pre_tokenizers.Split("<", behavior="isolated")]
    )
    backend.decoder = decoders.Sequence(
        [
            decoders.Metaspace(prepend_scheme="always"),
            decoders.Fuse(),
            decoders.Replace(_ESCAPE + _MARK, _WORD_MARK),
            decoders.Replace(_ESCAPE + _SELF, _ESCAPE),
        ]
    )
    special_tokens = list(SPECIAL_TOKENS.values())
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=special_tokens, show_progress=False)
    backend.train_from_iterator(texts, trainer)

    size = backend.get_vocab_size()
    if size == len(special_tokens):
        raise ValueError("`texts` must hold at least one character, got none.")
    if size > vocab_size:
        raise ValueError(
            f"`vocab_size` must be >= {size} for this text ({len(special_tokens)} special tokens and its characters), "
            f"got {vocab_size}."
        )
    if size < vocab_size:
        logger.warning(f"The text gives {size} tokens, fewer than the `vocab_size` of {vocab_size}.")

    eos_token = SPECIAL_TOKENS["eos_token"]
    backend.post_processor = processors.TemplateProcessing(
        single=f"$A {eos_token}",
        pair=f"$A {eos_token} $B {eos_token}",
        special_tokens=[(eos_token, special_tokens.index(eos_token))],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        padding_side="right",
        clean_up_tokenization_spaces=False,
        split_special_tokens=True,
        **SPECIAL_TOKENS,
    )


def load_tokenizer(
    path: str | Path,
    revision: str | None = None,
    *,
    parameter: str = "tokenizer",
    trust_remote_code: bool = False,
) -> PreTrainedTokenizerBase:
    """Loads any tokenizer the way this package needs it: right padding, and every special token of a NAT model.

    A missing `<mask>` or `<s>` is added at the end of the vocabulary (a MarianTokenizer has neither), so a model with
    the vocabulary of the file has to be resized to `len(tokenizer)`.

    Args:
        path (`str` or `Path`): folder of a saved tokenizer or model, or a Hub id.
        revision (`str`, *optional*): branch, tag or commit on the Hub.
        parameter (`str`, *optional*, defaults to `"tokenizer"`): name of the option that gave the path, for errors.
        trust_remote_code (`bool`, *optional*, defaults to `False`): execute Python files that came with it.

    Returns:
        `PreTrainedTokenizerBase`: the tokenizer.

    Raises:
        OSError: if there is no such tokenizer.
        ValueError: if a file is damaged, or the tokenizer has no pad or no EOS token.
    """
    tokenizer = load_pretrained_tokenizer(
        path, parameter=parameter, revision=revision, trust_remote_code=trust_remote_code
    )
    for name in ("pad_token", "eos_token"):
        if getattr(tokenizer, name) is None:
            raise ValueError(f"A translation tokenizer must have a `{name}`, got none in `{path}`.")
    for name in ("mask_token", "bos_token"):
        if getattr(tokenizer, name) is None:
            added = tokenizer.add_special_tokens({name: SPECIAL_TOKENS[name]})
            logger.info(
                f"The tokenizer of `{path}` has no `{name}`: {SPECIAL_TOKENS[name]} set, {added} token(s) added."
            )
    return tokenizer


def tokenizer_files(folder: str | Path) -> dict[str, str]:
    """Returns the SHA-256 of each file of a tokenizer's folder that decides how a text is cut, by its name."""
    return sha256_files(folder, TOKENIZER_FILES)
