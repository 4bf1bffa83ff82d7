"""Corpora, tokenizer and encoding."""

from __future__ import annotations

from .corpora import load_corpus
from .encoding import EncodingReport, encode, encode_corpus, has_content, is_blank
from .multi_target import concatenate_targets, select_targets
from .tokenizer import corpus_texts, load_tokenizer, train_tokenizer
from .tokens import corpus_sides, corpus_tokens, tokenize, tokenizer_checksum
from .toy import Mode, ToyTask, generate_toy_corpus


__all__ = [
    "EncodingReport",
    "Mode",
    "ToyTask",
    "concatenate_targets",
    "corpus_sides",
    "corpus_texts",
    "corpus_tokens",
    "encode",
    "encode_corpus",
    "generate_toy_corpus",
    "has_content",
    "is_blank",
    "load_corpus",
    "load_tokenizer",
    "select_targets",
    "tokenize",
    "tokenizer_checksum",
    "train_tokenizer",
]
