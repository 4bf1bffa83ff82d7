#!/usr/bin/env python
"""Batch-1 latency and batched throughput of any checkpoints on the same sentences.

    python scripts/benchmark_decoding.py --systems greedy=runs/teacher beam5=runs/teacher:num_beams=5 cmlm=runs/cmlm \
        --corpus corpora/toy --split test --source_lang src --target_lang tgt --output benchmark.json

Options of a system are those of `generate`, and how it is loaded: `dtype=bfloat16`; for a MarianMT teacher
`backend=ct2` (CTranslate2), then with `compute_type=float16` or another of its precisions; for what `hf-nat export`
made `backend=onnx`, with `quantize=int8` or not, or `backend=openvino`:

    python scripts/benchmark_decoding.py --systems transformers=runs/teacher:dtype=bfloat16 \
        ct2=runs/teacher:backend=ct2,compute_type=float16 --batch_sizes 1 8 64 256 --max_batches 20 ...

What is timed is `model.generate`, or CTranslate2's `translate_batch`, on tokenised input, which for torch lies on the
device already. Systems take turns at every batch, so that a machine that slows down slows all of them; the first
system is the baseline of all ratios. The table goes to standard output, every measured second to the JSON file.
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
from transformers import BatchEncoding, PreTrainedModel, PreTrainedTokenizerBase

from hf_nat.base.allocator import keep_freed_memory
from hf_nat.base.utils import environment, progress_bar, write_json
from hf_nat.data.corpora import load_corpus
from hf_nat.data.encoding import encode
from hf_nat.decoding import load_model, max_new_tokens


WARM_UP_BATCHES = 3
# Backend -> the option that says in which precision it computes.
_PRECISIONS = {"torch": "dtype", "ct2": "compute_type", "onnx": "quantize", "openvino": ""}


@dataclass
class System:
    """One checkpoint with one way of decoding."""

    name: str
    path: str
    decoding: dict[str, Any]
    model: Any = field(repr=False)
    tokenizer: PreTrainedTokenizerBase = field(repr=False)

    @property
    def num_parameters(self) -> int | None:
        """Parameters of the model; None of an exported one, whose graph holds them."""
        return self.model.num_parameters() if isinstance(self.model, PreTrainedModel) else None

    def prepare(self, sentences: Sequence[str]) -> BatchEncoding | list[list[str]]:
        """Tokenises one batch and puts it on the model's device."""
        return self.tokenizer.pad(self._encode(sentences), return_tensors="pt").to(self.model.device)

    def _encode(self, sentences: Sequence[str]) -> Any:
        longest = getattr(self.model.config, "max_position_embeddings", None)
        return encode(self.tokenizer, sentences, max_source_length=longest)

    def generate(self, batch: Any) -> tuple[float, int]:
        """Decodes one batch; returns seconds and the number of output tokens without pad, BOS and EOS."""
        start = time.perf_counter()
        output = self.model.generate(**batch, **self.decoding)
        if self.model.device.type == "cuda":
            torch.cuda.synchronize(self.model.device)
        seconds = time.perf_counter() - start
        frame = [self.tokenizer.pad_token_id, self.tokenizer.bos_token_id, self.tokenizer.eos_token_id]
        frame_ids = torch.tensor([token_id for token_id in frame if token_id is not None], device=output.device)
        return seconds, int((~torch.isin(output, frame_ids)).sum())


@dataclass
class CTranslate2System(System):
    """A MarianMT teacher in CTranslate2."""

    compute_type: str = "float32"

    def __post_init__(self) -> None:
        from hf_nat.distillation.ct2 import CT2Teacher

        # One call is one batch, whatever its size.
        self.translator = CT2Teacher(
            self.model, self.tokenizer, compute_type=self.compute_type, max_batch_tokens=0
        ).translator
        self.beam = {"num_beams": 1, "length_penalty": 1.0} | self.decoding
        asked = self.beam.pop("max_new_tokens", None)
        self.limit = max_new_tokens(self.model, {} if asked is None else {"max_new_tokens": asked})
        if unknown := sorted(self.beam.keys() - {"num_beams", "length_penalty"}):
            raise ValueError(f"`{unknown[0]}` must be left out under `backend=ct2`, of system {self.name!r}.")

    def prepare(self, sentences: Sequence[str]) -> list[list[str]]:
        """Tokenises one batch; tokens are named by their ids."""
        return [[str(token_id) for token_id in ids] for ids in self._encode(sentences)["input_ids"]]

    def generate(self, batch: Any) -> tuple[float, int]:
        """Decodes one batch; returns seconds and the number of output tokens without pad, BOS and EOS."""
        start = time.perf_counter()
        results = self.translator.translate_batch(
            batch,
            beam_size=self.beam["num_beams"],
            length_penalty=self.beam["length_penalty"],
            max_input_length=0,
            max_decoding_length=self.limit,
        )
        return time.perf_counter() - start, sum(len(result.hypotheses[0]) for result in results)


def load_system(name: str, path: str, options: dict[str, Any], device: str | None) -> System:
    """Loads a checkpoint for the backend that its options name.

    Raises:
        ValueError: if there is no such backend, or a precision is not one of this backend.
    """
    decoding = dict(options)
    backend = decoding.pop("backend", "torch")
    if backend not in _PRECISIONS:
        raise ValueError(f"`backend` must be one of {sorted(_PRECISIONS)}, got {backend!r} for system {name!r}.")
    own = _PRECISIONS[backend]
    for wrong in sorted(({"dtype", "compute_type", "quantize"} - {own}) & decoding.keys()):
        remedy = f"`{own}`" if own else "left out"
        raise ValueError(f"`{wrong}` must be {remedy} under `backend={backend}`, of system {name!r}.")
    precision = {own: decoding.pop(own)} if own in decoding else {}
    if backend == "ct2":
        return CTranslate2System(name, path, decoding, *load_model(path), **precision)
    return System(name, path, decoding, *load_model(path, device=device, backend=backend, **precision))


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


def measure(
    systems: Sequence[System],
    sentences: Sequence[str],
    batch_size: int,
    repeats: int,
    max_batches: int | None = None,
) -> dict[str, Any]:
    """Times every system on every batch, `repeats` times over, the systems taking turns to come first.

    Args:
        systems (`Sequence[System]`): the first one is the baseline.
        sentences (`Sequence[str]`): sorted by length here, so that batches hold little padding.
        batch_size (`int`): sentences per call of `generate`.
        repeats (`int`): passes over all sentences.
        max_batches (`int`, *optional*): batches to decode at most, those spread evenly over the lengths.

    Returns:
        Per system: `seconds` of each pass, medians `ms_per_batch` (over batches and passes), `sentences_per_second`
        and `speedup` (over passes; against the baseline, with its range), and `output_tokens_mean` per sentence.
    """
    ordered = sorted(sentences, key=len, reverse=True)
    chunks = [ordered[i : i + batch_size] for i in range(0, len(ordered), batch_size)]
    chunks = chunks[:: -(-len(chunks) // (max_batches or len(chunks)))]
    num_sentences = sum(map(len, chunks))
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
    return {name: _summary(times, baseline, tokens[name], num_sentences) for name, times in seconds.items()}


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
    parser.add_argument("--max_batches", type=int, help="decode no more batches of each size, spread over the lengths")
    parser.add_argument("--device", help="by default the accelerator, where there is one")
    parser.add_argument("--output", required=True, help="JSON file to write")
    args = parser.parse_args(argv)
    if args.corpus and not (args.source_lang and args.target_lang):
        parser.error("--corpus needs --source_lang and --target_lang")
    if min(args.num_sentences, args.repeats, args.max_batches or 1, *args.batch_sizes) < 1 or args.max_batches == 0:
        parser.error("--num_sentences, --repeats, --batch_sizes and --max_batches must be >= 1")
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
    systems, load_seconds = [], []
    for entry in parsed:
        start = time.perf_counter()
        systems.append(load_system(*entry, args.device))
        load_seconds.append(time.perf_counter() - start)
    sentences = read_sentences(args)
    described = [
        {"path": path, "decoding": options, "num_parameters": system.num_parameters, "load_seconds": seconds}
        for (_, path, options), system, seconds in zip(parsed, systems, load_seconds, strict=True)
    ]
    result = {
        "systems": dict(zip(names, described, strict=True)),
        "num_sentences": len(sentences),
        "repeats": args.repeats,
        "batch_sizes": {
            str(size): measure(systems, sentences, size, args.repeats, args.max_batches) for size in args.batch_sizes
        },
        "environment": environment() | {"model_device": str(systems[0].model.device)},
    }
    write_json(args.output, result)
    print(markdown_table(result))


if __name__ == "__main__":
    main()
