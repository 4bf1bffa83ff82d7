"""What a graph decodes beside what the model does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..data.corpora import read_lines
from ..decoding import encode_non_blank, to_texts, token_batches
from ..metrics.translation import score_translations
from .arguments import ExportArguments


# Rows of random tokens where nobody gives sentences, and the longest of them in tokens.
_NUM_RANDOM, _LONGEST_RANDOM = 24, 40
_MAX_BATCH_TOKENS = 512


@dataclass(frozen=True)
class Samples:
    """Sources on which a graph and its model are compared.

    Args:
        sources (`Sequence[Sequence[int]]`): token ids, EOS last.
        references (`Sequence[str]`, *optional*): their translations.
        target_lang (`str`, *optional*): language of these.
    """

    sources: Sequence[list[int]]
    references: Sequence[str] | None = None
    target_lang: str | None = None

    def decode(self, model: PreTrainedModel, knobs: dict[str, Any]) -> tuple[list[list[int]], list[float]]:
        """Translates the sources in batches: token ids with EOS, and mean log-probabilities in nats."""
        config: Any = model.config
        results: dict[int, tuple[list[int], float]] = {}
        for batch in token_batches([len(ids) for ids in self.sources], _MAX_BATCH_TOKENS):
            rows = [torch.tensor(self.sources[i]) for i in batch]
            input_ids = pad_sequence(rows, batch_first=True, padding_value=config.pad_token_id)
            attention_mask = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
            generate: Any = model.generate
            output = generate(
                input_ids=input_ids, attention_mask=attention_mask, return_dict_in_generate=True, **knobs
            )
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


def load_samples(args: ExportArguments, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Samples:
    """Reads the sentences that the arguments name, or draws random ones.

    Raises:
        ValueError: if there are no sentences, or not as many references.
    """
    if args.sentences is None:
        return Samples(_random_sources(model))
    lines = list(islice(read_lines(args.sentences), args.max_samples))
    encoded = encode_non_blank(model, tokenizer, lines)
    if not encoded.rows:
        raise ValueError(f"`sentences` must hold a sentence, got none in `{args.sentences}`.")
    if args.references is None:
        return Samples(encoded.input_ids)
    references = list(islice(read_lines(args.references), args.max_samples))
    if len(references) != len(lines):
        raise ValueError(
            f"`references` must have a line for each of `sentences`, got {len(references)} for {len(lines)}."
        )
    return Samples(encoded.input_ids, [references[row] for row in encoded.rows], args.target_lang)


def _random_sources(model: PreTrainedModel) -> list[list[int]]:
    """Draws rows of tokens of all lengths, from an empty one on."""
    config: Any = model.config
    special = {config.pad_token_id, config.bos_token_id, config.eos_token_id, config.mask_token_id}
    words = torch.tensor([token for token in range(config.vocab_size) if token not in special])
    generator = torch.Generator().manual_seed(0)
    longest = min(_LONGEST_RANDOM, config.max_position_embeddings)
    lengths = torch.linspace(0, longest - 1, _NUM_RANDOM).long().tolist()
    draws = [torch.randint(len(words), (length,), generator=generator) for length in lengths]
    return [[*words[draw].tolist(), config.eos_token_id] for draw in draws]


def compare(
    samples: Samples,
    tokenizer: PreTrainedTokenizerBase,
    expected: tuple[list[list[int]], list[float]],
    found: tuple[list[list[int]], list[float]],
) -> dict[str, Any]:
    """Counts how many translations of a graph are those of the model, and what the others cost."""
    pairs = list(zip(expected[0], found[0], strict=True))
    scores = zip(expected[1], found[1], strict=True)
    bleu = {"model": samples.bleu(tokenizer, expected[0]), "graph": samples.bleu(tokenizer, found[0])}
    return {
        "num_sentences": len(pairs),
        "num_equal": sum(before == after for before, after in pairs),
        "largest_score_difference": max(abs(before - after) for before, after in scores),
        **({} if samples.references is None else {"bleu": bleu}),
    }
