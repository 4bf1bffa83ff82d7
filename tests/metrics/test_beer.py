from __future__ import annotations

import math
import random
from collections import Counter

import pytest
import yaml
from sacrebleu.metrics.base import Metric

from hf_nat.metrics.beer import BEER, extract_features
from hf_nat.metrics.translation import score_translations


MEANS = {"symmetry": True, "fScores": [1.0], "gScores": [1.0]}
TEMPLATES = [
    {"name": "length-disbalance", "exponential": False, "degrees": [1.0]},
    *({"name": "skip-bigram", "maxSkipSize": size, **MEANS} for size in (1, 2, 3, 4, 1000000)),
    *({"name": "ngram", "order": order, **MEANS} for order in range(1, 5)),
    *({"name": "char-ngram", "order": order, **MEANS} for order in range(1, 7)),
]


def pieces_by_loops(family: str, size: int, sentence: str) -> Counter[str]:
    """Pieces as strings, position by position, as the tool's loops make them."""
    words, found = sentence.split(" "), Counter()
    if family == "char":
        for start in range(len(sentence) - size + 1):
            found[sentence[start : start + size - 1]] += 1
    if family == "skip":
        for i in range(len(words) - 1):
            for j in range(i + 1, min(i + size + 2, len(words))):
                found[f"{words[i]}-------{words[j]}"] += 1
    if family == "ngram":
        for i in range(len(words) - size + 1):
            found["".join(f"-------{words[j]}" for j in range(i, i + size))] += 1
        found["<S>" + "".join(f"-------{words[j]}" for j in range(min(len(words), size)))] += 1
        found["".join(f"{words[j]}-------" for j in range(max(len(words) - size, 0), len(words))) + "</S>"] += 1
    return found


def features_by_loops(hypothesis: str, reference: str) -> dict[str, float]:
    features = {}
    for family, sizes in (("char", range(1, 7)), ("ngram", range(1, 5)), ("skip", (1, 2, 3, 4, 1000000))):
        for size in sizes:
            left, right = (pieces_by_loops(family, size, side) for side in (hypothesis, reference))
            overlap = sum(min(count, right[piece]) for piece, count in left.items())
            p = overlap / sum(left.values()) if left else 0.0
            r = overlap / sum(right.values()) if right else 0.0
            name = f"{family}{size}"
            features |= {f"{name}.a": min(p, r), f"{name}.b": max(p, r), f"{name}.g.1.0": math.sqrt(p * r)}
            features[f"{name}.f.1.0"] = 2 * p * r / (p + r) if p + r else 0.0
    for unit, left, right in (
        ("word", len(hypothesis.split(" ")), len(reference.split(" "))),
        ("char", len(hypothesis), len(reference)),
    ):
        longer, shorter = max(left, right), min(left, right)
        features[f"len_disbalance_{unit}.d.1.0"] = longer / shorter - 1 if shorter else 100000.0
    return features


def write_model(directory, **files: str) -> dict[str, float]:
    """Writes a model in BEER's format, some files replaced by `files`; returns its meaningless weights by feature."""
    rng = random.Random(0)
    names = sorted(features_by_loops("a", "a"))
    weights = {name: rng.uniform(0.0, 0.1) for name in names} | {"len_disbalance_char.d.1.0": -0.1}
    ranges = ["0.0 2.25" if name == "len_disbalance_char.d.1.0" else "0.0 1.0" for name in names]
    head = "solver_type L2R_L2LOSS_SVC\nnr_class 2\nlabel 1 -1\nnr_feature 61\nbias 0.000000000000000\nw\n"
    texts = {
        "feature_template.yaml": yaml.safe_dump({"features": TEMPLATES}),
        "feature_names_mapping": "".join(f"{index} {name}\n" for index, name in enumerate(names)),
        "feature_values_scaling": "\n".join(ranges) + "\n",
        "core_model": head + "".join(f"{weights[name]!r} \n" for name in names),
        "kernel.properties": "#kernel properties\n#Fri Apr 15 20:10:18 CEST 2016\ngamma=2.0\npolynomialDegree=1\n",
        "output_scaling": "solver_type L2R_L2LOSS_SVR\nnr_class 2\nnr_feature 1\nbias 0.0\nw\n8.5 \n20.5 \n",
    }
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in (texts | files).items():
        (directory / name).write_text(text, encoding="utf-8")
    return weights


@pytest.fixture
def model_dir(tmp_path):
    write_model(tmp_path / "linear")
    return tmp_path / "linear"


def test_the_62_features_equal_a_second_implementation():
    rng = random.Random(3)
    for _ in range(100):
        hypothesis, reference = (
            " ".join(rng.choice(["a", "ab", "b", "ca", "d"]) for _ in range(rng.randint(1, 8))) for _ in range(2)
        )
        features = extract_features(TEMPLATES, hypothesis.split(), reference.split())
        assert len(features) == 62
        assert features == pytest.approx(features_by_loops(hypothesis, reference))


@pytest.mark.parametrize(("hypothesis", "reference"), [("", "a b"), ("a b", ""), ("", ""), ("a", "")])
def test_an_empty_side_is_one_word_without_characters(hypothesis, reference):
    features = extract_features(TEMPLATES, hypothesis.split(), reference.split())
    assert features == pytest.approx(features_by_loops(hypothesis, reference))
    assert features["len_disbalance_char.d.1.0"] == 100000.0


def test_features_by_hand():
    features = extract_features(TEMPLATES, ["a", "b"], ["a", "c", "b"])
    # Strings of one character at the places of two: "a", " " against "a", " ", "c", " ".
    assert (features["char2.a"], features["char2.b"]) == (0.5, 1.0)
    # a, b, start-a, b-end of both sides; the reference also has c.
    assert (features["ngram1.a"], features["ngram1.b"]) == (4 / 5, 1.0)
    # a-b with c in between against a-c, a-b, c-b.
    assert (features["skip1.a"], features["skip1.f.1.0"]) == (1 / 3, 0.5)
    assert features["len_disbalance_word.d.1.0"] == 0.5
    assert features["len_disbalance_char.d.1.0"] == pytest.approx(5 / 3 - 1)


def test_no_imbalance_of_lengths_overflows():
    length = {"name": "length-disbalance", "exponential": True, "degrees": [1.0, 3.0]}
    values = [extract_features([length], ["a"] * size, ["a"]) for size in (99, 100, 1000, 5000)]
    growth = [features["len_disbalance_exp_word.d.1.0"] for features in values]
    assert growth[0] < growth[1] == growth[2] == growth[3] == math.exp(100) - math.e
    assert all(math.isfinite(value) for features in values for value in features.values())


def test_asymmetric_exponential_and_weighted_variants():
    overlap = {"name": "ngram", "order": 1, "symmetry": False, "fScores": [2], "gScores": [3.0]}
    length = {"name": "length-disbalance", "exponential": True, "degrees": [2.0]}
    features = extract_features([overlap, length], ["a", "c", "b"], ["a", "b"])
    precision, recall = 0.8, 1.0
    assert (features["ngram1.a"], features["ngram1.b"]) == (precision, recall)
    assert features["ngram1.f.2.0"] == pytest.approx(5 * precision * recall / (4 * precision + recall))
    assert features["ngram1.g.3.0"] == pytest.approx((precision * recall**3) ** 0.25)
    assert features["len_disbalance_exp_word.d.2.0"] == pytest.approx((math.exp(1.5) - math.e) ** 2)


def test_unknown_family_is_an_error():
    with pytest.raises(ValueError, match=r"one of \['char-ngram', 'length-.*got 'tree'"):
        extract_features([{"name": "tree"}], ["a"], ["a"])


def test_score_is_the_scaled_weighted_sum(tmp_path):
    weights = write_model(tmp_path)
    features = features_by_loops("a b d", "a b c")
    raw = sum(
        weight * features[name] / (2.25 if name == "len_disbalance_char.d.1.0" else 1)
        for name, weight in weights.items()
    )
    score = BEER(tmp_path).sentence_score("a b d", ["a b c"]).score
    assert score == pytest.approx(8.5 + 20.5 * raw)
    assert 10 < score < 90


def test_platt_scaling_wins_over_the_linear_one(tmp_path, model_dir):
    write_model(tmp_path / "platt", **{"platt_scaling.properties": "#Platt scaling\nA=-1.5\nB=2.0\n"})
    raw = (BEER(model_dir).sentence_score("a b d", ["a b c"]).score - 8.5) / 20.5
    score = BEER(tmp_path / "platt").sentence_score("a b d", ["a b c"]).score
    assert score == pytest.approx(100 / (1 + math.exp(-1.5 * raw + 2.0)))


def test_corpus_score_is_the_mean_and_the_best_reference_counts(model_dir):
    metric = BEER(model_dir)
    parts = [metric.sentence_score(*pair).score for pair in (("a b", ["a c"]), ("d", ["e f"]))]
    assert metric.corpus_score(["a b", "d"], [["a c", "e f"]]).score == pytest.approx(sum(parts) / 2)
    assert metric.sentence_score("a b", ["x", "a b"]).score == metric.sentence_score("a b", ["a b"]).score


@pytest.mark.parametrize(("hypothesis", "reference"), [("", "a b"), ("a b", ""), ("", "")])
def test_an_empty_side_scores_0(model_dir, hypothesis, reference):
    assert BEER(model_dir).sentence_score(hypothesis, [reference]).score == 0.0


def test_one_word_identical_and_disjoint_sentences_are_defined(model_dir):
    metric = BEER(model_dir)
    scores = [metric.sentence_score(*pair).score for pair in (("a", ["a"]), ("a b c", ["a b c"]), ("ab", ["cd"]))]
    assert scores[1] >= scores[0] > scores[2] > 0
    assert scores[2] == pytest.approx(
        8.5 + 20.5 * sum(write_model(model_dir)[f"char1.{kind}"] for kind in ("a", "b", "f.1.0", "g.1.0"))
    ), "only the empty strings of order 1 overlap"


def test_case_counts_unless_lowercased(model_dir):
    assert BEER(model_dir).sentence_score("A B", ["a b"]).score < 50
    lowered = BEER(model_dir, lowercase=True)
    assert lowered.sentence_score("A B", ["a b"]).score == lowered.sentence_score("a b", ["a b"]).score


def test_is_a_sacrebleu_metric_whose_signature_tells_models_apart(model_dir, tmp_path):
    signatures = set()
    write_model(tmp_path / "other" / "linear", output_scaling="w\n8.5\n20\n")
    for directory in (model_dir, tmp_path / "other" / "linear"):
        metric = BEER(directory)
        metric.corpus_score(["a"], [["a"]])
        signatures.add(metric.get_signature().format())
    assert isinstance(metric, Metric)
    assert len(signatures) == 2
    assert all(text.startswith("nrefs:1|case:mixed|tok:none|model:linear-") for text in signatures)


def test_without_a_model_the_common_interface_says_why():
    score = score_translations(["a"], ["a"], target_lang="de", metrics=["beer"])["beer"]
    assert (score.score, score.signature) == (None, "")
    assert score.reason == "BEER needs a trained model: give the folder of one as the option `model_dir`."


def test_missing_file_is_an_error(model_dir):
    (model_dir / "core_model").unlink()
    with pytest.raises(ValueError, match="`model_dir` must hold BEER's file core_model, got the folder '.*linear'"):
        BEER(model_dir)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"kernel.properties": "gamma=2.0\npolynomialDegree=2\n"}, "linear model, got polynomialDegree=2"),
        ({"feature_names_mapping": "0 char1.a\n2 char1.b\n"}, "must count from 0 to 1"),
        ({"feature_names_mapping": "0 char1.a\n1 tree\n"}, "got 62 and 2 in .* they differ in"),
        ({"feature_values_scaling": "0.0 1.0\n"}, "got 62 features, 1 scalings and 62 weights"),
        ({"feature_values_scaling": "0.0 1.0\n0.5 0.5\n"}, "got 0.5 and 0.5 for feature 1"),
        (
            {"core_model": "solver_type L2R_L2LOSS_SVC\n1.0\n"},
            "core_model' must hold weights after a line 'w'",
        ),
    ],
)
def test_inconsistent_models_are_errors_that_name_the_file(tmp_path, files, message):
    write_model(tmp_path, **files)
    with pytest.raises(ValueError, match=message):
        BEER(tmp_path)
