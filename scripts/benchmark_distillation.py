#!/usr/bin/env python
"""How fast a teacher rewrites a corpus, and in how much memory: hf_nat, the naive way and CTranslate2 itself.

    python scripts/benchmark_distillation.py --teacher runs/teacher --corpus "data/multi30k/{split}.{lang}.gz" \
        --source_lang en --target_lang de --sizes 29000 290000 --output benchmark.json

All systems decode the first `--num_sentences` sources with beam search, in turns, each in a process of its own;
loading of teacher and corpus is left out, everything from there to the complete result is timed:

    naive     `datasets.map` over the rows in their order, `generate` on 32 at a time
    torch     `distill`
    ct2       `distill` with `backend: ct2`, in single precision
    ct2 int8  the same in 8 bits
    ceiling   CTranslate2's `translate_batch`, called once for all sources, tokenised before; its outputs stay tokens

`ct2` and `ceiling` use batches of the same size. `--sizes` measures growth with `ct2`: the corpus again and again.
Memory is the peak of what is resident, and what it was before the clock started. A run that was killed goes on after
its last turn or size.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, cast

import torch
from datasets import Dataset

from hf_nat.base.allocator import keep_freed_memory
from hf_nat.base.reporting import Table
from hf_nat.base.utils import environment, peak_memory_mb, progress_bar, read_json, write_json
from hf_nat.data.corpora import load_corpus
from hf_nat.decoding import encode_sources, load_model
from hf_nat.distillation import DistillArguments
from hf_nat.steps import distill


NAIVE_BATCH_SIZE = 32
MAX_NEW_TOKENS = 200
CT2_BATCH_TOKENS = 512
OURS: dict[str, dict[str, Any]] = {
    "torch": {"backend": "torch"},
    "ct2": {"backend": "ct2", "max_batch_tokens": CT2_BATCH_TOKENS},
    "ct2 int8": {"backend": "ct2", "compute_type": "int8", "max_batch_tokens": CT2_BATCH_TOKENS},
}
SYSTEMS = ("naive", *OURS, "ceiling")
CHILD = "measured-process"


def rows_of(settings: dict[str, Any], size: int) -> Dataset:
    """Returns the corpus again and again until there are `size` rows; fewer than there are is the beginning."""
    rows = load_corpus(
        settings["corpus"],
        settings["split"],
        source_lang=settings["source_lang"],
        target_lang=settings["target_lang"],
    )
    return rows.select([i % len(rows) for i in range(size)])


def naive(settings: dict[str, Any], rows: Dataset, folder: Path) -> Callable[[], object]:
    """What one writes first: tokenise, generate and decode 32 rows at a time in the order of the corpus."""
    model, tokenizer = load_model(settings["teacher"])

    def rewrite(batch: dict[str, list[Any]]) -> dict[str, list[str]]:
        sources = [pair[settings["source_lang"]] for pair in batch["translation"]]
        inputs = tokenizer(sources, return_tensors="pt", padding=True, return_token_type_ids=False)
        outputs = cast(Any, model).generate(
            **inputs,
            num_beams=settings["num_beams"],
            length_penalty=1.0,
            early_stopping=True,
            max_new_tokens=MAX_NEW_TOKENS,
            max_length=None,
        )
        return {"distilled": tokenizer.batch_decode(outputs, skip_special_tokens=True)}

    options = {"load_from_cache_file": False, "new_fingerprint": f"naive-{time.time_ns()}"}
    return lambda: rows.map(rewrite, batched=True, batch_size=NAIVE_BATCH_SIZE, **options)


def ours(name: str, settings: dict[str, Any], rows: Dataset, folder: Path) -> Callable[[], object]:
    """`hf-nat distill`, from the rows to the folder with its manifest."""
    model, tokenizer = load_model(settings["teacher"])
    rows.to_parquet(folder / "rows.parquet")
    args = DistillArguments(
        teacher=settings["teacher"],
        corpus=str(folder / "rows.parquet"),
        source_lang=settings["source_lang"],
        target_lang=settings["target_lang"],
        validation_split=None,
        test_split=None,
        output_dir=str(folder / "distilled"),
        num_beams=settings["num_beams"],
        max_new_tokens=MAX_NEW_TOKENS,
        **OURS[name],
    )
    load_corpus(args.corpus, "train", source_lang=args.source_lang, target_lang=args.target_lang)
    return lambda: distill(model, tokenizer, args)


def ceiling(settings: dict[str, Any], rows: Dataset, folder: Path) -> Callable[[], object]:
    """CTranslate2 alone, on all sources at once."""
    from hf_nat.distillation.ct2 import CT2Teacher

    model, tokenizer = load_model(settings["teacher"])
    translator = CT2Teacher(model, tokenizer, compute_type="float32", max_batch_tokens=CT2_BATCH_TOKENS).translator
    sources = [pair[settings["source_lang"]] for pair in rows["translation"]]
    tokens = [[str(token_id) for token_id in ids] for ids in encode_sources(tokenizer, sources)]
    return lambda: translator.translate_batch(
        tokens,
        beam_size=settings["num_beams"],
        length_penalty=1.0,
        max_decoding_length=MAX_NEW_TOKENS,
        min_decoding_length=0,
        return_scores=True,
        max_batch_size=CT2_BATCH_TOKENS,
        batch_type="tokens",
    )


def measured_process(name: str, size: int, settings: dict[str, Any]) -> None:
    """Runs one system and prints what it took; in a process of its own."""
    keep_freed_memory()
    torch.set_num_threads(settings["threads"])
    prepare = {"naive": naive, "ceiling": ceiling}.get(name) or (lambda *given: ours(name, *given))
    with tempfile.TemporaryDirectory(prefix="hf_nat-") as folder:
        run = prepare(settings, rows_of(settings, size), Path(folder))
        before, started = peak_memory_mb(), time.perf_counter()
        run()
        seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "peak_mb": peak_memory_mb(), "peak_mb_before": before}))


def measure(name: str, size: int, settings: dict[str, Any]) -> dict[str, float]:
    """Measures one system on `size` rows: `seconds`, `peak_mb` and `peak_mb_before` the clock started."""
    command = [sys.executable, __file__, CHILD, name, str(size), json.dumps(settings)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(output.splitlines()[-1])


def markdown_table(result: dict[str, Any]) -> str:
    """Prints one row per system: medians over the turns; ratios turn by turn."""
    turns, size = result["turns"], result["settings"]["num_sentences"]
    rows = []
    for name in turns[0]:
        speeds = [
            median(turn[other]["seconds"] / turn[name]["seconds"] for turn in turns) for other in ("naive", "ceiling")
        ]
        rate, peak = size / median(turn[name]["seconds"] for turn in turns), median(t[name]["peak_mb"] for t in turns)
        rows.append((name, f"{rate:.0f}", f"{speeds[0]:.2f}x", f"{100 * speeds[1]:.0f} %", f"{peak:,.0f}"))
    return Table(("system", "sentences/s", "against naive", "of the ceiling", "peak MB"), rows).markdown()


def growth_table(result: dict[str, Any]) -> str:
    """Prints one row per size."""
    header = ("rows", "seconds", "sentences/s", "MB before", "peak MB")
    rows = [
        (
            f"{int(size):,}",
            f"{row['seconds']:.0f}",
            f"{int(size) / row['seconds']:.0f}",
            f"{row['peak_mb_before']:,.0f}",
            f"{row['peak_mb']:,.0f}",
        )
        for size, row in sorted(result["growth"].items(), key=lambda entry: int(entry[0]))
    ]
    return Table(header, rows).markdown()


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", required=True, help="folder of a MarianMT teacher")
    parser.add_argument("--corpus", required=True, help="anything that hf_nat.data.corpora.load_corpus reads")
    parser.add_argument("--split", default="train")
    parser.add_argument("--source_lang", required=True, help="language key of the source")
    parser.add_argument("--target_lang", required=True, help="language key of the target")
    parser.add_argument("--num_sentences", type=int, default=3000)
    parser.add_argument("--num_beams", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3, help="turns of all systems")
    parser.add_argument("--sizes", type=int, nargs="+", default=[], help="rows of the corpus repeated")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of each system")
    parser.add_argument("--output", required=True, help="JSON file to write; what it holds already is not repeated")
    args = parser.parse_args(argv)
    counts = [args.num_sentences, args.num_beams, args.repeats, args.threads, *args.sizes]
    if min(counts) < 1:
        parser.error(f"--num_sentences, --num_beams, --repeats, --threads and --sizes must be >= 1, got {counts}")
    return args


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, writes the JSON file after each turn and size, and prints the tables."""
    args = parse_arguments(argv)
    settings = {key: value for key, value in vars(args).items() if key not in ("repeats", "sizes", "output")}
    result = read_json(args.output) if Path(args.output).is_file() else {"turns": [], "growth": {}}
    if result.setdefault("settings", settings) != settings:
        raise ValueError(
            f"`output` must be a new file or one of the same settings, got {args.output!r} with {result['settings']} "
            f"instead of {settings}. Give another name, or delete it to start again."
        )
    result |= {"systems": OURS, "environment": environment() | {"torch_threads": args.threads}}
    turns, sizes = range(len(result["turns"]), args.repeats), [s for s in args.sizes if str(s) not in result["growth"]]
    with progress_bar(len(turns) * len(SYSTEMS) + len(sizes), "Distilling", unit="runs") as bar:

        def run(name: str, size: int) -> dict[str, float]:
            measured = measure(name, size, settings)
            bar.update()
            return measured

        for turn in turns:
            first = turn % len(SYSTEMS)
            order = (*SYSTEMS[first:], *SYSTEMS[:first])
            measured = {name: run(name, args.num_sentences) for name in order}
            result["turns"].append({name: measured[name] for name in SYSTEMS})
            write_json(args.output, result)
        for size in sizes:
            result["growth"][str(size)] = run("ct2", size)
            write_json(args.output, result)
    print(markdown_table(result))
    if result["growth"]:
        print(f"\n{growth_table(result)}")


if __name__ == "__main__":
    if sys.argv[1:2] == [CHILD]:
        measured_process(sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4]))
    else:
        main()
