"""`hf-nat recommend` on a toy corpus: measures, proxy trainings that are interrupted, refusals, the report."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset, load_dataset
from transformers import AutoModelForSeq2SeqLM

from hf_nat.base.utils import read_json, sha256_file, write_json
from hf_nat.data import ToyTask, corpus_texts, generate_toy_corpus, train_tokenizer
from hf_nat.distillation.flags import FLAGS
from hf_nat.distillation.shards import corpus_features
from hf_nat.models import VanillaNATConfig, VanillaNATForConditionalGeneration
from hf_nat.recommendation.advice import RecommendArguments, recommend_corpus
from hf_nat.recommendation.proxies import _leaders
from hf_nat.recommendation.student_model import load_student
from hf_nat.steps import Evaluate, Train
from hf_nat_cli import main


TASK = ToyTask(num_words=12)
NUM_ROWS = 240


def write_distilled(
    folder: Path, rows: list[dict[str, Any]], is_kept: Callable[[int], bool], alone: bool = False
) -> None:
    """A distilled corpus: the most probable mode for every row but those that keep their real target.

    With `alone` nothing is known of the real targets of its training rows.
    """
    features = corpus_features("src", "tgt")

    def row(given: dict[str, Any], target: str) -> dict[str, Any]:
        translation = {"src": given["translation"]["src"], "tgt": target}
        return {
            "id": given["id"],
            "translation": translation,
            "real_target": given["translation"]["tgt"],
            "teacher_score": -1.0,
            "flags": [],
        }

    best = TASK.modes[0][0]
    train = [
        row(
            given,
            given["translation"]["tgt"] if is_kept(given["id"]) else TASK.translate(given["translation"]["src"], best),
        )
        for given in rows
    ]
    if alone:
        train = [own | {"real_target": None} for own in train]
    held_out = [row(given, given["translation"]["tgt"]) for given in rows[:20]]
    for split, content in (("train", train), ("validation", held_out)):
        path = folder / f"data/{split}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        Dataset.from_list(content, features=features).to_parquet(path)
    write_json(
        folder / "manifest.json",
        {
            **{"teacher": "runs/teacher", "teacher_sha256": "ab" * 32, "tokenizer_sha256": "cd" * 32},
            **{"corpus": "runs/toy", "corpus_sha256": {"train": "ef" * 32}, "config_name": None, "license": None},
            **{
                "source_lang": "src",
                "target_lang": "tgt",
                "strategy": "beam",
                "decoding": {"num_beams": 5},
                "seed": 1,
            },
            "counts": {"train": NUM_ROWS, "validation": 20},
            "flag_counts": dict.fromkeys(FLAGS, 0),
            "shards": {f"data/{path.name}": sha256_file(path) for path in folder.glob("data/*")},
        },
    )


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the real corpus, a simple and a faithful distilled one, both measured, and two students."""
    folder = tmp_path_factory.mktemp("workshop")
    real = generate_toy_corpus(folder / "real", TASK, sizes={"train": NUM_ROWS, "validation": 20})
    rows = load_dataset("parquet", data_files=str(real / "data/train-*.parquet"), split="train")
    write_distilled(folder / "simple", rows.to_list(), lambda row: False)
    write_distilled(folder / "faithful", rows.to_list(), lambda row: row % 2 == 0)
    train_tokenizer(corpus_texts(rows, "src", "tgt"), 200).save_pretrained(folder / "tokenizer")
    for model_type in ("vanilla_nat", "cmlm"):
        (folder / f"{model_type}.yaml").write_text(
            f"""model_type: {model_type}
size: nano
model_config: {{d_model: 16, encoder_layers: 1, decoder_layers: 1, max_position_embeddings: 64}}
corpus: nowhere
source_lang: src
target_lang: tgt
tokenizer: {folder}/tokenizer
output_dir: {folder}/unused
max_tokens: 400
max_source_length: 60
max_target_length: 60
warmup_steps: 300
eval_strategy: epoch
save_strategy: epoch
load_best_model_at_end: true
average_checkpoints: 2
use_cpu: true
""",
            encoding="utf-8",
        )
    arguments = RecommendArguments(
        student=str(folder / "vanilla_nat.yaml"),
        candidates=[str(folder / "simple"), str(folder / "faithful")],
        corpus=str(real),
        tokens="space",
        output_dir=str(folder / "first"),
    )
    recommend_corpus(arguments)
    return folder


@pytest.fixture
def arguments(workshop: Path, tmp_path: Path) -> Callable[..., RecommendArguments]:
    """Builds arguments for vanilla NAT and the two candidates."""

    def build(student: str = "vanilla_nat.yaml", **changes: Any) -> RecommendArguments:
        defaults = {
            "candidates": [str(workshop / "simple"), str(workshop / "faithful")],
            "output_dir": str(tmp_path / "report"),
        }
        return RecommendArguments(student=str(workshop / student), **{**defaults, **changes})

    return build


def test_candidates_are_measured_and_the_weak_student_gets_the_simple_one(workshop: Path) -> None:
    results = read_json(workshop / "first/recommendation.json")
    simple, faithful = results["candidates"]["simple"], results["candidates"]["faithful"]
    assert simple["complexity"] < faithful["complexity"] < results["real"]["complexity"]
    assert simple["faithfulness"] > faithful["faithfulness"] > 0
    assert results["recommendation"]["advised"] == "simple"
    assert results["recommendation"]["confidence"] == "inferred"
    assert results["recommendation"]["levels"] == [["simple"], ["faithful"]]
    for name in ("simple", "faithful"):
        assert (
            read_json(workshop / name / "measures.json")["corpora"][1]["complexity"]
            == results["candidates"][name]["complexity"]
        )
        assert "Complexity C(d), nats" in (workshop / name / "README.md").read_text(encoding="utf-8")


def test_report_says_what_the_json_says(workshop: Path) -> None:
    results, text = read_json(workshop / "first/recommendation.json"), (workshop / "first/report.md").read_text()
    assert "**Advised: simple (inferred: the rule chooses it by the paper's order" in text
    assert results["recommendation"]["explanation"] in text
    for row in results["candidates"].values():
        assert f"{row['complexity']:.3f}" in text and f"{row['faithfulness']:.3f}" in text
    assert "1. simple\n2. faithful\n" in text
    assert "somewhere from 0.00 to 0.33, and the levels" in text
    assert (workshop / "first/recommendation.png").stat().st_size > 5000
    assert 'src="recommendation.png"' in (workshop / "first/report.html").read_text(encoding="utf-8")


def test_order_of_candidates_changes_nothing(
    workshop: Path, arguments: Callable[..., RecommendArguments], tmp_path: Path
) -> None:
    folders = [str(workshop / "simple"), str(workshop / "faithful")]
    found = [recommend_corpus(arguments(candidates=order)) for order in (folders, folders[::-1])]
    assert found[0]["recommendation"] == found[1]["recommendation"]
    real = [{name: value for name, value in one["real"].items() if name != "seconds"} for one in found]
    assert real[0] == real[1]


def test_student_whose_place_is_open_gets_no_advice(arguments: Callable[..., RecommendArguments]) -> None:
    recommendation = recommend_corpus(arguments("cmlm.yaml"))["recommendation"]
    assert (recommendation["advised"], recommendation["confidence"]) == (None, "unknown")
    assert "Which of simple and faithful is better is open" in recommendation["explanation"]


def test_checkpoint_is_the_student_that_its_config_says(workshop: Path, tmp_path: Path) -> None:
    fields = {"vocab_size": 99, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 256}
    config = VanillaNATConfig(**fields, decoder_ffn_dim=256, encoder_attention_heads=4, decoder_attention_heads=4)
    VanillaNATForConditionalGeneration(config).save_pretrained(tmp_path)
    assert load_student(str(tmp_path)) == load_student(str(workshop / "vanilla_nat.yaml"))
    size = load_student(str(tmp_path)).num_parameters
    text = (workshop / "vanilla_nat.yaml").read_text(encoding="utf-8")
    for start in ("init_from", "init_from_teacher"):
        other = tmp_path / "other.yaml"
        own = text.replace("size: nano\n", "")
        other.write_text(own.replace("model_config:", f"{start}: {tmp_path}\nnothing:").replace("nothing:", "#"))
        assert load_student(str(other)).num_parameters == size


def test_proxies_are_trained_scored_and_recorded(
    workshop: Path, arguments: Callable[..., RecommendArguments], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    args = arguments("cmlm.yaml", proxy_updates=5, proxy_samples=50, proxy_seeds=[1, 2])
    trained: list[str] = []
    train, evaluate = Train.work, Evaluate.work

    def watched(step: Train) -> None:
        trained.append(step.folder.parent.name)
        train(step)

    def interrupted(step: Evaluate) -> None:
        if len(trained) == 3:
            raise KeyboardInterrupt
        evaluate(step)

    monkeypatch.setattr(Train, "work", watched)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Evaluate, "work", interrupted)
        recommend_corpus(args)
    assert trained == ["simple-seed1", "simple-seed2", "faithful-seed1"]
    results = recommend_corpus(args)
    assert trained == ["simple-seed1", "simple-seed2", "faithful-seed1", "faithful-seed2"], "finished ones are kept"
    assert results["proxies"]["seeds"] == [1, 2] and results["proxies"]["num_updates"] == 5
    assert {name: len(scores) for name, scores in results["proxies"]["scores"].items()} == {"simple": 2, "faithful": 2}
    for name in trained:
        own = tmp_path / "report/proxies" / name
        metrics = read_json(own / "model/metrics.json")
        assert (metrics["num_updates"], metrics["num_train_pairs"], metrics["seed"]) == (5, 50, int(name[-1]))
        assert read_json(own / "model/run.json")["arguments"]["warmup_steps"] == 1
        score = read_json(own / "eval-validation/metrics.json")["scores"]["bleu"]["score"]
        assert score == results["proxies"]["scores"][name.split("-")[0]][int(name[-1]) - 1]
    assert recommend_corpus(args)["recommendation"] == results["recommendation"]
    assert len(trained) == 4
    assert "5 updates on the first 50 rows, seeds 1, 2" in (tmp_path / "report/report.md").read_text(encoding="utf-8")

    with pytest.raises(
        ValueError, match="`max_steps` must be the same in every run .*simple-seed1/model.*: it was 5, got 6"
    ):
        recommend_corpus(arguments("cmlm.yaml", proxy_updates=6, proxy_samples=50))
    with pytest.raises(ValueError, match="`model_type` must be the same .*: it was 'cmlm', got 'vanilla_nat'"):
        recommend_corpus(arguments(proxy_updates=5, proxy_samples=50))


def test_sources_alone_and_a_mix_with_them_are_ranked(
    workshop: Path, arguments: Callable[..., RecommendArguments], tmp_path: Path
) -> None:
    rows = load_dataset("parquet", data_files=str(workshop / "real/data/train-*.parquet"), split="train")
    write_distilled(tmp_path / "alone", rows.to_list(), lambda row: False, alone=True)
    languages = ["--source_lang=src", "--target_lang=tgt", "--validation_split=null", "--test_split=null"]
    mixed = ["--corpora", str(workshop / "faithful"), str(tmp_path / "alone"), f"--output_dir={tmp_path / 'mixed'}"]
    assert main(["mix", *languages, *mixed]) == 0
    folders = [str(workshop / "faithful"), str(tmp_path / "alone"), str(tmp_path / "mixed")]
    results = recommend_corpus(arguments(candidates=folders, corpus=str(workshop / "real")))
    faithful, alone, both = (results["candidates"][name] for name in ("faithful", "alone", "mixed"))
    assert alone["complexity"] < both["complexity"] < results["real"]["complexity"]
    assert (alone["training_bleu"], alone["num_real_targets"]) == (None, 0)
    assert both["num_pairs"] == 2 * NUM_ROWS and both["num_real_targets"] == NUM_ROWS
    assert both["training_bleu"] == pytest.approx(faithful["training_bleu"])
    assert results["recommendation"]["levels"][0] == ("alone",), "it has intervals as the others have"
    assert {entry["name"] for entry in results["recommendation"]["ranking"]} == {"faithful", "alone", "mixed"}


REFERENCES = [f"the house number {i} is red and stands near the old bridge" for i in range(40)]
WORSE = [text.replace("red", "blue").replace("old", "new") if i % 2 else text for i, text in enumerate(REFERENCES)]
NEARLY = [*REFERENCES[:-1], "the house number 39 is red and stands near an old bridge"]


@pytest.mark.parametrize(
    ("outputs", "leaders"),
    [
        ([{"a": REFERENCES, "b": WORSE}], {"a"}),
        ([{"b": REFERENCES, "a": WORSE}], {"b"}),
        ([{"a": REFERENCES, "b": NEARLY, "c": WORSE}], {"a", "b"}),
        ([{"a": [""] * 40, "b": [""] * 40}], {"a", "b"}),
        ([{"a": REFERENCES, "b": WORSE}, {"a": WORSE, "b": WORSE}], {"a", "b"}),
        ([{"a": REFERENCES, "b": WORSE}, {"a": REFERENCES, "b": WORSE}], {"a"}),
        ([{"a": REFERENCES}], {"a"}),
    ],
)
def test_leaders_are_what_is_not_worse_with_every_seed(outputs: list[dict[str, list[str]]], leaders: set[str]) -> None:
    from hf_nat.metrics import score_translations

    scores = {
        name: [
            score_translations(of_seed[name], REFERENCES, target_lang="en", metrics=["bleu"])["bleu"].score
            for of_seed in outputs
        ]
        for name in outputs[0]
    }
    assert _leaders(scores, outputs, REFERENCES, "en") == leaders
    backwards = [dict(reversed(of_seed.items())) for of_seed in outputs]
    assert _leaders(dict(reversed(scores.items())), backwards, REFERENCES, "en") == leaders


@pytest.fixture
def copies(workshop: Path, tmp_path: Path) -> Path:
    """Copies of the measured candidates, to be spoilt."""
    for name in ("simple", "faithful"):
        shutil.copytree(workshop / name, tmp_path / name)
    return tmp_path


def change_measures(folder: Path, where: str, **changes: Any) -> None:
    measures = read_json(folder / "measures.json")
    holder = measures["settings"] if where == "settings" else measures["corpora"][int(where)]
    holder.update(changes)
    write_json(folder / "measures.json", measures)


@pytest.mark.parametrize(
    ("where", "changes", "message"),
    [
        ("settings", {"alignment": "union"}, "got alignment 'forward' for `simple` .* and 'union' for `faithful`"),
        ("settings", {"split": "test"}, "got split 'train' for `simple`"),
        ("settings", {"distilled_links": ["x"]}, "got links of another aligner False for `simple`"),
        ("0", {"complexity": 1.0}, r"got complexity of the real corpus .* \(tokens space\) and 1.0 for `faithful`"),
        ("0", {"num_pairs": 7}, "got num_pairs of the real corpus 240 for `simple`"),
        ("0", {"complexity_interval": "x"}, "`complexity_interval` of .* must be two rising numbers or null, got 'x'"),
        ("1", {"complexity_interval": [2, 1]}, r"`complexity_interval` of .* rising numbers or null, got \[2, 1\]"),
        ("1", {"faithfulness_interval": ""}, "`faithfulness_interval` of .* rising numbers or null, got ''"),
    ],
)
def test_measures_that_do_not_compare_are_an_error(
    copies: Path, arguments: Callable[..., RecommendArguments], where: str, changes: dict[str, Any], message: str
) -> None:
    change_measures(copies / "faithful", where, **changes)
    with pytest.raises(ValueError, match=message):
        recommend_corpus(arguments(candidates=[str(copies / "simple"), str(copies / "faithful")]))


def test_path_of_the_tokenizer_may_differ(copies: Path, arguments: Callable[..., RecommendArguments]) -> None:
    change_measures(copies / "faithful", "settings", tokens="./space", real="elsewhere")
    both = [str(copies / "simple"), str(copies / "faithful")]
    assert recommend_corpus(arguments(candidates=both))["recommendation"]["advised"] == "simple"


def test_measures_of_what_a_corpus_was_before_are_an_error(
    copies: Path, arguments: Callable[..., RecommendArguments]
) -> None:
    manifest = read_json(copies / "simple/manifest.json")
    write_json(copies / "simple/manifest.json", manifest | {"counts": {"train": 239}})
    with pytest.raises(ValueError, match="must be of the corpus beside it, got 240 rows for {'train': 239}"):
        recommend_corpus(arguments(candidates=[str(copies / "simple"), str(copies / "faithful")]))


def test_pairs_of_a_corpus_with_lists_of_targets_may_be_more_than_its_rows(
    copies: Path, arguments: Callable[..., RecommendArguments]
) -> None:
    manifest = read_json(copies / "simple/manifest.json")
    write_json(copies / "simple/manifest.json", manifest | {"counts": {"train": 120}, "columns": ["targets"]})
    results = recommend_corpus(arguments(candidates=[str(copies / "simple"), str(copies / "faithful")]))
    assert results["recommendation"]["advised"] == "simple"


def test_what_lacks_measures_is_measured_as_the_others_were(
    copies: Path, workshop: Path, arguments: Callable[..., RecommendArguments]
) -> None:
    before = read_json(copies / "faithful/measures.json")
    (copies / "faithful/measures.json").unlink()
    both = [str(copies / "simple"), f"other={copies / 'faithful'}"]
    with pytest.raises(ValueError, match="must have a measures.json, got none in .*faithful'. Give the real corpus"):
        recommend_corpus(arguments(candidates=both))
    # Not in "moses" tokens, which is the default.
    results = recommend_corpus(arguments(candidates=both, corpus=str(workshop / "real")))
    assert results["recommendation"]["advised"] == "simple"
    after = read_json(copies / "faithful/measures.json")
    assert after["settings"]["tokens"] == "space"
    assert after["corpora"][1]["faithfulness_interval"] == before["corpora"][1]["faithfulness_interval"]


def test_without_manifest_and_measures_nobody_knows_the_languages(
    copies: Path, workshop: Path, arguments: Callable[..., RecommendArguments]
) -> None:
    for name in ("measures.json", "manifest.json"):
        (copies / "simple" / name).unlink()
    with pytest.raises(ValueError, match="must have a manifest.json to be measured"):
        recommend_corpus(arguments(candidates=[str(copies / "simple")], corpus=str(workshop / "real")))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--proxy_updates=-1"], "`proxy_updates` must be >= 0, got -1"),
        (["--proxy_samples=0"], "`proxy_samples` must be >= 1, got 0"),
        (["--proxy_seeds", "1", "1"], "`proxy_seeds` must be at least 1, and distinct, got [1, 1]"),
        (["--proxy_updates=5", "--student=some/checkpoint"], "`student` must be a training YAML for proxies"),
        (["--student=nothing.yaml"], "There is no configuration file nothing.yaml"),
        (["--candidates", "b/x"], "Names of corpora must be distinct, got ['x', 'x']"),
    ],
)
def test_options_that_break_a_rule(
    workshop: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["recommend", f"--student={workshop}/cmlm.yaml", "--candidates", "a/x", *options]) == 2
    assert message in capsys.readouterr().err


def test_proxies_need_a_tokenizer_and_one_validation_split(
    workshop: Path,
    copies: Path,
    arguments: Callable[..., RecommendArguments],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hf_nat.recommendation.proxies.Train.run", lambda step: pytest.fail("It trains first."))
    text = (workshop / "cmlm.yaml").read_text(encoding="utf-8")
    (tmp_path / "bare.yaml").write_text("".join(line for line in text.splitlines(True) if "tokenizer" not in line))
    with pytest.raises(ValueError, match="`tokenizer` must be given in"):
        recommend_corpus(arguments(tmp_path / "bare.yaml", proxy_updates=1))
    path = copies / "faithful/data/validation-00000-of-00001.parquet"
    rows = load_dataset("parquet", data_files=str(path), split="train").to_list()
    Dataset.from_list(rows[1:] + rows[:1], features=corpus_features("src", "tgt")).to_parquet(path)
    with pytest.raises(ValueError, match="must have the same validation split, got another one in `.*faithful`"):
        recommend_corpus(
            arguments(candidates=[str(copies / "simple"), str(copies / "faithful")], proxy_updates=1, proxy_samples=20)
        )


def test_command_prints_the_table_and_the_verdict(
    workshop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    candidates = [f"s={workshop / 'simple'}", f"f={workshop / 'faithful'}"]
    options = [f"--student={workshop}/vanilla_nat.yaml", f"--output_dir={tmp_path}", "--candidates", *candidates]
    assert main(["recommend", *options]) == 0
    printed = capsys.readouterr().out
    assert "Advised: s (inferred: " in printed
    assert [line.split("|")[1].strip() for line in printed.splitlines()[2:4]] == ["s", "f"]


@pytest.mark.slow
def test_killed_proxy_goes_on_and_ends_as_the_uninterrupted_one(workshop: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def command(output_dir: Path) -> list[str]:
        options = [f"--student={workshop}/vanilla_nat.yaml", f"--output_dir={output_dir}", "--proxy_updates=200"]
        candidates = ["--candidates", str(workshop / "simple"), str(workshop / "faithful")]
        return [sys.executable, "-m", "hf_nat", "recommend", *options, *candidates]

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(command(whole), env=environment, check=True)
    for pattern in ("simple-seed1/model/checkpoint-*", "faithful-seed1/model/checkpoint-*"):
        process = subprocess.Popen(command(killed), env=environment)
        deadline = time.monotonic() + 300
        while not list(killed.glob(f"proxies/{pattern}")) and time.monotonic() < deadline:
            assert process.poll() is None, "the program ended before it could be killed"
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert not (killed / "recommendation.json").exists()
    subprocess.run(command(killed), env=environment, check=True)
    results = [read_json(folder / "recommendation.json") for folder in (whole, killed)]
    assert results[0]["recommendation"] == results[1]["recommendation"]
    assert results[0]["proxies"] == results[1]["proxies"]
    for name in ("simple-seed1", "faithful-seed1"):
        models = [
            AutoModelForSeq2SeqLM.from_pretrained(folder / f"proxies/{name}/model").state_dict()
            for folder in (whole, killed)
        ]
        assert all(torch.equal(models[0][key], models[1][key]) for key in models[0])
