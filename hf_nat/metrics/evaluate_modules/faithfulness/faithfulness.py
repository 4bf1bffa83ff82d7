"""`evaluate` module of the faithfulness F(d) of an altered corpus to the real one."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import evaluate

from hf_nat.metrics import evaluate_corpus
from hf_nat.metrics.faithfulness import faithfulness


_DESCRIPTION = """\
Faithfulness F(d) of an altered corpus, such as a distilled one: the mean over source types of the divergence of its
word translations from those of the real corpus; 0 is the real corpus itself.
"""
_OPTIONS = """\
    eps (float): probability of a pair that the altered corpus never links; 1e-9 by default.
    base ("e" or 2): of the logarithm, nats or bits; "e" by default.
    add_k (float): added to the links of each pair in place of `eps`; 0 by default.
    skip_unseen_types (bool): whether to leave out source types that the altered corpus never links; False by default.
    min_count (int): tokens that a source type must have; 1 by default."""
_RETURNS = """\
    faithfulness (float): F(d) in nats (bits), agreement + unseen_mass * ln(1 / eps).
    agreement (float): its part that does not depend on `eps`.
    unseen_mass (float): mean real probability of the pairs that the altered corpus never links, 0-1.
    per_word (dict of str to float): divergence of each source type in nats (bits).
    num_types (int): source types that count."""


class Faithfulness(evaluate.Measurement):
    """Faithfulness F(d), see `hf_nat.metrics.faithfulness`."""

    def _info(self) -> evaluate.MeasurementInfo:
        inputs = ["sources", "targets", "alignments", "distilled_targets", "distilled_alignments"]
        return evaluate_corpus.module_info(_DESCRIPTION, inputs, _OPTIONS, _RETURNS)

    def _compute(
        self,
        *,
        sources: list[str],
        targets: list[str],
        alignments: list[str],
        distilled_targets: list[str],
        distilled_alignments: list[str],
        **options: Any,
    ) -> dict[str, Any]:
        real = evaluate_corpus.lexical_counts(sources, targets, alignments)
        distilled = evaluate_corpus.lexical_counts(sources, distilled_targets, distilled_alignments)
        result = asdict(faithfulness(real, distilled, **options))
        return {"faithfulness": result.pop("value"), **result}
