#!/usr/bin/env python
"""Whether training, aligner and measures stand data of WMT14's size, on synthetic data of its shapes.

    python scripts/scale_check.py models --output configs/wmt14/results/scale_models_cpu.json
    python scripts/scale_check.py corpus --corpus "data/multi30k/{split}.{lang}.gz" --source_lang en \
        --target_lang de --output configs/wmt14/results/scale_corpus_cpu.json

`models` builds the model of each YAML file of configs/wmt14 (37,000 joint subwords) and trains it on random tokens in
sentences as long as those of news: one batch of 2,000 tokens forward and backward and one optimizer step, in single
precision. Files that differ in their corpus alone have one model, measured once. `--whole_update` names a file whose
model is trained for one whole update of 64,000 tokens too, by accumulation: its seconds a token say whether time is
linear. Seconds of whole updates of the others are extrapolated.

`corpus` aligns and measures a real and a distilled corpus of 4.5 million pairs as `hf-nat analyze` does, without
intervals, on one word a blank. The real corpus repeats the sentences of a small one with noise in every copy but the
first, which lets the vocabulary grow; the distilled one is that without noise in its targets. Memory is the most that
the process has resident, all its libraries included.

What is measured already is in the file of the output, and is not measured again.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmark_alignment import SIDES, replicate, write_text

from hf_nat.analysis.measures import AlignedCorpus, MeasureArguments
from hf_nat.base.allocator import keep_freed_memory
from hf_nat.base.utils import environment, peak_memory_mb, write_json
from hf_nat.data import load_corpus
from hf_nat.metrics import faithfulness, fuzzy_reordering, training_bleu


ROOT = Path(__file__).parents[1]


def check_corpus(args: argparse.Namespace) -> dict[str, Any]:
    """Aligns and measures both corpora; the file holds each part once it is done.

    Returns:
        `dict[str, Any]`: pairs and words, and of each part seconds, CPU seconds, the peak of memory and the result.
    """
    measuring = MeasureArguments(source_lang=SIDES[0], target_lang=SIDES[1], tokens="space", num_bootstrap=0)
    result: dict[str, Any] = {"num_pairs": args.num_pairs, "environment": environment(), "corpora": {}}
    with tempfile.TemporaryDirectory(prefix="hf_nat-") as name:
        write_text(args, Path(name))
        real: AlignedCorpus | None = None
        for label in ("real", "distilled"):
            parts = result["corpora"][label] = {}
            measure = partial(_measure_part, parts, args.output, result)
            texts = Path(name, label)
            texts.mkdir()
            for side in SIDES:
                noise = 0.0 if (label, side) == ("distilled", SIDES[1]) else args.noise
                parts[f"num_{side}_words"] = replicate(Path(name, side), texts / side, args.num_pairs, noise)
            files = [texts / side for side in SIDES]
            rows = measure("read", partial(load_corpus, files, source_lang=SIDES[0], target_lang=SIDES[1]), len)
            corpus = measure(
                "align and count links",
                partial(AlignedCorpus, label, rows, texts, measuring),
                lambda aligned: {"complexity": aligned.complexity.value, "links": aligned.complexity.num_links},
            )
            measure("reordering", partial(fuzzy_reordering, corpus.links()), lambda found: found.value)
            if real is not None:
                measure("faithfulness", partial(faithfulness, real.counts, corpus.counts), lambda found: found.value)
                measure("training BLEU", partial(_training_bleu, corpus, real))
            real = corpus
    return result


def _measure_part(
    parts: dict[str, Any],
    output: str,
    result: dict[str, Any],
    name: str,
    work: Callable[[], Any],
    describe: Callable[[Any], Any] = lambda value: value,
) -> Any:
    """Does a part of the work and writes down what it took."""
    started, cpu = time.perf_counter(), time.process_time()
    value = work()
    seconds = {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - cpu}
    parts[name] = seconds | {"peak_mb": peak_memory_mb(), "result": describe(value)}
    write_json(output, result)
    return value


def _training_bleu(corpus: AlignedCorpus, real: AlignedCorpus) -> float:
    return training_bleu(corpus.target_texts(), real.target_texts(), target_lang="en").score


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="check", required=True)
    corpus = commands.add_parser("corpus", help="align and measure")
    corpus.add_argument("--corpus", required=True, help="anything that hf_nat.data.corpora.load_corpus reads")
    corpus.add_argument("--split", default="train")
    corpus.add_argument("--source_lang", required=True, help="language key of the source")
    corpus.add_argument("--target_lang", required=True, help="language key of the target")
    corpus.add_argument("--num_pairs", type=int, default=4_500_000)
    corpus.add_argument("--noise", type=float, default=0.1, help="share of the words of a copy that get a digit")
    for command in commands.choices.values():
        command.add_argument("--output", required=True, help="JSON file to write")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Measures and writes the JSON file."""
    keep_freed_memory()
    args = parse_arguments(argv)
    result = check_corpus(args)
    write_json(args.output, result)


if __name__ == "__main__":
    main()
