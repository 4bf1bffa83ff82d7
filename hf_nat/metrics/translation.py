"""Translation metrics of a whole corpus, each with the signature that says how the number was made."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
from sacrebleu.metrics import BLEU, CHRF, TER
from sacrebleu.metrics.base import Metric

from ..base.bounds import require_choice, require_number
from ..base.languages import Language, find_language, warn_of_unspaced_text
from .beer import BEER
from .bootstrap import Array
from .meteor import METEOR
from .ribes import RIBES


# Segments whose words and n-grams are in memory at a time.
_HELD = 10_000
DEFAULT_METRICS = ("bleu", "sacrebleu", "chrf", "ter")
# Zhou, Gu & Neubig 2020, appendix C.
PAPER_METRICS = ("bleu", "meteor", "ribes", "chrf", "ter", "beer")


@dataclass(frozen=True)
class MetricScore:
    """A corpus score.

    Args:
        name (`str`): the metric's name, a key of `score_translations`.
        score (`float`): from 0 to 100 (TER: 0 is best, and more than 100 is possible); None if it cannot be computed.
        signature (`str`): how the number was made, in sacrebleu's notation; empty without a score.
        segments (`tuple[float, ...]`, *optional*): score of each segment by itself, on the same scale.
        interval (`tuple[float, float]`, *optional*): ends of the 95 % bootstrap interval of the score.
        reason (`str`, *optional*): why there is no score.
        statistics (`np.ndarray`, *optional*): what the metric counted in each segment, `[segments, K]`, whose sum over
            the segments gives the score. For BLEU K = 10: length of hypothesis and reference in tokens, matches of 1-
            to 4-grams, and 1- to 4-grams of the hypothesis.
    """

    name: str
    score: Any  # float | None, as statistics: only metrics that need files of the user's can lack them.
    signature: str
    segments: tuple[float, ...] | None = None
    interval: tuple[float, float] | None = None
    reason: str | None = None
    statistics: Any = field(default=None, compare=False, repr=False)  # Array | None


def score_translations(
    hypotheses: Sequence[str],
    references: Sequence[str],
    *,
    target_lang: str,
    metrics: Sequence[str] = DEFAULT_METRICS,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    segment_scores: bool = False,
    num_bootstrap: int = 0,
    seed: int = 12345,
) -> dict[str, MetricScore]:
    """Scores translations against one reference each.

    Words are Moses tokens; in a language without spaces between words (Chinese, Japanese, Thai, ...) each character of
    its script is one, as the signature says. An empty hypothesis or reference is a sentence like any other: it has no
    n-gram that could match. BLEU is 0 where not one 4-gram matches in the whole corpus.

    Args:
        hypotheses (`Sequence[str]`): detokenised translations.
        references (`Sequence[str]`): detokenised references, in the same order.
        target_lang (`str`): language code of both, in any spelling; selects the tokenizers, see `find_language`.
        metrics (`Sequence[str]`, *optional*): names; `PAPER_METRICS` holds the six of the paper:
            - `"bleu"`: tokenised BLEU, over words of both sides, as the paper reports it;
            - `"sacrebleu"`: BLEU over the tokens that sacrebleu has for the language: 13a, zh, ja-mecab, ko-mecab or
              characters;
            - `"chrf"`, `"chrf3"`: chrF2 and chrF3 (beta 2 and 3, character n-grams up to 6);
            - `"chrfpp"`: chrF++ (chrF2 with words and word pairs, which are what spaces separate);
            - `"ter"`: translation edit rate over what spaces separate, or over words where these have none;
            - `"ribes"`: RIBES over words;
            - `"meteor"`: METEOR of exact and stem matches over words, case included;
            - `"beer"`: BEER over words; has no score, but a reason, without a trained model of the user's.
        options (`Mapping[str, Mapping[str, Any]]`, *optional*): keyword arguments of a metric by its name, such as
            `{"beer": {"model_dir": "beer/models/linear"}, "meteor": {"function_words": words}}`; see `BLEU`, `CHRF`
            and `TER` of sacrebleu, `RIBES`, `METEOR` and `BEER`.
        segment_scores (`bool`, *optional*, defaults to `False`): whether to score each segment by itself too; BLEU of
            a segment counts only the n-gram orders that fit in it and smooths those without a match.
        num_bootstrap (`int`, *optional*, defaults to 0): samples of the bootstrap that gives the interval; 0 for none.
        seed (`int`, *optional*, defaults to 12345): seed of the bootstrap.

    Returns:
        `dict[str, MetricScore]`: a score for each name, in the order of `metrics`.

    Raises:
        ValueError: if there is nothing to score, the two lengths differ, a metric is unknown or has no parameters for
            the language, options name no metric asked for or have
            values that it cannot take, or `num_bootstrap` is 1 or negative.

    Source: Papineni et al. 2002 (BLEU), Post 2018 (signatures), Popovic 2015, 2017 (chrF, chrF++), Snover et al. 2006
    (TER), Isozaki et al. 2010 (RIBES), Denkowski & Lavie 2014 (METEOR), Stanojevic & Sima'an 2014 (BEER), Koehn 2004
    (bootstrap); BLEU, chrF, TER and signatures by sacrebleu, tokens by sacremoses.
    """
    check_sides(hypotheses, references)
    require_bootstrap(num_bootstrap)
    recipes = metric_recipes(metrics, options)
    language = language_of_texts(target_lang, references)
    built = {name: recipe.build(language) for name, recipe in recipes.items() if recipe.missing is None}
    tokenized = {metric: recipes[name].tokenized for name, metric in built.items()}
    statistics = segment_statistics(tokenized, language, hypotheses, references)
    scores = {}
    for name, recipe in recipes.items():
        if recipe.missing is not None:
            scores[name] = MetricScore(name, None, "", reason=recipe.missing)
            continue
        metric = built[name]
        stats = statistics[metric]
        result = metric._compute_score_from_stats([math.fsum(column) for column in stats.T])
        interval = _interval(metric, stats, num_bootstrap, seed) if num_bootstrap else None
        segments = _segments(metric, stats) if segment_scores else None
        signature = sign_words(language, result.name, metric.get_signature().format(short=False))
        scores[name] = MetricScore(name, float(result.score), signature, segments, interval, statistics=stats)
    return scores


def training_bleu(distilled: Sequence[str], real: Sequence[str], *, target_lang: str) -> MetricScore:
    """Computes BLEU of distilled targets against the real targets of the same sources, over words.

    Args:
        distilled (`Sequence[str]`): detokenised distilled targets.
        real (`Sequence[str]`): detokenised real targets, in the same order.
        target_lang (`str`): language code.

    Returns:
        `MetricScore`: the score `"bleu"`.

    Raises:
        ValueError: if there is no pair or the two lengths differ.

    Source: Zhou, Gu & Neubig 2020, section 4.2 ("training BLEU").
    """
    return score_translations(distilled, real, target_lang=target_lang, metrics=("bleu",))["bleu"]


# What a metric is given: words joined by spaces, or text; or words only where text has no spaces to cut at.
Tokenized = Literal["always", "unspaced", "never"]


@dataclass(frozen=True)
class MetricRecipe:
    """How to make a metric.

    Args:
        build (`Callable[[Language], Metric]`): makes it for a language.
        tokenized (`Tokenized`): whether it sees words joined by spaces, or text.
        missing (`str`, *optional*): why it cannot be made.
    """

    build: Callable[[Language], Metric]
    tokenized: Tokenized
    missing: str | None


# Name: the metric, the options that its name fixes, whether it sees words.
_METRICS: dict[str, tuple[type[Metric], Mapping[str, Any], Tokenized]] = {
    "beer": (BEER, {}, "always"),
    "bleu": (BLEU, {"tokenize": "none", "force": True}, "always"),
    "chrf": (CHRF, {}, "never"),
    "chrf3": (CHRF, {"beta": 3}, "never"),
    "chrfpp": (CHRF, {"word_order": 2}, "never"),
    "meteor": (METEOR, {}, "always"),
    "ribes": (RIBES, {}, "always"),
    "sacrebleu": (BLEU, {}, "never"),
    "ter": (TER, {}, "unspaced"),
}
METRICS = tuple(_METRICS)


def check_sides(hypotheses: Sequence[str], references: Sequence[str]) -> None:
    """Raises ValueError unless there are as many hypotheses as references, at least one, and neither is one text."""
    for name, side in (("hypotheses", hypotheses), ("references", references)):
        if isinstance(side, str):
            raise ValueError(f"`{name}` must be several texts, got the text {side!r:.60}. Write [text] for one.")
    if len(hypotheses) != len(references):
        raise ValueError(
            f"`hypotheses` and `references` must have one length, got {len(hypotheses)} and {len(references)}."
        )
    if not hypotheses:
        raise ValueError("`hypotheses` must hold at least 1 sentence, got 0.")


def metric_recipes(metrics: Sequence[str], options: Mapping[str, Mapping[str, Any]] | None) -> dict[str, MetricRecipe]:
    """Looks the names up and checks that options are of one of them, and such as it takes."""
    options = options or {}
    for name in metrics:
        require_choice("metrics", name, sorted(_METRICS))
    if not isinstance(options, Mapping) or not all(isinstance(of, Mapping) for of in options.values()):
        raise ValueError(f"`options` must map metrics to their options, such as {{'ter': {{}}}}, got {options}.")
    unused = [name for name in options if name not in metrics]
    if unused:
        raise ValueError(f"`options` must name metrics out of {list(metrics)}, got {unused[0]!r}.")
    recipes = {}
    for name in metrics:
        kind, fixed, tokenized = _METRICS[name]
        given = dict(options.get(name, {}))
        # The texts and their language are what is scored.
        open_options = inspect.signature(kind).parameters.keys() - fixed.keys() - {"language", "references"}
        for option in given:
            require_choice("options", option, sorted(open_options), where=f"of the metric {name!r}")
        missing = None
        if name == "beer" and given.get("model_dir") is None:
            missing = "BEER needs a trained model: give the folder of one as the option `model_dir`."
        recipes[name] = MetricRecipe(partial(_build, kind, {**fixed, **given}), tokenized, missing)
        if given and missing is None:
            _check_values(name, recipes[name], given)
    return recipes


def _check_values(name: str, recipe: MetricRecipe, given: Mapping[str, Any]) -> None:
    """Raises ValueError unless a metric can be made of the options, and tells a right translation from a wrong one."""
    right = " ".join(["the cat sat on the mat"] * 5)
    try:
        metric = recipe.build(find_language("en"))
        scores = [metric.corpus_score([text], [[right]]).score for text in (right, "a dog has run through 1 park")]
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(
            f"`options` of the metric {name!r} must have values that it takes, got {dict(given)}: "
            f"{type(error).__name__}: {error}"
        ) from error
    if scores[0] == scores[1]:
        raise ValueError(
            f"`options` of the metric {name!r} must leave it something to compare, got {dict(given)}: every "
            f"translation has the score {scores[0]:g}."
        )


def segment_statistics(
    metrics: Mapping[Metric, Tokenized], language: Language, hypotheses: Sequence[str], references: Sequence[str]
) -> dict[Metric, Array]:
    """Counts what metrics need of each segment.

    Words and the n-grams of a reference take kilobytes a segment, so they are made of some segments at a time.

    Args:
        metrics (`Mapping[Metric, Tokenized]`): metrics of sacrebleu's kind, and what each sees.
        language (`Language`): of both sides.
        hypotheses (`Sequence[str]`): translations.
        references (`Sequence[str]`): their references.

    Returns:
        `dict[Metric, np.ndarray]`: by metric `[segments, K]`, whose sum over segments gives the corpus score.
    """
    found: dict[Metric, list[Array]] = {metric: [] for metric in metrics}
    for start in range(0, len(hypotheses), _HELD):
        texts = PreparedTexts(language)
        sides = [side[start : start + _HELD] for side in (hypotheses, references)]
        for metric, tokenized in metrics.items():
            left, right = (texts.prepare(tokenized, side) for side in sides)
            found[metric].append(np.array(metric._extract_corpus_statistics(left, [right])))
    return {metric: np.concatenate(blocks) for metric, blocks in found.items()}


def language_of_texts(target_lang: str, references: Sequence[str]) -> Language:
    """Looks the language up, and warns where it does not look like that of the references."""
    language = find_language(target_lang)
    warn_of_unspaced_text(language, references)
    return language


def sign_words(language: Language, name: str, signature: str) -> str:
    """The metric's own name, which states chrF's beta, leads; words stand where it could say "none"."""
    unsaid = "tok:none" if language.is_spaced else "tok:(none|tercom)"
    return f"{name}|{re.sub(unsaid, f'tok:{language.words}', signature)}"


class PreparedTexts:
    """Texts that several metrics see: each is tokenised at most once.

    Args:
        language (`Language`): of the texts.
    """

    def __init__(self, language: Language):
        self.language = language
        self._tokenize = language.word_tokenizer()
        self._tokens: dict[int, tuple[Sequence[str], list[str]]] = {}

    def prepare(self, tokenized: Tokenized, sentences: Sequence[str]) -> Sequence[str]:
        """Words joined by spaces, or the sentences themselves."""
        if tokenized == "never" or (tokenized == "unspaced" and self.language.is_spaced):
            return sentences
        if id(sentences) not in self._tokens:
            tokens = [" ".join(self._tokenize(sentence)) for sentence in sentences]
            # The sentences are kept with their tokens so that no other object takes over their id.
            self._tokens[id(sentences)] = (sentences, tokens)
        return self._tokens[id(sentences)][1]


def _build(kind: type[Metric], options: Mapping[str, Any], language: Language) -> Metric:
    """Makes a metric for a language, by whatever of the language it takes."""
    if kind is METEOR:
        return METEOR(language.code, **options)
    if kind is BLEU and "tokenize" not in options:
        return BLEU(tokenize=language.sacrebleu_tokenizer(), **options)
    return kind(**options)


def _segments(metric: Metric, stats: Array) -> tuple[float, ...]:
    """Score of each segment; BLEU with effective order."""
    if isinstance(metric, BLEU):
        metric = BLEU(
            tokenize="none",
            smooth_method=metric.smooth_method,
            smooth_value=metric.smooth_value,
            max_ngram_order=metric.max_ngram_order,
            effective_order=True,
        )
    return tuple(float(metric._aggregate_and_compute([row.tolist()]).score) for row in stats)


# More make an interval no better.
_MOST_SAMPLES = 100_000


def require_bootstrap(num_bootstrap: int) -> None:
    """Raises ValueError unless a number of samples is 0, for no interval, or makes one in a time that ends."""
    if num_bootstrap < 0 or num_bootstrap == 1:
        raise ValueError(f"`num_bootstrap` must be 0 or >= 2, got {num_bootstrap}. Use 0 for no interval.")
    require_number("num_bootstrap", num_bootstrap, most=_MOST_SAMPLES, remedy="Use 1000, for example.")


def _interval(metric: Metric, stats: Array, num_bootstrap: int, seed: int) -> tuple[float, float]:
    """Ends of sacrebleu's bootstrap interval, which reports only mean and width; one sample in memory at a time."""
    rng = np.random.default_rng(seed)
    rows = stats.astype("float32")
    scores = sorted(
        float(metric._compute_score_from_stats(rows[rng.choice(len(rows), size=len(rows))].sum(0)).score)
        for _ in range(num_bootstrap)
    )
    # For the signature, as sacrebleu leaves them.
    metric.n_bootstrap, metric.seed = num_bootstrap, str(seed)
    cut = num_bootstrap // 40
    return scores[cut], scores[-cut - 1]
