"""The step that rewrites a corpus by a teacher."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..base.processes import main_process_decides
from ..cards import write_corpus_card
from ..data.pretrained import require_vocabulary
from ..decoding import decoding_expert
from ..distillation import DistillArguments, write_distilled_corpus
from ..distillation.backends import choose_backend, load_backend, recorded_choice
from ..distillation.distill import is_written
from ..distillation.manifest import teacher_identity
from ..distillation.rewriting import Rewriter
from .fingerprints import corpus_fingerprint
from .step import Step


@dataclass(frozen=True)
class Distill(Step):
    """Writes a distilled corpus; see `hf_nat.distillation.write_distilled_corpus`.

    Args:
        args (`DistillArguments`): corpus, teacher, decoding and output folder.
        loaded (`tuple`, *optional*): teacher and tokenizer, where they are in memory; `args.teacher` and
            `args.teacher_revision` are then only names.
    """

    name = "distill"
    args: DistillArguments
    loaded: tuple[PreTrainedModel, PreTrainedTokenizerBase] | None = field(default=None, repr=False)

    @property
    def folder(self) -> Path:
        return Path(self.args.output_dir)

    @cached_property
    def _teacher(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """Teacher and tokenizer, set to the languages of the arguments."""
        args = self.args
        if self.loaded is None:
            return args.load_model(args.teacher, revision=args.teacher_revision, parameter="teacher")
        teacher, tokenizer = self.loaded
        require_vocabulary(teacher, tokenizer, "teacher", args.teacher)
        args.prepare(teacher, tokenizer)
        return teacher.eval(), tokenizer

    @cached_property
    def _chosen(self) -> DistillArguments:
        """The arguments with what they leave to the machine: as the folder was begun, else as the main process is."""
        record = self._record()
        if record is not None and (record["finished"] or self.made()):
            try:
                return recorded_choice(self.args, record["settings"])
            except ValueError:
                pass  # The arguments differ in more than that, which the comparison names.
        return main_process_decides(lambda: choose_backend(*self._teacher, self._with_expert(self.args)))

    def _with_expert(self, args: DistillArguments) -> DistillArguments:
        return replace(args, expert=decoding_expert(self._teacher[0], args.expert))

    @cached_property
    def _resolved(self) -> DistillArguments:
        """The arguments with the expert that decodes, and nothing left to the machine."""
        return self._with_expert(self._chosen)

    @cached_property
    def _splits(self) -> dict[str, Dataset]:
        return self.args.load_splits()

    def settings(self) -> dict[str, Any]:
        # An expert that was not asked for is a matter of the teacher.
        return replace(self._chosen, expert=self.args.expert).settings()

    def run(self) -> Path:
        _ = self._chosen  # All processes choose together, before one of them goes first.
        return super().run()

    def inputs(self) -> dict[str, Any]:
        return self._inputs

    @cached_property
    def _inputs(self) -> dict[str, Any]:
        decoding_expert(self._teacher[0], self.args.expert)  # One that the teacher does not have is an error now.
        languages = self.args.languages
        return {
            **teacher_identity(*self._teacher),
            **self.args.code_record(self.args.teacher, self.args.teacher_revision),
            "corpus_sha256": {split: corpus_fingerprint(rows, **languages) for split, rows in self._splits.items()},
            "counts": {split: len(rows) for split, rows in self._splits.items()},
        }

    def is_whole(self) -> bool:
        return is_written(self.args, self._inputs["counts"])

    @cached_property
    def _rewriter(self) -> Rewriter:
        teacher, tokenizer = self._teacher
        return Rewriter(load_backend(teacher, tokenizer, self._resolved), teacher, tokenizer, self._resolved)

    def prepare(self) -> None:
        rewriter = self._rewriter  # A backend that cannot decode this teacher says so here.
        if self.args.long_source == "error":
            rewriter.require_short_sources(self._splits["train"])

    def work(self) -> None:
        write_distilled_corpus(self._rewriter, self._splits, {**self._inputs, **self._resolved.settings()})

    def write_card(self) -> None:
        write_corpus_card(self.folder)


def distill(teacher: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, args: DistillArguments) -> Path:
    """Rewrites the training targets of a corpus by a teacher that is in memory, card included.

    Args:
        teacher (`PreTrainedModel`): any seq2seq model, on the device of this process.
        tokenizer (`PreTrainedTokenizerBase`): its tokenizer. Both are set to the languages of `args`, where it names
            the teacher's.
        args (`DistillArguments`): corpus, decoding and output folder. `args.teacher` and `args.teacher_revision` are
            only names here.

    Returns:
        `Path`: `args.output_dir`, which `load_dataset` reads; see `hf_nat.distillation.write_distilled_corpus`.

    Raises:
        ValueError: if the folder holds something else; the field is named.
    """
    return Distill(args, (teacher, tokenizer)).run()
