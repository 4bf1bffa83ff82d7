"""METEOR 1.5 without its paraphrase table: matches of equal words, of equal stems and, on request, of synonyms."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from sacrebleu.metrics.base import Metric, Score, Signature

from ..base.bounds import require_number
from ..base.languages import find_language
from .meteor_aligner import BEAM_SIZE, align_words, count_chunks
from .wordnet import WordNet


@dataclass(frozen=True)
class MeteorParameters:
    """What METEOR 1.5 uses for one language.

    Args:
        alpha (`float`): weight of recall against precision.
        beta (`float`): exponent of the fragmentation.
        gamma (`float`): largest fragmentation penalty.
        delta (`float`): weight of content words; function words weigh 1 - delta.
        stemmer (`str`, *optional*): Snowball algorithm; None where METEOR does not stem.
        stem (`float`): weight of a stem match; an exact match weighs 1.
        synonym (`float`, *optional*): weight of a synonym match; None where METEOR has no synonyms.
        task (`str`): `"rank"` for parameters tuned for the language, `"li"` for the language-independent ones.
    """

    alpha: float
    beta: float
    gamma: float
    delta: float
    stemmer: str | None
    stem: float
    synonym: float | None = None
    task: str = "rank"


def _independent(stemmer: str) -> MeteorParameters:
    return MeteorParameters(0.75, 1.40, 0.70, 0.50, stemmer, 0.5, task="li")


# Ranking task where METEOR 1.5 was tuned on judgements of the language (its Russian is a copy of the independent
# parameters), the language-independent task otherwise. Its Dutch stemmer is what Snowball 3 calls dutch_porter.
PARAMETERS = {
    "cs": MeteorParameters(0.95, 0.20, 0.60, 0.80, None, 0.0),
    "da": _independent("danish"),
    "de": MeteorParameters(0.95, 1.00, 0.55, 0.55, "german", 0.8),
    "en": MeteorParameters(0.85, 0.20, 0.60, 0.75, "english", 0.6, synonym=0.8),
    "es": MeteorParameters(0.65, 1.30, 0.50, 0.80, "spanish", 0.8),
    "fi": _independent("finnish"),
    "fr": MeteorParameters(0.90, 1.40, 0.60, 0.65, "french", 0.2),
    "hu": _independent("hungarian"),
    "it": _independent("italian"),
    "nl": _independent("dutch_porter"),
    "no": _independent("norwegian"),
    "pt": _independent("portuguese"),
    "ro": _independent("romanian"),
    "ru": MeteorParameters(0.75, 1.40, 0.70, 0.50, "russian", 0.5),
    "sv": _independent("swedish"),
    "tr": _independent("turkish"),
}


class METEORSignature(Signature):
    """Signature of `METEOR`: language, kinds of matches, parameters, function words and the definition followed."""

    def __init__(self, args: dict[str, Any]):
        super().__init__(args)
        parameters = args["parameters"]
        info = {
            "case": "lc" if args["lowercase"] else "mixed",
            "lang": args["language"],
            "tok": "none",
            "match": args["match"],
            "stem": args["stemmer_name"],
            "weights": "+".join(map(str, args["weights"])),
            "task": parameters.task,
            **{name: getattr(parameters, name) for name in ("alpha", "beta", "gamma", "delta")},
            "func": _digest(args["function_words"]),
            "beam": args["beam_size"],
            "def": "METEOR-1.5",
        }
        self._abbr.update({name: name for name in info})
        self.info.update(info)


class METEOR(Metric):
    """Harmonic mean of weighted unigram precision and recall, less a penalty for scattered matches.

    Text is split at white space: tokenise it first. Matches are weighted by their kind (exact 1) and each word by
    delta (content word) or 1 - delta (function word): P = matched weight / weight of the hypothesis, R likewise of the
    reference, F = 1 / ((1 - alpha) / P + alpha / R), score = 100 * F * (1 - gamma * (chunks / matches)**beta). A
    segment that matches in whole and in one chunk counts no chunk. The corpus score is that of the summed statistics.
    With no match at all, as with an empty side, the score is 0. Of several references the best counts.

    Args:
        language (`str`): language code in any spelling; script and region (`de_AT`) are ignored.
        function_words (`Collection[str]`, *optional*, defaults to none): the words that weigh 1 - delta. The tool has
            lists of its own; by default all words are content words and delta has no effect. See `frequent_words`.
        wordnet_dir (`str | Path`, *optional*): folder of WordNet's dictionary files; adds synonyms, English only.
        lowercase (`bool`, *optional*, defaults to `False`): whether case is ignored; the tool takes text as it is.
        beam_size (`int`, *optional*, defaults to 1000): see `align_words`.

    Raises:
        ValueError: if METEOR 1.5 has no parameters for the language, or `wordnet_dir` is given for another language
            than English or lacks a file.

    Source: Denkowski & Lavie 2014 (Meteor Universal, WMT), with the parameters and the rules for corpora and perfect
    segments of METEOR 1.5's code. Differs: no paraphrases (their tables are no longer distributed), hence the name
    `METEOR(exact+stem)`; today's Snowball stemmers, among which German now also unifies ae and ä; only synsets
    themselves as synonyms, no related ones; an alignment search without the tool's beam errors (see `align_words`).
    """

    _SIGNATURE_TYPE = METEORSignature

    def __init__(
        self,
        language: str,
        function_words: Collection[str] = (),
        wordnet_dir: str | Path | None = None,
        lowercase: bool = False,
        beam_size: int = BEAM_SIZE,
    ):
        super().__init__()
        self.language = find_language(language).code
        if self.language not in PARAMETERS:
            raise ValueError(
                f"`language` must be one that METEOR 1.5 has parameters for, out of {sorted(PARAMETERS)}, "
                f"got {language!r}. Leave METEOR out for other languages."
            )
        self.parameters = PARAMETERS[self.language]
        if wordnet_dir is not None and self.parameters.synonym is None:
            raise ValueError(f"`wordnet_dir` must be None unless `language` is 'en', got {language!r}.")
        self.function_words = frozenset(word.lower() for word in function_words)
        self.lowercase = lowercase
        self.beam_size = beam_size
        self._wordnet = None if wordnet_dir is None else WordNet(wordnet_dir)
        self._stemmer, self.stemmer_name = _stemmer(self.parameters.stemmer)
        kinds = {"exact": 1.0}
        if self._stemmer is not None:
            kinds["stem"] = self.parameters.stem
        if self._wordnet is not None and self.parameters.synonym is not None:
            kinds["synonyms"] = self.parameters.synonym
        self.match = "+".join(kinds)
        self.weights = tuple(kinds.values())

    def _preprocess_segment(self, sent: str) -> str:
        return sent.lower() if self.lowercase else sent

    def _extract_reference_info(self, refs: Sequence[str]) -> dict[str, Any]:
        return {"references": [ref.split() for ref in refs]}

    def _compute_segment_statistics(self, hypothesis: str, ref_kwargs: Mapping[str, Any]) -> list[float]:
        candidates = [self._statistics(hypothesis.split(), reference) for reference in ref_kwargs["references"]]
        return max(candidates, key=lambda stats: self._compute_score_from_stats(stats).score)

    def _compute_score_from_stats(self, stats: Sequence[float]) -> Score:
        """Score from the sums of: matched and total weight of the hypothesis, of the reference, chunks, matches."""
        matched, total, ref_matched, ref_total, chunks, matches = (float(value) for value in stats)
        score = 0.0
        if matches > 0:
            parameters = self.parameters
            precision, recall = matched / total, ref_matched / ref_total
            f_mean = 1.0 / ((1.0 - parameters.alpha) / precision + parameters.alpha / recall)
            score = f_mean * (1.0 - parameters.gamma * (chunks / matches) ** parameters.beta)
        return Score(f"METEOR({self.match})", 100.0 * score)

    def _aggregate_and_compute(self, stats: Sequence[Sequence[float]]) -> Score:
        return self._compute_score_from_stats([sum(column) for column in zip(*stats, strict=True)])

    def _statistics(self, hypothesis: Sequence[str], reference: Sequence[str]) -> list[float]:
        """The six sums of `_compute_score_from_stats` for one sentence."""
        matches = align_words(hypothesis, reference, self._stage, self.beam_size)
        left, right = ([self._word_weight(word) for word in words] for words in (hypothesis, reference))
        kinds = [self.weights[match.stage] for match in matches]
        chunks = count_chunks(matches)
        if chunks == 1 and len(matches) == len(hypothesis) == len(reference):
            chunks = 0
        return [
            sum(kind * left[match.hypothesis] for kind, match in zip(kinds, matches, strict=True)),
            sum(left),
            sum(kind * right[match.reference] for kind, match in zip(kinds, matches, strict=True)),
            sum(right),
            chunks,
            len(matches),
        ]

    def _word_weight(self, word: str) -> float:
        return 1.0 - self.parameters.delta if word.lower() in self.function_words else self.parameters.delta

    def _stage(self, left: str, right: str) -> int | None:
        """Kind of the match of two words as an index of `weights`: the first that applies."""
        if left == right:
            return 0
        if self._stemmer is not None and self._stemmer(left) == self._stemmer(right):
            return 1
        if self._wordnet is not None and self._wordnet.synonyms(left, right):
            return 2
        return None


def frequent_words(sentences: Iterable[str], threshold: float = 1e-3) -> frozenset[str]:
    """Finds function words by METEOR's rule: the words that make up more than a share of a large corpus.

    Args:
        sentences (`Iterable[str]`): tokenised text of the target language, a large corpus other than the test set.
        threshold (`float`, *optional*, defaults to 1e-3): relative frequency that a function word exceeds, in [0, 1).

    Returns:
        `frozenset[str]`: the words, in lower case.

    Raises:
        ValueError: if the corpus has no word or the threshold lies outside [0, 1).

    Source: Denkowski & Lavie 2014, section 3.
    """
    require_number("threshold", threshold, least=0, below=1)
    counts = Counter(word for sentence in sentences for word in sentence.lower().split())
    if not counts:
        raise ValueError("`sentences` must hold at least 1 word, got 0.")
    least = threshold * counts.total()
    return frozenset(word for word, count in counts.items() if count > least)


def _stemmer(algorithm: str | None) -> tuple[Any, str]:
    """A cached stemming function and its name in the signature."""
    if algorithm is None:
        return None, "none"
    # The class itself, because snowballstemmer.stemmer() prefers PyStemmer of any version where that is installed.
    module = import_module(f"snowballstemmer.{algorithm}_stemmer")
    stemmer = getattr(module, f"{algorithm.title().replace('_', '')}Stemmer")()
    return cache(stemmer.stemWord), f"snowball-{algorithm}-{metadata.version('snowballstemmer')}"


def _digest(words: frozenset[str]) -> str:
    """Number of words and the start of a checksum, so that two lists can be told apart."""
    if not words:
        return "none"
    return f"{len(words)}-{hashlib.sha256(' '.join(sorted(words)).encode()).hexdigest()[:8]}"
