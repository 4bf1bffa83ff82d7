"""Measures of parallel corpora: complexity, faithfulness to the real one, reordering, training BLEU."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from transformers.utils import logging

from ..alignment import SYMMETRIZATIONS, align, format_links, parse_links
from ..base.bounds import require_choice, require_number
from ..base.config import option
from ..base.files import atomic_path
from ..data import corpus_sides, tokenize
from ..data.text_files import read_lines
from ..metrics import (
    Complexity,
    LexicalCounts,
    complexity,
    complexity_bootstrap,
    faithfulness,
    fuzzy_reordering,
    sentence_entropies,
    training_bleu,
)
from ..metrics.bootstrap import Bootstrap
from ..metrics.corpus_differences import CENTERED, corpus_bootstraps
from ..metrics.translation import require_bootstrap


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
        require_choice("alignment", self.alignment, ALIGNMENTS)
        require_number("seed", self.seed, least=0)
        require_bootstrap(self.num_bootstrap)


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
        self.name, self._folder, self.args = name, folder, args
        self.rows = rows.remove_columns(_foreign_columns(rows))
        self._links_file = links_file or str(folder / "links.txt")
        # Each appears whole or not at all, the links last; whose they are the step that owns the folder knows.
        sides = corpus_sides(rows, (args.source_lang, args.target_lang), args.tokens)
        for side, sentences in zip(("source", "target"), sides, strict=True):
            if not self._path(side).is_file():
                self._write(side, (" ".join(tokens) for tokens in sentences))
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

        A distilled corpus says it by `id`, which holds where `real_target` is the target there, or without one the
        source is; other corpora of the same length have the same rows.
        """
        if not {"id", "real_target"} <= set(self.rows.column_names):
            return np.arange(len(self.rows)) if len(self.rows) == len(real.rows) else None
        rows = np.array(self.rows["id"][:])
        if rows.min() >= 0 and rows.max() < len(real.rows) and all(self._are_of(real.rows.select(rows))):
            return rows
        logger.warning_once(
            f"The rows of `{self.name}` are not traced: its `real_target`, or source where that is null, is not that "
            "of row `id` of the real corpus. Give the corpus that it was distilled from."
        )
        return None

    def _are_of(self, real_rows: Dataset) -> Iterator[bool]:
        """Tells of each row whether it may have been made from the real one in its place."""
        source, target = self.args.source_lang, self.args.target_lang
        columns = (self.rows["translation"], self.rows["real_target"], real_rows["translation"])
        for own, real_target, real in zip(*columns, strict=True):
            yield real[source] == own[source] if real_target is None else real[target] == real_target

    def entropies(self) -> np.ndarray:
        """Returns the mean conditional entropy per source token of each row in nats: `[rows]`, nan if empty."""
        return sentence_entropies(self.sources(), self.complexity.per_word)[1]

    def beside_real(self, real: AlignedCorpus) -> tuple[np.ndarray, list[str], list[str]]:
        """Returns the numbers of the rows whose real target is known, their targets, and the real ones."""
        if "real_target" in self.rows.column_names:
            found = self.rows["real_target"][:]
        else:
            rows = self.real_rows(real)
            found = [] if rows is None else real.target_texts(rows)
        known = np.array([row for row, target in enumerate(found) if target is not None], dtype=np.int64)
        if len(known) == len(self.rows):
            return known, self.target_texts(), found
        return known, self.target_texts(known), [target for target in found if target is not None]

    def bootstraps(self, real: AlignedCorpus | None = None) -> dict[str, Bootstrap]:
        """Measures the corpus in samples of the rows of the real one, the same samples for every corpus.

        Args:
            real (`AlignedCorpus`, *optional*): the real corpus; None for the real corpus itself.

        Returns:
            `dict[str, Bootstrap]`: by measure, see `corpus_bootstraps`; none without samples, or where the rows of the
            real corpus are unknown.
        """
        rows = None if real is None else self.real_rows(real)
        if not self.args.num_bootstrap or (real is not None and rows is None):
            return {}
        statistics = None
        if real is not None:
            known, targets, real_targets = self.beside_real(real)
            if real_targets:
                counts = training_bleu(targets, real_targets, target_lang=self.args.target_lang).statistics
                statistics = np.zeros((len(self.rows), counts.shape[1]), dtype=counts.dtype)
                statistics[known] = counts
        return corpus_bootstraps(
            self.counts,
            fuzzy_reordering(self.links()),
            real=None if real is None else real.counts,
            rows=rows,
            bleu_statistics=statistics,
            num_samples=self.args.num_bootstrap,
            seed=self.args.seed,
        )


def _foreign_columns(rows: Dataset) -> list[str]:
    """Names the columns that only bear the name of those by which a distilled corpus is traced."""
    kinds = {"id": ("int", "uint"), "real_target": ("string", "large_string", "null")}
    found = [name for name in kinds if name in rows.column_names]
    foreign = [name for name in found if not str(getattr(rows.features[name], "dtype", "")).startswith(kinds[name])]
    has_nulls = "id" in found and "id" not in foreign and rows.data.column("id").null_count
    return [*foreign, *(["id"] if has_nulls else [])]


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
    sources, targets = corpus_sides(rows, (args.source_lang, args.target_lang), args.tokens)
    with _fitting_links(links_file, name):
        LexicalCounts.from_corpus(sources, targets, parse_links(read_lines(links_file), links_file))


def measure_corpus(
    corpus: AlignedCorpus, real: AlignedCorpus | None = None, bootstraps: Mapping[str, Bootstrap] | None = None
) -> dict[str, Any]:
    """Measures a corpus, and a distilled one against the real one.

    Args:
        corpus (`AlignedCorpus`): the corpus.
        real (`AlignedCorpus`, *optional*): the real corpus that `corpus` was distilled from.
        bootstraps (`Mapping[str, Bootstrap]`, *optional*): what `corpus.bootstraps(real)` gave, where it is at hand.

    Returns:
        `dict[str, Any]`: complexity C(d) and faithfulness F(d) in nats with F's parts, fuzzy reordering score 0-1,
        training BLEU 0-100 with its signature, each with its 95 % interval as `<measure>_interval`, mean sentence
        entropy in nats per token, and seconds. What there is no real corpus for is None; so is an interval where
        `AlignedCorpus.real_rows` does not know the rows, but for that of C. Training BLEU is of the
        `num_real_targets` rows whose real target is known, None without any. A corpus without some rows of the real
        one, a filtered one for instance, is measured against the whole real corpus.

    Source: Zhou, Gu & Neubig 2020, sections 3.2 and 4.2, Figures 3 and 7.
    """
    started = time.perf_counter()
    args = corpus.args
    drawn = corpus.bootstraps(real) if bootstraps is None else bootstraps
    if args.num_bootstrap and not drawn:
        alone = complexity_bootstrap(corpus.counts, num_samples=args.num_bootstrap, seed=args.seed)
        drawn = {"complexity": alone}
    intervals = {
        f"{name}_interval": list(drawn[name].interval(centered=name in CENTERED)) if name in drawn else None
        for name in ("complexity", "faithfulness", "reordering", "training_bleu")
    }
    measures: dict[str, Any] = {
        "name": corpus.name,
        "num_pairs": len(corpus.rows),
        "num_links": corpus.complexity.num_links,
        "num_source_types": corpus.complexity.num_types,
        "complexity": corpus.complexity.value,
        "reordering": fuzzy_reordering(corpus.links()).value,
        "sentence_entropy": float(np.nanmean(corpus.entropies())),
        **dict.fromkeys(["faithfulness", "agreement", "unseen_mass"]),
        **dict.fromkeys(["training_bleu", "training_bleu_signature", "num_real_targets"]),
        **intervals,
    }
    if real is not None:
        result = faithfulness(real.counts, corpus.counts)
        measures |= {
            "faithfulness": result.value,
            "agreement": result.agreement,
            "unseen_mass": result.unseen_mass,
        }
        _, targets, real_targets = corpus.beside_real(real)
        measures["num_real_targets"] = len(real_targets)
        if real_targets:
            bleu = training_bleu(targets, real_targets, target_lang=args.target_lang)
            measures |= {"training_bleu": bleu.score, "training_bleu_signature": bleu.signature}
    measures["seconds"] = round(corpus.seconds + time.perf_counter() - started, 1)
    return measures
