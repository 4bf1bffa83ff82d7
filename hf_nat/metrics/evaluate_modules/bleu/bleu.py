"""`evaluate` module of BLEU over Moses tokens."""

from __future__ import annotations

from hf_nat.metrics import evaluate_base


class Bleu(evaluate_base.TranslationMetric):
    """BLEU over Moses tokens: `compute(predictions=[...], references=[...], target_lang="de")`."""

    metric = "bleu"
    description = (
        "BLEU over the tokens of the Moses tokenizer, as machine translation papers report it; over characters in a "
        "script without spaces."
    )
    citation = "Papineni et al. 2002. BLEU: a method for automatic evaluation of machine translation. ACL."
