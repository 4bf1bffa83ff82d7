"""A step that tests run, also as a program: `copy_step.py FOLDER [FAULT]`."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from hf_nat.base.processes import process_state
from hf_nat.steps import Step


@dataclass(frozen=True)
class Copy(Step):
    """Writes a text `times` times.

    Args:
        output_dir (`Path`): where to.
        text (`str`): the text, as if it had been read.
        times (`int`): how often.
        options (`Mapping[str, Any]`): further settings.
        fault (`str`): what goes wrong: in `prepare`, `early` or `late` in the work, or `hold`, which works until it is
            killed; "" for nothing.
        worked (`list[str]`): a note of every text that was written.
    """

    name = "copy"
    output_dir: Path
    text: str = "a"
    times: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)
    fault: str = ""
    worked: list[str] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        return self.output_dir

    def settings(self) -> dict[str, Any]:
        return {"times": self.times, "options": dict(self.options)}

    def inputs(self) -> dict[str, Any]:
        return {"text": self.text}

    def prepare(self) -> None:
        if self.fault == "prepare":
            raise ValueError("`fault` must not be 'prepare'.")

    def is_whole(self) -> bool:
        return (self.folder / "out.txt").is_file()

    def work(self) -> None:
        if self.fault == "early":
            raise ValueError("`fault` must not be 'early'.")
        if process_state().is_main_process:
            (self.folder / "out.txt").write_text(self.text * self.times)
            self.worked.append(self.text)
        if self.fault == "late":
            raise ValueError("`fault` must not be 'late'.")
        while self.fault == "hold":
            time.sleep(0.05)

    def card_folders(self) -> list[Path]:
        return [self.folder]

    def write_card(self) -> None:
        (self.folder / "README.md").write_text("a card")


class Move(Copy):
    """Another step with the same settings and inputs."""

    name = "move"


if __name__ == "__main__":
    Copy(Path(sys.argv[1]), fault=sys.argv[2] if len(sys.argv) > 2 else "").run()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
