"""`hf-nat translate`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

from ..config import load_config, option
from ..data.corpora import read_lines
from ..decoding import DecodingArguments, load_model, translate_stream


@dataclass
class TranslateArguments:
    """What is translated by which model."""

    model: str = field(metadata={"help": "checkpoint folder or Hub id"})
    input: str = option("-", "text file (plain or .gz), one sentence a line; - is standard input")
    output: str = option("-", "text file, one translation a line; - is standard output")
    window: int = option(1000, "sentences read, sorted by length and translated at a time")


def run(argv: Sequence[str]) -> None:
    """Translates line by line; line n of the output is line n of the input, an empty line stays empty."""
    args, decoding = load_config((TranslateArguments, DecodingArguments), argv, prog="hf-nat translate")
    model, tokenizer = load_model(args.model)
    translations = translate_stream(
        model, tokenizer, read_lines(args.input), window=args.window, progress=True, **decoding.generate_kwargs(model)
    )
    with nullcontext(sys.stdout) if args.output == "-" else open(args.output, "w", encoding="utf-8") as output:
        for translation in translations:
            output.write(f"{translation.text}\n")
