"""`evaluate` module of chrF++."""

from __future__ import annotations

from hf_nat.metrics import evaluate_base


class Chrfpp(evaluate_base.TranslationMetric):
    """ChrF++: `compute(predictions=[...], references=[...], target_lang="de")`."""

    metric = "chrfpp"
    description = "chrF++: F-score (beta 2) of character n-grams up to 6 and words and word pairs."
    citation = "Popovic 2017. chrF++: words helping character n-grams. WMT."
