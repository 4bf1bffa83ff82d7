#!/usr/bin/env python
"""Batch-1 latency and batched throughput of any checkpoints on the same sentences.

    python scripts/benchmark_decoding.py --systems greedy=runs/teacher beam5=runs/teacher:num_beams=5 cmlm=runs/cmlm \
        --corpus corpora/toy --split test --source_lang src --target_lang tgt --output benchmark.json

What is timed is `model.generate` on tokenised input that lies on the device already. Systems take turns at every
batch, so that a machine that slows down slows all of them; the first system is the baseline of all ratios. The table
goes to standard output, every measured second to the JSON file.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import torch
import yaml
from transformers import BatchEncoding, PreTrainedTokenizerBase

from hf_nat.base.allocator import keep_freed_memory
from hf_nat.base.utils import environment, progress_bar, write_json
from hf_nat.data.corpora import load_corpus
from hf_nat.data.encoding import encode
from hf_nat.decoding import load_model


WARM_UP_BATCHES = 3


@dataclass
class System:
    """One checkpoint with one way of decoding."""

    name: str
    path: str
    decoding: dict[str, Any]
    model: Any = field(repr=False)
    tokenizer: PreTrainedTokenizerBase = field(repr=False)

    def prepare(self, sentences: Sequence[str]) -> BatchEncoding:
        """Tokenises one batch and puts it on the model's device."""
        longest = getattr(self.model.config, "max_position_embeddings", None)
        encoded = encode(self.tokenizer, sentences, max_source_length=longest)
        return self.tokenizer.pad(encoded, return_tensors="pt").to(self.model.device)

    def generate(self, batch: BatchEncoding) -> tuple[float, int]:
        """Decodes one batch; returns seconds and the number of output tokens without pad, BOS and EOS."""
        start = time.perf_counter()
        output = self.model.generate(**batch, **self.decoding)
        if self.model.device.type == "cuda":
            torch.cuda.synchronize(self.model.device)
        seconds = time.perf_counter() - start
        frame = [self.tokenizer.pad_token_id, self.tokenizer.bos_token_id, self.tokenizer.eos_token_id]
        frame_ids = torch.tensor([token_id for token_id in frame if token_id is not None], device=output.device)
        return seconds, int((~torch.isin(output, frame_ids)).sum())


def parse_system(text: str) -> tuple[str, str, dict[str, Any]]:
    """Splits `NAME=PATH[:option=value,...]` into name, path and options."""
    name, _, rest = text.partition("=")
    path, colon, options = rest.rpartition(":")
    if not colon or "=" not in options:
        path, options = rest, ""
    if not name or not path:
        raise ValueError(
            f"A system must be NAME=PATH[:option=value,...], got {text!r}. Example: beam5=DIR:num_beams=5."
        )
    pairs = (option.partition("=") for option in options.split(",") if option)
    return name, path, {key: yaml.safe_load(value) for key, _, value in pairs}


def read_sentences(args: argparse.Namespace) -> list[str]:
    """Reads the source sentences from a text file or a corpus, empty ones left out."""
    if args.sentences:
        lines = iter(Path(args.sentences).read_text(encoding="utf-8").split("\n"))
    else:
        corpus = load_corpus(args.corpus, args.split, source_lang=args.source_lang, target_lang=args.target_lang)
        lines = (row["translation"][args.source_lang] for row in corpus)
    sentences = list(islice((line for line in lines if line.strip()), args.num_sentences))
    if not sentences:
        raise ValueError(f"There must be a sentence to translate, got none in {(args.sentences or args.corpus)!r}.")
    return sentences


def measure(systems: Sequence[System], sentences: Sequence[str], batch_size: int, repeats: int) -> dict[str, Any]:
    """Times every system on every batch, `repeats` times over, the systems taking turns to come first.

    Args:
        systems (`Sequence[System]`): the first one is the baseline.
        sentences (`Sequence[str]`): sorted by length here, so that batches hold little padding.
        batch_size (`int`): sentences per call of `generate`.
        repeats (`int`): passes over all sentences.

    Returns:
        Per system: `seconds` of each pass, medians `ms_per_batch` (over batches and passes), `sentences_per_second`
        and `speedup` (over passes; against the baseline, with its range), and `output_tokens_mean` per sentence.
    """
    ordered = sorted(sentences, key=len, reverse=True)
    chunks = [ordered[i : i + batch_size] for i in range(0, len(ordered), batch_size)]
    batches = {system.name: [system.prepare(chunk) for chunk in chunks] for system in systems}
    seconds = {system.name: [[0.0] * len(chunks) for _ in range(repeats)] for system in systems}
    tokens = dict.fromkeys(batches, 0)
    for system in systems:
        for batch in batches[system.name][:WARM_UP_BATCHES]:
            system.generate(batch)
    with progress_bar(repeats * len(chunks) * len(systems), f"batch size {batch_size}", unit="batches") as bar:
        for repeat in range(repeats):
            for i in range(len(chunks)):
                turn = (repeat + i) % len(systems)
                for system in (*systems[turn:], *systems[:turn]):
                    seconds[system.name][repeat][i], count = system.generate(batches[system.name][i])
                    tokens[system.name] += count
                    bar.update()
    baseline = [sum(times) for times in seconds[systems[0].name]]
    return {name: _summary(times, baseline, tokens[name], len(sentences)) for name, times in seconds.items()}


def _summary(times: list[list[float]], baseline: list[float], tokens: int, num_sentences: int) -> dict[str, Any]:
    totals = [sum(batches) for batches in times]
    speedups = [base / total for base, total in zip(baseline, totals, strict=True)]
    return {
        "seconds": totals,
        "ms_per_batch": 1000 * median(batch for batches in times for batch in batches),
        "sentences_per_second": median(num_sentences / total for total in totals),
        "speedup": median(speedups),
        "speedup_range": [min(speedups), max(speedups)],
        "output_tokens_mean": tokens / (num_sentences * len(totals)),
    }


def markdown_table(result: dict[str, Any]) -> str:
    """Prints one row per system: milliseconds a sentence at batch size 1, sentences a second at the others."""
    sizes = sorted(result["batch_sizes"], key=int)
    heads = [f"batch {size}: {'ms/sentence' if size == '1' else 'sentences/s'} | speed-up" for size in sizes]
    rule = "|---|---" + "|---:" * (2 * len(sizes) + 1) + "|"
    lines = [f"| system | decoding | {' | '.join(heads)} | tokens/sentence |", rule]
    for name, system in result["systems"].items():
        measured = [result["batch_sizes"][size][name] for size in sizes]
        speeds = [
            f"{row['ms_per_batch'] if size == '1' else row['sentences_per_second']:.1f} | {row['speedup']:.2f}x"
            for size, row in zip(sizes, measured, strict=True)
        ]
        decoding = ", ".join(f"{key}={value}" for key, value in system["decoding"].items())
        lines.append(f"| {name} | {decoding} | {' | '.join(speeds)} | {measured[-1]['output_tokens_mean']:.1f} |")
    return "\n".join(lines)


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", nargs="+", required=True, metavar="NAME=PATH[:option=value,...]")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--sentences", help="text file, one source sentence a line")
    source.add_argument("--corpus", help="anything that hf_nat.data.corpora.load_corpus reads")
    parser.add_argument("--split", default="test")
    parser.add_argument("--source_lang", help="with --corpus: language key of the source")
    parser.add_argument("--target_lang", help="with --corpus: language key of the target")
    parser.add_argument("--num_sentences", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--device", help="by default the accelerator, where there is one")
    parser.add_argument("--output", required=True, help="JSON file to write")
    args = parser.parse_args(argv)
    if args.corpus and not (args.source_lang and args.target_lang):
        parser.error("--corpus needs --source_lang and --target_lang")
    if min(args.num_sentences, args.repeats, *args.batch_sizes) < 1:
        parser.error("--num_sentences, --repeats and --batch_sizes must be >= 1")
    return args


@torch.inference_mode()
def main(argv: Sequence[str] | None = None) -> None:
    """Measures, writes the JSON file and prints the table."""
    keep_freed_memory()
    args = parse_arguments(argv)
    parsed = [parse_system(text) for text in args.systems]
    names = [name for name, _, _ in parsed]
    if len(set(names)) < len(names):
        raise ValueError(f"Names of systems must be distinct, got {names}. Rename one.")
    systems = [System(*entry, *load_model(entry[1], device=args.device)) for entry in parsed]
    sentences = read_sentences(args)
    described = [{"path": s.path, "decoding": s.decoding, "num_parameters": s.model.num_parameters()} for s in systems]
    result = {
        "systems": dict(zip(names, described, strict=True)),
        "num_sentences": len(sentences),
        "repeats": args.repeats,
        "batch_sizes": {str(size): measure(systems, sentences, size, args.repeats) for size in args.batch_sizes},
        "environment": environment() | {"model_device": str(systems[0].model.device)},
    }
    write_json(args.output, result)
    print(markdown_table(result))


if __name__ == "__main__":
    main()
