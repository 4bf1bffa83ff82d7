"""What says how good each candidate of a source is; the best one becomes its target."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from importlib import metadata
from math import isfinite
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from sacrebleu.metrics import BLEU, CHRF
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..base.foreign_code import foreign_code
from ..decoding import LoadingArguments, load_model, score_pairs
from ..metrics.bootstrap import Array
from ..metrics.external import ExternalMetric
from ..metrics.pairwise import pairwise_bleu, pairwise_chrf
from ..models import NATPreTrainedModel


# From the sources and the candidates of a batch, pair by pair, to the quality of each candidate; higher is better.
Estimator = Callable[[Sequence[str], Sequence[str]], Sequence[float]]

# From sources and the N texts of each to the scores `[N, N]` of each text, a row, where each is the reference.
Utility = Callable[[Sequence[str], Sequence[Sequence[str]]], list[Array]]

UTILITIES = ("chrf", "bleu")


class Judge(Protocol):
    """Says how good candidates are."""

    def __call__(
        self, sources: Sequence[str], real_targets: Sequence[str], candidates: Sequence[Sequence[str]]
    ) -> list[list[float]]:
        """Returns the quality of each candidate of each source; higher is better.

        Args:
            sources (`Sequence[str]`): the sources of a batch, without a prefix.
            real_targets (`Sequence[str]`): the real target of each; there may be none, which then is empty.
            candidates (`Sequence[Sequence[str]]`): at least one candidate of each.
        """


@dataclass(frozen=True)
class RealTarget:
    """Sentence BLEU against the real target.

    Args:
        tokens (`str`): sacrebleu's name of the tokens that BLEU counts.

    Source: Kim & Rush 2016, section 3.3 (sequence-level interpolation).
    """

    tokens: str

    def __call__(
        self, sources: Sequence[str], real_targets: Sequence[str], candidates: Sequence[Sequence[str]]
    ) -> list[list[float]]:
        """Returns for each candidate its sentence BLEU (0-100) against the real target of its source."""
        bleu = BLEU(tokenize=self.tokens, effective_order=True)
        return [
            [bleu.sentence_score(text, [real]).score for text in own]
            for real, own in zip(real_targets, candidates, strict=True)
        ]


@dataclass(frozen=True)
class ExpectedUtility:
    """Minimum Bayes risk: the mean score of a candidate against all candidates of its source, itself among them.

    A candidate that is there twice counts twice.

    Args:
        utility (`Callable`): from sources and the N texts of each to the scores `[N, N]` of each text as a translation
            where each is the reference.

    Source: Kumar & Byrne 2004; Eikema & Aziz 2020 (with samples of the model).
    """

    utility: Utility

    def __call__(
        self, sources: Sequence[str], real_targets: Sequence[str], candidates: Sequence[Sequence[str]]
    ) -> list[list[float]]:
        """Returns for each candidate its expected utility, in the utility's unit."""
        distinct = [list(dict.fromkeys(own)) for own in candidates]
        scores = self.utility(sources, distinct)
        return [_expected(*row) for row in zip(scores, distinct, candidates, strict=True)]


def _expected(scores: Array, texts: Sequence[str], candidates: Sequence[str]) -> list[float]:
    """The mean of the scores `[N, N]` of each candidate, one of N texts, over the candidates."""
    counts = np.array([candidates.count(text) for text in texts])
    expected = dict(zip(texts, (scores @ counts / len(candidates)).tolist(), strict=True))
    return [expected[text] for text in candidates]


@dataclass(frozen=True)
class EvaluateUtility:
    """The scores of a metric of the `evaluate` library.

    One call for all pairs of a batch where the metric answers with a list of so many numbers (as COMET does in
    `scores`); else one call for each pair.

    Args:
        metric (`ExternalMetric`): the metric.
    """

    metric: ExternalMetric

    def __call__(self, sources: Sequence[str], texts: Sequence[Sequence[str]]) -> list[Array]:
        """Returns the scores `[N, N]` of the N texts of each source, a row for each, where each is the reference.

        Raises:
            ValueError: if the metric answers without a number, or with several that none is called as it is.
        """
        pairs = [
            (source, text, other) for source, own in zip(sources, texts, strict=True) for text in own for other in own
        ]
        scores = self.metric.segments(self._compute(pairs), len(pairs))
        if scores is None:
            scores = [self.metric.number(self._compute([pair])) for pair in pairs]
        left = iter(scores)
        return [np.array([[next(left) for _ in own] for _ in own], dtype=float) for own in texts]

    def _compute(self, pairs: Sequence[tuple[str, str, str]]) -> dict[str, Any]:
        return self.metric.compute(*zip(*pairs, strict=True))


@dataclass(frozen=True)
class BackwardModel:
    """The mean log-probability per token, in nats, that a model of the other direction gives to the source.

    Args:
        model (`PreTrainedModel`): from the target language into that of the source, in eval mode.
        tokenizer (`PreTrainedTokenizerBase`): its tokenizer.
        max_batch_tokens (`int`): tokens of a batch, padding counted.
        source_prefix (`str`, *optional*): text put before every candidate.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    max_batch_tokens: int
    source_prefix: str | None = None

    def __call__(
        self, sources: Sequence[str], real_targets: Sequence[str], candidates: Sequence[Sequence[str]]
    ) -> list[list[float]]:
        """Returns for each candidate the source's mean log-probability per token, in nats, given the candidate."""

        def score(sources: Sequence[str], texts: Sequence[str]) -> list[float]:
            """Scores the sources as translations of the texts."""
            options: dict[str, Any] = {"max_batch_tokens": self.max_batch_tokens, "source_prefix": self.source_prefix}
            return score_pairs(self.model, self.tokenizer, texts, sources, **options)

        return _by_pairs(score, sources, candidates)


def load_backward_model(
    name: str,
    source_lang: str | None = None,
    target_lang: str | None = None,
    prefix: str | None = None,
    trust_remote_code: bool = False,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Loads a model of the other direction, set to the languages the other way round where it has any.

    Args:
        name (`str`): folder of a checkpoint, or a Hub id; the option `backward_teacher`.
        source_lang (`str`, *optional*): its code of the corpus's source language, into which it translates.
        target_lang (`str`, *optional*): its code of the corpus's target language.
        prefix (`str`, *optional*): text put before every sentence that it reads.
        trust_remote_code (`bool`, *optional*, defaults to `False`): execute Python files that came with it.

    Raises:
        OSError: as `load_model`.
        ValueError: as `load_model` and `LoadingArguments.prepare`, and of a
            model that cannot score.
    """
    options: dict[str, Any] = {"parameter": "backward_teacher", "trust_remote_code": trust_remote_code}
    model, tokenizer = load_model(name, **options)
    if isinstance(model, NATPreTrainedModel):
        raise ValueError(
            f"`backward_teacher` must be autoregressive, got the {type(model).__name__} `{name}`, which gives a text "
            "no probability. Use an AT model."
        )
    # It reads the corpus's targets.
    pair = (target_lang, source_lang) if hasattr(tokenizer, "src_lang") else (None, None)
    told = LoadingArguments(source_prefix=prefix, model_source_lang=pair[0], model_target_lang=pair[1])
    told.prepare(model, tokenizer, parameter="backward_teacher")
    return model, tokenizer


@dataclass(frozen=True)
class QualityEstimate:
    """What a function of the user says of each candidate.

    Args:
        estimator (`Callable`): from sources and candidates, pair by pair, to a number for each.
        name (`str`): what errors call it.
    """

    estimator: Estimator
    name: str

    def __call__(
        self, sources: Sequence[str], real_targets: Sequence[str], candidates: Sequence[Sequence[str]]
    ) -> list[list[float]]:
        """Returns the numbers.

        Raises:
            ValueError: if the function fails, or does not give a finite number for each pair.
        """

        def score(sources: Sequence[str], texts: Sequence[str]) -> list[float]:
            """Returns the finite number that the estimator gives each pair of source and candidate."""
            with foreign_code(f"`quality` must be a function that works, but {self.name} failed"):
                answer: Any = self.estimator(sources, texts)
                is_list = isinstance(answer, Iterable) and not isinstance(answer, str | bytes | Mapping | Set)
                values = list(answer) if is_list else None
            wrong = [value for value in values or () if not _is_finite(value)]
            if values is None or wrong or len(values) != len(texts):
                got = f"{answer!r:.60}" if values is None else f"{len(values)} values"
                raise ValueError(
                    f"`quality` must give a finite number for each of {len(texts)} candidates, got "
                    f"{f'the value {wrong[0]!r:.60}' if wrong else got} of {self.name}. Return a list of floats."
                )
            return [float(value) for value in values]

        return _by_pairs(score, sources, candidates)


def _is_finite(value: Any) -> bool:
    """Tells a finite number, one of NumPy or torch too; a truth value is none, nor is a text."""
    if isinstance(value, bool | str | bytes):
        return False
    try:
        return isfinite(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):  # torch: more than one number.
        return False


def pair_utility(name: str, tokens: str) -> Utility:
    """Returns a utility of sacrebleu's by its name, one of `UTILITIES`; BLEU counts such tokens."""
    return {
        "chrf": lambda sources, texts: [pairwise_chrf(own) for own in texts],
        "bleu": lambda sources, texts: [pairwise_bleu(own, tokens) for own in texts],
    }[name]


def utility_signature(name: str, tokens: str) -> str:
    """Says which metric a utility of sacrebleu's is, parameters and version included."""
    version = f"sacrebleu {metadata.version('sacrebleu')}"
    if name == "chrf":
        return f"chrF{CHRF.BETA}, nc:{CHRF.CHAR_ORDER}, nw:{CHRF.WORD_ORDER}, space:no, eff:yes, {version}"
    return f"sentence BLEU, tok:{tokens}, smooth:exp, eff:yes, {version}"


def load_estimator(name: str) -> Estimator:
    """Loads a function out of a Python file.

    Args:
        name (`str`): `FILE.py:FUNCTION`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the name is of another form, the file is no Python that runs, or it has no such function.
    """
    path = estimator_file(name)
    function = name.rpartition(":")[2]
    spec: Any = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    with foreign_code(f"`quality` must name a Python file that runs, got {str(path)!r}"):
        spec.loader.exec_module(module)
    if not callable(getattr(module, function, None)):
        raise ValueError(f"`quality` must name a function of `{path}`, got {function!r}.")
    return getattr(module, function)


def estimator_file(name: str) -> Path:
    """Returns the file of `FILE.py:FUNCTION`; see `load_estimator`."""
    file, colon, function = name.rpartition(":")
    if not (colon and function and file.endswith(".py")):
        raise ValueError(f"`quality` must be FILE.py:FUNCTION, got {name!r}.")
    if not Path(file).is_file():
        raise FileNotFoundError(f"`quality` must name an existing file, but there is no `{file}`.")
    return Path(file)


def _by_pairs(score: Estimator, sources: Sequence[str], candidates: Sequence[Sequence[str]]) -> list[list[float]]:
    """Scores every pair of a source and a candidate once, however often it is there."""
    pairs = list(
        dict.fromkeys((source, text) for source, own in zip(sources, candidates, strict=True) for text in own)
    )
    found = dict(zip(pairs, score([source for source, _ in pairs], [text for _, text in pairs]), strict=True))
    return [[found[source, text] for text in own] for source, own in zip(sources, candidates, strict=True)]
