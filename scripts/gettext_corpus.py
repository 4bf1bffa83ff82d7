#!/usr/bin/env python
"""A parallel corpus of interface strings out of gettext catalogues (`.mo`), for a second domain.

    python scripts/gettext_corpus.py --catalogues "/usr/lib/libreoffice/program/resource/de/LC_MESSAGES/*.mo" \
        --source_lang en --target_lang de --output_dir data/interface

Writes {split}.{lang} for train, validation and test, a string a line. gettext's `msgfmt` makes `.mo` of `.po`. What
becomes of a catalogue's entry:

- line breaks and runs of blanks become one blank; the context of a string is left out;
- an accelerator, one of `_~&` right before a letter or digit or between a word and a hyphen or slash (`DDE_-Befehl`),
  goes where its mark stands once in the string, so that names such as `a_b_c` stay; addresses, entities (`&amp;`) and
  placeholders (`%1`, `$(ARG1)`, `%FILE_NAME`) stay as they are;
- plural forms, the header, sources without a letter, empty strings and those without another translation than
  themselves are left out;
- of several entries whose sources differ in case and punctuation alone the first stays, so that none is in two splits.
"""

from __future__ import annotations

import argparse
import gettext
import random
import re
from collections.abc import Sequence
from glob import glob
from pathlib import Path

from hf_nat.base.files import open_output


_ACCELERATORS = "_~&"
_CONTEXT_END = "\x04"
# Marks in these are no accelerators: addresses, placeholders and entities.
_KEPT = r"\w+://\S+|%\w+|\$\(\w+\)|&#?\w+;"


def read_catalogue(path: str | Path) -> list[tuple[str, str]]:
    """Returns source and translation of the entries of a catalogue that are no plural forms, in its order.

    Raises:
        ValueError: if the file is no catalogue.
    """
    with open(path, "rb") as file:
        try:
            catalogue = vars(gettext.GNUTranslations(file))["_catalog"]
        except (OSError, UnicodeDecodeError, ValueError) as error:
            raise ValueError(f"`{path}` must be a gettext catalogue (.mo): {error}") from error
    return [(key.rpartition(_CONTEXT_END)[2], text) for key, text in catalogue.items() if isinstance(key, str)]


def clean(text: str) -> str:
    """Returns a string as one line, without the mark of its accelerator."""
    text = " ".join(text.replace("\u200b", "").split())
    for mark in _ACCELERATORS:
        if re.sub(_KEPT, "", text).count(mark) == 1:
            accelerator = rf"{mark}(?=[^\W_])|(?<=\w){mark}(?=[-/])"
            text = re.sub(rf"({_KEPT})|{accelerator}", lambda found: found[1] or "", text)
    return text


def pairs_of(catalogues: Sequence[str | Path]) -> list[tuple[str, str]]:
    """Returns the pairs of several catalogues; sources differ in more than case and punctuation."""
    pairs: dict[str, tuple[str, str]] = {}
    for path in catalogues:
        for source, target in read_catalogue(path):
            source, target = clean(source), clean(target)
            if target and source != target and any(map(str.isalpha, source)):
                pairs.setdefault(" ".join(re.findall(r"[^\W_]+", source.casefold())), (source, target))
    return list(pairs.values())


def main(argv: Sequence[str] | None = None) -> None:
    """Writes the corpus and prints how many pairs each split has."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--catalogues", nargs="+", required=True, help=".mo files, or patterns of them")
    for name in ("source_lang", "target_lang", "output_dir"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--num_held_out", type=int, default=1000, help="pairs of validation and of test, each")
    parser.add_argument("--seed", type=int, default=1, help="seed of the order, and so of what is held out")
    args = parser.parse_args(argv)
    paths = [path for pattern in args.catalogues for path in sorted(glob(pattern, recursive=True))]
    if not paths:
        parser.error(f"--catalogues must name at least one file, got {args.catalogues}")
    pairs = pairs_of(paths)
    if args.num_held_out < 0 or len(pairs) <= 2 * args.num_held_out:
        parser.error(
            f"--num_held_out must be >= 0 and leave pairs to train on, got {args.num_held_out} of {len(pairs)}"
        )
    random.Random(args.seed).shuffle(pairs)
    first, second = args.num_held_out, 2 * args.num_held_out
    splits = {"validation": pairs[:first], "test": pairs[first:second], "train": pairs[second:]}
    Path(args.output_dir).mkdir(parents=True, exist_ok=True)
    for split, own in splits.items():
        for side, lang in enumerate((args.source_lang, args.target_lang)):
            with open_output(Path(args.output_dir) / f"{split}.{lang}") as file:
                file.writelines(f"{pair[side]}\n" for pair in own)
        print(f"{split}: {len(own)} pairs")


if __name__ == "__main__":
    main()
