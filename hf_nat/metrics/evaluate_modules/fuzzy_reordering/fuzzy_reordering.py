"""`evaluate` module of the fuzzy reordering score of a parallel corpus."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import evaluate

from hf_nat.alignment import parse_links
from hf_nat.metrics import evaluate_corpus
from hf_nat.metrics.reordering import fuzzy_reordering


_DESCRIPTION = """\
Fuzzy reordering score of a parallel corpus: 1 - (chunks - 1) / (linked target words - 1), averaged over sentences; 1
is a monotonic alignment.
"""
_OPTIONS = """\
    micro (bool): whether to sum chunks and words over the corpus before the division; False by default.
    gaps (bool): whether a source word without a link breaks a chunk; False by default.
    boundary (bool): whether virtual words at both ends belong to the chunks; False by default."""
_RETURNS = """\
    fuzzy_reordering (float): score of the corpus, 0-1.
    scores (list of float or None): score of each sentence, None without a link.
    num_sentences (int): sentences with a link."""


class FuzzyReordering(evaluate.Measurement):
    """Fuzzy reordering score, see `hf_nat.metrics.reordering`."""

    def _info(self) -> evaluate.MeasurementInfo:
        return evaluate_corpus.module_info(_DESCRIPTION, ["sources", "targets", "alignments"], _OPTIONS, _RETURNS)

    def _compute(
        self, *, sources: list[str], targets: list[str], alignments: list[str], **options: Any
    ) -> dict[str, Any]:
        lengths = map(len, evaluate_corpus.tokens(sources))
        result = asdict(fuzzy_reordering(parse_links(alignments), source_lengths=lengths, **options))
        return {"fuzzy_reordering": result.pop("value"), **result}
