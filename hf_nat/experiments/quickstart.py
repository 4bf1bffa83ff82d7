"""The whole path on the toy corpus, where the truth is known: the paper's effect in a few minutes on a CPU.

Teacher, distilled corpus and four students (two architectures, each on real and on distilled targets), each from its
YAML file. Stages that a former run finished are not repeated.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import torch
from transformers.utils import logging

from ..base.allocator import keep_freed_memory
from ..base.folders import check_output_folder
from ..base.reporting import Table, plot_bars, write_report
from ..base.utils import environment, write_json
from ..data.arguments import CorpusArguments
from ..data.text_files import read_lines
from ..data.toy import SOURCE_LANG, TARGET_LANG, ToyTask, generate_toy_corpus, is_toy_corpus
from ..decoding import load_model, translate
from ..metrics.complexity import corpus_complexity
from ..steps import (
    DecodingArguments,
    Distill,
    Evaluate,
    EvaluateArguments,
    Export,
    ExportArguments,
    Train,
    check_steps,
)
from .plans import resolve_distillation, teacher_decoding


logger = logging.get_logger(__name__)

ARCHITECTURES = ("vanilla_nat", "cmlm")
TARGETS = ("real", "distilled")
NUM_EXAMPLES = 4
# The student that is timed beside the teacher, on so many single sentences and batches of so many.
SERVED = "vanilla_nat_distilled"
NUM_TIMED, NUM_TIMED_BATCHES, TIMED_BATCH = 50, 5, 64


@dataclass(frozen=True)
class SystemResult:
    """How a system translates the toy test split.

    Args:
        name (`str`): label in the report.
        bleu (`float`): tokenised BLEU against one real target per sentence, 0-100.
        signature (`str`): of that BLEU.
        valid (`float`): share of outputs that are a translation of the sentence in one mode, 0-1.
        sentences_per_second (`float`): of the whole split in batches.
        rounds (`float`, *optional*): mean decoder rounds of a NAT model.
        translations (`Sequence[str]`): the outputs.
    """

    name: str
    bleu: float
    signature: str
    valid: float
    sentences_per_second: float
    rounds: float | None
    translations: Sequence[str]


@dataclass(frozen=True)
class CorpusResult:
    """How many modes a training corpus has.

    Args:
        complexity (`float`): C(d) in nats, with the links that the task's lexicon gives.
        in_first_mode (`float`): share of targets that are the translation in the most probable mode, 0-1.
    """

    complexity: float
    in_first_mode: float


@dataclass(frozen=True)
class Speed:
    """How fast a system is with one thread.

    Args:
        name (`str`): label in the report.
        ms_per_sentence (`float`): median time of a sentence alone, milliseconds.
        sentences_per_second (`float`): median rate in one batch.
    """

    name: str
    ms_per_sentence: float
    sentences_per_second: float


@dataclass(frozen=True)
class Pair:
    """A sentence of the test split and its real target."""

    source: str
    reference: str


def quickstart(config_dir: Path, output_dir: Path) -> Path:
    """Runs the path and writes a report.

    Args:
        config_dir (`Path`): folder with teacher.yaml, distill.yaml and `<architecture>_<real|distilled>.yaml`.
        output_dir (`Path`): folder of everything that is made.

    Returns:
        `Path`: the HTML report; report.md, the plot and results.json lie beside it.

    Raises:
        ValueError: before any work, if a YAML file is damaged, or a folder holds something else.
        FileNotFoundError: if a YAML file is missing.
    """
    _require_own(output_dir)
    task, real = ToyTask(), output_dir / "corpus"
    teacher, distilled = output_dir / "teacher", output_dir / "distilled"
    training = Train.from_config(config_dir / "teacher.yaml", corpus=str(real), output_dir=str(teacher))
    places = {"teacher": str(teacher), "corpus": str(real), "output_dir": str(distilled)}
    distillation = resolve_distillation(config_dir / "distill.yaml", **places)
    corpora = {"real": real, "distilled": distilled}
    students = {
        f"{architecture}_{targets}": {
            "corpus": str(corpora[targets]),
            "tokenizer": str(teacher),
            "output_dir": str(output_dir / f"{architecture}_{targets}"),
        }
        for architecture in ARCHITECTURES
        for targets in TARGETS
    }
    configs = {config_dir / f"{name}.yaml": places for name, places in students.items()}
    rewriting = Distill(distillation)
    check_steps([training, rewriting, *(Train.from_config(config, **places) for config, places in configs.items())])
    if not is_toy_corpus(real, task):
        generate_toy_corpus(real, task)
    toy = CorpusArguments(corpus=str(real), source_lang=SOURCE_LANG, target_lang=TARGET_LANG)
    pairs = [Pair(row[SOURCE_LANG], row[TARGET_LANG]) for row in toy.load("test")["translation"]]

    _announce(f"Training {config_dir / 'teacher.yaml'}")
    training.run()
    _announce(f"Distilling {real} into {distilled}")
    rewriting.run()
    _announce(f"Training {', '.join(students)}")
    _train_side_by_side(configs)

    beam = teacher_decoding(distillation)
    results = [
        _evaluate("teacher, greedy", teacher, toy, task, pairs),
        _evaluate("teacher, beam", teacher, toy, task, pairs, beam),
        *(_evaluate(name, Path(places["output_dir"]), toy, task, pairs) for name, places in students.items()),
    ]
    measured = {name: _measure(task, folder) for name, folder in corpora.items()}
    exact = CorpusResult(task.complexity(), task.modes[0][1])
    _announce("Timing the teacher and a student")
    speeds, absent = measure_speeds(teacher, output_dir / SERVED, [pair.source for pair in pairs], output_dir)
    return _report(output_dir / "report", task, pairs, results, {"exact": exact, **measured}, speeds, absent)


def _require_own(folder: Path) -> None:
    """Raises ValueError if there is something in the folder that no quickstart makes."""
    students = [f"{architecture}_{targets}" for architecture in ARCHITECTURES for targets in TARGETS]
    own = ["corpus", "teacher", "distilled", "report", *students, f"{SERVED}_onnx"]
    check_output_folder(folder, own=[f"{name}/*" for name in own])


def measure_speeds(
    teacher: Path, student: Path, sentences: Sequence[str], output_dir: Path
) -> tuple[list[Speed], list[str]]:
    """Times the teacher and a student, each in torch and, where their packages are installed, as one would serve them.

    Args:
        teacher (`Path`): MarianMT checkpoint.
        student (`Path`): NAT checkpoint that can be exported.
        sentences (`Sequence[str]`): the first are translated one by one, more of them in one batch.
        output_dir (`Path`): folder of the exported student.

    Returns:
        `tuple[list[Speed], list[str]]`: speeds, all with one thread, and what is left out for want of a package.
    """
    systems = {
        "teacher, transformers greedy": partial(_in_torch, teacher),
        "teacher, CTranslate2 int8 greedy": partial(_in_ctranslate2, teacher),
        f"{student.name}, torch": partial(_in_torch, student),
        f"{student.name}, ONNX Runtime int8": partial(_in_onnx, student, output_dir / f"{student.name}_onnx"),
    }
    speeds, absent, threads = [], [], torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for name, load in systems.items():
            try:
                run = load()
            except ImportError as error:
                absent.append(f"{name}: {error}")
                continue
            speeds.append(_time(name, run, sentences))
    finally:
        torch.set_num_threads(threads)
    return speeds, absent


def _in_torch(model: Path) -> Callable[[Sequence[str]], Any]:
    return partial(translate, *load_model(model, device="cpu"))


def _in_ctranslate2(teacher: Path) -> Callable[[Sequence[str]], Any]:
    try:
        from ..distillation.ct2 import CT2Teacher
    except ImportError as error:
        raise ImportError("ctranslate2 is not installed (`pip install hf_nat[ct2]`)") from error
    loaded = load_model(teacher, device="cpu")
    return CT2Teacher(*loaded, compute_type="int8", max_batch_tokens=4096).translate


def _in_onnx(student: Path, folder: Path) -> Callable[[Sequence[str]], Any]:
    Export(ExportArguments(model=str(student), output_dir=str(folder), quantize="int8")).run()
    return partial(translate, *load_model(folder, backend="onnx", quantize="int8"))


def _time(name: str, run: Callable[[Sequence[str]], Any], sentences: Sequence[str]) -> Speed:
    """Times one system, from text to text, after a first call that does not count."""
    alone, batch = sentences[:NUM_TIMED], sentences[:TIMED_BATCH]
    run(batch)
    latencies, rates = [], []
    for sentence in alone:
        start = time.perf_counter()
        run([sentence])
        latencies.append(time.perf_counter() - start)
    for _ in range(NUM_TIMED_BATCHES):
        start = time.perf_counter()
        run(batch)
        rates.append(len(batch) / (time.perf_counter() - start))
    return Speed(name, 1000 * median(latencies), median(rates))


def _announce(message: str) -> None:
    logger.info(f"--- {message}")


def _train_side_by_side(runs: Mapping[Path, Mapping[str, Any]]) -> None:
    """Trains models in processes of one thread each: models so small gain nothing from a second thread."""
    workers = min(len(runs), os.cpu_count() or 1)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_begin_process) as pool:
        list(pool.map(_train, runs.keys(), runs.values()))


def _begin_process() -> None:
    keep_freed_memory()
    torch.set_num_threads(1)


def _train(config: Path, places: Mapping[str, Any]) -> None:
    Train.from_config(config, **places).run()


def _evaluate(
    name: str,
    model: Path,
    toy: CorpusArguments,
    task: ToyTask,
    pairs: Sequence[Pair],
    decoding: DecodingArguments | None = None,
) -> SystemResult:
    folder = model / ("eval-test-beam" if decoding else "eval-test")
    step = Evaluate(
        EvaluateArguments(model=str(model), output_dir=str(folder), **toy.place), decoding or DecodingArguments()
    )
    step.run()
    metrics = step.metrics
    translations = list(read_lines(str(folder / "translations.txt")))
    valid = [text in task.translations(pair.source) for text, pair in zip(translations, pairs, strict=True)]
    return SystemResult(
        name=name,
        bleu=metrics["scores"]["bleu"]["score"],
        signature=metrics["scores"]["bleu"]["signature"],
        valid=sum(valid) / len(valid),
        sentences_per_second=metrics["sentences_per_second"],
        rounds=metrics["iterations_mean"],
        translations=translations,
    )


def _measure(task: ToyTask, corpus_dir: Path) -> CorpusResult:
    corpus = CorpusArguments(corpus=str(corpus_dir), source_lang=SOURCE_LANG, target_lang=TARGET_LANG)
    pairs = [(row[SOURCE_LANG], row[TARGET_LANG]) for row in corpus.load("train")["translation"]]
    complexity = corpus_complexity(
        (source.split() for source, _ in pairs),
        (target.split() for _, target in pairs),
        (task.align(source, target) for source, target in pairs),
    )
    first_mode = task.modes[0][0]
    in_first_mode = sum(task.translate(source, first_mode) == target for source, target in pairs)
    return CorpusResult(complexity.value, in_first_mode / len(pairs))


def _report(
    folder: Path,
    task: ToyTask,
    pairs: Sequence[Pair],
    results: Sequence[SystemResult],
    corpora: dict[str, CorpusResult],
    speeds: Sequence[Speed],
    absent: Sequence[str],
) -> Path:
    write_json(
        folder / "results.json",
        {
            "systems": [{k: v for k, v in asdict(result).items() if k != "translations"} for result in results],
            "corpora": {name: asdict(result) for name, result in corpora.items()},
            "num_test_sentences": len(pairs),
            "speeds": [asdict(speed) for speed in speeds],
            "not_timed": list(absent),
            "environment": environment(),
        },
    )
    examples = [
        (
            pair,
            [
                (result.name, result.translations[i], result.translations[i] in task.translations(pair.source))
                for result in results
            ],
        )
        for i, pair in enumerate(pairs[:NUM_EXAMPLES])
    ]
    students = [result for result in results if result.rounds is not None]
    plot_bars(
        folder / "quickstart.png",
        {
            "BLEU of the students": {result.name: result.bleu for result in students},
            "valid translations (%)": {result.name: 100 * result.valid for result in students},
            "complexity C (nats)": {name: result.complexity for name, result in corpora.items()},
        },
    )
    return write_report(
        folder,
        "quickstart",
        systems=_systems_table(results),
        corpora=_corpora_table(corpora, str(task.modes[0][0])),
        speeds=_speeds_table(speeds, min(TIMED_BATCH, len(pairs))),
        absent=absent,
        examples=examples,
        modes=[(str(mode), prob, task.orders[mode.language]) for mode, prob in task.modes],
        signature=results[0].signature,
        num_sentences=len(pairs),
        plot="quickstart.png",
        environment=environment(),
    )


def _systems_table(results: Sequence[SystemResult]) -> Table:
    rows = [
        [
            result.name,
            f"{result.bleu:.1f}",
            f"{100 * result.valid:.1f} %",
            f"{result.sentences_per_second:.0f}",
            "" if result.rounds is None else f"{result.rounds:.1f}",
        ]
        for result in results
    ]
    return Table(["system", "BLEU", "valid translations", "sentences/s", "rounds"], rows)


def _speeds_table(speeds: Sequence[Speed], batch_size: int) -> Table:
    rows = [[speed.name, f"{speed.ms_per_sentence:.1f}", f"{speed.sentences_per_second:.0f}"] for speed in speeds]
    return Table(["one thread", "ms a sentence, batch 1", f"sentences/s, batch {batch_size}"], rows)


def _corpora_table(corpora: Mapping[str, CorpusResult], first_mode: str) -> Table:
    names = {"real, exact values": "exact", "real, measured": "real", "distilled, measured": "distilled"}
    rows = [
        [label, f"{corpora[name].complexity:.3f}", f"{100 * corpora[name].in_first_mode:.1f} %"]
        for label, name in names.items()
    ]
    return Table(["corpus", "complexity C (nats)", f"targets in mode {first_mode}"], rows)
