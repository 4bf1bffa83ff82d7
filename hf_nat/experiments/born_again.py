"""Born-again teachers: each is trained, from scratch, on the corpus that the one before it has distilled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from transformers.utils import logging

from ..analysis import measures_table
from ..base.bounds import require_number
from ..base.config import option, refuse_changed
from ..base.processes import process_state
from ..base.reporting import Table, plot_bars, write_report
from ..base.utils import environment, read_json, write_json
from ..steps import Analyze, Distill, DistillArguments, Step, Train
from .plans import (
    evaluations,
    measuring,
    real_splits,
    refuse_set_keys,
    resolve_distillation,
    scores_of_steps,
    teacher_decoding,
    train_distilled,
)
from .study import StudyStep


logger = logging.get_logger(__name__)

RESULTS_FILE = "born_again.json"


@dataclass(frozen=True, kw_only=True)
class BornAgainArguments:
    """Which teacher is born again on which corpus, and how often.

    Raises:
        ValueError: if a number of iterations is negative.
    """

    teacher_config: str = field(metadata={"help": "YAML of `hf-nat train`: the teacher of every iteration"})
    distill_config: str = field(metadata={"help": "YAML of `hf-nat distill`: the real corpus, and how to decode it"})
    output_dir: str = field(metadata={"help": "folder of the iterations and the report"})
    iterations: int = option(6, "teachers that are born again, after the one of the real targets")
    student_config: str | None = option(None, "YAML of `hf-nat train`: a student that is trained on each corpus")
    teacher_options: dict[str, Any] = field(
        default_factory=dict, metadata={"help": "keys of the teacher's YAML that differ, as a mapping"}
    )
    distill_options: dict[str, Any] = field(default_factory=dict, metadata={"help": "the same for the distillation"})
    student_options: dict[str, Any] = field(default_factory=dict, metadata={"help": "the same for the student"})
    tokens: str = option("moses", "what is measured, as in hf-nat analyze: moses, space or a tokenizer's folder")
    num_bootstrap: int = option(1000, "samples of the bootstrap that gives the measures' intervals; 0 for none")

    def __post_init__(self) -> None:
        require_number("iterations", self.iterations, least=0, remedy="Use 0 for a plain distillation.")
        if self.student_config is None:
            refuse_changed(self, ("student_options",), "without `student_config`")


@dataclass(frozen=True)
class Iteration:
    """The steps of one iteration.

    Args:
        number (`int`): 0 is plain distillation.
        teacher (`Train`): the teacher; it learns the real corpus, or the one of the iteration before.
        distillation (`DistillArguments`): the corpus that it makes of the real sources.
        student (`Train`, *optional*): the student of that corpus.
    """

    number: int
    teacher: Train
    distillation: DistillArguments
    student: Train | None


@dataclass(frozen=True)
class BornAgain(StudyStep):
    """Trains, decodes and measures iteration by iteration.

    Iteration 0 is plain distillation: a teacher of the real targets, and the corpus that it makes of the real sources.
    Teacher i + 1 starts from new weights (seed + i + 1), learns the targets of corpus i and makes corpus i + 1 of the
    same sources. All share the tokenizer of teacher 0, all are validated and tested on real targets. A student, where
    one is asked for, is trained on each corpus with the same settings and seed. The folder ends up with
    `born_again.json`, the numbers, and the page; `iteration_<i>/{teacher,corpus,student}` are what was made.

    Args:
        args (`BornAgainArguments`): YAML files and number of iterations. It may be raised later.

    Raises:
        ValueError: if the distillation leaves out validation or test.

    Source: Zhou, Gu & Neubig 2020, section 5.1 and Figure 5; Furlanello et al. 2018.
    """

    name = "born-again"
    args: BornAgainArguments

    def __post_init__(self) -> None:
        real_splits(self.iterations[0].distillation)

    @cached_property
    def iterations(self) -> list[Iteration]:
        """The iterations, planned from YAML files that are read once."""
        planned: list[Iteration] = []
        for number in range(self.args.iterations + 1):
            planned.append(self._plan(number, planned))
        return planned

    def _plan(self, number: int, before: Sequence[Iteration]) -> Iteration:
        args, own = self.args, self.folder / f"iteration_{number}"
        first = self.folder / "iteration_0/teacher"
        refuse_set_keys("teacher_options", args.teacher_options, ("output_dir",))
        options = {**args.teacher_options, "output_dir": str(own / "teacher")}
        if before:
            last = before[-1].distillation
            options |= train_distilled(last, Path(last.output_dir), first)
            options["seed"] = before[0].teacher.training.seed + number
        teacher = Train.from_config(args.teacher_config, **options)
        places = {"teacher": str(teacher.folder), "output_dir": str(own / "corpus")}
        refuse_set_keys("distill_options", args.distill_options, places)
        distillation = resolve_distillation(args.distill_config, **args.distill_options, **places)
        student = None
        if args.student_config is not None:
            places = train_distilled(distillation, Path(distillation.output_dir), first)
            places["output_dir"] = str(own / "student")
            refuse_set_keys("student_options", args.student_options, places)
            options = {**args.student_options, **places}
            student = Train.from_config(args.student_config, **options)
            if student.model.init_from_teacher:
                student = Train.from_config(args.student_config, **{**options, "init_from_teacher": str(first)})
        return Iteration(number, teacher, distillation, student)

    def steps(self) -> Iterator[Step]:
        """Yields trainings, distillation and measures of every iteration."""
        for iteration in self.iterations:
            yield iteration.teacher
            yield Distill(iteration.distillation)
            if iteration.student is not None:
                yield iteration.student
            yield self.analysis(iteration.number)

    def analysis(self, number: int) -> Analyze:
        """Plans the measures of a corpus beside the real one and the one of the iteration before."""
        compared = self.iterations[max(number - 1, 0) : number + 1]
        return measuring(
            compared[-1].distillation,
            {f"iteration {one.number}": one.distillation for one in compared},
            self.folder / f"measures/iteration_{number}",
            tokens=self.args.tokens,
            num_bootstrap=self.args.num_bootstrap,
        )

    def real_corpora(self) -> Iterator[DistillArguments]:
        """Yields the distillation of each iteration."""
        yield from (iteration.distillation for iteration in self.iterations)

    def settings(self) -> dict[str, Any]:
        """Returns nothing: the steps know their settings, and the number of iterations may be raised."""
        return {}

    def work(self) -> None:
        """Runs the iterations, and writes results and page after each."""
        results_file, rows = self.folder / RESULTS_FILE, []
        num_reported = len(read_json(results_file)["iterations"]) if results_file.is_file() else 0
        for iteration in self.iterations:
            logger.info(f"--- Iteration {iteration.number} of {self.args.iterations}")
            rows.append(_run(iteration))
            if len(rows) > num_reported or len(rows) == len(self.iterations):
                self._report(rows)
            process_state().wait_for_everyone()

    def _report(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Writes the table and the plots of the iterations that there are."""
        analyses = [self.analysis(number) for number in range(len(rows))]
        for analysis in analyses:
            analysis.run()
        if not process_state().is_main_process:
            return
        measured = [analysis.results for analysis in analyses]
        results = {
            "settings": {"iterations": self.args.iterations, "tokens": self.args.tokens},
            "measured": measured[0]["settings"],
            "real": measured[0]["corpora"][0],
            "iterations": [{**row, "measures": one["corpora"][-1]} for row, one in zip(rows, measured, strict=True)],
            "differences": [
                row for one in measured for row in one["differences"] if row["second"] == one["corpora"][-1]["name"]
            ],
            "environment": environment(),
        }
        write_json(self.folder / RESULTS_FILE, results)
        write_born_again_report(self.folder, results)


def _run(iteration: Iteration) -> dict[str, Any]:
    """Trains one teacher, distills with it and trains the student; returns what was scored."""
    distillation = iteration.distillation
    teacher = iteration.teacher.run()
    scored = evaluations(teacher, distillation, teacher_decoding(distillation))
    row: dict[str, Any] = {"iteration": iteration.number, "teacher": scores_of_steps(scored)}
    folder = Distill(distillation).run()
    row["flag_counts"] = read_json(folder / "manifest.json")["flag_counts"]
    if iteration.student is not None:
        row["student"] = scores_of_steps(evaluations(iteration.student.run(), distillation))
    return row


def write_born_again_report(folder: Path, results: Mapping[str, Any]) -> Path:
    """Writes the table, the plots and the page of a study's results."""
    rows = results["iterations"]
    systems = [name for name in ("teacher", "student") if name in rows[0]]
    measures = {"C(d) of its corpus": "complexity", "F(d) of its corpus": "faithfulness"}
    panels = {
        **{
            f"{name}, test BLEU": {str(row["iteration"]): row[name]["test"]["bleu"]["score"] for row in rows}
            for name in systems
        },
        **{
            title: {str(row["iteration"]): row["measures"][measure] for row in rows}
            for title, measure in measures.items()
        },
    }
    plot_bars(folder / "born_again.png", panels)
    return write_report(
        folder,
        "born_again",
        scores=scores_table(rows),
        measures=measures_table([results["real"], *(row["measures"] for row in rows)]),
        signature=rows[0]["teacher"]["test"]["bleu"]["signature"],
        plot="born_again.png",
        **results,
    )


def scores_table(rows: Sequence[dict[str, Any]]) -> Table:
    """Makes the table of BLEU, a row for each iteration."""
    systems = [name for name in ("teacher", "student") if name in rows[0]]
    splits = ("validation", "test")
    header = ["iteration", *(f"{system}, {split}" for system in systems for split in splits), "flagged rows"]
    cells = [
        [
            str(row["iteration"]),
            *(f"{row[system][split]['bleu']['score']:.2f}" for system in systems for split in splits),
            # Cut sources are truncated ones.
            f"{sum(count for flag, count in row['flag_counts'].items() if flag != 'cut_source'):,}",
        ]
        for row in rows
    ]
    return Table(header, cells)
