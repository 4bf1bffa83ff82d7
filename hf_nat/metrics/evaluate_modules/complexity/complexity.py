"""`evaluate` module of the complexity C(d) of a parallel corpus."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import evaluate

from hf_nat.metrics import evaluate_corpus
from hf_nat.metrics.complexity import complexity


_DESCRIPTION = """\
Complexity C(d) of a parallel corpus: the mean over source types of the entropy of their aligned target types.
"""
_OPTIONS = """\
    base ("e" or 2): of the logarithm, nats or bits; "e" by default.
    weighting (str): "types" (default) counts each source type alike, "tokens" as often as it occurs.
    include_unlinked (bool): whether source types without a link count, with entropy 0; False by default.
    min_count (int): tokens that a source type must have; 1 by default.
    miller_madow (bool): whether to correct the low bias of the entropy at few links; False by default."""
_RETURNS = """\
    complexity (float): C(d) in nats (bits).
    per_word (dict of str to float): entropy of each source type in nats (bits).
    num_types (int): source types that count.
    num_links (int): their links.
    occurrences (dict of str to int): their tokens."""


class Complexity(evaluate.Measurement):
    """Complexity C(d), see `hf_nat.metrics.complexity`."""

    def _info(self) -> evaluate.MeasurementInfo:
        inputs = ["sources", "targets", "alignments"]
        return evaluate_corpus.module_info(_DESCRIPTION, inputs, _OPTIONS, _RETURNS)

    def _compute(
        self, *, sources: list[str], targets: list[str], alignments: list[str], **options: Any
    ) -> dict[str, Any]:
        result = asdict(complexity(evaluate_corpus.lexical_counts(sources, targets, alignments), **options))
        return {"complexity": result.pop("value"), **result}
