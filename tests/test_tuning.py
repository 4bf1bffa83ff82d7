from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from nat_model_tester import save, tiny_student
from transformers import AutoModelForSeq2SeqLM, MarianMTModel, PreTrainedTokenizerFast

from hf_nat.base.config import load_config
from hf_nat.base.utils import read_json, write_json
from hf_nat.cards import write_model_card
from hf_nat.data.corpora import load_corpus
from hf_nat.decoding import DecodingArguments, load_model, translate
from hf_nat.distillation import DistillArguments
from hf_nat.evaluation import EvaluateArguments, evaluate
from hf_nat.evaluation.tune import TuneArguments, chosen_values, default_knob, tune
from hf_nat.models import (
    MoEMarianConfig,
    MoEMarianMTModel,
)
from hf_nat.steps import Evaluate, Tune, distill


@pytest.fixture
def corpus(tmp_path: Path, sentences: list[str]) -> str:
    rows = [{"translation": {"en": sentence, "xx": sentence}} for sentence in sentences]
    (tmp_path / "validation.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(tmp_path / "{split}.jsonl")


@pytest.fixture
def folder(tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> Path:
    """A model that would rather insert nothing."""
    model = tiny_student("insertion_transformer", tiny_tokenizer, max_position_embeddings=64, init_std=0.02)
    with torch.no_grad():
        model.slot_projection.bias.copy_(30 * model.lm_head.weight[tiny_tokenizer.eos_token_id])
    return save(tmp_path / "model", model, tiny_tokenizer)


@pytest.fixture
def run(corpus: str, folder: Path) -> Callable[..., dict]:
    def run(**options: object) -> dict:
        return tune(*arguments(folder, corpus, options))

    return run


@pytest.fixture
def run_step(corpus: str, folder: Path) -> Callable[..., dict]:
    def run(**options: object) -> dict:
        step = Tune(*arguments(folder, corpus, options))
        step.run()
        return step.report

    return run


def arguments(folder: Path, corpus: str, options: dict[str, object]) -> tuple[TuneArguments, DecodingArguments]:
    options = {"model": folder, "corpus": corpus, "source_lang": "en", "target_lang": "xx"} | options
    argv = []
    for name, value in options.items():
        argv += [f"--{name}", *map(str, value if isinstance(value, tuple) else (value,))]
    return load_config((TuneArguments, DecodingArguments), argv)


@pytest.fixture
def scores(monkeypatch: pytest.MonkeyPatch) -> dict[float, float]:
    """Scores that stand in for translations, by the knob's value; each is given once."""
    scores: dict[float, float] = {}

    def measure(_model, _tokenizer, pairs, args, scoring, max_batch_tokens, **generate_kwargs):
        (metric,) = scoring["metrics"]
        score = {"score": scores.pop(generate_kwargs[args.knob or "eos_penalty"]), "signature": "a signature"}
        return [""] * len(pairs), {"scores": {metric: score}, "seconds": 1.0, "iterations_mean": 2.0}

    monkeypatch.setattr("hf_nat.evaluation.tune.measure", measure)
    return scores


def default(folder: Path, knob: str) -> object:
    return read_json(folder / "generation_config.json")[knob]


def test_scores_are_those_of_evaluate_and_the_best_value_is_set(run, folder, corpus):
    before = read_json(folder / "generation_config.json")
    write_json(folder / "generation_config.json", before | {"eos_penalty": 9.0, "length_penalty": 0.7})
    report = run(metric="chrf", values=(3, 0, 0.5))
    assert report == read_json(folder / "tune-eos_penalty.json")
    assert [result["value"] for result in report["results"]] == [0.0, 0.5, 3.0]
    for result in report["results"]:
        metrics = evaluate(
            EvaluateArguments(
                model=str(folder), corpus=corpus, source_lang="en", target_lang="xx", split="validation"
            ),
            DecodingArguments(eos_penalty=result["value"]),
        )
        assert {name: result[name] for name in ("score", "signature")} == metrics["scores"]["chrf"]
        assert result["iterations_mean"] == metrics["iterations_mean"]
    scores = {result["value"]: result["score"] for result in report["results"]}
    assert len(set(scores.values())) > 1
    assert scores[report["best"]] == max(scores.values())
    after = before | {"eos_penalty": report["best"], "length_penalty": 0.7}
    assert read_json(folder / "generation_config.json") == after
    loaded = AutoModelForSeq2SeqLM.from_pretrained(folder)
    assert loaded.generation_config.eos_penalty == report["best"]
    assert (report["num_sentences"], report["split"]) == (5, "validation")


def test_default_values_are_those_of_the_eos_penalty(run, scores):
    scores |= dict.fromkeys((0, 0.5, 1, 1.5, 2, 3), 7.0)
    assert [result["value"] for result in run()["results"]] == [0, 0.5, 1, 1.5, 2, 3]


def test_step_loads_its_model_once(run_step, scores, monkeypatch):
    scores |= {0: 7.0, 1: 8.0}
    loads, load_model = [], DecodingArguments.load_model
    monkeypatch.setattr(DecodingArguments, "load_model", lambda *args: loads.append(args) or load_model(*args))
    assert run_step(values=(0, 1))["best"] == 1
    assert len(loads) == 1


@pytest.mark.parametrize(("metric", "best"), [("bleu", 1), ("ter", 2)])
def test_of_equally_good_values_the_smallest_wins(run, scores, folder, metric, best):
    scores |= {0: 5.0, 1: 9.0, 2: 4.0, 3: 9.0, 4: 4.0}
    assert run(metric=metric, values=(4, 3, 2, 1, 0))["best"] == best
    assert default(folder, "eos_penalty") == best


def test_killed_run_goes_on_and_measured_values_are_not_measured_again(run, scores, folder):
    scores |= {0: 5.0, 1: 6.0}
    with pytest.raises(KeyError):  # 2 has no score yet
        run(values=(0, 1, 2))
    assert [result["value"] for result in read_json(folder / "tune-eos_penalty.json")["results"]] == [0, 1]
    assert default(folder, "eos_penalty") == 0
    scores[2] = 5.5
    assert run(values=(0, 1, 2))["best"] == 1
    scores[4] = 8.0
    report = run(values=(0, 4))
    assert [result["value"] for result in report["results"]] == [0, 1, 2, 4]
    assert default(folder, "eos_penalty") == report["best"] == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("max_samples", "`corpus` must be the same in every run into"),
        ("metric", "`metric` must be the same .* it was 'bleu', got 'chrf'"),
        ("num_candidates", "`decoding.num_candidates` must be the same .* it was unset, got 2"),
        ("max_iterations", "`model.generation_config.json.max_iterations` must be the same .* got 3"),
        ("weights", "`model.model.safetensors` must be the same"),
        ("text", "`corpus` must be the same"),
    ],
)
def test_anything_else_is_not_mixed_with_what_was_measured(run_step, scores, folder, corpus, change, message):
    scores[0] = 5.0
    assert run_step(values=(0,))["best"] == 0
    options = {"max_samples": 2, "metric": "chrf", "num_candidates": 2}
    if change == "max_iterations":
        config = read_json(folder / "generation_config.json")
        write_json(folder / "generation_config.json", config | {"max_iterations": 3})
    elif change == "weights":
        model = AutoModelForSeq2SeqLM.from_pretrained(folder)
        torch.nn.init.zeros_(model.slot_projection.bias)
        model.save_pretrained(folder)
    elif change == "text":
        path = Path(corpus.format(split="validation"))
        path.write_text(path.read_text().replace("hello", "hallo"))
    changes = {change: options[change]} if change in options else {}
    remedy = "Delete tune-eos_penalty.json and .tune-eos_penalty.json there to make them anew."
    with pytest.raises(ValueError, match=f"{message}.* {remedy}"):
        run_step(values=(0,), **changes)
    assert "sha256" not in read_json(folder / ".tune-eos_penalty.json")  # of a file that later values join
    for name in ("tune-eos_penalty.json", ".tune-eos_penalty.json"):
        (folder / name).unlink()
    scores[0] = 6.0
    assert [result["score"] for result in run_step(values=(0,), **changes)["results"]] == [6.0]


def test_a_knob_is_tuned_again_after_another(run_step, scores, folder):
    scores.update({0.0: 1.0, 1.0: 3.0})
    run_step(max_length_ratio=3.0, values=(0, 1))
    settings = read_json(folder / "generation_config.json")
    # Another knob, which the options give: it takes no part in what was measured.
    write_json(folder / "generation_config.json", settings | {"max_length_ratio": 2.0})
    scores[2.0] = 5.0
    assert run_step(max_length_ratio=3.0, values=(0, 1, 2))["best"] == 2
    # One that they do not give does, and is named.
    write_json(folder / "generation_config.json", settings | {"max_iterations": 3})
    with pytest.raises(ValueError, match=r"`model\.generation_config\.json\.max_iterations` must be the same"):
        run_step(max_length_ratio=3.0, values=(0, 1))


def test_counts_are_tuned_as_integers(run, scores, folder):
    scores |= {1: 5.0, 4: 6.0}
    report = run(knob="max_iterations", values=(4, 1))
    assert json.dumps([result["value"] for result in report["results"]]) == "[1, 4]"
    assert json.dumps(default(folder, "max_iterations")) == "4"
    assert (folder / "tune-max_iterations.json").is_file()


def test_missing_generation_config_is_written(run, scores, folder):
    before = read_json(folder / "generation_config.json")
    (folder / "generation_config.json").unlink()
    scores[2] = 5.0
    run(values=(2,))
    assert read_json(folder / "generation_config.json") == before | {"eos_penalty": 2.0}


KNOBS = r"\['eos_penalty', 'max_iterations', 'max_length_ratio', 'num_candidates'\]"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "owner/name"}, "`model` must be a local folder, .* got 'owner/name'"),
        ({"knob": "eos_penalti"}, f"`knob` must be one of {KNOBS} for .* got 'eos_penalti'"),
        ({"knob": "collapse_repeats"}, f"`knob` must be one of {KNOBS} for .* got 'collapse_repeats'"),
        ({"knob": "max_iterations"}, "`values` must be given for `max_iterations`, got none"),
        ({"knob": "max_iterations", "values": (1, 2.5)}, "`max_iterations` must be whole numbers, got 2.5"),
        ({"eos_penalty": 1}, "`eos_penalty` must be left out while it is tuned, got 1.0"),
        ({"metric": "blue"}, "`metric` must be one of .* got 'blue'"),
        ({"max_samples": 0}, "`max_samples` must be >= 1, got 0"),
    ],
)
def test_bad_argument_is_an_error(run, options, message):
    with pytest.raises(ValueError, match=message):
        run(**options)


def test_a_model_without_knobs_is_an_error(run, copy_teacher: MarianMTModel, tiny_tokenizer, tmp_path):
    save(tmp_path / "teacher", copy_teacher, tiny_tokenizer)
    with pytest.raises(ValueError, match="`model` must be a NAT model or a mixture of experts, got a MarianMTModel"):
        run(model=tmp_path / "teacher")


def test_a_model_without_a_knob_that_is_tuned_by_default_is_an_error(run, tiny_tokenizer, tmp_path):
    save(tmp_path / "cmlm", tiny_student("cmlm", tiny_tokenizer), tiny_tokenizer)
    with pytest.raises(ValueError, match=r"`knob` must be one of \['length_beam', 'max_iterations'\] .* got None"):
        run(model=tmp_path / "cmlm")


def test_options_may_need_the_knob_that_is_tuned(run, tiny_tokenizer, tmp_path):
    save(tmp_path / "ctc", tiny_student("ctc_nat", tiny_tokenizer), tiny_tokenizer)
    # The model itself decodes without a beam, and so without a bonus.
    report = run(model=tmp_path / "ctc", knob="ctc_beam_size", values=(2, 4), ctc_length_bonus=1.0)
    assert [result["value"] for result in report["results"]] == [2, 4]


# The expert of a mixture


@pytest.fixture
def mixture(copy_teacher: MarianMTModel, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> Path:
    """Expert 1 copies as `copy_teacher` does; the others start from tokens that make it say something else."""
    size = len(tiny_tokenizer)
    fields = {**copy_teacher.config.to_dict(), "vocab_size": size + 3, "decoder_vocab_size": size + 3}
    for name in ("model_type", "architectures", "dtype", "decoder_start_token_id"):
        fields.pop(name, None)
    model = MoEMarianMTModel(MoEMarianConfig(**fields, num_experts=3, prior="learned", assignment="soft"))
    weights = {name: w for name, w in copy_teacher.state_dict().items() if w.shape[0] != size}
    model.load_state_dict(weights | {"final_logits_bias": torch.zeros(1, size + 3)}, strict=False)
    shared = copy_teacher.model.shared.weight
    with torch.no_grad():
        model.model.shared.weight[:size] = shared
        model.model.shared.weight[size:] = torch.stack(
            [5 * shared[9], shared[tiny_tokenizer.pad_token_id], -shared[7]]
        )
    save(tmp_path / "mixture", model, tiny_tokenizer)
    return tmp_path / "mixture"


def test_best_expert_is_the_one_that_everything_decodes_with(run, mixture, corpus, tmp_path):
    report = run(model=mixture, num_beams=2)
    assert report == read_json(mixture / "tune-expert.json")
    assert report["knob"] == "expert"
    assert json.dumps([result["value"] for result in report["results"]]) == "[0, 1, 2]"
    place = {"model": str(mixture), "corpus": corpus, "source_lang": "en", "target_lang": "xx", "split": "validation"}
    evaluation = EvaluateArguments(**place, metrics=["bleu"])
    for result in report["results"]:
        metrics = evaluate(evaluation, DecodingArguments(num_beams=2, expert=result["value"]))
        assert result["score"] == metrics["scores"]["bleu"]["score"]
        assert result["iterations_mean"] is None
    scores = [result["score"] for result in report["results"]]
    best = report["best"]
    assert scores[best] == max(scores) > min(scores) and best != 0

    assert json.dumps(default(mixture, "expert")) == str(best)
    assert Evaluate(evaluation, DecodingArguments(expert=0)).free_keys == {"expert"}
    metrics = evaluate(evaluation, DecodingArguments(num_beams=2))
    assert metrics["scores"]["bleu"]["score"] == scores[best]
    assert metrics["decoding"]["expert"] == best
    assert f"`expert={best}`" in write_model_card(mixture).read_text()
    model, tokenizer = load_model(mixture)
    sentences = ["hello", "a dog runs"]
    by_expert = [translate(model, tokenizer, sentences, expert=expert) for expert in range(3)]
    assert translate(model, tokenizer, sentences) == by_expert[best] != by_expert[0]
    source = tokenizer("hello", return_tensors="pt").input_ids
    assert model.generate(source)[0, 0] == model.expert_token_id(best)
    assert AutoModelForSeq2SeqLM.from_pretrained(mixture).generate(source)[0, 0] == model.expert_token_id(best)

    expected = [translation.text for translation in translate(model, tokenizer, sentences, num_beams=2)]
    (tmp_path / "train.jsonl").write_text(
        "".join(json.dumps({"translation": {"en": text, "xx": "-"}}) + "\n" for text in sentences)
    )
    for backend in ("torch", "ct2"):
        distilled = DistillArguments(
            teacher=str(mixture),
            corpus=corpus,
            source_lang="en",
            target_lang="xx",
            output_dir=str(tmp_path / backend),
            validation_split=None,
            test_split=None,
            num_beams=2,
            backend=backend,
        )
        distill(model, tokenizer, distilled)
        rows = load_corpus(str(tmp_path / backend), "train", source_lang="en", target_lang="xx")["translation"]
        assert [row["xx"] for row in rows] == expected, backend
        assert read_json(tmp_path / backend / "manifest.json")["decoding"]["expert"] == best


def test_tuned_expert_is_tuned_again_and_not_measured_again(run_step, mixture, scores):
    scores |= {0: 1.0, 1: 3.0, 2: 3.0}
    assert run_step(model=mixture, knob="expert")["best"] == 1
    assert run_step(model=mixture, knob="expert", values=(2,))["best"] == 1
    with pytest.raises(ValueError, match="`decoding.num_beams` must be the same .* it was 1, got 3"):
        run_step(model=mixture, knob="expert", num_beams=3)
    assert default(mixture, "expert") == 1
    write_json(mixture / "generation_config.json", read_json(mixture / "generation_config.json") | {"expert": 0})
    assert run_step(model=mixture, knob="expert")["best"] == default(mixture, "expert") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"values": (0, 3)}, r"`expert` must be in \[0, 3\), the model's experts, got 3"),
        ({"values": (0, 1.5)}, "`values` of `expert` must be whole numbers, got 1.5"),
        ({"expert": 1}, "`expert` must be left out while it is tuned, got 1"),
        ({"knob": "eos_penalty"}, r"`knob` must be one of \['expert'\] for a MoEMarianMTModel, got 'eos_penalty'"),
    ],
)
def test_bad_expert_is_an_error_before_anything_is_translated(run, mixture, scores, options, message):
    with pytest.raises(ValueError, match=message):
        run(model=mixture, **options)


def test_length_penalty_of_a_graph_is_tuned(
    tiny_tokenizer: PreTrainedTokenizerFast, corpus: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path / "model", tiny_student("da_transformer", tiny_tokenizer), tiny_tokenizer)
    arguments = TuneArguments(
        model=str(tmp_path / "model"),
        corpus=corpus,
        source_lang="en",
        target_lang="xx",
        knob="viterbi_length_penalty",
        values=[0.0, 2.0],
    )
    report = tune(arguments, DecodingArguments(graph_decoding="viterbi"))
    assert [result["value"] for result in report["results"]] == [0.0, 2.0]
    tuned = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "model")
    assert tuned.generation_config.viterbi_length_penalty == report["best"]
    model = load_model(tmp_path / "model")[0]
    viterbi = DecodingArguments(graph_decoding="viterbi")
    assert chosen_values("viterbi_length_penalty", None, model, viterbi) == [0, 0.5, 1, 1.5, 2, 3, 4]
    assert default_knob(type(model)) is None  # it would change nothing about how the model decodes by itself
    (tmp_path / "model/tune-viterbi_length_penalty.json").unlink()
    with pytest.raises(ValueError, match="`viterbi_length_penalty` must be left out with `graph_decoding: lookahead`"):
        tune(arguments)
    assert not (tmp_path / "model/tune-viterbi_length_penalty.json").exists()
    with pytest.raises(ValueError, match="`num_candidates` must be left out without a `reranker`"):
        tune(replace(arguments, knob="num_candidates", values=[1.0, 2.0]))
    assert not (tmp_path / "model/tune-num_candidates.json").exists()
    tune(replace(arguments, knob="graph_beam_size", values=[30.0, 40.0]), DecodingArguments(graph_decoding="beam"))
    assert "All values of `graph_beam_size` have one score" in caplog.text
