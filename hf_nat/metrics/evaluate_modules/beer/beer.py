"""`evaluate` module of BEER."""

from __future__ import annotations

from hf_nat.metrics import evaluate_base


class Beer(evaluate_base.TranslationMetric):
    """BEER: `compute(predictions=[...], references=[...], target_lang="de")`."""

    metric = "beer"
    description = (
        "BEER 2.0 over Moses tokens with a trained model in the folder `model_dir`; without one, None and the reason."
    )
    citation = "Stanojevic & Sima'an 2014. BEER: BEtter Evaluation as Ranking. WMT."
