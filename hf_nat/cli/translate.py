"""`hf-nat translate`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from transformers.utils import logging

from ..base.bounds import require_number
from ..base.config import load_config, option
from ..base.files import open_output, refuse_one_output
from ..base.languages import require_language
from ..data.text_files import read_lines
from ..decoding import DecodingArguments, DraftCounts, SentenceSplitter, Translator
from ..decoding.shortlist import ShortListArguments
from ..evaluation.confidence import confidence, require_calibration, way_of_decoding


logger = logging.get_logger(__name__)

_WINDOW = 1000


@dataclass(frozen=True, kw_only=True)
class TranslateArguments(ShortListArguments):
    """What is translated by which model.

    Raises:
        ValueError: if `window` is below 1, or a language that sentences are split by is missing, unknown or
            without use, or as [`ShortListArguments`].
    """

    model: str = field(metadata={"help": "checkpoint folder or Hub id"})
    input: str = option("-", "text file (plain or .gz), one sentence a line; - is standard input")
    output: str = option("-", "text file (packed as .gz), one translation a line; - is standard output")
    confidence_output: str | None = option(
        None, "text file, one number a line: the quality to expect, 0-1; the model needs `hf-nat calibrate` before"
    )
    window: int | None = option(
        None, f"sentences read, sorted by length and translated at a time; default: {_WINDOW}, 1 at a terminal"
    )
    split_sentences: bool = option(False, "translate a document a line sentence by sentence, and join these again")
    source_lang: str | None = option(None, "language of the input, for `split_sentences` and `shortlist`")
    target_lang: str | None = option(None, "language of the output, for the same")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("window", self.window, least=1, most=sys.maxsize)
        if self.split_sentences and not (self.source_lang and self.target_lang):
            raise ValueError(
                f"`split_sentences` must come with `source_lang` and `target_lang`, got {self.source_lang!r} and "
                f"{self.target_lang!r}. Give their codes, such as en and de."
            )
        for name in ("source_lang", "target_lang"):
            value = getattr(self, name)
            if self.split_sentences:
                require_language(name, value)
            elif value and self.shortlist is None:
                raise ValueError(
                    f"`{name}` must be left out without `split_sentences` or `shortlist`, got {value!r}. Use "
                    f"`model_{name}` to tell a multilingual model its languages."
                )

    @property
    def splitter(self) -> SentenceSplitter | None:
        """What splits the lines, None where each is a sentence."""
        if not (self.split_sentences and self.source_lang and self.target_lang):
            return None
        return SentenceSplitter(self.source_lang, self.target_lang)


def run(argv: Sequence[str]) -> None:
    """Translates line by line; line n of the output is line n of the input, an empty line stays empty."""
    args, decoding = load_config((TranslateArguments, DecodingArguments), argv, prog="hf-nat translate")
    if args.input != "-":
        os.stat(args.input)  # A missing file is told before the model is loaded.
    refuse_one_output([path for path in (args.output, args.confidence_output) if path is not None])
    splitter = args.splitter
    is_dialogue = args.input == "-" and sys.stdin.isatty()
    window = args.window or (1 if is_dialogue else _WINDOW)
    inputs = [args.input, *decoding.files(args.model)]
    with ExitStack() as files:
        output = files.enter_context(open_output(args.output, inputs=inputs))
        model, tokenizer = decoding.load_model(args.model)
        confidences, calibration = None, None
        if args.confidence_output is not None:
            calibration = require_calibration(args.model, way_of_decoding(decoding, model, args))
            confidences = files.enter_context(open_output(args.confidence_output, inputs=inputs))
        settings = decoding.generate_kwargs(model)
        settings |= args.short_list_kwargs(model, tokenizer)
        translator = Translator(model, tokenizer, with_scores=calibration is not None, **settings)
        translations = translator.stream(
            read_lines(args.input), window=window, progress=not is_dialogue, splitter=splitter
        )
        counts = DraftCounts()
        for number, translation in enumerate(translations, start=1):
            counts.add([translation])
            output.write(f"{translation.text}\n")
            if calibration is not None and confidences is not None:
                confidences.write(f"{confidence(calibration, translation):.3f}\n")
            if number % window == 0:
                output.flush()  # Who wrote a window waits for it.
    if (means := counts.means()) is not None:
        logger.info(f"Drafts: {DraftCounts.phrase(means)}.")
