"""Three target languages of one source: what learns what, and which language the outputs are in."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from itertools import combinations
from pathlib import Path

import datasets
import numpy as np
import pytest
import yaml
from datasets import load_dataset

from hf_nat.base.reporting import plot_simplex
from hf_nat.base.utils import read_json, write_json
from hf_nat.data import tokenize
from hf_nat.data.toy import Mode, ToyTask, generate_toy_corpus
from hf_nat.experiments.multimodality import Multimodality, MultimodalityArguments, _to_words
from hf_nat.experiments.multimodality_report import corpora_table, systems_table


LANGS = ["l0", "l1", "l2"]
TASK = ToyTask(num_words=12)


@pytest.fixture(autouse=True)
def datasets_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`load_dataset` takes two folders of one name and size for the same, even those of two tests."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def arguments(config: Callable[..., str], tmp_path: Path) -> Callable[..., MultimodalityArguments]:
    """Builds the arguments of a run of a few updates."""
    corpus = generate_toy_corpus(
        tmp_path / "multi", TASK, sizes={"train": 150, "validation": 8, "test": 7}, multi_target=True
    )
    keys = {
        "output_dir": str(tmp_path / "study"),
        "distill_config": config("distill", max_samples=100),
        "distill_options": {"corpus": str(corpus)},
        "target_langs": LANGS,
        "models": {
            "teacher": {"config": config("teacher")},
            "student": {
                "config": config("student", model_type="vanilla_nat", size=None),
                "init_from_teacher": "teacher",
            },
        },
        "words": "space",
        "num_bootstrap": 5,
    }
    return lambda **changes: MultimodalityArguments(**{**keys, **changes})


def without_seconds(results: dict) -> dict:
    """Results but for the time that measuring took."""
    for row in results["corpora"]:
        for kind in ("words", "pieces"):
            del row[kind]["seconds"]
    return results


@pytest.mark.slow
def test_study_trains_measures_and_a_second_call_does_nothing(
    arguments: Callable[..., MultimodalityArguments], tmp_path: Path
) -> None:
    args, folder = arguments(), tmp_path / "study"
    assert Multimodality(args).run() == folder / "report.html"
    concatenated, chosen = (
        load_dataset(str(folder / "corpora" / name), split="train") for name in ("concatenated", "random_selection")
    )
    assert Counter(concatenated["language"]) == dict.fromkeys(LANGS, 150)
    assert len(chosen) == 150 and set(chosen["language"]) == set(LANGS)
    for corpus in ("concatenated", "random_selection", "distilled"):
        run = read_json(folder / f"students/{corpus}/run.json")["arguments"]
        assert run["corpus"] == str(folder / "corpora" / corpus)
        assert run["tokenizer"] == run["init_from_teacher"] == str(folder / "teacher")
    results = read_json(folder / "multimodality.json")
    systems = {system["name"]: system for system in results["systems"]}
    assert list(systems) == ["real targets", "AT", "NAT, concatenated", "NAT, random selection", "NAT, distilled"]
    assert [system["num_sentences"] for system in systems.values()] == [45, 15, 15, 15, 15]
    # Of the real targets every third is in each language, and only cognates are shared.
    assert systems["real targets"]["languages"] == pytest.approx(dict.fromkeys(LANGS, 1 / 3), abs=0.1)
    assert systems["real targets"]["concentration"] > 0.75
    targets = [pair["multi"] for pair in concatenated["translation"]]
    known = {token for tokens in tokenize(targets, str(folder / "teacher")) for token in tokens}
    written = tokenize(read_json(folder / "outputs/AT.json")["outputs"], str(folder / "teacher"))
    is_unknown = [token not in known for tokens in written for token in tokens]
    assert systems["AT"]["unknown_share"] == pytest.approx(np.mean(is_unknown))
    assert systems["real targets"]["unknown_share"] == 0
    # Test targets are made of what training has; hardly trained models join pieces as no text does.
    assert 0 <= systems["real targets"]["unknown_share"] < 0.1
    assert all(0 <= system["unknown_share"] <= 1 for system in systems.values())
    corpora = {measured["name"]: measured["words"] for measured in results["corpora"]}
    assert list(corpora) == [*LANGS, "concatenated", "random selection", "distilled"]
    assert [row["num_pairs"] for row in corpora.values()] == [150, 150, 150, 450, 150, 100]
    assert corpora["concatenated"]["complexity"] > max(corpora[lang]["complexity"] for lang in LANGS)
    for kind in ("words", "pieces"):
        measures = {row["name"]: row[kind] for row in results["corpora"]}
        pairs = {(row["first"], row["second"]): row["complexity"] for row in results["differences"][kind]}
        assert list(pairs) == list(combinations(corpora, 2))
        for (one, another), row in pairs.items():
            assert row["value"] == measures[one]["complexity"] - measures[another]["complexity"]
    shown = load_dataset(str(tmp_path / "multi"), split="test").select(range(5))
    assert [example[0] for example in results["examples"]] == [["source", row["translation"]["src"]] for row in shown]
    page = (folder / "report.md").read_text(encoding="utf-8")
    assert systems_table(results).markdown() in page and corpora_table(results).markdown() in page
    assert all((folder / f"{name}.png").is_file() for name in ("simplex", "complexity"))
    made = {
        path: path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.suffix in (".safetensors", ".parquet") or path.name in ("target.txt", "links.txt")
    }
    assert len([path for path in made if path.name == "links.txt"]) == 2 * len(corpora)
    (folder / "multimodality.json").unlink()
    # Tokens and links of another corpus are not taken over.
    other = folder / "measures/l0_words"
    write_json(other / "made_from.json", {"made_from": {}})
    (other / "target.txt").write_text("x\n" * 150)
    # Outputs of another model are not taken over.
    write_json(folder / "outputs/AT.json", {"made_from": {}, "outputs": ["x"] * 15})
    Multimodality(args).run()
    assert {path for path in made if path.stat().st_mtime_ns != made[path]} == {
        other / "target.txt",
        other / "links.txt",
    }
    assert without_seconds(read_json(folder / "multimodality.json")) == without_seconds(results)
    with pytest.raises(ValueError, match="seed"):
        Multimodality(arguments(seed=2)).run()


def test_each_target_is_cut_into_words_by_the_rules_of_its_language() -> None:
    texts = {"de": "L'homme.", "fr": "L'homme.", "cs": "Muž."}
    batch = {
        "translation": [{"en": "The man's.", "multi": text} for text in texts.values()],
        "language": list(texts),
    }
    cut = _to_words(batch, "en", "moses")["translation"]
    assert [pair["en"] for pair in cut] == ["the man 's ."] * 3
    expected = [" ".join(next(tokenize([text], "moses", lang))) for lang, text in texts.items()]
    assert [pair["multi"] for pair in cut] == expected and expected[0] != expected[1] == "l' homme ."


@pytest.mark.slow
def test_killed_at_random_moments_and_by_two_processes_it_ends_the_same(
    arguments: Callable[..., MultimodalityArguments], tmp_path: Path
) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(asdict(arguments())))
    command = ["-m", "hf_nat", "experiment", "multimodality", str(path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    started = time.monotonic()
    subprocess.run([sys.executable, *command, f"--output_dir={tmp_path}/whole"], env=environment, check=True)
    seconds = time.monotonic() - started
    draw = random.Random(seed := random.randrange(2**32))
    print(f"moments of seed {seed}")
    for _ in range(5):
        process = subprocess.Popen([sys.executable, *command, f"--output_dir={tmp_path}/killed"], env=environment)
        time.sleep(draw.uniform(0, seconds))
        process.kill()
        process.wait()
    subprocess.run([sys.executable, *command, f"--output_dir={tmp_path}/killed"], env=environment, check=True)
    whole, killed = (read_json(tmp_path / name / "multimodality.json") for name in ("whole", "killed"))
    for key in ("systems", "examples"):
        assert killed[key] == whole[key]
    options = [f"--output_dir={tmp_path}/two"]
    subprocess.run([sys.executable, *launcher, *command, *options], env=environment, check=True)
    assert read_json(tmp_path / "two/teacher/metrics.json")["num_processes"] == 2
    assert len(read_json(tmp_path / "two/multimodality.json")["systems"]) == 5


def test_wrong_keys_are_errors_before_anything_is_made(
    arguments: Callable[..., MultimodalityArguments], tmp_path: Path
) -> None:
    for langs in (["l0", "l1"], ["l0", "l1", "l1"]):
        with pytest.raises(ValueError, match="`target_langs` must be three languages"):
            arguments(target_langs=langs)
    with pytest.raises(ValueError, match="`models` must be `teacher` and `student`, got"):
        arguments(models={"teacher": {"config": "x"}})
    with pytest.raises(ValueError, match="`models.student` must be a mapping with the key `config`"):
        arguments(models={"student": {}})
    with pytest.raises(ValueError, match=r"`words` must be one of \['moses', 'space'\], got 'bpe'"):
        arguments(words="bpe")
    models = arguments().models
    with pytest.raises(ValueError, match="`models.student` must leave out `corpus`, which the study sets itself"):
        Multimodality(arguments(models=models | {"student": {**models["student"], "corpus": "x"}}))
    models["student"]["max_stepz"] = 3
    with pytest.raises(ValueError, match="max_stepz"):
        Multimodality(arguments(models=models)).run()
    assert not (tmp_path / "study").exists()


def test_toy_corpus_with_every_target_language(tmp_path: Path) -> None:
    sizes = {"train": 20, "test": 3}
    folder = generate_toy_corpus(tmp_path / "multi", TASK, sizes=sizes, multi_target=True)
    rows = load_dataset(str(folder), split="train")
    single = load_dataset(str(generate_toy_corpus(tmp_path / "single", TASK, sizes=sizes)), split="train")
    for row, other in zip(rows, single, strict=True):
        register = int(other["mode"][-1])
        expected = [TASK.translate(row["translation"]["src"], Mode(lang, register)) for lang in range(3)]
        assert row["translation"] == {"src": other["translation"]["src"], **dict(zip(LANGS, expected, strict=True))}
        assert row["mode"] == f"L0R{register} L1R{register} L2R{register}"
    assert "into every language" in (folder / "README.md").read_text(encoding="utf-8")


def test_simplex_has_a_panel_for_every_model(tmp_path: Path) -> None:
    points = np.random.default_rng(0).dirichlet(np.ones(3), size=3000)
    path = plot_simplex(tmp_path / "simplex.png", {"one": points, "two": points[:1], "none": points[:0]}, LANGS)
    assert path.stat().st_size > 10_000
    assert path.stat().st_size < 100_000
    assert not path.with_suffix(".svg").exists()
