"""Born-again teachers: each is trained, from scratch, on the corpus that the one before it has distilled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from transformers.utils import logging

from ..config import load_config, option
from ..distillation import DistillArguments
from ..inference import DecodingArguments, process_state
from ..utils import environment, read_json, write_json
from .analyze import AnalyzeArguments, analyze, measures_table
from .report import Table, plot_bars, write_report
from .stages import (
    begin_study,
    distill_once,
    distilled_options,
    evaluate_on_real,
    load_training,
    real_splits,
    teacher_decoding,
    train_once,
)


logger = logging.get_logger(__name__)

RESULTS_FILE = "born_again.json"


@dataclass
class BornAgainArguments:
    """Which teacher is born again on which corpus, and how often.

    Raises:
        ValueError: if a number of iterations is negative, or an option is no KEY=VALUE.
    """

    teacher_config: str = field(metadata={"help": "YAML of `hf-nat train`: the teacher of every iteration"})
    distill_config: str = field(metadata={"help": "YAML of `hf-nat distill`: the real corpus, and how to decode it"})
    output_dir: str = field(metadata={"help": "folder of the iterations and the report"})
    iterations: int = option(6, "teachers that are born again, after the one of the real targets")
    student_config: str | None = option(None, "YAML of `hf-nat train`: a student that is trained on each corpus")
    teacher_options: list[str] = field(
        default_factory=list, metadata={"help": "keys of the teacher's YAML that differ, each as KEY=VALUE"}
    )
    distill_options: list[str] = field(default_factory=list, metadata={"help": "the same for the distillation"})
    student_options: list[str] = field(default_factory=list, metadata={"help": "the same for the student"})
    tokens: str = option("moses", "what is measured, as in hf-nat analyze: moses, space or a tokenizer's folder")
    num_bootstrap: int = option(1000, "samples of the bootstrap that gives the measures' intervals; 0 for none")

    def __post_init__(self) -> None:
        if self.iterations < 0:
            raise ValueError(f"`iterations` must be >= 0, got {self.iterations}. Use 0 for a plain distillation.")
        for given in (*self.teacher_options, *self.distill_options, *self.student_options):
            if "=" not in given or given.startswith("-"):
                raise ValueError(f"An option must be KEY=VALUE, got {given!r}.")

    def settings(self) -> dict[str, Any]:
        """Returns all that the result depends on but the number of iterations: what the YAML files say."""
        configs = {
            "teacher": (self.teacher_config, self.teacher_options),
            "distill": (self.distill_config, self.distill_options),
            "student": (self.student_config, self.student_options),
        }
        return {
            name: yaml.safe_load(Path(config).read_text(encoding="utf-8")) | {"options": sorted(options)}
            for name, (config, options) in configs.items()
            if config is not None
        }


def born_again(args: BornAgainArguments) -> Path:
    """Trains, decodes and measures iteration by iteration; a killed run goes on where it stopped.

    Iteration 0 is plain distillation: a teacher of the real targets, and the corpus that it makes of the real sources.
    Teacher i + 1 starts from new weights (seed + i + 1), learns the targets of corpus i and makes corpus i + 1 of the
    same sources. All share the tokenizer of teacher 0, all are validated and tested on real targets. A student, where
    one is asked for, is trained on each corpus with the same settings and seed.

    Args:
        args (`BornAgainArguments`): YAML files and number of iterations. It may be raised later.

    Returns:
        `Path`: the HTML report. `born_again.json` holds its numbers, `iteration_<i>/{teacher,corpus,student}` what was
        made, `measures` the tokens, links and plots of `hf-nat analyze`.

    Raises:
        ValueError: if the folder was begun with other settings, or the distillation leaves out validation or test.

    Source: Zhou, Gu & Neubig 2020, section 5.1 and Figure 5; Furlanello et al. 2018.
    """
    folder = Path(args.output_dir)
    distill_args = _distill_args(args, folder)
    real_splits(distill_args)
    begin_study(folder, args.settings())
    state = process_state()
    results_file = folder / RESULTS_FILE
    num_reported = len(read_json(results_file)["iterations"]) if results_file.is_file() else 0
    rows = []
    for iteration in range(args.iterations + 1):
        logger.info(f"--- Iteration {iteration} of {args.iterations}")
        rows.append(_iteration(args, folder, iteration))
        if state.is_main_process and (iteration >= num_reported or iteration == args.iterations):
            _report(args, folder, rows)
        state.wait_for_everyone()
    return folder / "report.html"


def _iteration(args: BornAgainArguments, folder: Path, iteration: int) -> dict[str, Any]:
    """Trains one teacher, distills with it and trains the student; returns what was scored."""
    own, first = folder / f"iteration_{iteration}", folder / "iteration_0"
    teacher = train_once(args.teacher_config, *_teacher_options(args, folder, iteration))
    distill_args = _distill_args(args, own)
    teacher_scores = _scores(teacher, distill_args, teacher_decoding(distill_args))
    row: dict[str, Any] = {"iteration": iteration, "teacher": teacher_scores}
    distill_once(distill_args)
    row["flag_counts"] = read_json(own / "corpus/manifest.json")["flag_counts"]
    if args.student_config is not None:
        options = [
            *(f"--{given}" for given in args.student_options),
            *distilled_options(distill_args, own / "corpus", first / "teacher"),
        ]
        options.append(f"--output_dir={own / 'student'}")
        if load_training(args.student_config, *options)[0].init_from_teacher:
            options.append(f"--init_from_teacher={first / 'teacher'}")
        row["student"] = _scores(train_once(args.student_config, *options), distill_args)
    return row


def _teacher_options(args: BornAgainArguments, folder: Path, iteration: int) -> list[str]:
    """What the teacher of an iteration has of its own."""
    options = [*(f"--{given}" for given in args.teacher_options)]
    seed = load_training(args.teacher_config, *options)[2].seed
    options += [f"--output_dir={folder / f'iteration_{iteration}/teacher'}", f"--seed={seed + iteration}"]
    if iteration == 0:
        return options
    before, first = folder / f"iteration_{iteration - 1}", folder / "iteration_0"
    return [*options, *distilled_options(_distill_args(args, before), before / "corpus", first / "teacher")]


def _distill_args(args: BornAgainArguments, own: Path) -> DistillArguments:
    """The distillation of an iteration: the real sources, by its own teacher into its own corpus."""
    places = [f"--teacher={own / 'teacher'}", f"--output_dir={own / 'corpus'}"]
    options = [*(f"--{given}" for given in args.distill_options), *places]
    (distill_args,) = load_config((DistillArguments,), [args.distill_config, *options])
    return distill_args


def _scores(model: Path, args: DistillArguments, decoding: DecodingArguments | None = None) -> dict[str, Any]:
    """Scores a model on the real validation and test split."""
    return {split: metrics["scores"] for split, metrics in evaluate_on_real(model, args, decoding).items()}


def _report(args: BornAgainArguments, folder: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Measures the corpora that there are, and writes the table and the plots."""
    distill_args = _distill_args(args, folder)
    measured = analyze(
        AnalyzeArguments(
            real=distill_args.corpus,
            distilled=[f"iteration {i}={folder / f'iteration_{i}/corpus'}" for i in range(len(rows))],
            source_lang=distill_args.source_lang,
            target_lang=distill_args.target_lang,
            split="train",
            tokens=args.tokens,
            num_bootstrap=args.num_bootstrap,
            output_dir=str(folder / "measures"),
        )
    )
    results = {
        "settings": args.settings(),
        "measured": measured["settings"],
        "real": measured["corpora"][0],
        "iterations": [row | {"measures": m} for row, m in zip(rows, measured["corpora"][1:], strict=True)],
        "environment": environment(),
    }
    write_json(folder / RESULTS_FILE, results)
    has_student = "student" in rows[0]
    panels = {
        "teacher, test BLEU": {str(r["iteration"]): r["teacher"]["test"]["bleu"]["score"] for r in rows},
        **(
            {"student, test BLEU": {str(r["iteration"]): r["student"]["test"]["bleu"]["score"] for r in rows}}
            if has_student
            else {}
        ),
        "C(d) of its corpus": {str(r["iteration"]): r["measures"]["complexity"] for r in results["iterations"]},
        "F(d) of its corpus": {str(r["iteration"]): r["measures"]["faithfulness"] for r in results["iterations"]},
    }
    plot_bars(folder / "born_again.png", panels)
    write_report(
        folder,
        "born_again",
        scores=scores_table(rows),
        measures=measures_table(measured["corpora"]),
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
            f"{sum(row['flag_counts'].values()):,}",
        ]
        for row in rows
    ]
    return Table(header, cells)
