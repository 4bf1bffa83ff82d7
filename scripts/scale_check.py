#!/usr/bin/env python
"""Whether training, aligner and measures stand data of WMT14's and Europarl's size, on synthetic data of its shapes.

    python scripts/scale_check.py models --output configs/wmt14/results/scale_models_cpu.json
    python scripts/scale_check.py corpus --corpus "data/multi30k/{split}.{lang}.gz" --source_lang en \
        --target_lang de --output configs/wmt14/results/scale_corpus_cpu.json
    python scripts/scale_check.py languages --corpus "data/multi30k/{split}.{lang}.gz" --source_lang en \
        --target_langs de fr cs --output configs/europarl/results/scale_languages_cpu.json

`models` builds the model of each YAML file of configs/wmt14 (37,000 joint subwords) and trains it on random tokens in
sentences as long as those of news: one batch of 2,000 tokens forward and backward and one optimizer step, in single
precision. Files that differ in their corpus alone have one model, measured once; one that goes on from a checkpoint
has that of the run before. FlowSeq is in its second phase. The model of `--whole_update` is trained for one whole
update of 64,000 tokens as well, by accumulation: how the seconds of its second half compare with those of the first
says whether time is linear. Updates of the others are extrapolated. Memory is that of weights, optimizer, gradients
and activations at the peak. A run that was killed goes on after its last model.

`corpus` aligns and measures a real and a distilled corpus of 4.5 million pairs as `hf-nat analyze` does, without
intervals, words lying between blanks. The real corpus repeats the sentences of a small one with noise in every copy
but the first, which lets the vocabulary grow; the distilled one has no noise in its targets. Memory is the most that
the process had resident, its libraries included. Its file holds each part once it is done.

`languages` does with 1.9 million sources in three target languages what `hf-nat experiment multimodality` does that
needs no model: the corpora, the joint subwords, the batches of the teacher, the posterior of the languages, and
measures of the random selection and of all languages, in words. The text is made as for `corpus`.

The tables are of CPU seconds, which other work on the machine does not lengthen.
"""

from __future__ import annotations

import argparse
import operator
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from benchmark_alignment import SIDES, replicate, write_text
from benchmark_training import Trainee, make_batches, num_targets, peak_growth, synthetic_lengths
from random_checkpoints import word_tokenizer

from hf_nat.analysis.measures import AlignedCorpus, MeasureArguments, measure_corpus
from hf_nat.base.allocator import keep_freed_memory
from hf_nat.base.reporting import Table
from hf_nat.base.utils import environment, peak_memory_mb, read_json, write_json
from hf_nat.data import concatenate_targets, corpus_tokens, encode_corpus, load_corpus, select_targets
from hf_nat.data.multi_target import MULTI_TARGET_LANG
from hf_nat.data.tokenizer import corpus_texts, train_tokenizer
from hf_nat.metrics import LanguagePosterior, corpus_bootstraps, faithfulness, fuzzy_reordering, training_bleu
from hf_nat.steps import Train
from hf_nat.training.arguments import ModelArguments
from hf_nat.training.model import build_model
from hf_nat.training.sampler import TokenBatchSampler


ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "configs" / "wmt14"
WHOLE_UPDATE = 64_000  # tokens


def training_runs(configs: Path) -> dict[str, list[Path]]:
    """Groups the YAML files of training runs by what decides their model and the lengths of its batches."""
    runs: dict[str, list[Path]] = {}
    for path in sorted(configs.glob("*.yaml")):
        keys = yaml.safe_load(path.read_text(encoding="utf-8"))
        if "model_type" in keys:
            decisive = ("model_type", "size", "model_config", "max_source_length", "max_target_length")
            runs.setdefault(str([keys.get(key) for key in (*decisive, "label_smoothing")]), []).append(path)
    return {paths[0].stem.removesuffix("_distilled").removesuffix("_real"): paths for paths in runs.values()}


def check_models(args: argparse.Namespace) -> dict[str, Any]:
    """Trains each model for one batch, and one of them for a whole update.

    Returns:
        `dict[str, Any]`: of each model its parameters, tokens, seconds and bytes.
    """
    runs = training_runs(Path(args.configs))
    result = {"settings": {"max_tokens": args.max_tokens, "vocab_size": args.vocab_size}, "models": {}}
    if Path(args.output).is_file():
        found = read_json(args.output)
        if found["settings"] != result["settings"]:
            raise ValueError(f"`output` must be of these settings, got {found['settings']}. Give another name.")
        result = found
    result["environment"] = environment()
    for name, paths in runs.items():
        if name in result["models"]:
            continue
        trainee, batches = _trainee(paths[0], args)
        row = result["models"][name] = _one_batch(trainee, batches[0])
        row["configs"] = [path.name for path in paths]
        if name == args.whole_update:
            row["whole_update"] = _whole_update(trainee, batches)
        write_json(args.output, result)
        print(name, row, flush=True)
    return result


def _trainee(path: Path, args: argparse.Namespace) -> tuple[Trainee, list[dict[str, torch.Tensor]]]:
    """Builds the model of a YAML file, in training, and the batches of a whole update."""
    step = Train.from_config(path, bf16=False, use_cpu=True)
    model_args, data_args = step.model, step.data
    if model_args.init_from:
        model_args = _from_scratch(model_args, path.parent)
    torch.manual_seed(1)
    model: Any = build_model(
        model_args, word_tokenizer(args.vocab_size), label_smoothing=step.training.label_smoothing
    )
    if model_args.model_type == "flowseq":
        model.num_batches.fill_(model.config.init_steps)
    longest = min(data_args.max_source_length, data_args.max_target_length)
    lengths = [pair for pair in synthetic_lengths(20_000) if max(pair) <= longest]
    num_batches = WHOLE_UPDATE // args.max_tokens
    batching = argparse.Namespace(**vars(args), num_batches=num_batches, compile=False, device="cpu")
    return Trainee(model_args.model_type, model, torch.float32), make_batches(lengths, batching)


def _from_scratch(model_args: ModelArguments, configs: Path) -> ModelArguments:
    """Replaces a checkpoint that a run goes on from by the model of the run that makes it."""
    files = (yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(configs.glob("*.yaml")))
    start = next(keys for keys in files if keys["output_dir"] == model_args.init_from)
    changed = {**(start.get("model_config") or {}), **(model_args.model_config or {})}
    return replace(model_args, init_from=None, size=start.get("size"), model_config=changed)


def timed(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """Returns what a call returns, and its seconds and CPU seconds."""
    started, cpu = time.perf_counter(), time.process_time()
    value = work()
    return value, {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - cpu}


def _one_batch(trainee: Trainee, batch: dict[str, torch.Tensor]) -> dict[str, Any]:
    row: dict[str, Any] = {}

    def update() -> None:
        row["batch"] = timed(partial(trainee.accumulate, batch))[1]
        row["step"] = timed(trainee.step)[1]

    growth = peak_growth(update, torch.device("cpu"))
    return row | {
        "num_parameters": trainee.model.num_parameters(),
        "source_tokens": int(batch["attention_mask"].sum()),
        "target_tokens": num_targets(batch),
        "peak_bytes": trainee.resident_bytes() + growth,
    }


def _whole_update(trainee: Trainee, batches: Sequence[dict[str, torch.Tensor]]) -> dict[str, Any]:
    """Accumulates all batches in random order, and makes a step."""
    tokens = [num_targets(batch) for batch in batches]
    order = torch.randperm(len(batches)).tolist()
    times = [timed(partial(trainee.accumulate, batches[place], sum(tokens)))[1] for place in order]
    step, half = timed(trainee.step)[1], len(order) // 2

    def per_token(places: slice) -> float:
        return sum(row["cpu_seconds"] for row in times[places]) / sum(tokens[place] for place in order[places])

    return {
        "num_batches": len(batches),
        "target_tokens": sum(tokens),
        **{name: sum(row[name] for row in (*times, step)) for name in step},
        "second_half_against_first": per_token(slice(half, None)) / per_token(slice(half)),
    }


def models_table(result: dict[str, Any]) -> str:
    """Prints one row per model."""
    batches = WHOLE_UPDATE / result["settings"]["max_tokens"]
    header = ["model", "million parameters", "CPU seconds a batch", "a step", "peak MB", "an update of 64,000 tokens"]
    rows = []
    for name, row in sorted(result["models"].items()):
        batch, step = row["batch"]["cpu_seconds"], row["step"]["cpu_seconds"]
        whole = row.get("whole_update")
        update = f"{whole['cpu_seconds']:.0f}" if whole else f"{batches * batch + step:.0f} (extrapolated)"
        sizes = f"{row['num_parameters'] / 1e6:.1f}", f"{batch:.1f}", f"{step:.1f}", f"{row['peak_bytes'] / 1e6:,.0f}"
        rows.append([name, *sizes, update])
    return Table(header, rows).markdown()


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
            parts: dict[str, Any] = {}
            result["corpora"][label] = parts
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


def check_languages(args: argparse.Namespace) -> dict[str, Any]:
    """Makes, encodes and measures a corpus of three target languages; the file holds each part once it is done.

    Returns:
        `dict[str, Any]`: as `check_corpus`, of the random selection and of all languages.
    """
    corpora: dict[str, dict[str, Any]] = {"random selection": {}, "all languages": {}}
    result = {
        "num_pairs": args.num_pairs,
        "num_bootstrap": args.num_bootstrap,
        "environment": environment(),
        "corpora": corpora,
    }
    pair = {"source_lang": args.source_lang, "target_lang": MULTI_TARGET_LANG}
    measures = {label: partial(_measure_part, parts, args.output, result) for label, parts in corpora.items()}
    with tempfile.TemporaryDirectory(prefix="hf_nat-") as name:
        folder = Path(name)
        corpus = write_languages(args, folder)
        made = {}
        for label, make in (("random selection", select_targets), ("all languages", concatenate_targets)):
            file = folder / f"{label}.parquet"
            selected = partial(make, corpus, args.source_lang, args.target_langs)
            measures[label]("make", partial(_write_rows, selected, file))
            made[label] = load_corpus(file, **pair)
        rows, measure = made["all languages"], measures["all languages"]
        tokenizer = measure(
            "learn subwords", partial(train_tokenizer, corpus_texts(rows, **pair), args.vocab_size), len
        )
        encode = partial(encode_corpus, rows, tokenizer, max_source_length=250, max_target_length=250, **pair)
        encoded = measure("encode", lambda: encode()[0], len)
        measure("make batches", lambda: len(TokenBatchSampler(encoded["length"][:], args.max_tokens)))
        pieces = str(folder / "tokenizer")
        tokenizer.save_pretrained(pieces)
        size = len(made["random selection"])
        parts = {
            lang: corpus_tokens(rows.select(range(i * size, (i + 1) * size)), MULTI_TARGET_LANG, pieces)
            for i, lang in enumerate(args.target_langs)
        }
        measure("posterior of the languages", partial(LanguagePosterior.from_corpora, parts), lambda found: None)
        for kind, tokens in (("words", "space"), ("pieces", pieces)):
            measuring = MeasureArguments(**pair, tokens=tokens, num_bootstrap=args.num_bootstrap)
            for label, measure in measures.items():
                align = partial(AlignedCorpus, label, made[label], folder / kind / label, measuring)
                aligned = measure(f"align and count links, {kind}", align, operator.attrgetter("complexity.value"))
                measured = partial(_measures, aligned, num_sources=size)
                measure(f"measures, {kind}", measured, operator.itemgetter("complexity_interval"))
    return result


def _measures(corpus: AlignedCorpus, num_sources: int) -> dict[str, Any]:
    """Measures a corpus of several languages as the study does, in samples of its sources."""
    samples = corpus.args.num_bootstrap
    draws: dict[str, Any] = {"num_rows": num_sources, "num_samples": samples}
    draws["rows"] = np.arange(len(corpus.rows)) % num_sources  # the pairs of a language after those of the other
    drawn = corpus_bootstraps(corpus.counts, fuzzy_reordering(corpus.links()), **draws) if samples else {}
    return measure_corpus(corpus, bootstraps=drawn)


def _write_rows(make: Callable[[], Any], file: Path) -> None:
    make().to_parquet(file)


def write_languages(args: argparse.Namespace, folder: Path) -> str:
    """Writes the words of a source in several target languages to files, made larger; returns the files' pattern."""
    for lang in (args.source_lang, *args.target_langs):
        other = args.target_langs[0] if lang == args.source_lang else args.source_lang
        rows = load_corpus(args.corpus, args.split, source_lang=lang, target_lang=other)
        lines = (" ".join(words) for words in corpus_tokens(rows, lang, "moses"))
        (folder / lang).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        replicate(folder / lang, folder / f"train.{lang}", args.num_pairs, args.noise)
    return str(folder / "{split}.{lang}")


def _measure_part(
    parts: dict[str, Any],
    output: str,
    result: dict[str, Any],
    name: str,
    work: Callable[[], Any],
    describe: Callable[[Any], Any] = lambda value: value,
) -> Any:
    """Does a part of the work and writes down what it took."""
    value, seconds = timed(work)
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
    corpus.add_argument("--target_lang", required=True, help="language key of the target")
    languages = commands.add_parser("languages", help="a corpus of several target languages")
    languages.add_argument("--target_langs", nargs="+", required=True, help="language keys of the targets")
    languages.add_argument("--vocab_size", type=int, default=37_000, help="joint subwords that are learned")
    languages.add_argument("--max_tokens", type=int, default=8000, help="budget of a batch: rows x longest row")
    languages.add_argument(
        "--num_bootstrap", type=int, default=1000, help="samples of the bootstrap of the intervals; 0 for none"
    )
    for command, num_pairs in ((corpus, 4_500_000), (languages, 1_900_000)):
        command.add_argument("--corpus", required=True, help="anything that hf_nat.data.corpora.load_corpus reads")
        command.add_argument("--split", default="train")
        command.add_argument("--source_lang", required=True, help="language key of the source")
        command.add_argument("--num_pairs", type=int, default=num_pairs)
        command.add_argument("--noise", type=float, default=0.1, help="share of the words of a copy that get a digit")
    models = commands.add_parser("models", help="train each model of configs/wmt14 for one batch")
    models.add_argument("--configs", default=str(CONFIGS), help="folder of YAML files")
    models.add_argument("--vocab_size", type=int, default=37_000)
    models.add_argument("--max_tokens", type=int, default=2000, help="budget of a batch: rows x longest row")
    models.add_argument(
        "--whole_update", default="vanilla_nat", help="model that makes a whole update; empty for none"
    )
    for command in commands.choices.values():
        command.add_argument("--output", required=True, help="JSON file to write")
    return parser.parse_args(argv)


def corpus_table(result: dict[str, Any]) -> str:
    """Prints one row per part."""
    rows = [
        [label, name, f"{part['cpu_seconds']:,.0f}", f"{part['peak_mb']:,.0f}"]
        for label, parts in result["corpora"].items()
        for name, part in parts.items()
        if isinstance(part, dict)
    ]
    return Table(["corpus", "part", "CPU seconds", "peak MB"], rows).markdown()


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, writes the JSON file and prints the table."""
    keep_freed_memory()
    args = parse_arguments(argv)
    if args.check == "models":
        print(models_table(check_models(args)))
    else:
        print(corpus_table((check_corpus if args.check == "corpus" else check_languages)(args)))


if __name__ == "__main__":
    main()
