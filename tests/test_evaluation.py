from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from datasets import Dataset
from nat_model_tester import save, tiny_student
from transformers import MarianMTModel, PreTrainedTokenizerFast

from hf_nat.base.config import load_config
from hf_nat.base.utils import read_json, write_json
from hf_nat.decoding import DecodingArguments, translate
from hf_nat.evaluation import EvaluateArguments, evaluate
from hf_nat.evaluation.errors import translation_errors
from hf_nat.metrics.external import load_external_metric
from hf_nat.metrics.translation import score_translations
from hf_nat.steps import Evaluate
from hf_nat_cli import main


@pytest.fixture
def corpus(tmp_path: Path, sentences: list[str]) -> str:
    """A test split whose references are the sources themselves, for a teacher that copies."""
    rows = [{"translation": {"en": sentence, "xx": sentence}} for sentence in [*sentences, ""]]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(tmp_path / "{split}.jsonl")


@pytest.fixture
def teacher_folder(copy_teacher: MarianMTModel, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> str:
    folder = tmp_path / "teacher"
    save(folder, copy_teacher, tiny_tokenizer)
    return str(folder)


@pytest.fixture
def student_folder(tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> str:
    return str(save(tmp_path / "student", tiny_student("cmlm", tiny_tokenizer), tiny_tokenizer))


@pytest.fixture
def arguments(corpus: str) -> Callable[..., tuple[EvaluateArguments, DecodingArguments]]:
    def build(model: str, **changes: object) -> tuple[EvaluateArguments, DecodingArguments]:
        options = [f"--{key}={value}" for key, value in changes.items() if value is not None]
        languages = ["--source_lang=en", "--target_lang=xx"]
        argv = [f"--model={model}", f"--corpus={corpus}", *languages, *options]
        return load_config((EvaluateArguments, DecodingArguments), argv)

    return build


def test_scores_and_files_of_a_teacher(copy_teacher, tiny_tokenizer, teacher_folder, arguments, sentences):
    metrics = evaluate(*arguments(teacher_folder))
    sources = [*sentences, ""]
    texts = [translation.text for translation in translate(copy_teacher, tiny_tokenizer, sources, num_beams=1)]
    folder = Path(teacher_folder) / "eval-test"
    assert read_json(folder / "metrics.json") == metrics
    assert (folder / "translations.txt").read_text(encoding="utf-8") == "".join(f"{text}\n" for text in texts)
    bleu = metrics["scores"]["bleu"]
    assert len(bleu.pop("sentence_statistics")["reference_lengths"].split()) == len(sources)
    assert metrics["scores"] == {
        name: {"score": score.score, "signature": score.signature}
        for name, score in score_translations(texts, sources, target_lang="xx").items()
    }
    assert metrics["scores"]["sacrebleu"]["score"] > 30, "the teacher copies most of its training sentences"
    assert (metrics["model"], metrics["split"], metrics["num_sentences"]) == (teacher_folder, "test", 6)
    assert metrics["decoding"] == {"num_beams": 1, "max_batch_tokens": 4096}
    assert metrics["iterations_mean"] is None
    assert metrics["num_parameters"] == copy_teacher.num_parameters()
    assert metrics["error_rates"] == translation_errors(sources, sources, texts, source_lang="en", target_lang="xx")
    assert metrics["sentences_per_second"] == pytest.approx(6 / metrics["seconds"], rel=0.1)


def test_beam_search_is_recorded_and_used(
    copy_teacher, tiny_tokenizer, teacher_folder, arguments, sentences, tmp_path
):
    output_dir = tmp_path / "elsewhere"
    metrics = evaluate(*arguments(teacher_folder, num_beams=4, max_samples=5, output_dir=output_dir))
    settings = {"num_beams": 4, "length_penalty": 1.0, "early_stopping": True}
    assert metrics["decoding"] == {**settings, "max_batch_tokens": 4096}
    beam, greedy = (
        [translation.text for translation in translate(copy_teacher, tiny_tokenizer, sentences, **options)]
        for options in (settings, {"num_beams": 1})
    )
    assert beam != greedy
    assert (output_dir / "translations.txt").read_text().splitlines() == beam


def test_the_training_corpus_tells_unknown_and_dropped_words(teacher_folder, arguments, corpus, tmp_path):
    step = Evaluate(*arguments(teacher_folder, training_corpus=corpus, training_split="test"))
    step.run()
    rates = step.metrics["error_rates"]
    assert rates["references"]["unknown_words"] == rates["references"]["dropped_words"] == 0
    assert {"unknown_words", "dropped_words"} <= set(rates["translations"])
    without = Evaluate(*arguments(teacher_folder))
    assert step.inputs()["training_corpus"] != without.inputs()["training_corpus"] is None


def test_rounds_of_a_nat_model_are_counted(student_folder, arguments):
    metrics = evaluate(*arguments(student_folder, max_iterations=3, length_beam=2))
    assert 1 <= metrics["iterations_mean"] <= 3
    assert metrics["decoding"] == {"max_iterations": 3, "length_beam": 2, "max_batch_tokens": 4096}


def test_knobs_that_the_checkpoint_was_tuned_to_are_recorded_where_they_act(tiny_tokenizer, arguments, tmp_path):
    model = tiny_student("ctc_nat", tiny_tokenizer)
    model.generation_config.update(ctc_beam_size=3, ctc_length_bonus=0.5)
    folder = str(save(tmp_path / "student", model, tiny_tokenizer))
    tuned = {"ctc_beam_size": 3, "ctc_length_bonus": 0.5}
    assert evaluate(*arguments(folder))["decoding"] == {**tuned, "max_batch_tokens": 4096}
    greedy = evaluate(*arguments(folder, ctc_beam_size=1))
    assert greedy["decoding"] == {"ctc_beam_size": 1, "max_batch_tokens": 4096}


def test_a_reranker_chooses_among_the_lengths(student_folder, teacher_folder, arguments, tmp_path):
    texts = {}
    for reranker in (None, teacher_folder):
        output_dir = tmp_path / str(reranker is None)
        metrics = evaluate(*arguments(student_folder, length_beam=5, reranker=reranker, output_dir=output_dir))
        assert metrics["decoding"].get("reranker") == reranker
        texts[reranker] = (output_dir / "translations.txt").read_text()
    assert texts[None] != texts[teacher_folder]


def test_an_ensemble_is_loaded_and_recorded(student_folder, arguments, tmp_path):
    texts = []
    for number, options in enumerate(({}, {"ensemble": student_folder})):
        output_dir = tmp_path / str(number)
        metrics = evaluate(*arguments(student_folder, output_dir=output_dir, **options))
        assert metrics["decoding"].get("ensemble") == ([options["ensemble"]] if options else None)
        texts.append((output_dir / "translations.txt").read_text())
    assert texts[0] == texts[1]  # a model and itself


def test_drafts_leave_the_scores_and_are_counted(teacher_folder, student_folder, arguments, tmp_path):
    plain = evaluate(*arguments(teacher_folder, output_dir=tmp_path / "plain"))
    options = {"draft": student_folder, "draft_length": 7, "max_iterations": 2}
    drafted = evaluate(*arguments(teacher_folder, output_dir=tmp_path / "drafted", **options))
    texts = [(tmp_path / name / "translations.txt").read_text() for name in ("plain", "drafted")]
    assert texts[0] == texts[1] and drafted["scores"] == plain["scores"]
    assert drafted["decoding"] == {"num_beams": 1, "max_batch_tokens": 4096, **options}
    assert drafted["iterations_mean"] is None and "drafting" not in plain
    assert drafted["drafting"]["teacher_calls_mean"] > 1
    assert drafted["drafting"]["accepted_length_mean"] >= 0


def test_a_draft_is_an_input_of_the_step(teacher_folder, student_folder, arguments, tmp_path):
    steps = [
        Evaluate(*arguments(teacher_folder, output_dir=tmp_path / "x", draft=draft))
        for draft in (None, student_folder)
    ]
    assert "draft" not in steps[0].inputs()
    assert steps[1].inputs()["draft"]["model.safetensors"]
    assert steps[0].settings() == steps[1].settings()


def test_terms_are_in_the_translations_and_an_input_of_the_step(student_folder, arguments, tmp_path):
    path = tmp_path / "terms.tsv"
    path.write_text("dog\tred book\n")
    place = {"output_dir": tmp_path / "x", "terms": path}
    step = Evaluate(*arguments(student_folder, **place))
    before = step.inputs()["terms"]
    assert evaluate(step.args, step.decoding)["decoding"]["terms"] == str(path)
    assert "red book" in (tmp_path / "x" / "translations.txt").read_text().splitlines()[0]
    path.write_text("dog\tbook\n")
    assert step.inputs()["terms"] != before


def test_options_of_the_other_kind_of_model_are_errors(teacher_folder, student_folder, arguments):
    with pytest.raises(ValueError, match="`num_beams` must be 1 for a NAT model, got 5. Use `length_beam`"):
        evaluate(*arguments(student_folder, num_beams=5))
    for option in ({"max_iterations": 4}, {"length_beam": 2}, {"reranker": "folder"}):
        ((name, value),) = option.items()
        with pytest.raises(ValueError, match=f"`{name}` must be left out for an autoregressive model, got {value!r}"):
            evaluate(*arguments(teacher_folder, **option))


def test_a_hub_model_needs_an_output_folder(arguments):
    with pytest.raises(ValueError, match="`output_dir` must be given .* got 'owner/name'"):
        evaluate(*arguments("owner/name"))


def test_a_link_that_a_model_brings_is_no_output_folder(arguments, tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "model").mkdir()
    args, decoding = arguments(tmp_path / "model")
    (tmp_path / f"model/eval-{args.split}").symlink_to(tmp_path / "outside")
    with pytest.raises(ValueError, match="`output_dir` must be given where .* is a link"):
        evaluate(args, decoding)
    assert not [*(tmp_path / "outside").iterdir()]


@pytest.mark.parametrize("name", ["max_batch_tokens", "max_samples", "num_beams"])
def test_sizes_below_one_are_errors(arguments, name):
    with pytest.raises(ValueError, match=f"`{name}` must be >= 1.*, got 0"):
        arguments("a model", **{name: 0})


def test_metrics_of_choice_with_intervals_and_a_reason_where_there_is_no_score(teacher_folder, arguments, capsys):
    args, decoding = arguments(teacher_folder, num_bootstrap=20)
    metrics = evaluate(replace(args, metrics=["ribes", "beer", "chrf"]), decoding)
    assert list(metrics["scores"]) == ["ribes", "chrf"]
    assert "needs a trained model" in metrics["without_score"]["beer"]
    for score in metrics["scores"].values():
        low, high = score["interval"]
        assert 0 <= low <= score["score"] <= high <= 100


def test_an_evaluation_of_the_version_before_is_finished(teacher_folder, corpus, tmp_path, capsys):
    argv = ["evaluate", f"--model={teacher_folder}", f"--corpus={corpus}", "--source_lang=en", "--target_lang=xx"]
    argv += ["--metrics=chrf", f"--output_dir={tmp_path / 'x'}"]
    assert main(argv) == 0
    metrics, record = (read_json(tmp_path / "x" / name) for name in ("metrics.json", "step.json"))
    for name in ("error_rates", "reliability", "num_parameters"):
        del metrics[name]
    for name in ("training_corpus", "confidence"):
        del record["inputs"][name]
    write_json(tmp_path / "x" / "metrics.json", metrics)
    write_json(tmp_path / "x" / "step.json", record)
    told = capsys.readouterr().out
    assert re.search(r"^empty +\d+\.\d\d %  \(references 0\.00 %\)$", told, re.M)
    assert re.search(r"^length_ratio +\d\.\d\d  \(references 1\.00\)$", told, re.M)
    assert told.endswith(f"{tmp_path / 'x'}: metrics.json, translations.txt\n")
    assert main(argv) == 0
    assert "sentences/s" in capsys.readouterr().out
    assert read_json(tmp_path / "x" / "metrics.json") == metrics


def test_unknown_metric_is_an_error_before_anything_is_translated(arguments):
    with pytest.raises(ValueError, match=r"`metrics` must be one of .* got 'blue'"):
        load_config(
            (EvaluateArguments,),
            ["--model=x", "--corpus=x", "--source_lang=a", "--target_lang=b", "--metrics", "blue"],
        )


def test_beer_model_without_its_metric_is_an_error_before_anything_is_translated():
    options = ["--model=x", "--corpus=x", "--source_lang=a", "--target_lang=b", "--beer_model=folder"]
    with pytest.raises(ValueError, match="`beer_model` must be left out without the metric `beer`"):
        load_config((EvaluateArguments,), options)


MODULE = """
import datasets
import evaluate

class Overlap(evaluate.Metric):
    def _info(self):
        strings = {{name: datasets.Value("string") for name in {names}}}
        return evaluate.MetricInfo(description="", citation="", features=datasets.Features(strings))

    def _compute(self, predictions, references, sources=None, scale=1):
        rows = zip(predictions, references, sources or references)
        scores = [scale * len({{*p}} & {{*r}}) + len(s) for p, r, s in rows]
        return {{{result}}}
"""
RESULTS = ['"scores": scores', '"scores": scores, "mean_score": sum(scores) / len(scores)', '"overlap": 7.5, "n": 3']


@pytest.mark.parametrize("result", RESULTS)
@pytest.mark.parametrize("names", [("predictions", "references"), ("predictions", "references", "sources")])
def test_any_evaluate_module_is_a_metric(
    result: str, names: tuple[str, ...], teacher_folder: str, corpus: str, sentences: list[str], tmp_path: Path
) -> None:
    folder = tmp_path / "overlap"
    folder.mkdir()
    (folder / "overlap.py").write_text(MODULE.format(names=names, result=result))
    options = {"model": teacher_folder, "corpus": corpus, "source_lang": "en", "target_lang": "xx"}
    options |= {"metrics": ["chrf"], "modules": [str(folder)], "module_options": {"overlap": {"scale": 2}}}
    args = EvaluateArguments(**options, output_dir=str(tmp_path / "eval"))
    step = Evaluate(args)
    step.run()
    texts = (tmp_path / "eval" / "translations.txt").read_text().split("\n")[:-1]
    references = [*sentences, ""]  # The references are the sources.
    own = [2 * len({*text} & {*other}) + len(other) for text, other in zip(texts, references, strict=True)]
    found = step.metrics["scores"]["overlap"]
    assert found["score"] == pytest.approx(7.5 if "7.5" in result else sum(own) / len(own))
    assert list(step.metrics["scores"]) == ["chrf", "overlap"]
    digest = sha256((folder / "overlap.py").read_bytes()).hexdigest()
    assert found["signature"].startswith(f"evaluate module overlap|scale:2|overlap.py:{digest[:16]}|evaluate:")
    assert read_json(tmp_path / "eval" / "step.json")["inputs"]["modules"] == {"overlap": {"overlap.py": digest}}
    (folder / "overlap.py").write_text(MODULE.format(names=names, result=result) + "\n# changed\n")
    with pytest.raises(ValueError, match=r"`modules.overlap.overlap.py` must be the same in every run"):
        Evaluate(args).run()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"modules": ["comet"]},
            "`modules` must be the folder of an evaluate module, got 'comet', which is not there",
        ),
        ({"modules": ["a/chrf"], "metrics": ["chrf"]}, "`modules` must have names of their own.* got 'chrf' twice"),
        ({"modules": ["a/x", "b/x"]}, "`modules` must have names of their own"),
        ({"module_options": {"x": {}}}, r"`module_options` must name modules out of \[\], got 'x'"),
    ],
)
def test_modules_that_cannot_be_run_are_refused_before_anything_is_loaded(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Evaluate(EvaluateArguments(model="m", corpus="c", source_lang="a", target_lang="b", output_dir="o", **options))


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ('"a": 1.0, "b": 2.0', r"`modules` must answer with one number.* has \['a', 'b'\]"),
        ('"a": "text"', "has no number"),
        ('"score": float("nan")', "`modules` must give a finite score, got nan"),
        ('"score": 10**400', "`modules` must give a finite score, got inf"),
        ('"score": None', "has no number"),
        ('"score": {}["boom"]', "the code of '.*mine.py' failed: KeyError: 'boom'"),
        ('"score": __import__("sys").exit(0)', "the code of '.*mine.py' failed: SystemExit: 0"),
        ('"score": 1}["score"] and {*()', "must answer with a dictionary, got a set"),
    ],
)
def test_answers_without_one_score_are_refused(result: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(MODULE.format(names=("predictions", "references"), result=result))
    with pytest.raises(ValueError, match=message):
        load_external_metric(str(path), parameter="modules").score(["a"], ["b"], ["b"])


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("def (:", {}, "`modules` must be a module that loads, got '.*': SyntaxError: invalid syntax"),
        ("raise SystemExit", {}, "`modules` must be a module that loads, got '.*': SystemExit"),
        ("raise RuntimeError('boom')", {}, "`modules` must be a module that loads, got '.*': RuntimeError: boom"),
        ("", {}, "`modules` must be a module that loads"),
        (MODULE.format(names=("a", "b"), result=""), {}, r"but '.*' reads \['a', 'b'\]"),
        (MODULE.format(names=("predictions", "references"), result=""), {"zz": 1}, r"has, \['scale'\], got 'zz'"),
        (MODULE.format(names=("predictions", "references"), result=""), {"references": []}, "got 'references'"),
    ],
)
def test_modules_that_cannot_score_translations_are_refused(
    text: str, options: dict, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "mine" / "mine.py"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        load_external_metric(str(path.parent), options, parameter="modules")


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize("name", ["comet", "comet.txt", "."])
def test_a_folder_without_its_module_is_not_looked_for_on_the_hub(
    name: str, trust: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "comet").mkdir()
    (tmp_path / "comet.txt").write_text("text")
    monkeypatch.setattr("evaluate.load", lambda name: pytest.fail("the Hub was asked"))
    with pytest.raises(ValueError, match=r"`modules` must be the folder of an evaluate module, .* without "):
        load_external_metric(name, parameter="modules", trust_remote_code=trust)


def test_translations_are_kept_where_a_module_fails(
    teacher_folder: str, corpus: str, sentences: list[str], tmp_path: Path
) -> None:
    folder = tmp_path / "overlap"
    folder.mkdir()
    (folder / "overlap.py").write_text(MODULE.format(names=("predictions", "references"), result='"scores": 1 / 0'))
    options = {"model": teacher_folder, "corpus": corpus, "source_lang": "en", "target_lang": "xx"}
    args = EvaluateArguments(**options, modules=[str(folder)], output_dir=str(tmp_path / "eval"))
    with pytest.raises(ValueError, match="ZeroDivisionError|division by zero"):
        Evaluate(args).run()
    found = (tmp_path / "eval/translations.txt").read_text().split("\n")
    assert len(found) == len(sentences) + 2 and not (tmp_path / "eval/metrics.json").exists()


def test_the_training_corpus_and_the_short_list_may_be_configurations(tmp_path: Path) -> None:
    for name, target in (("x", "one"), ("y", "two")):
        (tmp_path / name).mkdir()
        Dataset.from_list([{"translation": {"en": "a", "xx": target}}]).to_parquet(tmp_path / name / "train.parquet")
    configs = [{"config_name": name, "data_files": f"{name}/train.parquet"} for name in "xy"]
    (tmp_path / "README.md").write_text(f"---\nconfigs: {json.dumps(configs)}\n---\n")
    place = {"training_corpus": f"{tmp_path}#y", "shortlist": f"{tmp_path}#x"}
    args = EvaluateArguments(model="m", corpus="c", source_lang="en", target_lang="xx", **place)
    found = [rows["translation"][0]["xx"] for rows in (args.load_training_rows(), args.load_shortlist())]
    assert found == ["two", "one"]
