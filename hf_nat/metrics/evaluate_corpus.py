"""What the `evaluate` modules of parallel data share: their inputs as lines of text, and how these are read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import evaluate
from datasets import Features, Value

from ..alignment import parse_links
from .lexicon import LexicalCounts


CITATION = """\
@inproceedings{zhou2020understanding,
  title={Understanding Knowledge Distillation in Non-autoregressive Machine Translation},
  author={Chunting Zhou and Jiatao Gu and Graham Neubig},
  booktitle={International Conference on Learning Representations},
  year={2020},
  url={https://arxiv.org/abs/1911.02727}
}
"""

_INPUTS = {
    "sources": "tokens of each source sentence, separated by spaces",
    "targets": "tokens of each target sentence, separated by spaces",
    "alignments": "links of each pair in Pharaoh format, source-target from 0, such as 0-0 1-2",
    "distilled_targets": "tokens of each target sentence of the altered corpus, separated by spaces",
    "distilled_alignments": "links of each source sentence and its altered target, in Pharaoh format",
}
_TOKEN = re.compile(r"[^ \t]+")


def module_info(description: str, inputs: Sequence[str], options: str, returns: str) -> evaluate.MeasurementInfo:
    """Describes a module.

    Args:
        description (`str`): what it measures.
        inputs (`Sequence[str]`): names of its inputs, each a list of strings with one entry per row.
        options (`str`): the keyword arguments of `compute` beside the inputs, as lines of a docstring.
        returns (`str`): the keys of its result, as lines of a docstring.

    Returns:
        `evaluate.MeasurementInfo`: with the citation of Zhou, Gu & Neubig 2020.
    """
    lines = [f"    {name} (list of str): {_INPUTS[name]}." for name in inputs]
    return evaluate.MeasurementInfo(
        description=description,
        citation=CITATION,
        inputs_description="\n".join(["", "Args:", *lines, options, "Returns:", returns, ""]),
        features=Features({name: Value("string") for name in inputs}),
        reference_urls=["https://arxiv.org/abs/1911.02727"],
    )


def tokens(lines: Sequence[str]) -> Iterator[list[str]]:
    """Yields the tokens of each line: what stands between runs of spaces and tabs, other blanks being characters."""
    return (_TOKEN.findall(line) for line in lines)


def lexical_counts(sources: Sequence[str], targets: Sequence[str], alignments: Sequence[str]) -> LexicalCounts:
    """Counts the links of a corpus given as lines of text."""
    return LexicalCounts.from_corpus(tokens(sources), tokens(targets), parse_links(alignments))
