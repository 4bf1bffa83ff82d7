#!/usr/bin/env python
"""Batch-1 latency and batched throughput of any checkpoints on the same sentences.

    python scripts/benchmark_decoding.py --systems greedy=runs/teacher beam5=runs/teacher:num_beams=5 cmlm=runs/cmlm \
        --corpus corpora/toy --split test --source_lang src --target_lang tgt --output benchmark.json

Options of a system are those of `generate`, with `language_model=FILE` for an n-gram model, and how it is loaded:
`dtype=bfloat16`; for a teacher of torch `draft=STUDENT`, whose drafts it verifies, with `draft_length`, `draft_beta`,
`draft_tau` and the student's knobs as `hf-nat translate` takes them; for a MarianMT teacher
`backend=ct2` (CTranslate2), then with `compute_type=float16` or another of its precisions; with `shortlist=CORPUS` for
short lists made as `hf-nat export --shortlist` makes them, in CTranslate2 for its own (`use_vmap`); for what
`hf-nat export` made `backend=onnx`, with `quantize=int8` or not, or `backend=openvino`:

    python scripts/benchmark_decoding.py --systems transformers=runs/teacher:dtype=bfloat16 \
        ct2=runs/teacher:backend=ct2,compute_type=float16 --batch_sizes 1 8 64 256 --max_batches 20 ...

What is timed is `model.generate`, or CTranslate2's `translate_batch`, on tokenised input, which for torch lies on the
device already. Systems take turns at every pass over the sentences, so that a machine that slows down slows all of
them, and each finds its own weights in the processor's cache; the first system is the baseline of all ratios.
`--threads` is for all of them, one call at a time. `--quality` translates the whole split with each system as it is
timed, in batches of 64, and scores it; one with a short list, which is that of all sentences of a batch, also one by
one. `--footprint` adds the size of the files, and, of a process that has this
system alone, the seconds from the loading to the first translation and the peak of its memory. Tables go to standard
output, every measured second to the JSON file.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from decoding_systems import System, load_system, parse_system

from hf_nat.base.allocator import keep_freed_memory
from hf_nat.base.reporting import Table
from hf_nat.base.utils import environment, peak_memory_mb, progress_bar, read_json, write_json
from hf_nat.data.corpora import load_corpus
from hf_nat.data.text_files import read_lines
from hf_nat.decoding import DraftCounts, to_texts
from hf_nat.metrics.translation import score_translations


WARM_UP_BATCHES = 3
QUALITY_BATCH_SIZE = 64
QUALITY_METRICS = ("bleu", "chrf")
# Key of the scores of a system with a short list that translates one sentence at a time.
ALONE = "quality_batch_1"


def read_pairs(args: argparse.Namespace) -> list[tuple[str, str]]:
    """Reads sources, those that are not blank, and with a corpus their references, else blank ones."""
    if args.sentences:
        pairs = [(line, "") for line in read_lines(args.sentences)]
    else:
        corpus = load_corpus(args.corpus, args.split, source_lang=args.source_lang, target_lang=args.target_lang)
        pairs = [(row[args.source_lang], row[args.target_lang]) for row in corpus["translation"]]
    pairs = [pair for pair in pairs if pair[0].strip()]
    if not pairs:
        raise ValueError(f"There must be a sentence to translate, got none in {(args.sentences or args.corpus)!r}.")
    return pairs


def quality(
    system: System, pairs: Sequence[tuple[str, str]], target_lang: str, batch_size: int = QUALITY_BATCH_SIZE
) -> dict[str, Any]:
    """Translates sources as they are timed, in batches, and scores them against their references.

    Returns:
        `dict[str, Any]`: for each metric `score`, 0-100, and `signature`.
    """
    order = sorted(range(len(pairs)), key=lambda i: len(pairs[i][0]), reverse=True)
    sequences: list[list[int]] = [[] for _ in pairs]
    for first in range(0, len(order), batch_size):
        rows = order[first : first + batch_size]
        _, outputs = system.generate(system.prepare([pairs[i][0] for i in rows]))
        for i, ids in zip(rows, outputs, strict=True):
            sequences[i] = ids
    texts, references = to_texts(system.tokenizer, sequences), [reference for _, reference in pairs]
    scores = score_translations(texts, references, target_lang=target_lang, metrics=list(QUALITY_METRICS))
    return {name: {"score": found.score, "signature": found.signature} for name, found in scores.items()}


def footprint(job: dict[str, Any]) -> dict[str, float]:
    """Loads and runs one system in this process, which has done nothing else.

    Args:
        job (`dict[str, Any]`): `system` (name, path, options), `device`, `work`, `languages`, `threads`, `sentences`
            and `batch_sizes`.

    Returns:
        `dict[str, float]`: `start_seconds` from the loading to the first translation, libraries of torch and
        transformers imported before; `peak_mb`, the peak of the memory over a batch of each size, and
        `libraries_mb`, that before the loading.
    """
    torch.set_num_threads(job["threads"])
    before, start = peak_memory_mb(), time.perf_counter()
    name, path, options = job["system"]
    system = load_system(name, path, options, job["device"], Path(job["work"]), tuple(job["languages"]))
    system.generate(system.prepare(job["sentences"][:1]))
    seconds = time.perf_counter() - start
    for size in job["batch_sizes"]:
        system.generate(system.prepare(job["sentences"][:size]))
    return {"start_seconds": seconds, "peak_mb": peak_memory_mb(), "libraries_mb": before}


def footprint_elsewhere(job: dict[str, Any], work: Path) -> dict[str, float]:
    """Runs `footprint` in a process of its own."""
    path = work / "footprint.json"
    write_json(path, job)
    done = subprocess.run(
        [sys.executable, __file__, "footprint", str(path)], stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def measure(
    systems: Sequence[System],
    sentences: Sequence[str],
    batch_size: int,
    repeats: int,
    max_batches: int | None = None,
) -> dict[str, Any]:
    """Times every system on every batch, `repeats` times over, pass by pass, the systems taking turns to come first.

    Args:
        systems (`Sequence[System]`): the first one is the baseline.
        sentences (`Sequence[str]`): sorted by length here, so that batches hold little padding.
        batch_size (`int`): sentences per call of `generate`.
        repeats (`int`): passes over all sentences.
        max_batches (`int`, *optional*): batches to decode at most, those spread evenly over the lengths.

    Returns:
        Per system: `seconds` of each pass, medians `ms_per_batch` (over batches and passes; its range is that of the
        medians of passes), `sentences_per_second` and `speedup` (over passes, with their ranges; against the
        baseline), and `output_tokens_mean` per sentence; `drafting` (see `DraftCounts`) where a student drafts.
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
        system.drafted = DraftCounts()
    with progress_bar(repeats * len(chunks) * len(systems), f"batch size {batch_size}", unit="batches") as bar:
        for repeat in range(repeats):
            turn = repeat % len(systems)
            for system in (*systems[turn:], *systems[:turn]):
                for i, batch in enumerate(batches[system.name]):
                    seconds[system.name][repeat][i], rows = system.generate(batch)
                    tokens[system.name] += sum(map(len, rows))
                    bar.update()
    baseline = [sum(times) for times in seconds[systems[0].name]]
    found = {name: _summary(times, baseline, tokens[name], num_sentences) for name, times in seconds.items()}
    for system in systems:
        if drafting := system.drafted.means():
            found[system.name]["drafting"] = drafting
    return found


def _summary(times: list[list[float]], baseline: list[float], tokens: int, num_sentences: int) -> dict[str, Any]:
    totals = [sum(batches) for batches in times]
    rates = [num_sentences / total for total in totals]
    medians = [1000 * median(batches) for batches in times]
    speedups = [base / total for base, total in zip(baseline, totals, strict=True)]
    return {
        "seconds": totals,
        "ms_per_batch": 1000 * median(batch for batches in times for batch in batches),
        "ms_per_batch_range": [min(medians), max(medians)],
        "sentences_per_second": median(rates),
        "sentences_per_second_range": [min(rates), max(rates)],
        "speedup": median(speedups),
        "speedup_range": [min(speedups), max(speedups)],
        "output_tokens_mean": tokens / (num_sentences * len(totals)),
    }


def markdown_table(result: dict[str, Any]) -> str:
    """Prints one row per system: milliseconds a sentence at batch size 1, sentences a second at the others.

    Milliseconds and speed-ups have the range of the passes.
    """
    sizes = sorted(result["batch_sizes"], key=int)
    heads = [f"batch {size}: {'ms/sentence' if size == '1' else 'sentences/s'} | speed-up" for size in sizes]
    rule = "|---|---" + "|---:" * (2 * len(sizes) + 1) + "|"
    lines = [f"| system | decoding | {' | '.join(heads)} | tokens/sentence |", rule]
    for name, system in result["systems"].items():
        measured = [result["batch_sizes"][size][name] for size in sizes]
        speeds = [
            f"{_milliseconds(row) if size == '1' else format(row['sentences_per_second'], '.1f')} | "
            f"{row['speedup']:.2f}x ({row['speedup_range'][0]:.2f} to {row['speedup_range'][1]:.2f})"
            for size, row in zip(sizes, measured, strict=True)
        ]
        decoding = ", ".join(f"{key}={value}" for key, value in system["decoding"].items())
        lines.append(f"| {name} | {decoding} | {' | '.join(speeds)} | {measured[-1]['output_tokens_mean']:.1f} |")
    return "\n".join(lines)


def drafting_lines(result: dict[str, Any]) -> list[str]:
    """Tells how far drafts went, for each system with a student that drafts and each batch size."""
    return [
        f"{name}, batch {size}: {DraftCounts.phrase(row['drafting'])}"
        for size, systems in result["batch_sizes"].items()
        for name, row in systems.items()
        if "drafting" in row
    ]


def _milliseconds(row: dict[str, Any]) -> str:
    median_of_all = f"{row['ms_per_batch']:.1f}"
    if "ms_per_batch_range" not in row:  # Results of before have none.
        return median_of_all
    low, high = row["ms_per_batch_range"]
    return f"{median_of_all} ({low:.1f} to {high:.1f})"


def footprint_table(result: dict[str, Any]) -> str:
    """Prints one row per system: precision, scores, size of the files, peak of the memory, seconds to start.

    Scores of a system with a short list are those of batches, then those one by one. What was not measured has no
    column.
    """
    columns: dict[str, tuple[str, str, str]] = {
        "BLEU": ("quality", "bleu", ".2f"),
        "chrF": ("quality", "chrf", ".2f"),
        "files, MB": ("footprint", "size_mb", ".1f"),
        "peak memory, MB": ("footprint", "peak_mb", ",.0f"),
        "libraries of it": ("footprint", "libraries_mb", ",.0f"),
        "start, s": ("footprint", "start_seconds", ".2f"),
    }
    systems = result["systems"]
    known = {head: at for head, at in columns.items() if all(at[0] in system for system in systems.values())}
    rows = []
    for name, system in systems.items():
        cells = [name, system["precision"]]
        for group, key, form in known.values():
            value = system[group][key]
            cell = format(value["score"] if group == "quality" else value, form)
            if group == "quality" and ALONE in system:
                cell += f"; alone {system[ALONE][key]['score']:{form}}"
            cells.append(cell)
        rows.append(cells)
    return Table(["system", "precision", *known], rows).markdown()


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
    parser.add_argument("--num_sentences", type=int, default=100, help="sentences that are timed")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--max_batches", type=int, help="decode no more batches of each size, spread over the lengths")
    parser.add_argument("--device", help="by default the accelerator, where there is one")
    parser.add_argument("--threads", type=int, help="threads of every system; by default torch's setting")
    parser.add_argument(
        "--quality", action="store_true", help="with --corpus: score the translations of all the split"
    )
    parser.add_argument("--footprint", action="store_true", help="measure files, memory and start of each system")
    parser.add_argument("--output", required=True, help="JSON file to write")
    args = parser.parse_args(argv)
    if args.corpus and not (args.source_lang and args.target_lang):
        parser.error("--corpus needs --source_lang and --target_lang")
    if args.quality and not args.corpus:
        parser.error("--quality needs --corpus, which has references")
    if min(args.num_sentences, args.repeats, *args.batch_sizes) < 1 or 0 in (args.max_batches, args.threads):
        parser.error("--num_sentences, --repeats, --batch_sizes, --max_batches and --threads must be >= 1")
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
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    pairs = read_pairs(args)
    sentences = [source for source, _ in pairs[: args.num_sentences]]
    languages = (args.source_lang, args.target_lang)
    with TemporaryDirectory() as place:
        work = Path(place)
        systems = [load_system(*entry, args.device, work, languages) for entry in parsed]
        batch_sizes = {
            str(size): measure(systems, sentences, size, args.repeats, args.max_batches) for size in args.batch_sizes
        }
        # Now: OpenVINO says its precision once it has computed.
        described = [describe(system, options) for system, (_, _, options) in zip(systems, parsed, strict=True)]
        for system, entry, description in zip(systems, parsed, described, strict=True):
            if args.quality:
                description["quality"] = quality(system, pairs, args.target_lang)
                if system.has_short_list:
                    description[ALONE] = quality(system, pairs, args.target_lang, batch_size=1)
            if args.footprint:
                job = {"system": entry, "device": args.device, "work": str(work), "languages": languages}
                job |= {"sentences": sentences, "batch_sizes": args.batch_sizes, "threads": torch.get_num_threads()}
                size = sum(file.stat().st_size for file in system.files) / 1e6
                description["footprint"] = {"size_mb": size, **footprint_elsewhere(job, work)}
    result = {
        "systems": dict(zip(names, described, strict=True)),
        "num_sentences": len(sentences),
        "num_scored": len(pairs) if args.quality else 0,
        "repeats": args.repeats,
        "batch_sizes": batch_sizes,
        "environment": environment() | {"model_device": str(systems[0].model.device)},
    }
    write_json(args.output, result)
    print(markdown_table(result))
    if lines := drafting_lines(result):
        print("\n" + "\n".join(lines))
    if args.quality or args.footprint:
        print("\n" + footprint_table(result))


def describe(system: System, options: dict[str, Any]) -> dict[str, Any]:
    """Returns what the JSON file says of a system beside its measurements."""
    return {
        "path": system.path,
        "decoding": options,
        "num_parameters": system.num_parameters,
        "precision": system.precision,
    }


if __name__ == "__main__":
    if sys.argv[1:2] == ["footprint"]:
        with torch.inference_mode():
            print(json.dumps(footprint(read_json(sys.argv[2]))))
    else:
        main()
