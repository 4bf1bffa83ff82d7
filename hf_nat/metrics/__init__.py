"""Measures of translations and of parallel data."""

from __future__ import annotations

from .beer import BEER
from .complexity import (
    AmbiguousWord,
    Complexity,
    ambiguous_words,
    complexity,
    complexity_interval,
    corpus_complexity,
    sentence_entropies,
)
from .faithfulness import Faithfulness, faithfulness, faithfulness_interval
from .language_posterior import LanguagePosterior, concentration
from .lexicon import LexicalCounts
from .meteor import METEOR, frequent_words
from .reordering import Reordering, fuzzy_reordering, num_chunks, reordering_chunks
from .ribes import RIBES
from .significance import SystemScore, compare_systems
from .translation import DEFAULT_METRICS, PAPER_METRICS, MetricScore, score_translations, training_bleu


__all__ = [
    "BEER",
    "DEFAULT_METRICS",
    "METEOR",
    "PAPER_METRICS",
    "RIBES",
    "AmbiguousWord",
    "Complexity",
    "Faithfulness",
    "LanguagePosterior",
    "LexicalCounts",
    "MetricScore",
    "Reordering",
    "SystemScore",
    "ambiguous_words",
    "compare_systems",
    "complexity",
    "complexity_interval",
    "concentration",
    "corpus_complexity",
    "faithfulness",
    "faithfulness_interval",
    "frequent_words",
    "fuzzy_reordering",
    "num_chunks",
    "reordering_chunks",
    "score_translations",
    "sentence_entropies",
    "training_bleu",
]
