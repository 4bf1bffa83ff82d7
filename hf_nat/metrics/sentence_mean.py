"""What metrics that are the mean of their sentences' scores have in common."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sacrebleu.metrics.base import Metric, Score, Signature


class SentenceMeanSignature(Signature):
    """Signature of a metric over words: its case, and a place for the words' tokenizer; a subclass adds its options.

    Args:
        args (`dict[str, Any]`): attributes of the metric.
    """

    def __init__(self, args: dict[str, Any]):
        super().__init__(args)
        self.add(case="lc" if args["lowercase"] else "mixed", tok="none")

    def add(self, **info: Any) -> None:
        """Adds what else changes a score."""
        self._abbr.update({name: name for name in info})
        self.info.update(info)


class SentenceMeanMetric(Metric):
    """A sacrebleu metric whose corpus score is the mean over sentences, the best reference of each.

    A subclass bears the metric's name and gives `_sentence`, the score (0-1) of a sentence's words against those of
    one reference; where it has further options, also a `_SIGNATURE_TYPE` that names them.

    Args:
        lowercase (`bool`): whether texts are lower-cased.
    """

    _SIGNATURE_TYPE: type[Signature] = SentenceMeanSignature

    def __init__(self, lowercase: bool):
        super().__init__()
        self.lowercase = lowercase

    def _sentence(self, hypothesis: Sequence[str], reference: Sequence[str]) -> float:
        raise NotImplementedError

    def _preprocess_segment(self, sent: str) -> str:
        return sent.lower() if self.lowercase else sent

    def _extract_reference_info(self, refs: Sequence[str]) -> dict[str, Any]:
        return {"references": [ref.split() for ref in refs]}

    def _compute_segment_statistics(self, hypothesis: str, ref_kwargs: Mapping[str, Any]) -> list[float]:
        words = hypothesis.split()
        return [max(self._sentence(words, reference) for reference in ref_kwargs["references"]), 1.0]

    def _compute_score_from_stats(self, stats: Sequence[float]) -> Score:
        return Score(type(self).__name__, 100.0 * float(stats[0]) / float(stats[1]))

    def _aggregate_and_compute(self, stats: Sequence[Sequence[float]]) -> Score:
        return self._compute_score_from_stats([math.fsum(column) for column in zip(*stats, strict=True)])
