#!/usr/bin/env python
"""What holding terms does to quality and time: the same model with and without a term list cut from the test set.

    python scripts/benchmark_terms.py --model runs/levenshtein_transformer --corpus "data/{split}.{lang}.gz" \
        --source_lang en --target_lang de --output terms.json

A term of a sentence is a rare source word with the one target word that the aligner links it to in the reference, and
no other. BLEU rises by construction where reference words are given, so it is also told without them: every term's
word is taken once out of reference and output. Both ways of decoding take turns; seconds are medians.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Sequence
from statistics import mean, median
from time import perf_counter
from typing import Any

from hf_nat.alignment import align
from hf_nat.base.allocator import keep_freed_memory
from hf_nat.base.utils import environment, write_json
from hf_nat.data import load_corpus
from hf_nat.decoding import load_model, term_pieces, translate
from hf_nat.metrics import score_translations


# Shorter words are function words more often than not.
_SHORTEST_TERM = 4
Pairs = Sequence[tuple[str, str]]


def cut_terms(test: Pairs, train: Pairs, max_frequency: int, max_terms: int) -> list[list[str]]:
    """Cuts terms from sentence pairs.

    Args:
        test (`Sequence[tuple[str, str]]`): source and reference of the sentences that get terms.
        train (`Sequence[tuple[str, str]]`): pairs that the aligner also learns from and that words are counted in.
        max_frequency (`int`): most occurrences of a term's source word in the training sources.
        max_terms (`int`): most terms of a sentence; the rarest source words come first.

    Returns:
        `list[list[str]]`: target words of each sentence of `test`, in the order of their source words.
    """
    sources, targets = ([term_pieces(pair[side]) for pair in (*test, *train)] for side in (0, 1))
    counts = Counter(word for source in sources[len(test) :] for word in source)
    terms: list[list[str]] = []
    for source, target, links in zip(sources, targets, align(sources, targets, symmetrize="intersect"), strict=True):
        if len(terms) == len(test):
            break
        pairs = [
            (counts[source[i]], i, target[j])
            for i, j in links
            if counts[source[i]] <= max_frequency
            and all(word.isalpha() and len(word) >= _SHORTEST_TERM for word in (source[i], target[j]))
        ]
        chosen = sorted(pairs)[:max_terms]
        terms.append([word for _, _, word in sorted(chosen, key=lambda pair: pair[1])])
    return terms


def without_terms(text: str, terms: Sequence[str]) -> str:
    """Returns the words and marks of a text, each term taken out once where it is there."""
    pieces = term_pieces(text)
    for term in terms:
        if term in pieces:
            pieces.remove(term)
    return " ".join(pieces)


def measure(
    decode: Callable[[bool], list[str]],
    references: Sequence[str],
    terms: list[list[str]],
    repeats: int,
    target_lang: str,
) -> dict[str, Any]:
    """Decodes with and without terms in turns, and scores both.

    Args:
        decode (`Callable[[bool], list[str]]`): translations, with terms or without.
        references (`Sequence[str]`): reference of each sentence.
        terms (`list[list[str]]`): terms of each sentence.
        repeats (`int`): how often each is timed.
        target_lang (`str`): language of the references.

    Returns:
        `dict[str, Any]`: for `with_terms` and `without_terms`: `seconds`, `bleu` (0-100), `bleu_of_the_rest` and
        `share_of_terms` that the output has as whole words.
    """
    seconds: dict[bool, list[float]] = {False: [], True: []}
    texts: dict[bool, list[str]] = {}
    for _ in range(repeats):
        for with_terms in seconds:
            start = perf_counter()
            texts[with_terms] = decode(with_terms)
            seconds[with_terms].append(perf_counter() - start)
    rest = [without_terms(text, own) for text, own in zip(references, terms, strict=True)]
    result = {}
    for with_terms, outputs in texts.items():
        shown = [term in term_pieces(text) for text, own in zip(outputs, terms, strict=True) for term in own]
        others = [without_terms(text, own) for text, own in zip(outputs, terms, strict=True)]
        result["with_terms" if with_terms else "without_terms"] = {
            "seconds": median(seconds[with_terms]),
            "bleu": _bleu(outputs, references, target_lang),
            "bleu_of_the_rest": _bleu(others, rest, target_lang),
            "share_of_terms": mean(shown) if shown else None,
        }
    return result


def _bleu(texts: Sequence[str], references: Sequence[str], target_lang: str) -> float:
    return score_translations(texts, references, target_lang=target_lang, metrics=["sacrebleu"])["sacrebleu"].score


def main(argv: Sequence[str] | None = None) -> None:
    """Cuts the terms, measures, writes the JSON file and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "corpus", "source_lang", "target_lang", "output"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--max_frequency", type=int, default=50)
    parser.add_argument("--max_terms", type=int, default=2)
    parser.add_argument("--max_batch_tokens", type=int, default=4096)
    parser.add_argument("--max_iterations", type=int)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args(argv)
    if min(args.max_terms, args.max_batch_tokens, args.repeats) < 1:
        parser.error("--max_terms, --max_batch_tokens and --repeats must be >= 1")
    keep_freed_memory()
    languages = (args.source_lang, args.target_lang)
    test, train = (
        [
            (row["translation"][args.source_lang], row["translation"][args.target_lang])
            for row in load_corpus(args.corpus, split, source_lang=languages[0], target_lang=languages[1])
        ]
        for split in (args.split, "train")
    )
    terms = cut_terms(test, train, args.max_frequency, args.max_terms)
    # Equal sources share the terms of the first: a list says one thing of a source.
    of = {source: own for (source, _), own in reversed(list(zip(test, terms, strict=True)))}
    terms = [of[source] for source, _ in test]
    model, tokenizer = load_model(args.model)
    options: dict[str, Any] = {"max_batch_tokens": args.max_batch_tokens}
    if args.max_iterations is not None:
        options["max_iterations"] = args.max_iterations

    def decode(with_terms: bool) -> list[str]:
        told: dict[str, Any] = {"terms": of.__getitem__} if with_terms else {}
        sources = [source for source, _ in test]
        return [translation.text for translation in translate(model, tokenizer, sources, **options, **told)]

    result = {
        "model": args.model,
        "num_sentences": len(test),
        "num_with_terms": sum(map(bool, terms)),
        "num_terms": sum(map(len, terms)),
        "max_frequency": args.max_frequency,
        **measure(decode, [reference for _, reference in test], terms, args.repeats, args.target_lang),
        "environment": environment(),
    }
    write_json(args.output, result)
    print(f"{result['num_terms']} terms in {result['num_with_terms']} of {result['num_sentences']} sentences")
    columns = ("seconds", "bleu", "bleu_of_the_rest", "share_of_terms")
    print("| | " + " | ".join(columns) + " |\n|---" + "|---:" * len(columns) + "|")
    for name in ("without_terms", "with_terms"):
        values = [result[name][column] for column in columns]
        print(f"| {name} | " + " | ".join("" if value is None else f"{value:.2f}" for value in values) + " |")


if __name__ == "__main__":
    main()
