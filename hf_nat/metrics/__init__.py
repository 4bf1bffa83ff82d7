"""Measures of translations and of parallel data."""

from __future__ import annotations

from .beer import BEER
from .bootstrap import Bootstrap
from .complexity import (
    AmbiguousWord,
    Complexity,
    ambiguous_words,
    complexity,
    complexity_bootstrap,
    corpus_complexity,
    sentence_entropies,
)
from .corpus_differences import corpus_bootstraps, corpus_differences
from .faithfulness import Faithfulness, faithfulness, faithfulness_bootstrap
from .language_posterior import LanguagePosterior, concentration
from .lexicon import LexicalCounts
from .meteor import METEOR, frequent_words
from .reordering import Reordering, fuzzy_reordering, num_chunks, reordering_bootstrap, reordering_chunks
from .ribes import RIBES
from .sentence_statistics import bleu_record, bleu_statistics, training_bleu_bootstrap
from .significance import SystemScore, compare_systems, hierarchical_bootstrap
from .translation import DEFAULT_METRICS, PAPER_METRICS, MetricScore, score_translations, training_bleu


__all__ = [
    "BEER",
    "DEFAULT_METRICS",
    "METEOR",
    "PAPER_METRICS",
    "RIBES",
    "AmbiguousWord",
    "Bootstrap",
    "Complexity",
    "Faithfulness",
    "LanguagePosterior",
    "LexicalCounts",
    "MetricScore",
    "Reordering",
    "SystemScore",
    "ambiguous_words",
    "bleu_record",
    "bleu_statistics",
    "compare_systems",
    "complexity",
    "complexity_bootstrap",
    "concentration",
    "corpus_bootstraps",
    "corpus_complexity",
    "corpus_differences",
    "faithfulness",
    "faithfulness_bootstrap",
    "frequent_words",
    "fuzzy_reordering",
    "hierarchical_bootstrap",
    "num_chunks",
    "reordering_bootstrap",
    "reordering_chunks",
    "score_translations",
    "sentence_entropies",
    "training_bleu",
    "training_bleu_bootstrap",
]
