"""What a graph decodes beside what the model does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from ..base.utils import check_record, read_record
from ..data.arguments import CorpusArguments, first_rows
from ..data.locations import local_folder
from ..data.several import validation_place
from ..data.text_files import read_lines
from ..decoding import encode_non_blank, to_texts, token_batches
from ..decoding.scoring import padded_batch
from ..metrics.translation import score_translations
from .arguments import ExportArguments


logger = logging.get_logger(__name__)

# What export.json calls rows of random tokens.
RANDOM = "random"
# Mean log-probabilities of a token (nats) so near each other are a tie, which rounding decides.
TIE = 1e-5
# Rows of random tokens where nobody gives sentences, and the longest of them in tokens.
_NUM_RANDOM, _LONGEST_RANDOM = 24, 40
_MAX_BATCH_TOKENS = 512
# The record of a training, and those of its arguments that name the validation split.
_RUN = "run.json"
_WHERE_IN_IT = ("source_lang", "target_lang", "source_column", "target_column")
_OPTIONAL = ("validation_split", "validation_corpus", "config_name", "source_column", "target_column")
_RUN_KINDS: dict[str, Any] = {
    **{"corpus": (str, list), "source_lang": str, "target_lang": str},
    **dict.fromkeys(_OPTIONAL, (str, type(None))),
}
# Token ids with EOS, and mean log-probabilities of a token in nats.
Decoded = tuple[list[list[int]], list[float]]


@dataclass(frozen=True)
class Samples:
    """Sources on which a graph and its model are compared.

    Args:
        name (`str`): `"random"`, or the file or corpus that they are of.
        sources (`Sequence[Sequence[int]]`): token ids, EOS last.
        split (`str`, *optional*): split of the corpus.
        references (`Sequence[str]`, *optional*): their translations.
        target_lang (`str`, *optional*): language of these.
    """

    name: str
    sources: Sequence[list[int]]
    split: str | None = None
    references: Sequence[str] | None = None
    target_lang: str | None = None

    def decode(self, model: PreTrainedModel, knobs: dict[str, Any]) -> Decoded:
        """Translates the sources in batches."""
        config: Any = model.config
        results: dict[int, tuple[list[int], float]] = {}
        for batch in token_batches([len(ids) for ids in self.sources], _MAX_BATCH_TOKENS):
            inputs = padded_batch([self.sources[i] for i in batch], config.pad_token_id, torch.device("cpu"))
            generate: Any = model.generate
            output = generate(**inputs, return_dict_in_generate=True, **knobs)
            lengths = output.sequences.ne(config.pad_token_id).sum(dim=1).tolist()
            for i, ids, length, score in zip(
                batch, output.sequences.tolist(), lengths, output.sequences_scores.tolist(), strict=True
            ):
                results[i] = ids[:length], score
        sequences, scores = zip(*(results[i] for i in range(len(self.sources))), strict=True)
        return list(sequences), list(scores)

    def bleu(self, tokenizer: PreTrainedTokenizerBase, sequences: list[list[int]]) -> float | None:
        """Returns BLEU of translations, None without references."""
        if self.references is None or self.target_lang is None:
            return None
        texts = to_texts(tokenizer, sequences)
        scores = score_translations(texts, self.references, target_lang=self.target_lang, metrics=["sacrebleu"])
        return scores["sacrebleu"].score


def load_validation(args: ExportArguments) -> tuple[CorpusArguments, str, Any] | None:
    """Loads the validation split that the `run.json` of a model names, where no sentences are given.

    Returns:
        `tuple`: the corpus, the name of the split and its rows. None also where no split is named, or it cannot be
        loaded, which is told.
    """
    if args.sentences is not None:
        return None
    try:
        record = local_folder(args.model, patterns=[_RUN]) / _RUN
        run = read_record(record, {"arguments": dict})["arguments"]
        check_record(run, _RUN_KINDS, f"`arguments` of `{record}`")
    except (OSError, ValueError):
        return None  # `hf-nat train` did not make it.
    split, corpora = run.get("validation_split"), run["corpus"]
    if not (split and corpora) or run.get("validation_share") is not None:
        return None
    names = corpora if isinstance(corpora, str) else [str(name) for name in corpora]
    place = validation_place(names, run.get("config_name"), run.get("validation_corpus"))
    try:
        corpus = CorpusArguments(**place, **{name: run.get(name) for name in _WHERE_IN_IT})
        return corpus, split, corpus.load(split)
    except (OSError, ValueError) as error:
        logger.warning_once(
            "Graph and model are compared on random tokens, since the validation split of the model cannot be loaded "
            f"here: {error} On these 8 bits differ far more often than on text: name sentences with `--sentences`."
        )
        return None


def load_samples(args: ExportArguments, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Samples:
    """Reads the sentences that the arguments name, else those that the model was validated on, else draws random ones.

    Raises:
        ValueError: if there are no sentences, or not as many references.
    """
    references: list[str] | None
    if args.sentences is not None:
        name, split, target_lang = args.sentences, None, args.target_lang
        lines, references = _read_texts(args.sentences, args.references, args.max_samples)
    elif (validation := load_validation(args)) is not None:
        corpus, split, rows = validation
        name, target_lang = corpus.corpus, corpus.target_lang
        pairs = first_rows(rows, args.max_samples)["translation"]
        lines, references = ([pair[lang] for pair in pairs] for lang in (corpus.source_lang, target_lang))
    else:
        return Samples(RANDOM, _random_sources(model, min(_NUM_RANDOM, args.max_samples)))
    encoded = encode_non_blank(model, tokenizer, lines)
    if not encoded.rows:
        raise ValueError(f"`sentences` must hold a sentence, got none in `{name}`.")
    kept = None if references is None else [references[row] for row in encoded.rows]
    return Samples(name, encoded.input_ids, split, kept, target_lang)


def _read_texts(sentences: str, references: str | None, limit: int) -> tuple[list[str], list[str] | None]:
    """Reads the first lines of both files."""
    lines = list(islice(read_lines(sentences), limit))
    if references is None:
        return lines, None
    others = list(islice(read_lines(references), limit))
    if len(others) != len(lines):
        raise ValueError(f"`references` must have a line for each of `sentences`, got {len(others)} for {len(lines)}.")
    return lines, others


def _random_sources(model: PreTrainedModel, number: int) -> list[list[int]]:
    """Draws rows of tokens of all lengths, from the longest to an empty one."""
    config: Any = model.config
    special = {config.pad_token_id, config.bos_token_id, config.eos_token_id, config.mask_token_id}
    words = torch.tensor([token for token in range(config.vocab_size) if token not in special])
    generator = torch.Generator().manual_seed(0)
    longest = min(_LONGEST_RANDOM, config.max_position_embeddings)
    lengths = torch.linspace(longest - 1, 0, number).long().tolist()
    draws = [torch.randint(len(words), (length,), generator=generator) for length in lengths]
    return [[*words[draw].tolist(), config.eos_token_id] for draw in draws]


def compare(samples: Samples, tokenizer: PreTrainedTokenizerBase, expected: Decoded, found: Decoded) -> dict[str, Any]:
    """Counts how many translations of a graph are those of the model, and what the others cost."""
    bleu = {"model": samples.bleu(tokenizer, expected[0]), "graph": samples.bleu(tokenizer, found[0])}
    return {**_counts(expected, found), **({} if samples.references is None else {"bleu": bleu})}


def require_parity(expected: Decoded, found: Decoded, *, refines: bool = False) -> None:
    """Raises ValueError unless a graph translates as its model does, but for ties.

    A tie in an early round of a model that `refines` may lead to another translation: of 100 one may differ.
    """
    counts = _counts(expected, found)
    differing = counts["num_sentences"] - counts["num_equal"] - counts["num_tied"]
    if differing > (counts["num_sentences"] // 100 if refines else 0):
        raise ValueError(
            f"The graph must translate every sample as the model does, but {differing} of {counts['num_sentences']} "
            f"differ, with scores more than {TIE} nats apart. Export with other versions of torch, onnxscript and "
            "onnxruntime, or decode with `backend: torch`."
        )


def _counts(expected: Decoded, found: Decoded) -> dict[str, Any]:
    """Counts equal translations, and others of the same score (`num_tied`, see `TIE`)."""
    is_equal = [before == after for before, after in zip(expected[0], found[0], strict=True)]
    differences = [abs(before - after) for before, after in zip(expected[1], found[1], strict=True)]
    return {
        "num_sentences": len(is_equal),
        "num_equal": sum(is_equal),
        "num_tied": sum(not same and by <= TIE for same, by in zip(is_equal, differences, strict=True)),
        "largest_score_difference": max(differences),
    }
