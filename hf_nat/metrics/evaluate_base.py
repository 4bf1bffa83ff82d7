"""What the `evaluate` modules of the translation metrics have in common."""

from __future__ import annotations

from typing import Any, ClassVar

import datasets
import evaluate

from .translation import score_translations


_INPUTS = """
Args:
    predictions (`list[str]`): detokenised translations.
    references (`list[str]`): detokenised references, one for each translation.
    target_lang (`str`): language code of both, such as "de".
    segment_scores (`bool`, *optional*, defaults to `False`): whether to return the score of each segment too.
    num_bootstrap (`int`, *optional*, defaults to 0): samples of the bootstrap that gives the interval; 0 for none.
    seed (`int`, *optional*, defaults to 12345): seed of the bootstrap.
    **options: of the metric itself, see `hf_nat.metrics.score_translations`.

Returns:
    `dict`: the score (0-100) under the metric's name and the `signature`; where asked for, `segments` (a list) and
    `interval` (low, high of 95 %); where the score is None, the `reason`.
"""


class TranslationMetric(evaluate.Metric):
    """A metric of `score_translations` as an `evaluate` module.

    A module names its metric in `metric` and what it measures in `description`, and its source in `citation`. It must
    reach this class as `evaluate_base.TranslationMetric`: `evaluate` takes the first metric class among the names of a
    module.
    """

    metric: ClassVar[str]
    description: ClassVar[str]
    citation: ClassVar[str]

    def _info(self) -> evaluate.MetricInfo:
        strings = {side: datasets.Value("string") for side in ("predictions", "references")}
        return evaluate.MetricInfo(
            description=self.description,
            citation=self.citation,
            inputs_description=_INPUTS,
            features=datasets.Features(strings),
        )

    def _compute(
        self,
        predictions: list[str],
        references: list[str],
        target_lang: str,
        segment_scores: bool = False,
        num_bootstrap: int = 0,
        seed: int = 12345,
        **options: Any,
    ) -> dict[str, Any]:
        score = score_translations(
            predictions,
            references,
            target_lang=target_lang,
            metrics=(self.metric,),
            options={self.metric: options},
            segment_scores=segment_scores,
            num_bootstrap=num_bootstrap,
            seed=seed,
        )[self.metric]
        result = {
            self.metric: score.score,
            "signature": score.signature,
            "segments": None if score.segments is None else list(score.segments),
            "interval": score.interval,
            "reason": score.reason,
        }
        return {key: value for key, value in result.items() if value is not None or key == self.metric}
