"""A study: a list of steps that ends with a JSON file, plots and a page."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..base.processes import process_state
from ..steps import DistillArguments, Step, check_steps


class StudyStep(Step):
    """A step whose work is other steps, each with a folder and a record of its own.

    The steps know their inputs themselves, so that a study that goes on is its settings alone.
    """

    def steps(self) -> Iterable[Step]:
        """Yields the steps whose settings can be compared before any work."""
        return ()

    def inputs(self) -> dict[str, Any]:
        """Returns nothing: the steps know their inputs themselves."""
        return {}

    def is_whole(self) -> bool:
        """Returns `False`, so that the steps find out: each does nothing where its inputs are the same."""
        return False

    def real_corpora(self) -> Iterable[DistillArguments]:
        """Yields distillations whose real corpus is read, by some model only at the end of the study."""
        return ()

    def prepare(self) -> None:
        """Reads every split of the real corpora, and looks for what the steps read beside what the study makes.

        What is damaged or missing is an error now, not after the first training.
        """
        steps = list(self.steps())
        made = {step.folder for step in steps}
        for step in steps:
            step.check_inputs(made)
        seen = []
        with process_state().main_process_first():
            for args in self.real_corpora():
                place = (args.place, args.splits)
                if place not in seen:
                    args.load_splits()
                    seen.append(place)

    @property
    def report(self) -> Path:
        """The page of the study."""
        return self.folder / "report.html"

    def run(self) -> Path:
        """Does what is left to do, and writes the page anew.

        Returns:
            `Path`: the HTML page.

        Raises:
            ValueError: before any work, if a step's folder was begun with other settings.
        """
        check_steps(self.steps())
        super().run()
        return self.report
