"""The step that rewrites a corpus by a teacher."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from datasets import Dataset, IterableDataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..base.processes import main_process_decides
from ..base.utils import sha256_file
from ..data.corpora import folder_files
from ..data.locations import is_here, local_files
from ..data.pretrained import require_vocabulary
from ..data.text_files import regular_files
from ..decoding import decoding_expert
from ..distillation import DistillArguments, write_distilled_corpus
from ..distillation.backends import choose_backend, load_backend, recorded_choice
from ..distillation.checksums import remove_checksums
from ..distillation.choice import load_judge
from ..distillation.distill import is_written
from ..distillation.ensemble import TeacherEnsemble, require_one_vocabulary
from ..distillation.judges import Estimator, Judge, estimator_file
from ..distillation.manifest import teacher_identity
from ..distillation.rewriting import FurtherTeacher, Rewriter
from ..distillation.shards import remove_claims
from .corpus import CorpusStep
from .fingerprints import corpus_fingerprint, dataset_commit


@dataclass(frozen=True)
class Distill(CorpusStep):
    """Writes a distilled corpus; see `hf_nat.distillation.write_distilled_corpus`.

    Args:
        args (`DistillArguments`): corpus, teacher, decoding and output folder.
        loaded (`tuple`, *optional*): teacher and tokenizer, where they are in memory; `args.teacher` and
            `args.teacher_revision` are then only names.
        quality (`Callable`, *optional*): the judge of the strategy `rerank`, from sources and candidates, pair by
            pair, to a finite number for each, where it is in memory; `args.quality` is then only its name.
    """

    name = "distill"
    renewing = ("license",)  # It stands in manifest and card alone.
    args: DistillArguments
    loaded: tuple[PreTrainedModel, PreTrainedTokenizerBase] | None = field(default=None, repr=False)
    quality: Estimator | None = field(default=None, repr=False)

    @cached_property
    def _teacher(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """Teacher and tokenizer, set to the languages of the arguments."""
        args = self.args
        if self.loaded is None:
            teacher, tokenizer = args.load_model(args.teacher, revision=args.teacher_revision, parameter="teacher")
        else:
            teacher, tokenizer = self.loaded
            require_vocabulary(teacher, tokenizer, "teacher", args.teacher)
            args.prepare(teacher, tokenizer, parameter="teacher")
        if not args.ensemble:
            return teacher.eval(), tokenizer
        members = [args.load_model(name, parameter="ensemble") for name in args.ensemble]
        require_one_vocabulary([tokenizer, *(own for _, own in members)], [args.teacher, *args.ensemble])
        return TeacherEnsemble([teacher, *(model for model, _ in members)]).eval(), tokenizer

    @cached_property
    def _further(self) -> list[tuple[PreTrainedModel, PreTrainedTokenizerBase]]:
        """The teachers whose candidates are added."""
        return self.args.load_union()

    @cached_property
    def _chosen(self) -> DistillArguments:
        """The arguments with what they leave to the machine: as the folder was begun, else as the main process is."""
        record = self._record()
        if record is not None and (record["finished"] or self.made()):
            try:
                return recorded_choice(self.args, record["settings"])
            except ValueError:
                pass  # The arguments differ in more than that, which the comparison names.
        teachers = [self._teacher, *self._further]
        return main_process_decides(lambda: choose_backend(teachers, self._with_expert(self.args)))

    def _with_expert(self, args: DistillArguments) -> DistillArguments:
        return replace(args, expert=decoding_expert(self._teacher[0], args.expert))

    @cached_property
    def _resolved(self) -> DistillArguments:
        """The arguments with the expert that decodes, and nothing left to the machine."""
        return self._with_expert(self._chosen)

    @cached_property
    def _splits(self) -> dict[str, Dataset | IterableDataset]:
        args = self.args
        # All processes, and the run that goes on from this one, read the same rows.
        commit = self._stream.get("commit")
        return (args if commit is None else replace(args, corpus_revision=commit)).load_splits()

    @cached_property
    def _stream(self) -> dict[str, Any]:
        """What identifies a stream, whose rows are known only at its end; nothing of a corpus that is not one."""
        args = self.args
        if not args.streaming:
            return {}
        languages = (args.source_lang,) if args.source else (args.source_lang, args.target_lang)
        splits = args.splits.items()
        place_name = args.place_name
        if os.path.isdir(place_name):  # What else lies there, such as a card or measures, is no matter of the rows.
            files = {split: folder_files(place_name, name, args.config_name) for split, name in splits}
        else:
            files = {split: local_files(place_name, name, languages) for split, name in splits}
        within = ("config_name", "source_column", "target_column", "max_samples")
        place = {name: getattr(args, name) for name in within}
        place |= {"splits": dict(splits), "source_alone": bool(args.source) or None}  # older records have no such key
        if any(files.values()):
            return {
                "files": {split: [sha256_file(path) for path in regular_files(own)] for split, own in files.items()},
                **place,
            }
        commit = dataset_commit(args.place_name, args.corpus_revision)
        return {"dataset": args.place_name, "commit": commit, **place}

    @property
    def corpora(self) -> list[str]:
        """The corpora that it reads."""
        return [self.args.place_name]

    def settings(self) -> dict[str, Any]:
        """The arguments that decide about the bytes, with what they leave to the machine as it was chosen."""
        # An expert that was not asked for is a matter of the teacher.
        return replace(self._chosen, expert=self.args.expert).settings()

    def run(self) -> Path:
        """Chooses what the arguments leave to the machine, then does what is left to do; see `Step.run`."""
        _ = self._chosen  # All processes choose together, before one of them goes first.
        return super().run()

    def inputs(self) -> dict[str, Any]:
        """Fingerprints of teachers, judge and corpus, of a stream its place and commit, or its files; the license."""
        return {**self._inputs, "license": self.args.license}

    @cached_property
    def _inputs(self) -> dict[str, Any]:
        decoding_expert(self._teacher[0], self.args.expert)  # One that the teacher does not have is an error now.
        languages = self.args.languages
        if self.args.streaming:
            corpus = {"stream": self._stream}
        else:
            splits = self._splits.items()
            corpus = {
                "corpus_sha256": {split: corpus_fingerprint(rows, **languages) for split, rows in splits},
                "counts": {split: len(rows) for split, rows in splits},
            }
        return {
            **teacher_identity(*self._teacher),
            **({"union": [teacher_identity(*member) for member in self._further]} if self._further else {}),
            **self.args.code_record(self.args.teacher, self.args.teacher_revision),
            **self._judge[1],
            **corpus,
        }

    def check_inputs(self, made: Collection[Path] = ()) -> None:
        """Raises for a further teacher or a judge that is not there; see `Step.check_inputs`."""
        args = self.args
        places = [("ensemble", name) for name in args.ensemble or ()]
        places += [("union", name) for name in args.union or ()]
        if args.backward_teacher is not None:
            places.append(("backward_teacher", args.backward_teacher))
        if args.quality is not None and self.quality is None:
            places.append(("quality", str(estimator_file(args.quality))))
        for name, place in places:
            if Path(place) not in made:
                is_here(place, name)

    @cached_property
    def _judge(self) -> tuple[Judge | None, dict[str, Any]]:
        """What chooses among candidates, and what identifies it."""
        return load_judge(self._resolved, self.quality)

    def is_whole(self) -> bool:
        """Tells whether every shard is there, with its checksum."""
        return super().is_whole() if self.args.streaming else is_written(self.args, self._inputs["counts"])

    @cached_property
    def _rewriter(self) -> Rewriter:
        teacher, tokenizer = self._teacher
        backend = load_backend(teacher, tokenizer, self._resolved)
        prefixes = self.args.prefixes
        further = [
            FurtherTeacher(load_backend(*member, self._resolved, number), prefix)
            for number, (member, prefix) in enumerate(zip(self._further, prefixes, strict=True), start=1)
        ]
        return Rewriter(backend, teacher, tokenizer, self._resolved, self._judge[0], further)

    def prepare(self) -> None:
        """Raises ValueError if a backend cannot decode its teacher, or a source is too long and that an error.

        Warns of a validation or test split that repeats the training rows.
        """
        rewriter = self._rewriter  # A backend that cannot decode this teacher says so here.
        # The rows of a stream are not known yet, its files are.
        self.warn_of_copies(self._inputs.get("corpus_sha256") or {split: split for split in self.args.splits})
        if self.args.long_source == "error":
            rewriter.require_short_sources(self._splits["train"])

    def discard(self) -> None:
        """Removes the claims and checksums of a run without a shard."""
        remove_claims(self.folder)
        remove_checksums(self.folder)

    def work(self) -> None:
        """Rewrites the shards that are missing."""
        write_distilled_corpus(self._rewriter, self._splits, {**self._inputs, **self._resolved.settings()})


def distill(
    teacher: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    args: DistillArguments,
    quality: Estimator | None = None,
) -> Path:
    """Rewrites the training targets of a corpus by a teacher that is in memory, card included.

    Args:
        teacher (`PreTrainedModel`): any seq2seq model, on the device of this process.
        tokenizer (`PreTrainedTokenizerBase`): its tokenizer. Both are set to the languages of `args`, where it names
            the teacher's.
        args (`DistillArguments`): corpus, decoding and output folder. `args.teacher` and `args.teacher_revision` are
            only names here.
        quality (`Callable`, *optional*): the judge of the strategy `rerank`; see `Distill`.

    Returns:
        `Path`: `args.output_dir`, which `load_dataset` reads; see `hf_nat.distillation.write_distilled_corpus`.

    Raises:
        ValueError: if the folder holds something else; the field is named.
    """
    return Distill(args, (teacher, tokenizer), quality).run()
