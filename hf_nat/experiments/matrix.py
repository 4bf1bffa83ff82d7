"""Teachers, the corpora that they make and the students of each: what most studies of the paper have in common."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from transformers.utils import logging

from ..base.config import option
from ..base.processes import process_state
from ..base.utils import environment, write_json
from ..metrics import PAPER_METRICS, score_translations
from ..steps import Analyze, Distill, DistillArguments, EvaluateArguments, Step, Train
from .matrix_report import REAL, StudyText, write_matrix_report
from .plans import (
    check_entries,
    evaluations,
    measuring,
    model_results,
    own_keys,
    real_splits,
    refuse_set_keys,
    resolve_distillation,
    start_from,
    teacher_decoding,
    train_distilled,
    train_real,
    tuning,
)
from .study import StudyStep


logger = logging.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class MatrixArguments:
    """Which teachers make which corpora of one real corpus, and which students learn them.

    An entry of `teachers` and `students` holds the YAML file of `hf-nat train` under `config`, one of `corpora` the
    name of its `teacher`; all other keys of an entry take the place of those of the YAML file. Studies share a teacher
    or a corpus by giving it the same `output_dir` in each. Corpus, tokenizer, seed and folder of a student are the
    study's.

    Raises:
        ValueError: if an entry lacks `config` or names a teacher that is not there, a corpus is called "real", an
            entry is missing, or a seed is there twice; or if `metrics` lack BLEU.
    """

    output_dir: str = field(metadata={"help": "folder of the models, corpora and the report"})
    distill_config: str = field(metadata={"help": "YAML of `hf-nat distill`: the real corpus, and how to decode it"})
    teachers: dict[str, Any] = field(metadata={"help": "by name: {config: YAML, key: value, ...}"})
    corpora: dict[str, Any] = field(metadata={"help": "by name: {teacher: NAME, key: value, ...}"})
    students: dict[str, Any] = field(
        metadata={"help": "by name, weakest first: {config: YAML, ...}; `init_from_teacher` may name a teacher"}
    )
    on_real: bool = option(True, "train the students on the real targets as well")
    seeds: list[int] = field(
        default_factory=lambda: [1], metadata={"help": "every student is trained with each; there may be more later"}
    )
    tune: bool = option(True, "tune EOS penalties of students and the expert of a mixture on validation")
    metrics: list[str] = field(
        default_factory=lambda: [name for name in PAPER_METRICS if name != "beer"],
        metadata={"help": "what scores the models; `beer` needs `beer_model`"},
    )
    beer_model: str | None = option(None, "folder of a trained BEER model")
    tokens: str = option("moses", "what is measured, as in hf-nat analyze: moses, space or a tokenizer's folder")
    num_bootstrap: int = option(1000, "samples of the bootstrap that gives the measures' intervals; 0 for none")

    def __post_init__(self) -> None:
        for name in ("teachers", "corpora", "students"):
            required = "teacher" if name == "corpora" else "config"
            check_entries(name, getattr(self, name), required)
        for corpus, keys in self.corpora.items():
            teachers = list(self.teachers)
            if keys["teacher"] not in teachers or corpus == REAL:
                raise ValueError(
                    f"`corpora.{corpus}.teacher` must be one of {teachers}, and its name not {REAL!r}, got "
                    f"{keys['teacher']!r}."
                )
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"`seeds` must be distinct, at least one, got {self.seeds}.")
        if "bleu" not in self.metrics:
            raise ValueError(f"`metrics` must hold 'bleu', which the page compares, got {self.metrics}. Add it.")


@dataclass(frozen=True)
class Learner:
    """A student and the corpus that it learns.

    Args:
        name (`str`): of the student.
        corpus (`str`): name of its corpus, "real" for the real targets.
        train (`Train`): its training.
        distillation (`DistillArguments`): whose real corpus validates and tests it.
    """

    name: str
    corpus: str
    train: Train
    distillation: DistillArguments


@dataclass(frozen=True)
class Matrix(StudyStep):
    """Trains, distills, measures and scores, step by step.

    All models share the tokenizer of the first teacher and are validated and tested on real targets. Students that
    start from a teacher start from the one that they name, whatever corpus they learn. The folder ends up with
    `<study>.json`, the numbers, and the page, both written anew after every student; `teachers/<name>`,
    `corpora/<name>` and `students/<corpus>/<name>_seed<n>` are what was made, `measures` tokens, links and plots of
    `hf-nat analyze`.

    Args:
        args (`MatrixArguments`): teachers, corpora and students.
        study (`StudyText`): what the page says of them.

    Raises:
        ValueError: if an entry has an unknown key, a split is left out, or a metric does not know the language or
            cannot be computed.
    """

    args: MatrixArguments
    study: StudyText

    def __post_init__(self) -> None:
        # All YAML files are read here, once; a wrong key is an error before the first training, not after it.
        for distillation in self.distillations.values():
            real_splits(distillation)
        place = self.first_distillation.place
        scoring = EvaluateArguments(model="", **place, **self._scoring).scoring
        scores = score_translations(["."], ["."], target_lang=place["target_lang"], **scoring)
        if reasons := [f"{name}: {score.reason}" for name, score in scores.items() if score.score is None]:
            raise ValueError(f"`metrics` must be such as can be computed, got {reasons[0]}")
        list(self.steps())

    @property
    def name(self) -> str:  # type: ignore[override]
        """The name of the study."""
        return self.study.name

    @property
    def _scoring(self) -> dict[str, Any]:
        return {"metrics": self.args.metrics, "beer_model": self.args.beer_model}

    @cached_property
    def teachers(self) -> dict[str, Train]:
        """The trainings of the teachers, by name."""
        first = next(iter(self.args.teachers))
        trains: dict[str, Train] = {}
        for name, entry in self.args.teachers.items():
            places: dict[str, Any] = {"output_dir": f"{self.folder}/teachers/{name}"}
            if name != first:
                places["tokenizer"] = str(trains[first].folder)
            trains[name] = Train.from_config(entry["config"], **{**places, **own_keys(entry, "config")})
        return trains

    @cached_property
    def distillations(self) -> dict[str, DistillArguments]:
        """The arguments of each distillation, by the name of its corpus."""
        return {
            name: resolve_distillation(
                self.args.distill_config,
                **{"output_dir": f"{self.folder}/corpora/{name}", **own_keys(entry, "teacher")},
                teacher=str(self.teachers[entry["teacher"]].folder),
            )
            for name, entry in self.args.corpora.items()
        }

    @property
    def first_distillation(self) -> DistillArguments:
        """The distillation whose real corpus all models are compared on."""
        return next(iter(self.distillations.values()))

    @cached_property
    def learners(self) -> list[Learner]:
        """The students, the first seed of all before the second."""
        args = self.args
        corpora = [*([REAL] if args.on_real else []), *args.corpora]
        return [
            self._learner(name, entry, corpus, seed)
            for seed in args.seeds
            for name, entry in args.students.items()
            for corpus in corpora
        ]

    def _learner(self, name: str, entry: dict[str, Any], corpus: str, seed: int) -> Learner:
        tokenizer = next(iter(self.teachers.values())).folder
        if corpus == REAL:
            distillation = self.first_distillation
            places = train_real(distillation, tokenizer)
        else:
            distillation = self.distillations[corpus]
            places = train_distilled(distillation, Path(distillation.output_dir), tokenizer)
        places |= {"seed": seed, "output_dir": str(self.folder / "students" / corpus / f"{name}_seed{seed}")}
        own = start_from(own_keys(entry, "config"), {name: one.folder for name, one in self.teachers.items()})
        refuse_set_keys(f"students.{name}", own, places)
        train = Train.from_config(entry["config"], **own, **places)
        return Learner(name, corpus, train, distillation)

    def steps(self) -> Iterator[Step]:
        """Yields the trainings of the teachers, the distillations, the measures, and the trainings of the students."""
        yield from self.teachers.values()
        yield from map(Distill, self.distillations.values())
        yield self.analysis
        yield from (learner.train for learner in self.learners)

    def real_corpora(self) -> Iterator[DistillArguments]:
        """Yields the distillation of each corpus."""
        yield from self.distillations.values()

    def settings(self) -> dict[str, Any]:
        """What is scored and how, and the teacher of each corpus."""
        # Places may change; what is trained on what, and how, may not.
        own = {name: value for name, value in asdict(self.args).items() if name in ("on_real", "tune", *self._scoring)}
        return {**own, "corpora": {name: entry["teacher"] for name, entry in self.args.corpora.items()}}

    @cached_property
    def analysis(self) -> Analyze:
        """The measures of the real corpus and the distilled ones."""
        return measuring(
            self.first_distillation,
            self.distillations,
            self.folder / "measures",
            tokens=self.args.tokens,
            num_bootstrap=self.args.num_bootstrap,
        )

    def work(self) -> None:
        """Trains teachers, writes and measures corpora, then trains and scores student by student."""
        teachers = [self._teacher(name, train) for name, train in self.teachers.items()]
        for name, args in self.distillations.items():
            logger.info(f"--- Corpus {name}")
            Distill(args).run()
        self.analysis.run()
        measured = self.analysis.results
        results: dict[str, Any] = {
            "study": self.study.name,
            "settings": {key: value for key, value in asdict(self.args).items() if key != "output_dir"},
            "measured": measured["settings"],
            "teachers": teachers,
            "corpora": measured["corpora"],
            "differences": measured["differences"],
            "students": [],
            "environment": environment(),
        }
        for learner in self.learners:
            results["students"].append(self._student(learner))
            if process_state().is_main_process:
                write_json(self.folder / f"{self.study.name}.json", results)
                write_matrix_report(self.folder, self.study, results)
            process_state().wait_for_everyone()

    def _teacher(self, name: str, train: Train) -> dict[str, Any]:
        """Trains and scores a teacher."""
        logger.info(f"--- Teacher {name}")
        train.run()
        decoding = teacher_decoding(self.first_distillation)
        if self.args.tune and (tune := tuning(train, self.first_distillation, decoding)):
            tune.run()
        steps = evaluations(train.folder, self.first_distillation, decoding, **self._scoring)
        return {"name": name, **model_results(train, steps)}

    def _student(self, learner: Learner) -> dict[str, Any]:
        """Trains and scores a student."""
        train, seed = learner.train, learner.train.training.seed
        logger.info(f"--- Student {learner.name} on {learner.corpus}, seed {seed}")
        train.run()
        if self.args.tune and (tune := tuning(train, learner.distillation)):
            tune.run()
        steps = evaluations(train.folder, learner.distillation, **self._scoring)
        return {"name": learner.name, "corpus": learner.corpus, "seed": seed, **model_results(train, steps)}
