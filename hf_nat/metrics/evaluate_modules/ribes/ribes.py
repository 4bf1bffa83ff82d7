"""`evaluate` module of RIBES."""

from __future__ import annotations

from hf_nat.metrics import evaluate_base


class Ribes(evaluate_base.TranslationMetric):
    """RIBES: `compute(predictions=[...], references=[...], target_lang="de")`."""

    metric = "ribes"
    description = (
        "RIBES over Moses tokens: rank correlation of the matched words, times powers of precision and brevity."
    )
    citation = "Isozaki et al. 2010. Automatic evaluation of translation quality for distant language pairs. EMNLP."
