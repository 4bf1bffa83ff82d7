"""The step that leaves suspicious rows of a distilled corpus out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..base.processes import process_state
from ..base.utils import sha256_file
from ..distillation import FilterArguments, filter_corpus
from ..distillation.filter import require_single_targets
from ..distillation.filter_report import DROPPED_FILE, REPORT_FILE
from .corpus import CorpusStep
from .fingerprints import model_fingerprint


@dataclass(frozen=True)
class Filter(CorpusStep):
    """Writes a filtered corpus; see `hf_nat.distillation.filter_corpus`.

    Args:
        args (`FilterArguments`): corpus, rule and output folder.
    """

    name = "filter"
    args: FilterArguments

    @property
    def corpora(self) -> list[str]:
        """The corpora that it reads."""
        return [self.args.corpus]

    def settings(self) -> dict[str, Any]:
        """The rule: flags, thresholds and columns, a tokenizer by its content."""
        rule = self.args.rule
        if {"tokenizer_sha256", "tokenizer_commit"} & rule.keys():
            del rule["tokens"]
        return {"rule": rule}

    def inputs(self) -> dict[str, Any]:
        """Fingerprints of the corpus's manifest and of the backward teacher.

        Raises:
            ValueError: if `corpus` is not a distilled corpus or has lists of targets, or the backward teacher cannot
                be read.
        """
        corpus = Path(self.args.corpus)
        require_single_targets(self.args)
        found: dict[str, Any] = {"corpus": sha256_file(corpus / "manifest.json")}
        if name := self.args.backward_teacher:
            options: dict[str, Any] = {"trust_remote_code": self.args.trust_remote_code}
            found["backward_teacher"] = model_fingerprint(name, parameter="backward_teacher", **options)
        return found

    def is_whole(self) -> bool:
        """Tells whether the corpus, the report and the rows that went are there."""
        return super().is_whole() and all((self.folder / name).is_file() for name in (REPORT_FILE, DROPPED_FILE))

    def work(self) -> None:
        """Writes the filtered corpus, on the main process."""
        if process_state().is_main_process:
            filter_corpus(self.args)
