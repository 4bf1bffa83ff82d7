"""Every YAML file under configs/ runs: with its own keys, on a toy corpus and in a toy size."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from transformers import AutoConfig

from hf_nat.base.config import load_config
from hf_nat.data.toy import ToyTask, generate_toy_corpus
from hf_nat.distillation import DistillArguments, FilterArguments, MixArguments
from hf_nat.experiments.born_again import BornAgain, BornAgainArguments
from hf_nat.experiments.distillation_studies import CAPACITY, DECODING, EXPERTS, INTERPOLATION
from hf_nat.experiments.matrix import Matrix
from hf_nat.experiments.multimodality import Multimodality
from hf_nat.experiments.plans import resolve_distillation
from hf_nat.experiments.registry import EXPERIMENTS
from hf_nat.models import ARCHITECTURES
from hf_nat.steps import Train
from hf_nat.training.arguments import DataArguments, ModelArguments, NATSeq2SeqTrainingArguments
from hf_nat_cli import main


ROOT = Path(__file__).parents[1]
CONFIGS = sorted(path for path in (ROOT / "configs").rglob("*.yaml"))
CORPORA = ("toy", "multi30k", "multi30k_gpu", "wmt14", "europarl", "interface")
RUNS = [path for path in CONFIGS if path.relative_to(ROOT / "configs").parts[0] in CORPORA]
SMALL = {"max_steps": 2, "max_tokens": 300, "vocab_size": 120, "size": "nano", "bf16": False, "use_cpu": True}
QUIET = {"report_to": "none", "disable_tqdm": True, "eval_strategy": "no", "save_strategy": "no"}
PLAIN = {"load_best_model_at_end": False, "average_checkpoints": 0}
FEW_ROWS = {"config_name": None, "test_split": "test", "max_samples": 4, "num_beams": 2, "max_new_tokens": 5}


def keys(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def options(*groups, **more):
    """Keys as options of the command line, the last one of a name."""
    given = merged(*groups, **more)
    as_json = (dict, type(None))
    return [f"--{key}={json.dumps(value) if isinstance(value, as_json) else value}" for key, value in given.items()]


def merged(*groups, **more):
    return {key: value for group in (*groups, more) for key, value in group.items()}


# tests/experiments/test_studies.py runs those of toy
STUDIES = [path for path in RUNS if path.stem in EXPERIMENTS]
SINGLE = [path for path in RUNS if path not in STUDIES]


def traits(path):
    """What a file asks for: its keys and those of its mappings, with values that are no numbers and no places."""

    def found(name, value):
        if isinstance(value, dict):
            return {trait for key, inner in value.items() for trait in found(f"{name}.{key}", inner)}
        is_word = isinstance(value, str) and not re.search(r"[/{]|^[\d.e-]+$", value)
        return {(name, value if is_word or value is None or isinstance(value, bool) else ...)}

    given = keys(path)
    if "model_config" in given:  # each architecture has its own
        given = {**given, given["model_type"]: given["model_config"]}
    return {trait for key, value in given.items() for trait in found(key, value)}


def covering(paths):
    """Few files that together ask for all that any does; the others run in the slow tier."""
    corpora = {path: path.relative_to(ROOT / "configs").parts[0] for path in paths}
    asked, seen, chosen = {path: {*traits(path), corpora[path]} for path in paths}, set(), set()
    while new := max((asked[path] - seen for path in paths), key=len):
        chosen.add(next(path for path in paths if asked[path] - seen == new))
        seen |= new
    return [pytest.param(path, marks=[] if path in chosen else pytest.mark.slow) for path in paths]


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """Keys that point a run to a small corpus, and a teacher for those that need one."""
    folder = tmp_path_factory.mktemp("toy")
    corpus = generate_toy_corpus(
        folder / "corpus", ToyTask(num_words=12), sizes={"train": 60, "validation": 5, "test": 5}
    )
    place = {"corpus": str(corpus), "source_lang": "src", "target_lang": "tgt"}
    place |= {"train_split": "train", "validation_split": "validation"}
    teacher = folder / "teacher"
    assert main(["train", *options(place, SMALL, QUIET, PLAIN, output_dir=teacher)]) == 0
    return place, teacher


def test_all_configs_are_found():
    names = {f"{path.relative_to(ROOT / 'configs').parts[0]}/{path.stem}" for path in RUNS}
    assert {f"{corpus}/{a}_{t}" for corpus in ("toy", "multi30k", "wmt14") for a in ARCHITECTURES for t in
            ("real", "distilled")} <= names  # fmt: skip
    assert len(RUNS) >= 18


def validated(path):
    """What a run that stops early is validated by: its validation curve."""
    return {"eval_strategy": "steps", "eval_steps": 2} if "early_stopping_patience" in keys(ROOT / path) else {}


def started(path):
    """What makes a training small; a start decides the size itself."""
    has_start = {"init_from_teacher", "init_from"} & keys(ROOT / path).keys()
    return {key: value for key, value in SMALL.items() if key != "size" or not has_start}


@pytest.mark.parametrize("path", covering(SINGLE), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_config_runs(path, toy, tmp_path):
    place, teacher = toy
    output_dir = tmp_path / "run"
    if "strategy" in keys(path):
        own = merged(place, FEW_ROWS, teacher=teacher, output_dir=output_dir)
        if "source" in keys(path):
            own |= {"source": own["corpus"], "corpus": "null"}
        if keys(path).get("candidates") == "sampling":
            own |= {"num_candidates": 3}
        elif "num_candidates" in keys(path):
            own |= {"num_candidates": 2}
        argv = ["distill", str(path), *options(own)]
        expected = ("manifest.json", "README.md")
    elif path.stem.startswith("filter_"):
        distilled = options(place, FEW_ROWS, teacher=teacher, output_dir=tmp_path / "distilled")
        assert main(["distill", *distilled, "--strategy=greedy"]) == 0
        small = options(corpus=tmp_path / "distilled", backward_teacher=teacher, output_dir=output_dir)
        argv = ["filter", str(path), *small]
        expected = ("manifest.json", "filter.json", "README.md")
    elif path.stem.startswith("mix_"):
        distilled = options(place, FEW_ROWS, teacher=teacher, output_dir=tmp_path / "distilled")
        assert main(["distill", *distilled, "--strategy=greedy"]) == 0
        corpora = [f"first={tmp_path / 'distilled'}", f"rest={place['corpus']}"]
        languages = {name: place[name] for name in ("source_lang", "target_lang")}
        argv = ["mix", str(path), *options(languages, output_dir=output_dir), "--corpora", *corpora]
        expected = ("manifest.json", "README.md")
    elif "iterations" in keys(path):
        teacher_config, student = (keys(path)[name] for name in ("teacher_config", "student_config"))
        own = {
            "teacher_options": merged(place, SMALL, QUIET, PLAIN, validated(teacher_config), config_name=None),
            "distill_options": merged(place, FEW_ROWS),
            "student_options": merged(started(student), QUIET, PLAIN, validated(student)),
        }
        argv = ["born-again", str(path), *options(own, iterations=0, num_bootstrap=0, output_dir=output_dir)]
        expected = ("report.html", "born_again.json", "iteration_0/corpus/README.md", "iteration_0/student/README.md")
    else:
        more = {key: teacher for key in ("tokenizer", "init_from_teacher") if key in keys(path)}
        if "validation_corpus" in keys(path):
            more["validation_corpus"] = place["corpus"]
        if "init_from" in keys(path):
            first = path.with_name(f"{Path(keys(path)['init_from']).name}.yaml")
            small = options(place, started(first), QUIET, PLAIN, more, config_name=None, output_dir=tmp_path / "first")
            small += [f"--init_from_teacher={teacher}"] if "init_from_teacher" in keys(first) else []
            assert main(["train", str(first), "--early_stopping_patience=null", *small]) == 0
            more["init_from"] = tmp_path / "first"
        more |= validated(path)
        small = options(place, started(path), QUIET, PLAIN, more, config_name=None, output_dir=output_dir)
        argv = ["train", str(path), *small]
        expected = ("metrics.json", "README.md")
    assert main(argv) == 0
    assert [name for name in expected if not (output_dir / name).is_file()] == []


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_study_as_written_is_a_run(path):
    """Every entry takes the keys of its YAML file and its own, and the header is the command."""
    (args,) = load_config((EXPERIMENTS[path.stem].arguments,), [str(path)])
    command = f" experiment {path.stem} {path.relative_to(ROOT)}\n"
    assert command in path.read_text(encoding="utf-8")
    if path.parent.name in ("europarl", "multi30k_gpu"):  # the machine of the tests may have no such precision
        for models in (getattr(args, name, {}) for name in ("models", "teachers", "students")):
            for model in models.values():
                model["bf16"] = False
    matrices = {study.name: study for study in (CAPACITY, DECODING, EXPERTS, INTERPOLATION)}
    study = Matrix(args, matrices[path.stem]) if path.stem in matrices else Multimodality(args)
    assert list(study.steps())
    if path.parent.name == "multi30k_gpu":  # what both have in common is made once
        teacher = Train.from_config(path.with_name("teacher_base.yaml"), bf16=False)
        distill = resolve_distillation(path.with_name("distill_base.yaml"))
        made = {step.folder: step for step in study.steps()}
        shared = made[teacher.folder]
        assert (shared.model, shared.data, shared.settings()) == (teacher.model, teacher.data, teacher.settings())
        assert made[Path(distill.output_dir)].args == distill


@pytest.mark.parametrize("path", SINGLE, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_config_as_written_is_a_run(path, monkeypatch):
    """The real parser takes every value as it stands, sizes and model types exist, and the header names the file."""
    if "strategy" in keys(path):
        load_config((DistillArguments,), [str(path)])
    elif path.stem.startswith("filter_"):
        load_config((FilterArguments,), [str(path)])
    elif path.stem.startswith("mix_"):
        (mixed,) = load_config((MixArguments,), [str(path)])
        assert mixed.output_dir == f"runs/{path.relative_to(ROOT / 'configs').parent}/{path.stem.removeprefix('mix_')}"
    elif "iterations" in keys(path):
        (args,) = load_config((BornAgainArguments,), [str(path)])
        assert args.output_dir == f"runs/{path.relative_to(ROOT / 'configs').with_suffix('')}"
        plain = {"bf16": False}  # the machine of the tests may have no such precision
        args = replace(
            args, teacher_options=args.teacher_options | plain, student_options=args.student_options | plain
        )
        assert len(list(BornAgain(args).steps())) == 4 * (args.iterations + 1)
    else:
        model_args, _, training_args = load_config(
            (ModelArguments, DataArguments, NATSeq2SeqTrainingArguments), [str(path), "--bf16=false"]
        )
        AutoConfig.for_model(model_args.model_type)
        assert training_args.output_dir == f"runs/{path.relative_to(ROOT / 'configs').with_suffix('')}"
    assert f"{path.relative_to(ROOT)}" in path.read_text(encoding="utf-8").split("\nmodel_type")[0]
