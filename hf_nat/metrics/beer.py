"""BEER 2.0: a linear model over many small overlaps of a translation and its reference."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ..base.bounds import require_choice
from .sentence_mean import SentenceMeanMetric, SentenceMeanSignature


# What the tool returns for the imbalance of two lengths of which one is 0.
_UNBALANCED = 100_000.0
# Where exp(larger / smaller) stops growing: far beyond what any model can tell apart, and no power of it overflows.
_MAX_RATIO = 100.0


class BEERSignature(SentenceMeanSignature):
    """Signature of `BEER`: case, name and checksum of the model, and the definition followed."""

    def __init__(self, args: dict[str, Any]):
        super().__init__(args)
        self.add(**{"model": args["model_name"], "def": "BEER-2.0"})


class BEER(SentenceMeanMetric):
    """Scores with a trained model of BEER 2.0; the corpus score is the mean of the segments.

    Text is split at spaces: tokenise it first. Each segment gives features (see `extract_features`), which are scaled,
    weighted and summed, mapped to 0..1 by the model's last layer and multiplied by 100. Of several references the best
    counts. As in the tool, an empty side is one word of no characters, which sets the character imbalance to 100000:
    with a trained model, which weighs imbalance negatively, the score is 0, for two empty sides too.

    The directory is one of the tool's `models/*`: `feature_template.yaml` (the features), `feature_names_mapping`
    (lines "index name"), `feature_values_scaling` (lines "minimum maximum"), `kernel.properties`, `core_model`
    (weights, one a line after a line "w") and either `platt_scaling.properties` or `output_scaling` (two weights).
    No model is part of this package, and none is trained here.

    Features and file formats were read off the tool's published source and model files. The numbers were checked
    against a second implementation, and for equal sides against the tool's log of raw scores (4.2076 with its model
    `linear`), but not against a run of the Scala program.

    Args:
        model_dir (`str | Path`): folder of a trained model with a linear kernel.
        lowercase (`bool`, *optional*, defaults to `False`): whether case is ignored; the tool takes text as it is.

    Raises:
        ValueError: if a file is missing, the files disagree, or the kernel is not linear.

    Source: Stanojevic & Sima'an 2014 (EMNLP and WMT); BEER 2.0's code. Differs: the tool divides the corpus sum by
    the number of segments + 1, and counts characters in UTF-16.
    """

    _SIGNATURE_TYPE = BEERSignature

    def __init__(self, model_dir: str | Path, lowercase: bool = False):
        super().__init__(lowercase)
        directory = Path(model_dir)
        self._templates: list[dict[str, Any]] = yaml.safe_load(_read(directory, "feature_template.yaml"))["features"]
        self._names = _read_names(directory)
        self._ranges = _read_ranges(directory)
        self._weights = _read_weights(directory, "core_model")
        degree = _read_properties(directory, "kernel.properties")["polynomialDegree"]
        if degree != 1:
            raise ValueError(
                f"`model_dir` must hold a linear model, got polynomialDegree={degree:g} in "
                f"{str(directory / 'kernel.properties')!r}. Use BEER's model `linear` or `linear_self_train`."
            )
        self._check(directory)
        self._platt = (directory / "platt_scaling.properties").is_file()
        if self._platt:
            properties = _read_properties(directory, "platt_scaling.properties")
            self._offset, self._slope = properties["B"], properties["A"]
        else:
            self._offset, self._slope = _read_weights(directory, "output_scaling")
        self.model_name = f"{directory.resolve().name}-{_checksum(directory)}"

    def _sentence(self, hypothesis: Sequence[str], reference: Sequence[str]) -> float:
        """BEER (0-1) of one sentence against one reference."""
        features = extract_features(self._templates, hypothesis, reference)
        raw = math.fsum(
            weight * (features[name] - low) / (high - low)
            for name, weight, (low, high) in zip(self._names, self._weights, self._ranges, strict=True)
        )
        if self._platt:
            # 1 / (1 + exp(x)) without overflow on either side.
            return 0.5 * (1.0 - math.tanh((self._slope * raw + self._offset) / 2))
        return min(max((self._offset + self._slope * raw) / 100.0, 0.0), 1.0)

    def _check(self, directory: Path) -> None:
        """The four files must speak of the same features."""
        produced = sorted(extract_features(self._templates, ["a"], ["a"]))
        if produced != sorted(self._names):
            differing = sorted(set(produced) ^ set(self._names))
            raise ValueError(
                f"`model_dir` must name the same features in feature_template.yaml and feature_names_mapping, "
                f"got {len(produced)} and {len(self._names)} in {str(directory)!r}; they differ in {differing[:4]}."
            )
        if not len(self._names) == len(self._ranges) == len(self._weights):
            raise ValueError(
                f"`model_dir` must hold one scaling and one weight for each feature, got {len(self._names)} features, "
                f"{len(self._ranges)} scalings and {len(self._weights)} weights in {str(directory)!r}."
            )


def extract_features(
    templates: Sequence[Mapping[str, Any]], hypothesis: Sequence[str], reference: Sequence[str]
) -> dict[str, float]:
    """Computes BEER's features of one sentence pair.

    Each family counts pieces on both sides: `char-ngram` (order k: strings of k - 1 characters, spaces included, at
    the places where a string of k fits), `ngram` (k words, and the first and the last k words with a mark for the end
    of the sentence), `skip-bigram` (ordered pairs of words with at most `maxSkipSize` words in between). With a, b =
    the smaller and the larger of precision and recall (just those two without `symmetry`) its features are a, b,
    F = (1 + beta^2) a b / (beta^2 a + b) and G = (a b^beta)^(1 / (1 + beta)). `length-disbalance` gives larger /
    smaller - 1 of the numbers of words and of characters, to the power of each degree; with `exponential`,
    exp(larger / smaller) - e, which stops growing at a ratio of 100.

    Args:
        templates (`Sequence[Mapping[str, Any]]`): entries of `feature_template.yaml`.
        hypothesis (`Sequence[str]`): words of the translation.
        reference (`Sequence[str]`): words of the reference.

    Returns:
        `dict[str, float]`: values by the names that the tool gives them, such as `char3.f.1.0`.

    Raises:
        ValueError: if a template names an unknown family.

    Source: Stanojevic & Sima'an 2014 (EMNLP), section 2; names, ends and empty sides as in BEER 2.0's code.
    """
    # The tool splits an empty line into one empty word.
    sides = [list(words) or [""] for words in (hypothesis, reference)]
    features: dict[str, float] = {}
    for template in templates:
        family = template["name"]
        if family == "length-disbalance":
            features.update(_imbalance(template, *sides))
            continue
        require_choice("name", family, sorted([*_PIECES, "length-disbalance"]), where="for a BEER feature")
        prefix, pieces, size = _PIECES[family]
        counts = [Counter(pieces(words, template[size])) for words in sides]
        features.update(_overlap(f"{prefix}{template[size]}", template, *counts))
    return features


def _char_pieces(words: Sequence[str], order: int) -> Iterator[Hashable]:
    text = " ".join(words)
    return (text[k : k + order - 1] for k in range(len(text) - order + 1))


def _ngram_pieces(words: Sequence[str], order: int) -> Iterator[Hashable]:
    yield from (tuple(words[k : k + order]) for k in range(len(words) - order + 1))
    yield (None, *words[:order])
    yield (*words[-order:], None)


def _skip_pieces(words: Sequence[str], gap: int) -> Iterator[Hashable]:
    return ((left, right) for k, left in enumerate(words) for right in words[k + 1 : k + gap + 2])


# Family: prefix of its feature names, its pieces, the field that holds their size.
_PIECES = {
    "char-ngram": ("char", _char_pieces, "order"),
    "ngram": ("ngram", _ngram_pieces, "order"),
    "skip-bigram": ("skip", _skip_pieces, "maxSkipSize"),
}


def _overlap(
    prefix: str, template: Mapping[str, Any], hypothesis: Counter[Hashable], reference: Counter[Hashable]
) -> dict[str, float]:
    """Precision and recall of the pieces, symmetrised, and their means."""
    matches = (hypothesis & reference).total()
    a, b = (matches / side.total() if side else 0.0 for side in (hypothesis, reference))
    if template["symmetry"]:
        a, b = min(a, b), max(a, b)
    features = {f"{prefix}.a": a, f"{prefix}.b": b}
    for beta in map(float, template["fScores"]):
        denominator = beta * beta * a + b
        features[f"{prefix}.f.{beta}"] = (1 + beta * beta) * a * b / denominator if denominator else 0.0
    for beta in map(float, template["gScores"]):
        features[f"{prefix}.g.{beta}"] = (a * b**beta) ** (1 / (1 + beta))
    return features


def _imbalance(template: Mapping[str, Any], hypothesis: Sequence[str], reference: Sequence[str]) -> dict[str, float]:
    """How far apart the lengths are, in words and in characters."""
    exponential = template["exponential"]
    features = {}
    for unit, left, right in (
        ("word", len(hypothesis), len(reference)),
        ("char", len(" ".join(hypothesis)), len(" ".join(reference))),
    ):
        value = _UNBALANCED
        if left and right:
            ratio = max(left, right) / min(left, right)
            value = math.exp(min(ratio, _MAX_RATIO)) - math.e if exponential else ratio - 1.0
        for degree in map(float, template["degrees"]):
            features[f"len_disbalance{'_exp' if exponential else ''}_{unit}.d.{degree}"] = value**degree
    return features


def _read(directory: Path, name: str) -> str:
    if not (directory / name).is_file():
        raise ValueError(f"`model_dir` must hold BEER's file {name}, got the folder {str(directory)!r}.")
    return (directory / name).read_text(encoding="utf-8")


def _read_names(directory: Path) -> list[str]:
    """Feature names in the order of their indices."""
    pairs = sorted((int(index), name) for index, name in map(str.split, _lines(directory, "feature_names_mapping")))
    if [index for index, _ in pairs] != list(range(len(pairs))):
        raise ValueError(f"feature_names_mapping in {str(directory)!r} must count from 0 to {len(pairs) - 1}.")
    return [name for _, name in pairs]


def _read_ranges(directory: Path) -> list[tuple[float, float]]:
    """(minimum, maximum) of each feature in the training data."""
    pairs = (line.split() for line in _lines(directory, "feature_values_scaling"))
    ranges = [(float(low), float(high)) for low, high in pairs]
    for index, (low, high) in enumerate(ranges):
        if not low < high:
            raise ValueError(
                f"feature_values_scaling in {str(directory)!r} must hold minima below their maxima, "
                f"got {low} and {high} for feature {index}."
            )
    return ranges


def _read_weights(directory: Path, name: str) -> list[float]:
    """The numbers after the line "w" of a liblinear model."""
    lines = [line.strip() for line in _lines(directory, name)]
    if "w" not in lines:
        raise ValueError(f"{str(directory / name)!r} must hold weights after a line 'w', got none.")
    return [float(line) for line in lines[lines.index("w") + 1 :]]


def _read_properties(directory: Path, name: str) -> dict[str, float]:
    """A Java properties file of numbers."""
    pairs = (line.partition("=") for line in _lines(directory, name) if not line.startswith("#"))
    return {key.strip(): float(value) for key, _, value in pairs}


def _lines(directory: Path, name: str) -> list[str]:
    return [line for line in _read(directory, name).split("\n") if line.strip()]


def _checksum(directory: Path) -> str:
    """Eight hex digits over the files that make up a model."""
    names = ("core_model", "feature_names_mapping", "feature_template.yaml", "feature_values_scaling")
    scalings = ("output_scaling", "platt_scaling.properties")
    content = [_read(directory, name) for name in (*names, *scalings) if (directory / name).is_file()]
    return hashlib.sha256("\0".join(content).encode()).hexdigest()[:8]
