"""Measures of parallel corpora: complexity, faithfulness to the real one, reordering, training BLEU."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from transformers.utils import logging

from ..alignment import SYMMETRIZATIONS, align, format_links, parse_links
from ..config import option
from ..data import corpus_tokens, tokenize
from ..data.corpora import read_lines
from ..metrics import (
    Complexity,
    LexicalCounts,
    complexity,
    complexity_interval,
    faithfulness,
    faithfulness_interval,
    fuzzy_reordering,
    sentence_entropies,
    training_bleu,
)
from ..utils import atomic_path


logger = logging.get_logger(__name__)

ALIGNMENTS = ("forward", "reverse", *SYMMETRIZATIONS)


@dataclass(frozen=True, kw_only=True)
class MeasureArguments:
    """How corpora are cut into tokens, aligned and measured.

    Raises:
        ValueError: if the alignment is unknown or a number is out of range.
    """

    source_lang: str = field(metadata={"help": "language key of the source in the `translation` feature"})
    target_lang: str = field(metadata={"help": "language key of the target"})
    split: str = option("train", "split to measure")
    tokens: str = option("moses", "moses: lower-cased words; space: words between blanks; or a tokenizer's folder")
    alignment: str = option("forward", f"links that are counted: {', '.join(ALIGNMENTS)}")
    num_bootstrap: int = option(1000, "samples of the bootstrap that gives the intervals; 0 for none")
    seed: int = option(1, "seed of the bootstrap")

    def __post_init__(self) -> None:
        if self.alignment not in ALIGNMENTS:
            raise ValueError(f"`alignment` must be one of {ALIGNMENTS}, got {self.alignment!r}.")
        if self.num_bootstrap < 0:
            raise ValueError(f"`num_bootstrap` must be >= 0, got {self.num_bootstrap}. Use 0 for no intervals.")


class AlignedCorpus:
    """A corpus with its tokens and links, in text files that are read again for every measure.

    Args:
        name (`str`): label in tables.
        rows (`Dataset`): corpus with the `translation` feature.
        folder (`Path`): where `source.txt`, `target.txt` (tokens between blanks) and `links.txt` (Pharaoh) go; they
            are taken over where they were made before, from the same.
        args (`MeasureArguments`): languages, tokens and alignment.
        links_file (`str`, *optional*): Pharaoh file of another aligner's links of these tokens, instead of our own.

    Raises:
        ValueError: if the links do not belong to the corpus; file and line are named.
    """

    def __init__(
        self, name: str, rows: Dataset, folder: Path, args: MeasureArguments, links_file: str | None = None
    ) -> None:
        started = time.perf_counter()
        self.name, self.rows, self._folder, self.args = name, rows, folder, args
        self._links_file = links_file or str(folder / "links.txt")
        # Each appears whole or not at all, the links last; whose they are the step that owns the folder knows.
        for side, lang in (("source", args.source_lang), ("target", args.target_lang)):
            if not self._path(side).is_file():
                self._write(side, (" ".join(tokens) for tokens in corpus_tokens(rows, lang, args.tokens)))
        if links_file is None and not self._path("links").is_file():
            self._align()
        with _fitting_links(self._links_file, name):
            self.counts = LexicalCounts.from_corpus(
                self.sources(), self.targets(), self.links(), keep_rows=args.num_bootstrap > 0
            )
        self.complexity: Complexity = complexity(self.counts)
        self.seconds = time.perf_counter() - started

    def _align(self) -> None:
        alignment = self.args.alignment
        links = align(
            self.sources(),
            self.targets(),
            reverse=alignment == "reverse",
            symmetrize=alignment if alignment in SYMMETRIZATIONS else None,
            progress=True,
        )
        self._write("links", map(format_links, links))

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.txt"

    def _write(self, name: str, lines: Iterator[str]) -> None:
        with atomic_path(self._path(name)) as temporary, open(temporary, "w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)

    def _tokens(self, side: str) -> Iterator[list[str]]:
        return tokenize(read_lines(str(self._path(side))))

    def sources(self) -> Iterator[list[str]]:
        """Yields the source tokens of each row."""
        return self._tokens("source")

    def targets(self) -> Iterator[list[str]]:
        """Yields the target tokens of each row."""
        return self._tokens("target")

    def links(self) -> Iterator[list[tuple[int, int]]]:
        """Yields the links (source index, target index) of each row."""
        return parse_links(read_lines(self._links_file), self._links_file)

    def target_texts(self, rows: np.ndarray | None = None) -> list[str]:
        """Returns the target sentence of each row, or of the rows with these numbers."""
        chosen = self.rows if rows is None else self.rows.select(rows)
        return [pair[self.args.target_lang] for pair in chosen["translation"]]

    def real_rows(self, real: AlignedCorpus) -> np.ndarray | None:
        """Returns for each row the number of its row in the real corpus: `[rows]`, None if that is unknown.

        A distilled corpus says it by `id`, which holds where `real_target` is the target there; other corpora of the
        same length have the same rows.
        """
        if not {"id", "real_target"} <= set(self.rows.column_names):
            return np.arange(len(self.rows)) if len(self.rows) == len(real.rows) else None
        rows = np.array(self.rows["id"][:])
        if rows.max() < len(real.rows) and self.rows["real_target"][:] == real.target_texts(rows):
            return rows
        logger.warning_once(
            f"The rows of `{self.name}` are not traced: its `real_target` is not the target of row `id` of the real "
            "corpus. Give the corpus that it was distilled from."
        )
        return None

    def entropies(self) -> np.ndarray:
        """Returns the mean conditional entropy per source token of each row in nats: `[rows]`, nan if empty."""
        return sentence_entropies(self.sources(), self.complexity.per_word)[1]


@contextmanager
def _fitting_links(links_file: str, name: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ValueError(f"`{links_file}` does not fit the corpus `{name}` (rows from 0): {error}") from error


def check_links(name: str, rows: Dataset, args: MeasureArguments, links_file: str) -> None:
    """Raises unless a file holds links of the tokens of a corpus.

    Args:
        name (`str`): name of the corpus.
        rows (`Dataset`): the corpus.
        args (`MeasureArguments`): languages and tokens.
        links_file (`str`): Pharaoh file of another aligner.

    Raises:
        OSError: if there is no such file.
        ValueError: naming file and line, or row.
    """
    sides = (corpus_tokens(rows, lang, args.tokens) for lang in (args.source_lang, args.target_lang))
    with _fitting_links(links_file, name):
        LexicalCounts.from_corpus(*sides, parse_links(read_lines(links_file), links_file))


def measure_corpus(corpus: AlignedCorpus, real: AlignedCorpus | None = None) -> dict[str, Any]:
    """Measures a corpus, and a distilled one against the real one.

    Args:
        corpus (`AlignedCorpus`): the corpus.
        real (`AlignedCorpus`, *optional*): the real corpus that `corpus` was distilled from.

    Returns:
        `dict[str, Any]`: complexity C(d) and faithfulness F(d) in nats with 95 % intervals and F's parts, fuzzy
        reordering score 0-1, training BLEU 0-100 with its signature, mean sentence entropy in nats per token, and
        seconds. What there is no real corpus for is None; so is the interval of F where `AlignedCorpus.real_rows` does
        not know the rows, and the training BLEU where there is no column `real_target` either. A corpus without some
        rows of the real one, a filtered one for instance, is measured against the whole real corpus.

    Source: Zhou, Gu & Neubig 2020, sections 3.2 and 4.2, Figures 3 and 7.
    """
    started = time.perf_counter()
    args = corpus.args
    bootstrap: dict[str, Any] = {"num_samples": args.num_bootstrap, "seed": args.seed}
    entropies = corpus.entropies()
    measures: dict[str, Any] = {
        "name": corpus.name,
        "num_pairs": len(corpus.rows),
        "num_links": corpus.complexity.num_links,
        "num_source_types": corpus.complexity.num_types,
        "complexity": corpus.complexity.value,
        "complexity_interval": complexity_interval(corpus.counts, **bootstrap) if args.num_bootstrap else None,
        "reordering": fuzzy_reordering(corpus.links()).value,
        "sentence_entropy": float(np.nanmean(entropies)),
        **dict.fromkeys(["faithfulness", "faithfulness_interval", "agreement", "unseen_mass"]),
        **dict.fromkeys(["training_bleu", "training_bleu_signature"]),
    }
    if real is not None:
        rows = corpus.real_rows(real)
        result = faithfulness(real.counts, corpus.counts)
        measures |= {
            "faithfulness": result.value,
            "agreement": result.agreement,
            "unseen_mass": result.unseen_mass,
        }
        if args.num_bootstrap and rows is not None:
            measures["faithfulness_interval"] = faithfulness_interval(
                real.counts, corpus.counts, rows=rows, **bootstrap
            )
        has_targets = "real_target" in corpus.rows.column_names
        if has_targets or rows is not None:
            references = corpus.rows["real_target"][:] if has_targets else real.target_texts(rows)
            bleu = training_bleu(corpus.target_texts(), references, target_lang=args.target_lang)
            measures |= {"training_bleu": bleu.score, "training_bleu_signature": bleu.signature}
    measures["seconds"] = round(corpus.seconds + time.perf_counter() - started, 1)
    return measures
