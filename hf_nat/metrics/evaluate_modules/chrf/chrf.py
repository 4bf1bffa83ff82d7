"""`evaluate` module of chrF2."""

from __future__ import annotations

from hf_nat.metrics import evaluate_base


class Chrf(evaluate_base.TranslationMetric):
    """ChrF2: `compute(predictions=[...], references=[...], target_lang="de")`."""

    metric = "chrf"
    description = "chrF2: F-score (beta 2) of character n-grams up to 6."
    citation = "Popovic 2015. chrF: character n-gram F-score for automatic MT evaluation. WMT."
