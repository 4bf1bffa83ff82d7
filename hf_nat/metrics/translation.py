"""Translation metrics of a whole corpus, each with the signature that says how the number was made."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata

from sacrebleu.metrics import BLEU, CHRF, TER
from sacrebleu.metrics.base import Metric
from sacremoses import MosesTokenizer


DEFAULT_METRICS = ("bleu", "sacrebleu", "chrf", "ter")


@dataclass(frozen=True)
class MetricScore:
    """A corpus score.

    Args:
        name (`str`): the metric's name, a key of `score_translations`.
        score (`float`): from 0 to 100 (TER: 0 is best, and more than 100 is possible).
        signature (`str`): how the number was made, in sacrebleu's notation.
    """

    name: str
    score: float
    signature: str


def score_translations(
    hypotheses: Sequence[str],
    references: Sequence[str],
    *,
    target_lang: str,
    metrics: Sequence[str] = DEFAULT_METRICS,
) -> dict[str, MetricScore]:
    """Scores translations against one reference each.

    An empty hypothesis or reference is a sentence like any other: it has no n-gram that could match. BLEU is 0 where
    not one 4-gram matches in the whole corpus.

    Args:
        hypotheses (`Sequence[str]`): detokenised translations.
        references (`Sequence[str]`): detokenised references, in the same order.
        target_lang (`str`): language code of both; selects the rules of the Moses tokenizer.
        metrics (`Sequence[str]`, *optional*): names out of
            - `"bleu"`: tokenised BLEU, over Moses tokens of both sides, as the paper reports it;
            - `"sacrebleu"`: BLEU over sacrebleu's own 13a tokens;
            - `"chrf"`: chrF2 (beta = 2, character n-grams up to 6);
            - `"ter"`: translation edit rate.

    Returns:
        `dict[str, MetricScore]`: a score for each name, in the order of `metrics`.

    Raises:
        ValueError: if there is nothing to score, the two lengths differ, or a metric is unknown.

    Source: Papineni et al. 2002 (BLEU), Post 2018 (signatures), Popovic 2015 (chrF), Snover et al. 2006 (TER);
    computed by sacrebleu, tokenised by sacremoses.
    """
    if len(hypotheses) != len(references):
        raise ValueError(
            f"`hypotheses` and `references` must have one length, got {len(hypotheses)} and {len(references)}."
        )
    if not hypotheses:
        raise ValueError("`hypotheses` must hold at least 1 sentence, got 0.")
    unknown = [name for name in metrics if name not in _SCORERS]
    if unknown:
        raise ValueError(f"`metrics` must be out of {sorted(_SCORERS)}, got {unknown[0]!r}.")
    return {name: _SCORERS[name](hypotheses, references, target_lang) for name in metrics}


def _moses_bleu(hypotheses: Sequence[str], references: Sequence[str], target_lang: str) -> MetricScore:
    """BLEU over Moses tokens; the signature names the tokenizer, where sacrebleu could only say "none"."""
    language = re.split("[-_]", target_lang)[0]
    tokenizer = MosesTokenizer(lang=language)
    tokenized = [
        [" ".join(tokenizer.tokenize(sentence, escape=False)) for sentence in sentences]
        for sentences in (hypotheses, references)
    ]
    score = _sacrebleu_score("bleu", BLEU(tokenize="none", force=True), *tokenized)
    tokens = f"tok:moses-{language}-sacremoses-{metadata.version('sacremoses')}"
    return MetricScore(score.name, score.score, score.signature.replace("tok:none", tokens))


def _sacrebleu_score(name: str, metric: Metric, hypotheses: Sequence[str], references: Sequence[str]) -> MetricScore:
    """Scores with a sacrebleu metric; its own name, which states chrF's beta, leads the signature."""
    result = metric.corpus_score(hypotheses, [references])
    return MetricScore(name, float(result.score), f"{result.name}|{metric.get_signature().format(short=False)}")


_SCORERS: dict[str, Callable[[Sequence[str], Sequence[str], str], MetricScore]] = {
    "bleu": _moses_bleu,
    "sacrebleu": lambda hyp, ref, _: _sacrebleu_score("sacrebleu", BLEU(), hyp, ref),
    "chrf": lambda hyp, ref, _: _sacrebleu_score("chrf", CHRF(), hyp, ref),
    "ter": lambda hyp, ref, _: _sacrebleu_score("ter", TER(), hyp, ref),
}
