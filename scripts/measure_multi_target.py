#!/usr/bin/env python
"""Complexity of one source language paired with several: each pair, all pairs together, one random target a source.

    python scripts/measure_multi_target.py --corpus "data/multi30k/{split}.{lang}.gz" --source_lang en \
        --target_langs de fr cs --output configs/multi30k/measures/multi_target.json

Each corpus is measured in lower-cased words and in the pieces of one BPE tokenizer, trained on all languages.
A process of its own measures each, so that its peak of memory can be told; some 0.5 GB of it are the libraries.
Source: Zhou, Gu & Neubig 2020, section 3.1 and Table 1.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from datasets import Dataset, Features

from hf_nat.analysis import AlignedCorpus, MeasureArguments, measure_corpus
from hf_nat.data import concatenate_targets, corpus_texts, select_targets, tokenize, train_tokenizer
from hf_nat.data.multi_target import MULTI_TARGET_LANG
from hf_nat.experiments.report import Table
from hf_nat.utils import environment, peak_memory_mb, progress_bar, read_json, write_json


def corpora(target_langs: Sequence[str]) -> list[str]:
    """Names the corpora that are measured."""
    return [*target_langs, "concatenated", "random selection"]


def load(name: str, args: argparse.Namespace) -> Dataset:
    """Loads one of them."""
    if name == "random selection":
        return select_targets(args.corpus, args.source_lang, args.target_langs, args.split, args.seed)
    return concatenate_targets(
        args.corpus, args.source_lang, args.target_langs if name == "concatenated" else [name], args.split
    )


def in_words(rows: Dataset, source_lang: str) -> Dataset:
    """Puts blanks between the words of a corpus, by the rules of each target's own language."""
    pairs = rows["translation"][:]
    sources = list(tokenize((pair[source_lang] for pair in pairs), "moses", source_lang))
    targets: dict[int, list[str]] = {}
    for lang in set(rows["language"]):
        own = [row for row, language in enumerate(rows["language"]) if language == lang]
        texts = (pairs[row][MULTI_TARGET_LANG] for row in own)
        targets.update(zip(own, tokenize(texts, "moses", lang), strict=True))
    words = [
        {source_lang: " ".join(source), MULTI_TARGET_LANG: " ".join(targets[row])}
        for row, source in enumerate(sources)
    ]
    return Dataset.from_dict({"translation": words}, Features({"translation": rows.features["translation"]}))


def measure(name: str, tokens: str, args: argparse.Namespace) -> dict[str, Any]:
    """Measures one of them in words, or in the pieces of a tokenizer."""
    rows = load(name, args)
    if tokens == "moses":
        rows, tokens = in_words(rows, args.source_lang), "space"
    measure_args = MeasureArguments(
        args.source_lang, MULTI_TARGET_LANG, tokens=tokens, num_bootstrap=args.num_bootstrap, seed=args.seed
    )
    with tempfile.TemporaryDirectory() as folder:
        measures = measure_corpus(AlignedCorpus(name, rows, Path(folder), measure_args))
    return measures | {"peak_memory_mb": round(peak_memory_mb())}


def markdown_table(result: dict[str, Any]) -> str:
    """Prints one row per corpus, words and pieces side by side."""
    kinds = ("words", "bpe")
    header = ["corpus", "pairs"]
    for kind in kinds:
        header += [f"C, {kind}", "95 %", f"reordering, {kind}", "seconds", "peak MB"]
    rows = []
    for name in corpora(result["settings"]["target_langs"]):
        row = [name, f"{result['corpora'][name]['words']['num_pairs']:,}"]
        for kind in kinds:
            measured = result["corpora"][name][kind]
            low, high = measured["complexity_interval"]
            row += [f"{measured['complexity']:.3f}", f"{low:.3f} to {high:.3f}", f"{measured['reordering']:.3f}"]
            row += [f"{measured['seconds']:.0f}", f"{measured['peak_memory_mb']:,}"]
        rows.append(row)
    return Table(header, rows).markdown()


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", required=True, help="corpus that holds all the languages")
    parser.add_argument("--split", default="train")
    parser.add_argument("--source_lang", required=True)
    parser.add_argument("--target_langs", nargs="+", required=True)
    parser.add_argument("--vocab_size", type=int, default=16_000, help="of the BPE tokenizer")
    parser.add_argument("--num_bootstrap", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1, help="of the random selection and the bootstrap")
    parser.add_argument("--output", required=True, help="JSON file to write; what it holds already is not repeated")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, writes the JSON file and prints the table."""
    args = parse_arguments(argv)
    output = Path(args.output)
    settings = {key: value for key, value in vars(args).items() if key != "output"}
    result = read_json(output) if output.is_file() else {}
    if result.get("settings") != settings:
        result = {"settings": settings, "corpora": {name: {} for name in corpora(args.target_langs)}}
    with tempfile.TemporaryDirectory() as folder:
        texts = corpus_texts(load("concatenated", args), args.source_lang, MULTI_TARGET_LANG)
        train_tokenizer(texts, args.vocab_size).save_pretrained(folder)
        pending = [
            (name, kind, tokens)
            for name, measured in result["corpora"].items()
            for kind, tokens in (("words", "moses"), ("bpe", folder))
            if kind not in measured
        ]
        with progress_bar(len(pending), "Measuring", unit="corpora") as bar:
            for name, kind, tokens in pending:
                with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                    result["corpora"][name][kind] = pool.submit(measure, name, tokens, args).result()
                result["environment"] = environment()
                write_json(output, result)
                bar.update()
    print(markdown_table(result))


if __name__ == "__main__":
    main()
