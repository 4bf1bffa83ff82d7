"""`evaluate` module of METEOR of exact and stem matches."""

from __future__ import annotations

from hf_nat.metrics import evaluate_base


class Meteor(evaluate_base.TranslationMetric):
    """METEOR of exact and stem matches: `compute(predictions=[...], references=[...], target_lang="de")`."""

    metric = "meteor"
    description = (
        "METEOR 1.5 over Moses tokens without paraphrases: matches of equal words and of equal stems. Case counts, as "
        "in the tool, unless `lowercase` is True."
    )
    citation = "Denkowski & Lavie 2014. Meteor Universal: language specific evaluation for any target language. WMT."
