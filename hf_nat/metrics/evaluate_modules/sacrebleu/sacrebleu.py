"""`evaluate` module of BLEU over sacrebleu's own tokens."""

from __future__ import annotations

from hf_nat.metrics import evaluate_base


class SacreBleu(evaluate_base.TranslationMetric):
    """BLEU over sacrebleu's own tokens: `compute(predictions=[...], references=[...], target_lang="de")`."""

    metric = "sacrebleu"
    description = "BLEU over the tokens that sacrebleu has for the language (most: 13a), comparable between papers."
    citation = "Post 2018. A call for clarity in reporting BLEU scores. WMT."
