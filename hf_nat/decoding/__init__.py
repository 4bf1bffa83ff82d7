"""Text in, text out: loads a checkpoint and translates sentences with it, autoregressive or not."""

from __future__ import annotations

from .arguments import DecodingArguments, LoadingArguments
from .documents import SentenceSplitter
from .drafting import Draft, DraftCounts
from .language_model import NGramLanguageModel
from .loading import (
    decoding_expert,
    language_pair,
    load_model,
)
from .scoring import score_pairs
from .sources import EncodedSources, encode_non_blank, encode_sources, max_source_length, output_limits, token_batches
from .terms import TermList, term_pieces, term_tokens
from .translations import RowJudge, Translation, keep_best, to_texts, to_translations
from .translator import Translator, max_new_tokens, translate


__all__ = [
    "DecodingArguments",
    "Draft",
    "DraftCounts",
    "EncodedSources",
    "LoadingArguments",
    "NGramLanguageModel",
    "RowJudge",
    "SentenceSplitter",
    "TermList",
    "Translation",
    "Translator",
    "decoding_expert",
    "encode_non_blank",
    "encode_sources",
    "keep_best",
    "language_pair",
    "load_model",
    "max_new_tokens",
    "max_source_length",
    "output_limits",
    "score_pairs",
    "term_pieces",
    "term_tokens",
    "to_texts",
    "to_translations",
    "token_batches",
    "translate",
]
