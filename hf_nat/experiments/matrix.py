"""Teachers, the corpora that they make and the students of each: what most studies of the paper have in common."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from transformers.utils import logging

from ..config import load_config, option
from ..distillation import DistillArguments
from ..evaluation import EvaluateArguments
from ..inference import process_state
from ..metrics import score_translations
from ..utils import environment, read_json, write_json
from .analyze import AnalyzeArguments, analyze
from .matrix_report import REAL, Study, write_matrix_report
from .stages import (
    Entries,
    begin_study,
    distill_once,
    distilled_options,
    entry_options,
    evaluate_on_real,
    load_training,
    parse_entries,
    read_configs,
    real_splits,
    teacher_decoding,
    train_once,
    tune_on_real,
)


logger = logging.get_logger(__name__)


@dataclass
class MatrixArguments:
    """Which teachers make which corpora of one real corpus, and which students learn them.

    An entry of `teachers` and `students` holds the YAML file of `hf-nat train` under `config`, one of `corpora` the
    name of its `teacher`; all other keys of an entry take the place of those of the YAML file. Studies share a teacher
    or a corpus by giving it the same `output_dir` in each.

    Raises:
        ValueError: if an entry lacks `config` or names a teacher that is not there, a corpus is called "real", or an
            entry is missing.
    """

    output_dir: str = field(metadata={"help": "folder of the models, corpora and the report"})
    distill_config: str = field(metadata={"help": "YAML of `hf-nat distill`: the real corpus, and how to decode it"})
    teachers: dict | str | None = field(metadata={"help": "by name: {config: YAML, key: value, ...}"})
    corpora: dict | str | None = field(metadata={"help": "by name: {teacher: NAME, key: value, ...}"})
    students: dict | str | None = field(
        metadata={"help": "by name, weakest first: {config: YAML, ...}; `init_from_teacher` may name a teacher"}
    )
    on_real: bool = option(True, "train the students on the real targets as well")
    seeds: list[int] = field(
        default_factory=lambda: [1], metadata={"help": "every student is trained with each; there may be more later"}
    )
    tune: bool = option(True, "tune EOS penalties of students and the expert of a mixture on validation")
    metrics: list[str] = field(
        default_factory=lambda: ["bleu", "meteor", "ribes", "chrf", "ter"],
        metadata={"help": "what scores the models; `beer` needs `beer_model`"},
    )
    beer_model: str | None = option(None, "folder of a trained BEER model")
    tokens: str = option("moses", "what is measured, as in hf-nat analyze: moses, space or a tokenizer's folder")
    num_bootstrap: int = option(1000, "samples of the bootstrap that gives the measures' intervals; 0 for none")

    def __post_init__(self) -> None:
        for name in ("teachers", "corpora", "students"):
            required = "teacher" if name == "corpora" else "config"
            setattr(self, name, parse_entries(name, getattr(self, name), required))
        for corpus, keys in self.entries("corpora").items():
            teachers = list(self.entries("teachers"))
            if keys["teacher"] not in teachers or corpus == REAL:
                raise ValueError(
                    f"`corpora.{corpus}.teacher` must be one of {teachers}, and its name not {REAL!r}, got "
                    f"{keys['teacher']!r}."
                )
        if not self.seeds:
            raise ValueError("`seeds` must have an entry, got none.")

    def entries(self, name: str) -> Entries:
        """Returns `teachers`, `corpora` or `students`."""
        return getattr(self, name)

    def first(self, name: str) -> str:
        """Returns the name of the first entry."""
        return next(iter(self.entries(name)))

    def teacher_dir(self, name: str) -> Path:
        """Returns the folder of a teacher."""
        return Path(self.entries("teachers")[name].get("output_dir", f"{self.output_dir}/teachers/{name}"))

    def corpus_dir(self, name: str) -> Path:
        """Returns the folder of a corpus."""
        return Path(self.entries("corpora")[name].get("output_dir", f"{self.output_dir}/corpora/{name}"))

    def check(self) -> None:
        """Reads all that will be run, so that a wrong key is an error before the first training, not after it.

        Raises:
            ValueError: if an entry has an unknown key, a split is left out, or a metric does not know the language.
        """
        distill_args = [_distill_args(self, name) for name in self.entries("corpora")]
        for args in distill_args:
            real_splits(args)
        for keys in (*self.entries("teachers").values(), *self.entries("students").values()):
            load_training(keys["config"], *entry_options(keys))
        scoring = EvaluateArguments(model="", corpus="", source_lang="", target_lang="", **_scoring(self)).scoring
        score_translations(["."], ["."], target_lang=distill_args[0].target_lang, **scoring)

    def settings(self) -> dict[str, Any]:
        """Returns all that the results depend on: the keys, and what the YAML files say."""
        files = [
            self.distill_config,
            *(e["config"] for n in ("teachers", "students") for e in self.entries(n).values()),
        ]
        own = {key: value for key, value in asdict(self).items() if key != "output_dir"}
        return own | {"configs": read_configs(*files)}


def run_matrix(args: MatrixArguments, study: Study) -> Path:
    """Trains, distills, measures and scores, step by step; a killed run goes on where it stopped.

    All models share the tokenizer of the first teacher and are validated and tested on real targets. Students that
    start from a teacher start from the one that they name, whatever corpus they learn.

    Args:
        args (`MatrixArguments`): teachers, corpora and students.
        study (`Study`): what the report says of them.

    Returns:
        `Path`: the HTML report, written anew after every student. `<study>.json` holds its numbers, `teachers/<name>`,
        `corpora/<name>` and `students/<corpus>/<name>_seed<n>` what was made, `measures` tokens, links and plots of
        `hf-nat analyze`.

    Raises:
        ValueError: if `args.check` fails, or the folder was begun with other settings.
    """
    folder = Path(args.output_dir)
    args.check()
    begin_study(folder, {key: value for key, value in args.settings().items() if key != "seeds"})
    teachers = [_teacher(args, name) for name in args.entries("teachers")]
    for name in args.entries("corpora"):
        logger.info(f"--- Corpus {name}")
        distill_once(_distill_args(args, name))
    measured = _measures(args, folder)
    results: dict[str, Any] = {
        "study": study.name,
        "settings": args.settings(),
        "measured": measured["settings"],
        "teachers": teachers,
        "corpora": measured["corpora"],
        "students": [],
        "environment": environment(),
    }
    for student in _students(args, folder):
        results["students"].append(student)
        if process_state().is_main_process:
            write_json(folder / f"{study.name}.json", results)
            write_matrix_report(folder, study, results)
        process_state().wait_for_everyone()
    return folder / "report.html"


def _scoring(args: MatrixArguments) -> dict[str, Any]:
    return {"metrics": args.metrics, "beer_model": args.beer_model}


def _distill_args(args: MatrixArguments, name: str) -> DistillArguments:
    keys = args.entries("corpora")[name]
    places = [f"--teacher={args.teacher_dir(keys['teacher'])}", f"--output_dir={args.corpus_dir(name)}"]
    (distill_args,) = load_config((DistillArguments,), [args.distill_config, *entry_options(keys), *places])
    return distill_args


def _teacher(args: MatrixArguments, name: str) -> dict[str, Any]:
    """Trains and scores a teacher."""
    logger.info(f"--- Teacher {name}")
    keys, path, first = args.entries("teachers")[name], args.teacher_dir(name), args.first("teachers")
    tokenizer = [] if name == first else [f"--tokenizer={args.teacher_dir(first)}"]
    train_once(keys["config"], *entry_options(keys), *tokenizer, f"--output_dir={path}")
    distill_args = _distill_args(args, args.first("corpora"))
    decoding = teacher_decoding(distill_args)
    if args.tune:
        tune_on_real(path, distill_args, decoding)
    return {"name": name, **_scores(path, evaluate_on_real(path, distill_args, decoding, **_scoring(args)))}


def _scores(path: Path, metrics: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What the results keep of a model."""
    kept = ("scores", "num_sentences", "seconds", "iterations_mean", "decoding")
    splits = {split: {key: values[key] for key in kept} for split, values in metrics.items()}
    run = read_json(path / "run.json")
    tuned = [read_json(file) for file in sorted(path.glob("tune-*.json"))]
    return {
        "num_parameters": run["num_parameters"],
        "tuned": {report["knob"]: report["best"] for report in tuned},
        **splits,
    }


def _measures(args: MatrixArguments, folder: Path) -> dict[str, Any]:
    """Measures the real corpus and the distilled ones."""
    path = folder / "measures" / "measures.json"
    distill_args = _distill_args(args, args.first("corpora"))
    state = process_state()
    if state.is_main_process and not path.is_file():
        analyze(
            AnalyzeArguments(
                real=distill_args.corpus,
                distilled=[f"{name}={args.corpus_dir(name)}" for name in args.entries("corpora")],
                source_lang=distill_args.source_lang,
                target_lang=distill_args.target_lang,
                split="train",
                tokens=args.tokens,
                num_bootstrap=args.num_bootstrap,
                output_dir=str(path.parent),
            )
        )
    state.wait_for_everyone()
    return read_json(path)


def _students(args: MatrixArguments, folder: Path) -> Iterator[dict[str, Any]]:
    """Trains and scores every student, the first seed of all before the second."""
    corpora: Sequence[str] = [*([REAL] if args.on_real else []), *args.entries("corpora")]
    for seed in args.seeds:
        for name, keys in args.entries("students").items():
            for corpus in corpora:
                logger.info(f"--- Student {name} on {corpus}, seed {seed}")
                path = folder / "students" / corpus / f"{name}_seed{seed}"
                distill_args = _distill_args(args, args.first("corpora") if corpus == REAL else corpus)
                options = _student_options(args, keys, corpus, distill_args)
                train_once(keys["config"], *options, f"--seed={seed}", f"--output_dir={path}")
                if args.tune:
                    tune_on_real(path, distill_args)
                scores = _scores(path, evaluate_on_real(path, distill_args, **_scoring(args)))
                yield {"name": name, "corpus": corpus, "seed": seed, **scores}


def _student_options(
    args: MatrixArguments, keys: dict[str, Any], corpus: str, distill_args: DistillArguments
) -> list[str]:
    """Keys of a student's training: its own, and those that point it to the corpus."""
    first = args.teacher_dir(args.first("teachers"))
    if corpus == REAL:
        names = ("corpus", "config_name", "source_lang", "target_lang", "train_split", "validation_split")
        given = {name: getattr(distill_args, name) for name in names}
        places = [*(f"--{name}={value or ''}" for name, value in given.items()), f"--tokenizer={first}"]
    else:
        places = distilled_options(distill_args, args.corpus_dir(corpus), first)
    options = [*entry_options(keys), *places]
    start = load_training(keys["config"], *options)[0].init_from_teacher
    if start in args.entries("teachers"):
        options.append(f"--init_from_teacher={args.teacher_dir(str(start))}")
    return options
