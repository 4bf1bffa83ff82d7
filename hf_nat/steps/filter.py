"""The step that leaves suspicious rows of a distilled corpus out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..base.processes import process_state
from ..base.utils import sha256_file
from ..cards import write_corpus_card
from ..distillation import FilterArguments, filter_corpus
from ..distillation.filter import is_sound, read_manifest
from ..distillation.filter_report import DROPPED_FILE, REPORT_FILE
from .fingerprints import model_fingerprint
from .step import Step


@dataclass(frozen=True)
class Filter(Step):
    """Writes a filtered corpus; see `hf_nat.distillation.filter_corpus`.

    Args:
        args (`FilterArguments`): corpus, rule and output folder.
    """

    name = "filter"
    args: FilterArguments

    @property
    def folder(self) -> Path:
        return Path(self.args.output_dir)

    def settings(self) -> dict[str, Any]:
        return {"rule": self.args.rule}

    def inputs(self) -> dict[str, Any]:
        corpus = Path(self.args.corpus)
        read_manifest(corpus)
        found: dict[str, Any] = {"corpus": sha256_file(corpus / "manifest.json")}
        if name := self.args.backward_teacher:
            options: dict[str, Any] = {"trust_remote_code": self.args.trust_remote_code}
            found["backward_teacher"] = model_fingerprint(name, parameter="backward_teacher", **options)
        return found

    def is_whole(self) -> bool:
        return is_sound(self.folder) and all((self.folder / name).is_file() for name in (REPORT_FILE, DROPPED_FILE))

    def work(self) -> None:
        if process_state().is_main_process:
            filter_corpus(self.args)

    def write_card(self) -> None:
        write_corpus_card(self.folder)
