"""`hf-nat align`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..alignment import SYMMETRIZATIONS, align, format_links
from ..base.config import load_config, option
from ..base.files import open_output
from ..data import corpus_sides, load_corpus
from ..data.locations import local_files
from ..data.several import expand_targets


@dataclass
class AlignArguments:
    """Which corpus is aligned, and how.

    Raises:
        ValueError: if there is not one corpus.
    """

    source_file: str | None = option(None, "text file of source sentences (plain or .gz), one a line")
    target_file: str | None = option(None, "text file of target sentences")
    corpus: str | None = option(
        None,
        "instead of the files: Hub id, folder, .parquet/.jsonl/.csv/.tsv file, text pattern with {split} and {lang}",
        aliases=["--dataset"],
    )
    config_name: str | None = option(None, "configuration of a Hub corpus")
    split: str = option("train", "split of the corpus")
    source_lang: str = option("source", "language code of the source: a key of the corpus, and the rules of `moses`")
    target_lang: str = option("target", "language code of the target")
    source_column: str | None = option(None, "column of the source; default: `translation`, the language or `source`")
    target_column: str | None = option(None, "column of the target")
    output_file: str = option("-", "Pharaoh lines, one a sentence pair; - is standard output")
    tokens: str = option("space", "space: words between blanks; moses: lower-cased words; or a tokenizer's folder")
    reverse: bool = option(False, "every source word chooses a target word, instead of the other way")
    symmetrize: str | None = option(None, f"join both directions: {', '.join(SYMMETRIZATIONS)}")
    device: str | None = option(None, "where the model is trained; default: a GPU if there is one")

    def __post_init__(self) -> None:
        files = (self.source_file, self.target_file)
        if (None in files) == (self.corpus is None) or any(files) != all(files):
            raise ValueError("Give both `--source-file` and `--target-file`, or `--corpus`.")


def run(argv: Sequence[str]) -> None:
    """Writes the links of a corpus, line n for its row n, or its pair n where rows have several targets."""
    (args,) = load_config((AlignArguments,), argv, prog="hf-nat align")
    corpus = args.corpus or [args.source_file, args.target_file]
    languages = (args.source_lang, args.target_lang)
    with open_output(args.output_file, inputs=local_files(corpus, args.split, languages)) as output:
        rows = load_corpus(
            corpus,
            args.split,
            source_lang=args.source_lang,
            target_lang=args.target_lang,
            config_name=args.config_name,
            streaming=True,
            source_column=args.source_column,
            target_column=args.target_column,
        )
        links = align(
            *corpus_sides(expand_targets(rows, *languages), languages, args.tokens),
            reverse=args.reverse,
            symmetrize=args.symmetrize,
            device=args.device,
            progress=True,
        )
        output.writelines(f"{format_links(row)}\n" for row in links)
