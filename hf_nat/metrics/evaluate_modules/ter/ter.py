"""`evaluate` module of translation edit rate."""

from __future__ import annotations

from hf_nat.metrics import evaluate_base


class Ter(evaluate_base.TranslationMetric):
    """Translation edit rate: `compute(predictions=[...], references=[...], target_lang="de")`."""

    metric = "ter"
    description = (
        "Translation edit rate: edits, shifts of phrases among them, per 100 words of the reference. 0 is best."
    )
    citation = "Snover et al. 2006. A study of translation edit rate with targeted human annotation. AMTA."
