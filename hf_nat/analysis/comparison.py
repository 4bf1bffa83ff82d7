"""What distillation did to a corpus: the measures of the real and the distilled ones side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import compress, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from transformers.utils import logging

from ..base.bounds import require_number
from ..base.config import option
from ..base.reporting import Table, interval_cell, plot_bars, plot_densities, plot_points, text_cell, write_report
from ..base.utils import check_record, environment, peak_memory_mb, read_record, write_json
from ..data.arguments import CorpusArguments
from ..data.several import corpus_place, named_corpora
from ..metrics import AmbiguousWord, ambiguous_words, num_chunks, reordering_chunks
from ..metrics.bootstrap import Bootstrap
from ..metrics.corpus_differences import corpus_differences
from .measures import AlignedCorpus, MeasureArguments, measure_corpus


logger = logging.get_logger(__name__)

MEASURES_FILE = "measures.json"
MIN_WORD_COUNT = 20  # occurrences of a word in the table of the most simplified ones
EXAMPLE_LENGTHS = range(6, 19)  # source tokens of an example
_COLORS = ("#ffd8a8", "#b2f2bb", "#a5d8ff", "#fcc2d7", "#ffec99", "#d0bfff", "#99e9f2", "#eebefa")


@dataclass(frozen=True, kw_only=True)
class AnalyzeArguments(MeasureArguments):
    """Which corpora are compared.

    Raises:
        ValueError: if names repeat or the files of links are not one for each corpus.
    """

    real: str = field(metadata={"help": "the real corpus: Hub id, folder, file, or text pattern"})
    config_name: str | None = option(None, "configuration of the real corpus")
    source_column: str | None = option(None, "column of the source in the real corpus, as in hf-nat train")
    target_column: str | None = option(None, "column of the target in the real corpus")
    real_split: str | None = option(None, "split of the real corpus; default: `split`")
    distilled: list[str] = field(
        default_factory=list,
        metadata={
            "help": "distilled corpora, as CORPUS or NAME=CORPUS; CORPUS#CONFIG is a configuration",
            "action": "extend",
        },
    )
    real_links: str | None = option(None, "Pharaoh file of another aligner, instead of aligning the real corpus")
    distilled_links: list[str] = field(
        default_factory=list, metadata={"help": "the same for each distilled corpus", "action": "extend"}
    )
    num_words: int = option(15, "most simplified words listed for each distilled corpus")
    num_examples: int = option(3, "sentences shown for each distilled corpus")
    output_dir: str = option("runs/analysis", "folder of the report, its plots, measures.json, tokens and links")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("num_words", 1), ("num_examples", 0)):
            require_number(name, getattr(self, name), least=least)
        named_corpora(self.distilled, real=self.real)
        if self.distilled_links and len(self.distilled_links) != len(self.distilled):
            raise ValueError(
                f"`distilled_links` must be one for each distilled corpus, got {len(self.distilled_links)} for "
                f"{len(self.distilled)}."
            )

    @property
    def corpora(self) -> dict[str, CorpusArguments]:
        """The corpora by name, the real one first."""
        texts = named_corpora(self.distilled, real=self.real)
        own = {name: getattr(self, name) for name in ("config_name", "source_column", "target_column")}
        languages = {"source_lang": self.source_lang, "target_lang": self.target_lang}
        return {
            name: CorpusArguments(**({"corpus": text, **own} if name == "real" else corpus_place(text)), **languages)
            for name, text in texts.items()
        }

    def load(self, name: str) -> Dataset:
        """Loads the rows of a corpus that are measured: every target of a source, as a student learns from them."""
        split = self.real_split if name == "real" and self.real_split else self.split
        return self.corpora[name].load_pairs(split)

    @property
    def links(self) -> dict[str, str | None]:
        """Files of links by the name of the corpus, None where the links are made."""
        links: list[str | None] = [self.real_links, *self.distilled_links]
        return dict(zip_longest(self.corpora, links))

    def distilled_folders(self) -> list[Path]:
        """Returns the distilled corpora that are folders of one corpus each: they keep their own measures."""
        _, *distilled = self.corpora.values()
        return [Path(one.corpus) for one in distilled if Path(one.corpus).is_dir() and one.config_name is None]


def analyze(args: AnalyzeArguments) -> dict[str, Any]:
    """Measures the real corpus and the distilled ones, and writes a report with plots.

    A distilled corpus that is a local folder gets its own measures as `measures.json`, from which its card takes them.

    Args:
        args (`AnalyzeArguments`): corpora and how they are measured.

    Returns:
        `dict[str, Any]`: the content of `measures.json` of `output_dir`: how was measured, and the measures of each
        corpus, see `measure_corpus`; `report.html` lies beside it.

    Source: Zhou, Gu & Neubig 2020, sections 3.2 and 4.2, Figures 2, 3 and 7.
    """
    folder = Path(args.output_dir)
    aligned: dict[str, AlignedCorpus] = {}
    bootstraps: dict[str, dict[str, Bootstrap]] = {}
    measures, entropies, details = [], {}, []
    for name, corpus in args.corpora.items():
        logger.info(f"--- Measuring {corpus.corpus}")
        rows = args.load(name)
        aligned[name] = AlignedCorpus(name, rows, folder / "corpora" / name, args, args.links[name])
        real = None if name == "real" else aligned["real"]
        bootstraps[name] = aligned[name].bootstraps(real)
        measures.append(measure_corpus(aligned[name], real, bootstraps[name]))
        entropies[name] = aligned[name].entropies()
        if real is not None:
            words = ambiguous_words(real.counts, aligned[name].counts, args.num_words, min_count=MIN_WORD_COUNT)
            details.append((name, _word_table(words), _examples(real, aligned[name], args.num_examples)))
    settings = {key: value for key, value in asdict(args).items() if key not in ("num_words", "num_examples")}
    results: dict[str, Any] = {
        "settings": settings,
        "environment": environment() | {"peak_memory_mb": peak_memory_mb()},
    }
    folders = args.distilled_folders()
    for corpus, measured in zip(list(args.corpora.values())[1:], measures[1:], strict=True):
        if Path(corpus.corpus) in folders:
            write_json(Path(corpus.corpus) / MEASURES_FILE, results | {"corpora": [measures[0], measured]})
    results |= {"corpora": measures, "differences": corpus_differences(bootstraps)}
    write_json(folder / MEASURES_FILE, results)
    _plot(folder, measures, entropies)
    write_report(
        folder, "analyze", args=args, table=measures_table(measures), measures=measures, details=details, **results
    )
    return results


def read_measures(path: str | Path) -> dict[str, Any]:
    """Reads the `measures.json` that `analyze` left in a distilled corpus: the real one's measures, then its own.

    Raises:
        ValueError: if it is damaged or something else.
    """
    results = read_record(path, {"settings": dict, "corpora": list})
    if len(results["corpora"]) != 2:
        raise ValueError(
            f"`corpora` of `{path}` must be the real corpus and the distilled one, got {len(results['corpora'])}."
        )
    for row in results["corpora"]:
        check_record(row, {}, f"Each of `corpora` of `{path}`")
    return results


def measures_table(measures: Sequence[Mapping[str, Any]]) -> Table:
    """Makes the table of the measures, a row for each corpus."""
    header = ["corpus", "pairs", "C(d)", "95 %", "F(d)", "95 %", "A", "U", "reordering", "training BLEU"]
    rows = []
    for row in measures:
        numbers = [
            _number(row["complexity"]),
            interval_cell(row["complexity_interval"]),
            _number(row["faithfulness"]),
            interval_cell(row["faithfulness_interval"]),
            _number(row["agreement"]),
            _number(row["unseen_mass"]),
            _number(row["reordering"]),
            _training_bleu(row),
        ]
        rows.append([row["name"], f"{row['num_pairs']:,}", *numbers])
    return Table(header, rows)


def _number(value: float | None, digits: int = 3) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _training_bleu(row: Mapping[str, Any]) -> str:
    """Prints training BLEU, with the number of pairs that have a real target where not all have."""
    counted = row.get("num_real_targets") or row["num_pairs"]
    return _number(row["training_bleu"], 2) + ("" if counted == row["num_pairs"] else f" ({counted:,} pairs)")


def _plot(folder: Path, measures: Sequence[Mapping[str, Any]], entropies: Mapping[str, np.ndarray]) -> None:
    points = {row["name"]: (row["complexity"], row["faithfulness"] or 0.0) for row in measures}
    plot_points(folder / "complexity_faithfulness.png", points, "complexity C (nats)", "faithfulness F (nats)")
    kept = {name: values[~np.isnan(values)] for name, values in entropies.items()}
    plot_densities(folder / "sentence_entropy.png", kept, "conditional entropy of a sentence (nats per source token)")
    plot_bars(
        folder / "reordering.png",
        {
            "fuzzy reordering score": {row["name"]: row["reordering"] for row in measures},
            "training BLEU": {row["name"]: row["training_bleu"] for row in measures if row["training_bleu"]},
        },
    )


def _word_table(words: Sequence[AmbiguousWord]) -> Table:
    def shares(targets: Sequence[tuple[str, float]] | None) -> str:
        return ", ".join(f"{target} {100 * share:.0f} %" for target, share in targets or ())

    return Table(
        ["word", "count", "H before", "H after", "translations before", "after"],
        [
            [
                text_cell(word.word),
                str(word.count),
                _number(word.entropy, 2),
                _number(word.entropy_after, 2),
                text_cell(shares(word.targets)),
                text_cell(shares(word.targets_after)),
            ]
            for word in words
        ],
    )


def _examples(real: AlignedCorpus, corpus: AlignedCorpus, k: int) -> list[list[tuple[str, str]]]:
    """Shows the sentences whose alignment falls into the fewest chunks, compared with the real one.

    Returns:
        For each the source and target of the real pair and of the distilled one: label, and tokens as HTML.
    """
    rows = corpus.real_rows(real)
    if rows is None or not (np.diff(rows) > 0).all():
        return []
    kept = np.isin(np.arange(len(real.rows)), rows)

    def real_columns() -> list[Iterator[Any]]:
        return [compress(column, kept) for column in (real.sources(), real.targets(), real.links())]

    gains = []
    for row, (source, _, before, after) in enumerate(zip(*real_columns(), corpus.links(), strict=True)):
        if len(source) in EXAMPLE_LENGTHS and after:
            gains.append((num_chunks(after) - num_chunks(before), row))
    chosen = {row for gain, row in sorted(gains)[:k] if gain < 0}
    examples = []
    columns = [*real_columns(), corpus.sources(), corpus.targets(), corpus.links()]
    for row, (source, target, links, own_source, own_target, own_links) in enumerate(zip(*columns, strict=True)):
        if row in chosen:
            shown = [("real", source, target, links), (corpus.name, own_source, own_target, own_links)]
            examples.append([line for name, *pair in shown for line in _colored(name, *pair)])
    return examples


def _colored(
    name: str, source: Sequence[str], target: Sequence[str], links: Sequence[tuple[int, int]]
) -> list[tuple[str, str]]:
    """Returns source and target of a pair with the words of a chunk in one colour."""
    chunk_of = {position: chunk for chunk, positions in enumerate(reordering_chunks(links)) for position in positions}
    source_chunks = {i: chunk_of[j] for i, j in sorted(links, key=lambda link: -link[1])}
    lines = (("source", source, source_chunks), ("target", target, chunk_of))
    return [
        (
            f"{name}, {side}",
            " ".join(
                f'<span style="background:{_COLORS[chunks[i] % len(_COLORS)]}">{text_cell(word)}</span>'
                if i in chunks
                else text_cell(word)
                for i, word in enumerate(words)
            ),
        )
        for side, words, chunks in lines
    ]
