"""`evaluate` module of chrF3."""

from __future__ import annotations

from hf_nat.metrics import evaluate_base


class Chrf3(evaluate_base.TranslationMetric):
    """ChrF3: `compute(predictions=[...], references=[...], target_lang="de")`."""

    metric = "chrf3"
    description = "chrF3: F-score (beta 3) of character n-grams up to 6."
    citation = "Popovic 2015. chrF: character n-gram F-score for automatic MT evaluation. WMT."
