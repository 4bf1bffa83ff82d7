"""The step that measures corpora side by side."""

from __future__ import annotations

import errno
import os
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..analysis import MEASURES_FILE, AnalyzeArguments, analyze, check_links, measures_table
from ..base.processes import process_state
from ..base.reporting import Table
from ..base.utils import read_record, sha256_file
from ..cards import check_corpus_card, write_corpus_card
from ..data import tokenize, tokenizer_checksum
from ..data.tokens import WORDS
from .fingerprints import corpus_fingerprint
from .step import Step


_PLACES = (
    "real",
    "config_name",
    "source_column",
    "target_column",
    "split",
    "real_split",
    "distilled",
    "real_links",
    "distilled_links",
    "output_dir",
)


@dataclass(frozen=True)
class Analyze(Step):
    """Measures corpora and brings the cards of distilled ones up to date; see `hf_nat.analysis.analyze`.

    Args:
        args (`AnalyzeArguments`): corpora and how they are measured.
    """

    name = "analyze"
    args: AnalyzeArguments

    def settings(self) -> dict[str, Any]:
        """How the corpora are measured, and their names."""
        kept = {name: value for name, value in asdict(self.args).items() if name not in _PLACES}
        if self.args.tokens not in WORDS:
            del kept["tokens"]  # A place too.
        return {**kept, "corpora": list(self.args.corpora)}

    def inputs(self) -> dict[str, Any]:
        """Fingerprints of corpora, links and tokenizer."""
        args = self.args
        return {
            "corpora": {
                name: corpus_fingerprint(args.load(name), **corpus.languages, columns=["id", "real_target"])
                for name, corpus in args.corpora.items()
            },
            "links": {name: file and sha256_file(file) for name, file in args.links.items()},
            "tokenizer": tokenizer_checksum(args.tokens),
        }

    def check_inputs(self, made: Collection[Path] = ()) -> None:
        """Raises if the tokenizer cannot be used; see `Step.check_inputs`."""
        if Path(self.args.tokens) not in made:
            next(tokenize([], self.args.tokens, self.args.source_lang), None)

    def prepare(self) -> None:
        """Raises if the tokenizer cannot be used, links do not fit their corpus, or a distilled one has no card."""
        self.check_inputs()  # Better now than after the first corpora.
        for folder in self.args.distilled_folders():
            if not os.access(folder, os.W_OK, effective_ids=True):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder / MEASURES_FILE))
        for folder in self.card_folders():
            check_corpus_card(folder)
        for name, file in self.args.links.items():
            if file is not None:
                check_links(name, self.args.load(name), self.args, file)

    def is_whole(self) -> bool:
        """Tells whether the measures are in the folder and in those of the distilled corpora."""
        folders = [self.folder, *self.args.distilled_folders()]
        return all((folder / MEASURES_FILE).is_file() for folder in folders)

    def work(self) -> None:
        """Measures the corpora, on the main process."""
        if process_state().is_main_process:
            analyze(self.args)

    def card_folders(self) -> list[Path]:
        """The folders of the distilled corpora that have a manifest."""
        return [corpus for corpus in self.args.distilled_folders() if (corpus / "manifest.json").is_file()]

    def write_card(self) -> None:
        """Writes the cards of these."""
        for folder in self.card_folders():
            write_corpus_card(folder)

    def table(self) -> Table:
        """Makes the table of the measures, a row for each corpus."""
        return measures_table(self.results["corpora"])

    @property
    def results(self) -> dict[str, Any]:
        """What `measures.json` of the finished step holds."""
        return read_record(self.folder / MEASURES_FILE, {"corpora": list})
