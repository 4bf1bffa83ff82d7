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

`ct2` and `ceiling` use batches of the same size. `--choosing N` compares, in N turns, strategies that choose with the
decoding of their candidates alone: `--num_candidates` samples a sentence by torch, or the outputs of so large a beam
by CTranslate2; with `--backward_teacher` also its choice, the loading of that model counted. `--sizes` measures growth
with `ct2`, or the systems of `--growth`, strategies and

    filter    `hf-nat filter` by all rules that need no other model
    mix       `hf-nat mix` of the rows and, once more, half of them

on the corpus again and again. Memory is the peak of what is resident, and what it was before the clock started. A run
that was killed goes on after its last turn or size.
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
from hf_nat.decoding import Translator, encode_sources, load_model
from hf_nat.distillation import DistillArguments, FilterArguments, MixArguments
from hf_nat.distillation.backends import choose_backend, load_backend
from hf_nat.distillation.filter import filter_corpus
from hf_nat.distillation.mix import mix_corpora
from hf_nat.steps import distill


NAIVE_BATCH_SIZE = 32
MAX_NEW_TOKENS = 200
CT2_BATCH_TOKENS = 512
OURS: dict[str, dict[str, Any]] = {
    "torch": {"backend": "torch"},
    "ct2": {"backend": "ct2", "max_batch_tokens": CT2_BATCH_TOKENS},
    "ct2 int8": {"backend": "ct2", "compute_type": "int8", "max_batch_tokens": CT2_BATCH_TOKENS},
}
_CT2: dict[str, Any] = {"backend": "ct2", "max_batch_tokens": CT2_BATCH_TOKENS}
FILTER_RULES: dict[str, Any] = {
    **{"max_length_ratio": 3.0, "max_copy_rate": 0.9, "max_number_differences": 0, "max_url_differences": 0},
    **{"min_language_posterior": 0.1, "max_per_source": 2, "max_per_target": 2},
}
STRATEGIES: dict[str, dict[str, Any]] = {
    "n-best": {"strategy": "n-best", **_CT2},
    "expanded": {"strategy": "n-best", "expand": True, **_CT2},
    "stream": {"streaming": True, **_CT2},
    "sampling": {"strategy": "sampling", "backend": "torch"},
}
# What files of before these settings were measured with.
_FORMER = {"num_candidates": 16, "backward_teacher": None}
SYSTEMS = ("naive", *OURS, "ceiling")
CHILD = "measured-process"
# Options that do not bear on a measurement.
_HOW_OFTEN = ("repeats", "sizes", "growth", "choosing", "output")


def choosing(settings: dict[str, Any]) -> dict[str, dict[str, dict[str, Any]]]:
    """Returns candidates alone, and for each the strategies that choose among them, with their options."""
    number, backward = settings["num_candidates"], settings["backward_teacher"]
    samples = {"candidates": "sampling", "num_candidates": number, "backend": "torch"}
    beam = {"candidates": "beam", "num_candidates": number, "num_beams": number, "backend": "ct2"}
    rerank = {"strategy": "rerank", "backward_teacher": backward}
    return {
        f"{number} samples": {
            "mbr chrf, samples": {"strategy": "mbr", "utility": "chrf", **samples},
            "mbr bleu, samples": {"strategy": "mbr", "utility": "bleu", **samples},
            **({"rerank, samples": {**rerank, **samples}} if backward else {}),
        },
        f"beam of {number}": {
            "mbr chrf, beam": {"strategy": "mbr", **beam},
            "interpolation": {"strategy": "interpolation", **beam},
            **({"rerank, beam": {**rerank, **beam}} if backward else {}),
        },
    }


def distilling(settings: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Returns the options of `distill` of each system that is one."""
    chosen = {name: options for own in choosing(settings).values() for name, options in own.items()}
    return OURS | chosen | STRATEGIES


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
        max_new_tokens=MAX_NEW_TOKENS,
        **{"num_beams": settings["num_beams"], **distilling(settings)[name]},
    )
    load_corpus(args.place_name, "train", source_lang=args.source_lang, target_lang=args.target_lang)
    return lambda: distill(model, tokenizer, args)


def candidates_alone(name: str, settings: dict[str, Any], rows: Dataset, folder: Path) -> Callable[[], object]:
    """The candidates that strategies choose among, from sources to texts; no score, no choice, no files."""
    model, tokenizer = load_model(settings["teacher"])
    languages = {"source_lang": settings["source_lang"], "target_lang": settings["target_lang"]}
    options = next(iter(choosing(settings)[name].values()))
    asked = DistillArguments(
        teacher="", corpus="x", output_dir="", max_new_tokens=MAX_NEW_TOKENS, **languages, **options
    )
    args = choose_backend([(model, tokenizer)], asked)
    sources = [pair[args.source_lang] for pair in rows["translation"]]
    if args.backend == "torch":
        decoding = {"max_batch_tokens": args.max_batch_tokens, **args.translate_kwargs(range(len(sources)))}
        return lambda: Translator(model, tokenizer, **decoding).candidates(sources)
    backend = load_backend(model, tokenizer, args)
    return lambda: backend.candidates(sources, **args.translate_kwargs(range(len(sources))))


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


def mixed(settings: dict[str, Any], rows: Dataset, folder: Path) -> Callable[[], object]:
    """`hf-nat mix` of the rows and half of them."""
    rows.to_parquet(folder / "rows.parquet")
    args = MixArguments(
        corpora=[f"{name}={folder / 'rows.parquet'}" for name in ("all", "half")],
        weights=[1.0, 0.5],
        source_lang=settings["source_lang"],
        target_lang=settings["target_lang"],
        validation_split=None,
        test_split=None,
        output_dir=str(folder / "mixed"),
    )
    splits = args.load_splits()
    return lambda: mix_corpora(args, splits)


def filtered(settings: dict[str, Any], rows: Dataset, folder: Path) -> Callable[[], object]:
    """`hf-nat filter` of the rows, of which another process has made a corpus with a manifest."""
    rows.to_parquet(folder / "rows.parquet")
    options = {name: settings[name] for name in ("source_lang", "target_lang")}
    options |= {"validation_split": "null", "test_split": "null", "output_dir": str(folder / "corpus")}
    command = ["mix", "--corpora", f"rows={folder / 'rows.parquet'}", *(f"--{k}={v}" for k, v in options.items())]
    subprocess.run([sys.executable, "-m", "hf_nat_cli", *command], check=True, stdout=sys.stderr)
    args = FilterArguments(corpus=str(folder / "corpus"), output_dir=str(folder / "filtered"), **FILTER_RULES)
    return lambda: filter_corpus(args)


def prepared(name: str, settings: dict[str, Any], rows: Dataset, folder: Path) -> Callable[[], object]:
    """Loads what a system needs, with an empty folder of its own, and returns its work."""
    others = {"naive": naive, "ceiling": ceiling, "mix": mixed, "filter": filtered}
    if name in others:
        return others[name](settings, rows, folder)
    return (candidates_alone if name in choosing(settings) else ours)(name, settings, rows, folder)


def measured_process(name: str, size: int, settings: dict[str, Any]) -> None:
    """Runs one system and prints what it took; in a process of its own."""
    keep_freed_memory()
    torch.set_num_threads(settings["threads"])
    with tempfile.TemporaryDirectory(prefix="hf_nat-") as folder:
        run = prepared(name, settings, rows_of(settings, size), Path(folder))
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


def choosing_table(result: dict[str, Any]) -> str:
    """Prints one row per strategy that chooses and was measured: medians over the turns; ratios turn by turn."""
    rows = []
    for candidates, strategies in choosing(_FORMER | result["settings"]).items():
        for name in strategies:
            turns = [turn for turn in result["choosing"] if name in turn]
            if not turns:
                continue
            ratio = median(turn[name]["seconds"] / turn[candidates]["seconds"] for turn in turns)
            seconds = median(turn[name]["seconds"] for turn in turns)
            rows.append((name, candidates, f"{seconds:.1f}", f"{ratio:.2f}x"))
    return Table(("strategy", "candidates", "seconds", "of their decoding"), rows).markdown()


def growth_table(result: dict[str, Any]) -> str:
    """Prints one row per size."""
    header = ("system", "rows", "seconds", "sentences/s", "MB before", "peak MB")
    sizes = {key: key.rpartition(" ") for key in result["growth"]}
    rows = [
        (
            name or "ct2",
            f"{int(size):,}",
            f"{row['seconds']:.0f}",
            f"{int(size) / row['seconds']:.0f}",
            f"{row['peak_mb_before']:,.0f}",
            f"{row['peak_mb']:,.0f}",
        )
        for key, (name, _, size) in sorted(sizes.items(), key=lambda entry: (entry[1][0], int(entry[1][2])))
        for row in [result["growth"][key]]
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
    parser.add_argument(
        "--growth",
        nargs="+",
        default=["ct2"],
        choices=sorted([*distilling(_FORMER | {"backward_teacher": "any"}), "filter", "mix"]),
        help="systems at these sizes",
    )
    parser.add_argument("--choosing", type=int, default=0, help="turns of the strategies that choose")
    parser.add_argument("--num_candidates", type=int, default=16, help="candidates that these choose among")
    parser.add_argument("--backward_teacher", help="folder of a teacher of the other direction, for rerank")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of each system")
    parser.add_argument("--output", required=True, help="JSON file to write; what it holds already is not repeated")
    args = parser.parse_args(argv)
    counts = [args.num_sentences, args.num_beams, args.num_candidates, args.threads, *args.sizes]
    if min(counts) < 1:
        parser.error(
            f"--num_sentences, --num_beams, --num_candidates, --threads and --sizes must be >= 1, got {counts}"
        )
    if not args.backward_teacher and any(name.startswith("rerank") for name in args.growth):
        parser.error("--growth rerank needs --backward_teacher")
    if min(args.repeats, args.choosing) < 0:
        parser.error(f"--repeats and --choosing must be >= 0, got {args.repeats} and {args.choosing}")
    return args


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, writes the JSON file after each turn and size, and prints the tables."""
    args = parse_arguments(argv)
    settings = {key: value for key, value in vars(args).items() if key not in _HOW_OFTEN}
    result = read_json(args.output) if Path(args.output).is_file() else {"turns": [], "growth": {}}
    if _FORMER | result.setdefault("settings", settings) != settings:
        raise ValueError(
            f"`output` must be a new file or one of the same settings, got {args.output!r} with {result['settings']} "
            f"instead of {settings}. Give another name, or delete it to start again."
        )
    result |= {"systems": OURS, "environment": environment() | {"torch_threads": args.threads}}
    turns, chosen = range(len(result["turns"]), args.repeats), result.setdefault("choosing", [])
    # The first files have sizes alone, of `ct2`.
    sizes = {
        (f"{name} {size}" if name != "ct2" else str(size)): (name, size) for size in args.sizes for name in args.growth
    }
    sizes = {key: place for key, place in sizes.items() if key not in result["growth"]}
    names = [name for candidates, own in choosing(settings).items() for name in (candidates, *own)]
    num_choosing = max(0, args.choosing - len(chosen))
    num_runs = len(turns) * len(SYSTEMS) + num_choosing * len(names) + len(sizes)
    with progress_bar(num_runs, "Distilling", unit="runs") as bar:

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
        for _ in range(num_choosing):
            chosen.append({name: run(name, args.num_sentences) for name in names})
            write_json(args.output, result)
        for key, place in sizes.items():
            result["growth"][key] = run(*place)
            write_json(args.output, result)
    if result["turns"]:
        print(markdown_table(result))
    if chosen:
        print(f"\n{choosing_table(result)}")
    if result["growth"]:
        print(f"\n{growth_table(result)}")


if __name__ == "__main__":
    if sys.argv[1:2] == [CHILD]:
        measured_process(sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4]))
    else:
        main()
