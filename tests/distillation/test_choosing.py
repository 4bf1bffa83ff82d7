"""Several outputs of a teacher: kept, or chosen among, against an exhaustive search."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import load_dataset
from distillation.strategy_runs import JUDGE, most_vowels
from sacrebleu.metrics import BLEU, CHRF
from transformers import MarianMTModel, PreTrainedTokenizerFast

from hf_nat.base.utils import read_json
from hf_nat.data.encoding import encode
from hf_nat.decoding import Translation, Translator, score_pairs
from hf_nat.distillation import DistillArguments, FilterArguments, rewriting
from hf_nat.distillation.flags import FLAGS
from hf_nat.distillation.judges import EvaluateUtility, ExpectedUtility, QualityEstimate, load_estimator
from hf_nat.metrics.external import ExternalMetric
from hf_nat.steps import Filter, distill


Run = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def run(
    unsure_teacher: MarianMTModel,
    tiny_tokenizer: PreTrainedTokenizerFast,
    arguments: Callable[..., DistillArguments],
    rows: Callable,
) -> Run:
    """Distills and returns the training rows."""
    return lambda name, **changes: rows(distill(unsure_teacher, tiny_tokenizer, arguments(name, **changes)))


@pytest.fixture
def outputs_of(
    unsure_teacher: MarianMTModel, tiny_tokenizer: PreTrainedTokenizerFast, arguments: Callable[..., DistillArguments]
) -> Callable[..., list[Translation]]:
    """All candidates of one row, decoded alone."""

    def decode(number: int, source: str, **changes: Any) -> list[Translation]:
        kwargs = arguments(**changes).translate_kwargs([number])
        (outputs,) = Translator(unsure_teacher, tiny_tokenizer, with_scores=True, **kwargs).candidates([source])
        return outputs

    return decode


def mean_log_prob(model: MarianMTModel, tokenizer: PreTrainedTokenizerFast, source: str, target: str) -> float:
    """Every token from a forward pass over its own prefix."""
    inputs, total = torch.tensor(encode(tokenizer, [source])["input_ids"]), 0.0
    (ids,) = encode(tokenizer, [target])["input_ids"]
    prefix = [model.config.decoder_start_token_id]
    for token in ids:
        with torch.no_grad():
            logits = model(input_ids=inputs, decoder_input_ids=torch.tensor([prefix])).logits[0, -1]
        total += logits.log_softmax(-1)[token].item()
        prefix.append(token)
    return total / len(ids)


@pytest.mark.parametrize("candidates", ["beam", "sampling"])
def test_n_best_keeps_the_different_outputs_with_their_scores(
    candidates: str, run: Run, outputs_of: Callable, sources: list[str], tmp_path: Path
) -> None:
    options = {"strategy": "n-best", "num_candidates": 4, "candidates": candidates}
    found = run("lists", **options)
    expanded = run("expanded", **options, expand=True)
    flat = []
    for number, (row, source) in enumerate(zip(found, sources, strict=True)):
        best: dict[str, float] = {}
        for output in outputs_of(number, source, **options):
            best[output.text] = max(output.score, best.get(output.text, -torch.inf)) if source else None
        assert dict(zip(row["targets"], row["target_scores"], strict=True)) == {
            text: pytest.approx(score, abs=2e-4) for text, score in best.items()
        }
        assert row["target_scores"] == sorted(row["target_scores"], reverse=True) or not source
        assert (row["translation"]["xx"], row["teacher_score"]) == (row["targets"][0], row["target_scores"][0])
        pairs = zip(row["targets"], row["target_scores"], strict=True)
        flat += [(number, rank, source, text, score) for rank, (text, score) in enumerate(pairs)]
    assert max(len(row["targets"]) for row in found) == 4
    assert flat == [
        (row["id"], row["rank"], row["translation"]["en"], row["translation"]["xx"], row["teacher_score"])
        for row in expanded
    ]
    assert all(row["real_target"] == f"real {row['translation']['en']}" for row in expanded)
    manifest = read_json(tmp_path / "expanded" / "manifest.json")
    assert manifest["counts"]["train"] == len(flat) > manifest["num_sources"]["train"] == len(sources)
    splits = load_dataset(str(tmp_path / "expanded"), cache_dir=str(tmp_path / "cache"))
    assert {split: len(rows) for split, rows in splits.items()} == manifest["counts"]


def test_flags_of_a_list_are_those_of_all_its_targets(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(rewriting, "row_flags", lambda output, **marks: [FLAGS[sum(map(ord, output)) % 3]])
    options = {"strategy": "n-best", "num_candidates": 4}
    found, expanded = run("lists", **options), run("expanded", **options, expand=True)
    own = [{flag for row in expanded if row["id"] == number for flag in row["flags"]} for number in range(len(found))]
    assert [row["flags"] for row in found] == [[flag for flag in FLAGS if flag in flags] for flags in own]
    assert max(map(len, own)) > 1
    counts = read_json(tmp_path / "lists" / "manifest.json")["flag_counts"]
    assert counts == {flag: sum(flag in flags for flags in own) for flag in FLAGS}


def test_a_filter_of_rows_refuses_lists_of_targets(run: Run, tmp_path: Path) -> None:
    run("lists", strategy="n-best", num_candidates=2)
    message = "`corpus` must have one target a row, got .*lists' with lists of them .* Distil with `--expand true`"
    with pytest.raises(ValueError, match=message):
        Filter(FilterArguments(corpus=str(tmp_path / "lists"), output_dir=str(tmp_path / "filtered"))).run()


@pytest.mark.parametrize("utility", ["chrf", "bleu"])
@pytest.mark.parametrize(
    "candidates",
    [{"num_beams": 6}, {"candidates": "sampling", "num_candidates": 5}, {"candidates": "top-p", "num_candidates": 4}],
    ids=str,
)
def test_mbr_keeps_what_is_nearest_to_all(
    utility: str, candidates: dict[str, Any], run: Run, outputs_of: Callable, sources: list[str]
) -> None:
    metric = {"chrf": CHRF(), "bleu": BLEU(effective_order=True)}[utility]
    options = {"strategy": "mbr", "utility": utility, **candidates}
    moved = 0
    for number, (row, source) in enumerate(zip(run("mbr", **options), sources, strict=True)):
        if not source:
            assert (row["translation"]["xx"], row["candidate"], row["quality"]) == ("", None, None)
            continue
        outputs = outputs_of(number, source, **options)
        texts = [output.text for output in outputs]
        expected = [sum(metric.sentence_score(text, [other]).score for other in texts) / len(texts) for text in texts]
        best = max(range(len(texts)), key=lambda i: (round(expected[i], 9), -i))
        assert (row["translation"]["xx"], row["candidate"]) == (texts[best], best)
        assert row["quality"] == pytest.approx(expected[best], abs=1e-3)
        assert row["teacher_score"] == pytest.approx(outputs[best].score, abs=2e-4)
        moved += best > 0
    assert moved


def test_the_first_sample_is_that_of_sampling(run: Run, outputs_of: Callable, sources: list[str]) -> None:
    options = {"strategy": "mbr", "candidates": "sampling", "num_candidates": 5}
    alone = run("alone", strategy="sampling")
    samples = [outputs_of(number, source, **options) for number, source in enumerate(sources)]
    assert [own[0].text for own in samples] == [row["translation"]["xx"] for row in alone]
    assert max(len({output.text for output in own}) for own in samples) > 2


def test_rerank_keeps_what_a_function_prefers(
    run: Run, outputs_of: Callable, sources: list[str], tmp_path: Path
) -> None:
    options = {"strategy": "rerank", "num_beams": 4}
    found = run("file", **options, quality=JUDGE)
    for number, (row, source) in enumerate(zip(found, sources, strict=True)):
        if source:
            texts = [output.text for output in outputs_of(number, source, **options, quality=JUDGE)]
            scores = most_vowels([source] * len(texts), texts)
            assert row["translation"]["xx"] == texts[scores.index(max(scores))]
            assert row["quality"] == pytest.approx(max(scores), abs=1e-3)
    manifest = read_json(tmp_path / "file" / "manifest.json")
    assert manifest["decoding"]["choice"] == "quality by strategy_runs.py:most_vowels"
    assert manifest["judge_names"] == {"quality": JUDGE}
    assert len(manifest["quality_sha256"]) == 64


def test_a_function_in_memory_is_a_judge_too(
    unsure_teacher: MarianMTModel,
    tiny_tokenizer: PreTrainedTokenizerFast,
    arguments: Callable[..., DistillArguments],
    rows: Callable,
    run: Run,
) -> None:
    args = arguments("memory", strategy="rerank", quality="vowels")
    found = rows(distill(unsure_teacher, tiny_tokenizer, args, most_vowels))
    assert found == run("file", strategy="rerank", quality=JUDGE)


def test_rerank_by_a_backward_teacher_scores_the_source(
    run: Run,
    outputs_of: Callable,
    sources: list[str],
    copy_teacher: MarianMTModel,
    tiny_tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
) -> None:
    backward = tmp_path / "backward"
    copy_teacher.save_pretrained(backward)
    tiny_tokenizer.save_pretrained(backward)
    options = {"strategy": "rerank", "backward_teacher": str(backward)}
    for number, (row, source) in enumerate(zip(run("reranked", **options), sources, strict=True)):
        if source:
            texts = [output.text for output in outputs_of(number, source, **options)]
            scores = [mean_log_prob(copy_teacher, tiny_tokenizer, text, source) for text in texts]
            assert row["translation"]["xx"] == texts[scores.index(max(scores))]
            assert row["quality"] == pytest.approx(max(scores), abs=1e-3)
    manifest = read_json(tmp_path / "reranked" / "manifest.json")
    assert len(manifest["backward_teacher"]["teacher_sha256"]) == 64
    assert manifest["judge_names"] == {"backward_teacher": str(backward)}


def test_scores_of_given_pairs_do_not_depend_on_batches(
    copy_teacher: MarianMTModel, tiny_tokenizer: PreTrainedTokenizerFast, sentences: list[str]
) -> None:
    targets = [*sentences[1:], ""]
    expected = [mean_log_prob(copy_teacher, tiny_tokenizer, *pair) for pair in zip(sentences, targets, strict=True)]
    for max_batch_tokens in (1, 20, 4096):
        found = score_pairs(copy_teacher, tiny_tokenizer, sentences, targets, max_batch_tokens=max_batch_tokens)
        assert found == pytest.approx(expected, abs=1e-4)
    assert score_pairs(copy_teacher, tiny_tokenizer, [], []) == []


MODULE = """
import datasets
import evaluate

class Overlap(evaluate.Metric):
    def _info(self):
        strings = {{name: datasets.Value("string") for name in ("sources", "predictions", "references")}}
        return evaluate.MetricInfo(description="", citation="", features=datasets.Features(strings))

    def _compute(self, sources, predictions, references, scale=1):
        scores = [scale * len({{*p}} & {{*r}} - {{*s}}) for s, p, r in zip(sources, predictions, references)]
        return {{{result}}}
"""


def overlap(source: str, texts: Sequence[str]) -> list[float]:
    return [sum(len({*text} & {*other} - {*source}) for other in texts) / len(texts) for text in texts]


@pytest.mark.parametrize("result", ['"scores": scores, "mean": sum(scores) / len(scores)', '"score": sum(scores)'])
def test_any_evaluate_module_is_a_utility(
    result: str, run: Run, outputs_of: Callable, sources: list[str], tmp_path: Path
) -> None:
    (tmp_path / "overlap").mkdir()
    (tmp_path / "overlap" / "overlap.py").write_text(MODULE.format(result=result))
    options = {"strategy": "mbr", "utility": str(tmp_path / "overlap"), "num_beams": 3, "max_samples": 5}
    for number, (row, source) in enumerate(
        zip(run("module", **options, utility_options={"scale": 2}), sources[:5], strict=True)
    ):
        if source:
            expected = overlap(source, [output.text for output in outputs_of(number, source, **options)])
            assert row["candidate"] == expected.index(max(expected))
            assert row["quality"] == pytest.approx(2 * max(expected), abs=1e-3)
    manifest = read_json(tmp_path / "module" / "manifest.json")
    assert "evaluate module overlap {'scale': 2}" in manifest["decoding"]["choice"]
    (tmp_path / "overlap" / "overlap.py").write_text(MODULE.format(result=result) + "\n# changed\n")
    with pytest.raises(ValueError, match=r"`utility_module.overlap.py` must be the same in every run"):
        run("module", **options, utility_options={"scale": 2})


@pytest.mark.parametrize("search", [{"strategy": "n-best"}, {"strategy": "mbr", "num_beams": 4}], ids=str)
def test_ctranslate2_keeps_and_chooses_the_same(search: dict[str, Any], run: Run) -> None:
    pytest.importorskip("ctranslate2")
    sides = [run(backend, **search, backend=backend) for backend in ("torch", "ct2")]
    scores = [[row.pop("teacher_score") for row in side] for side in sides]
    assert scores[0] == pytest.approx(scores[1], abs=2e-4)
    if search["strategy"] == "n-best":
        scores = [[score for row in side for score in row.pop("target_scores")] for side in sides]
        assert scores[0] == pytest.approx(scores[1], abs=2e-4)
    assert sides[0] == sides[1]


def test_risk_counts_candidates_that_are_there_twice() -> None:
    def equal(sources: Sequence[str], texts: Sequence[Sequence[str]]) -> Any:
        return [torch.eye(len(own)).numpy() for own in texts]

    assert ExpectedUtility(equal)([""], [""], [["a", "b", "b"]]) == [pytest.approx([1 / 3, 2 / 3, 2 / 3])]


@pytest.mark.parametrize(
    ("answer", "got"),
    [
        ([1.0], "1 values"),
        ([1.0, float("nan")], "the value nan"),
        ([1.0, 10**400], "the value 10"),
        ([True, False], "the value True"),
        (["1", "2"], "the value '1'"),
        ([None, 1.0], "the value None"),
        ([[1.0], [2.0]], r"the value \[1.0\]"),
        (torch.ones(2, 2), "the value tensor"),
        (None, "None"),
        ("12", "'12'"),
        (1.0, "1.0"),
        ({1.0: 1, 2.0: 1}, "{1.0: 1, 2.0: 1}"),
        ({1.0, 2.0}, "{1.0, 2.0}"),
    ],
    ids=str,
)
def test_judges_that_do_not_say_what_they_must(answer: Any, got: str) -> None:
    with pytest.raises(ValueError, match=f"a finite number for each of 2 candidates, got {got}.* of mine. Return a"):
        QualityEstimate(lambda sources, texts: answer, "mine")(["s"], [""], [["a", "b"]])


@pytest.mark.parametrize("kind", [list, tuple, torch.tensor, lambda values: iter(map(float, values))])
def test_any_row_of_numbers_is_an_answer(kind: Callable) -> None:
    judge = QualityEstimate(lambda sources, texts: kind([1, 2]), "mine")
    assert judge(["s"], [""], [["a", "b"]]) == [[1.0, 2.0]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def f(:", "must name a Python file that runs, got '.*judge.py': SyntaxError: invalid syntax"),
        ("import sys\nsys.exit(0)", "must name a Python file that runs, got '.*judge.py': SystemExit: 0"),
        ("import nonesuch", "must name a Python file that runs, .*: No module named 'nonesuch'"),
        ("\xff", "must name a Python file that runs"),
        ("f = 1", "must name a function"),
        ("def f(sources): return []", "must be a function that works, but .*judge.py:f failed: TypeError"),
        ("def f(sources, texts): raise KeyError('boom')", "judge.py:f failed: KeyError: 'boom'"),
        ("def f(sources, texts): exit(3)", "judge.py:f failed: SystemExit: 3"),
        ("def f(sources, texts): return (1 / 0 for _ in texts)", "judge.py:f failed: ZeroDivisionError"),
    ],
)
def test_judges_whose_code_fails(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "judge.py").write_bytes(text.encode("latin-1"))
    name = f"{tmp_path / 'judge.py'}:f"
    with pytest.raises(ValueError, match=f"`quality` {message}|`quality` must be a function .*{message}"):
        QualityEstimate(load_estimator(name), name)(["s"], [""], [["a", "b"]])


@pytest.mark.parametrize("answer", [{"scores": [1.0, float("nan"), 0.0, 0.0]}, {"score": float("inf")}])
def test_a_utility_must_be_finite(answer: dict[str, Any]) -> None:
    class Module:
        name, features = "m", {"predictions": 0}

        def compute(self, **inputs: Any) -> dict[str, Any]:
            return answer

    with pytest.raises(ValueError, match="`module` must give a finite score, got (nan|inf) of it"):
        EvaluateUtility(ExternalMetric(Module(), name="it"))(["s"], [["a", "b"]])


class OfSources:
    """Rates a pair by the number of its source and the letters of its two texts; counts its calls."""

    name, features = "bleu", {"predictions": 0, "sources": 0}

    def __init__(self, answer: Callable[[list[float]], dict[str, Any]]) -> None:
        self.answer, self.calls = answer, 0

    def compute(self, sources: list[str], predictions: list[str], references: list[str]) -> dict[str, Any]:
        self.calls += 1
        triples = zip(sources, predictions, references, strict=True)
        return self.answer([100 * int(source) + 10 * len(text) + len(other) for source, text, other in triples])


@pytest.mark.parametrize(
    ("answer", "calls"),
    [
        (lambda scores: {"scores": scores, "mean_score": 7.0}, 1),
        (lambda scores: {"segments": scores, "precisions": [1.0] * len(scores), "bleu": 7.0}, 1),
        (lambda scores: {"anything": scores}, 1),
        # Four numbers as many as two candidates have pairs, with two lists or one.
        (lambda scores: {"bleu": scores[0], "precisions": [1.0, 2.0, 3.0, 4.0], "brevity_penalty": 1.0}, 5),
        (lambda scores: {"score": scores[0], "counts": [1, 2, 3, 4], "totals": [5, 6, 7, 8]}, 5),
    ],
)
def test_a_utility_reads_pairs_and_no_other_lists(answer: Callable, calls: int) -> None:
    module = OfSources(answer)
    (scores,) = EvaluateUtility(ExternalMetric(module))(["1"], [["a", "bb"]])
    assert scores.tolist() == [[111, 112], [121, 122]]
    assert module.calls == calls


def test_a_utility_gets_the_pairs_of_all_sources_at_once() -> None:
    module = OfSources(lambda scores: {"scores": scores})
    texts = [["a", "bb"], ["cc"], ["", "d", "eee"]]
    found = EvaluateUtility(ExternalMetric(module))(["1", "2", "3"], texts)
    assert [scores.tolist() for scores in found] == [
        [[100 * number + 10 * len(text) + len(other) for other in own] for text in own]
        for number, own in enumerate(texts, start=1)
    ]
    assert module.calls == 1


def test_a_utility_with_two_numbers_has_none() -> None:
    class Module:
        name, features = "m", {"predictions": 0}

        def compute(self, **inputs: Any) -> dict[str, Any]:
            return {"one": 1.0, "two": 2.0}

    with pytest.raises(ValueError, match=r"one number, or a list `scores`, but it has \['one', 'two'\]"):
        EvaluateUtility(ExternalMetric(Module(), name="it"))(["s"], [["a", "b"]])


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"strategy": "mbr", "utility": "comet"}, ValueError, "`utility` must be one of .* got 'comet'"),
        ({"strategy": "rerank", "quality": "x.py"}, ValueError, "`quality` must be FILE.py:FUNCTION, got 'x.py'"),
        ({"strategy": "rerank", "quality": "x.py:f"}, FileNotFoundError, "`quality` must name an existing file"),
        ({"strategy": "rerank", "quality": JUDGE + "s"}, ValueError, "must name a function .*, got 'most_vowelss'"),
        ({"strategy": "rerank", "backward_teacher": "./none"}, OSError, "`backward_teacher` must be"),
    ],
)
def test_judges_that_there_are_not(
    changes: dict[str, Any],
    error: type[Exception],
    message: str,
    run: Run,
    arguments: Callable[..., DistillArguments],
) -> None:
    with pytest.raises(error, match=message):
        run("refused", **changes)
    assert not Path(arguments("refused").output_dir).exists()


def test_another_judge_is_an_error_in_the_same_folder(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "judge.py"
    file.write_text("def first(sources, texts):\n    return [0.0] * len(texts)\n")
    options = {"strategy": "rerank", "quality": f"{file}:first"}
    run("judged", **options)
    file.write_text("def first(sources, texts):\n    return [1.0] * len(texts)\n")
    with pytest.raises(ValueError, match="`quality_sha256` must be the same in every run"):
        run("judged", **options)
    assert json.loads((tmp_path / "judged" / "step.json").read_text())["finished"]
