#!/usr/bin/env python
"""Seconds, memory and links of hf_nat's word aligner beside other aligners, and how it grows with the corpus.

    python scripts/benchmark_alignment.py --corpus "data/multi30k/{split}.{lang}.gz" --source_lang en \
        --target_lang de --sizes 29000 87000 290000 1000000 --output benchmark.json

The peers are left out where they are not installed. They bring no package with them and change none:

    pip install --no-deps eflomal==2.0.0          # compiles: needs a C compiler
    pip install --no-deps systran-align==3.5.0

All systems align the same words, lower-cased and cut by the Moses tokenizer, on the CPU, in turns, each in a process
of its own. What is timed goes from two text files to a file of links; imports are left out. CPU seconds are those of
all threads and child processes. Memory is the peak of what is resident beyond what was after the imports: exact for
the process itself, sampled every 50 ms where it has a child (eflomal). It is read from /proc, as Linux has it:
`getrusage` would give a process at least what the one that started it held.

There is no gold alignment here: what systems have in common (intersection over union of their links with those of
hf_nat, the same directions) says how much they agree, not which is right. eflomal gives two directions; they are
joined by hf_nat's grow-diag-final-and after its time. It draws samples, so that its links change from turn to turn.
systran-align's joint result is its own.

`--sizes` measures growth: the corpus again and again, with noise in every copy but the first (each word gets a digit
with probability 0.1), so that the vocabulary grows as well. A run that was killed goes on after its last turn or size.
"""

from __future__ import annotations

import argparse
import importlib
import os
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from importlib import metadata
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

from tqdm.auto import tqdm

from hf_nat.alignment import align, format_links, parse_links, symmetrize
from hf_nat.base.reporting import Table
from hf_nat.base.utils import environment, progress_bar, read_json, write_json
from hf_nat.data import corpus_sides, load_corpus, tokenize
from hf_nat.data.text_files import read_lines


JOINT = "grow-diag-final-and"
OURS = {f"hf_nat {kind}": kind for kind in ("forward", "reverse", JOINT)}
PEERS = {"eflomal": "eflomal", "systran-align": "systran_align"}  # package -> module
NOISE, SEED = 0.1, 1
CHILD = "measured-process"
SAMPLING_SECONDS = 0.05
SIDES = ("source", "target")


def links_file(folder: Path, name: str, kind: str) -> Path:
    """Names the file of one system's links of one kind: forward, reverse or joint."""
    return folder / f"{name} {kind}.links"


def words(path: Path) -> Iterator[list[str]]:
    """Yields the words of each line."""
    return tokenize(read_lines(str(path)))


def write_links(path: Path, links: Iterable[Sequence[tuple[int, int]]]) -> None:
    """Writes links in Pharaoh format."""
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(f"{format_links(of_pair)}\n" for of_pair in links)


def read_links(folder: Path, name: str, kind: str) -> Iterator[list[tuple[int, int]]]:
    """Yields the links of each sentence pair."""
    path = str(links_file(folder, name, kind))
    return parse_links(read_lines(path), path)


def run_ours(name: str, folder: Path) -> None:
    """Aligns the text of a folder with hf_nat."""
    kind = OURS[name]
    joined = JOINT if kind == JOINT else None
    sides = (words(folder / side) for side in SIDES)
    links = align(*sides, reverse=kind == "reverse", symmetrize=joined, device="cpu")
    write_links(links_file(folder, name, kind), links)


def run_eflomal(name: str, folder: Path) -> None:
    """Aligns the text of a folder with eflomal, in both directions."""
    aligner = importlib.import_module("eflomal").Aligner()
    forward, reverse = (str(links_file(folder, name, kind)) for kind in ("forward", "reverse"))
    with open(folder / "source", encoding="utf-8") as source, open(folder / "target", encoding="utf-8") as target:
        aligner.align(source, target, links_filename_fwd=forward, links_filename_rev=reverse)


def run_systran(name: str, folder: Path) -> None:
    """Aligns the text of a folder with systran-align, with the options of `fast_align -d -o -v`."""
    systran_align = importlib.import_module("systran_align")
    files = [str(folder / f"systran.{part}") for part in ("text", "forward", "reverse")]
    with open(files[0], "w", encoding="utf-8") as file:
        pairs = zip(*(read_lines(str(folder / side)) for side in SIDES), strict=True)
        file.writelines(f"{source} ||| {target}\n" for source, target in pairs)
    options = {"favor_diagonal": True, "optimize_tension": True, "variational_bayes": True}
    systran_align.generate_alignment_probabilities(*files, iterations=5, **options)
    aligner = systran_align.Aligner(*files[1:])

    def links() -> Iterator[list[tuple[int, int]]]:
        sources, targets = (words(folder / side) for side in SIDES)
        while batch := list(islice(sources, 1000)):
            yield from (row["alignments"] for row in aligner.align_batch(batch, list(islice(targets, 1000))))

    write_links(links_file(folder, name, JOINT), links())


RUNS = dict.fromkeys(OURS, run_ours) | {"eflomal": run_eflomal, "systran-align": run_systran}


def memory_mb(pid: int | str = "self", field: str = "VmRSS") -> float:
    """Returns what a process has resident in MB (`VmHWM`: its peak), 0 if the process has gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return 0.0
    found = re.search(rf"^{field}:\s+([0-9]+) kB", status, re.MULTILINE)
    return int(found[1]) * 1024 / 1e6 if found else 0.0


def tree_memory_mb(pid: int) -> float:
    """Adds the peaks of a process's children to what it has resident; one that is still a copy of it adds nothing."""
    own = memory_mb(pid)
    try:
        program = os.readlink(f"/proc/{pid}/exe")
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()
        others = [child for child in children if os.readlink(f"/proc/{child}/exe") != program]
    except OSError:  # one of them has just ended
        return own
    return own + sum(memory_mb(child, "VmHWM") for child in others)


def cpu_seconds() -> float:
    """Returns the seconds of all threads of this process and of the children that have ended."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def measured_process(name: str, folder: Path) -> None:
    """Runs one system in this process and writes what it took to `measured.json`."""
    if name in PEERS:
        importlib.import_module(PEERS[name])
    with suppress(OSError):  # the peak starts again from here; where that is forbidden, it is one of the imports too
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    resident, cpu, start = memory_mb(), cpu_seconds(), time.perf_counter()
    RUNS[name](name, folder)
    measured = {"seconds": time.perf_counter() - start, "cpu_seconds": cpu_seconds() - cpu}
    write_json(folder / "measured.json", measured | {"resident_mb": resident, "peak_mb": memory_mb(field="VmHWM")})


def measure(name: str, folder: Path, threads: int, bar: tqdm) -> dict[str, Any]:
    """Runs one system in a process of its own on the files `source` and `target` of a folder.

    Args:
        name (`str`): a key of `RUNS`.
        folder (`Path`): holds the text; links go there.
        threads (`int`): threads of OpenMP and torch.
        bar (`tqdm`): is kept moving.

    Returns:
        `dict[str, Any]`: `seconds`, `cpu_seconds`, and `peak_mb` beyond the imports.

    Raises:
        RuntimeError: if the process fails.
    """
    bar.set_postfix_str(name)
    peak, environ = 0.0, os.environ | {"OMP_NUM_THREADS": str(threads)}
    with subprocess.Popen([sys.executable, __file__, CHILD, name, str(folder)], env=environ) as process:
        while process.poll() is None:
            peak = max(peak, tree_memory_mb(process.pid))
            bar.refresh()
            time.sleep(SAMPLING_SECONDS)
    if process.returncode:
        raise RuntimeError(
            f"The process of {name!r} must end with status 0, got {process.returncode}. Its message is above; a "
            "negative status is a signal (-9: killed, often for want of memory)."
        )
    measured = read_json(folder / "measured.json")
    peak = max(peak, measured.pop("peak_mb"))
    bar.update()
    return measured | {"peak_mb": peak - measured.pop("resident_mb")}


def write_text(args: argparse.Namespace, folder: Path) -> dict[str, int]:
    """Writes the words of both sides to files and counts pairs and words.

    Pairs with an empty side are left out: systran-align would not survive them.
    """
    rows = load_corpus(args.corpus, args.split, source_lang=args.source_lang, target_lang=args.target_lang)
    sides = corpus_sides(rows, (args.source_lang, args.target_lang), "moses")
    counts = {"num_pairs": 0, "left_out": 0, "num_tokens": 0}
    with ExitStack() as stack:
        files = [stack.enter_context(open(folder / side, "w", encoding="utf-8")) for side in SIDES]
        for pair in zip(*sides, strict=True):
            if not all(pair):
                counts["left_out"] += 1
                continue
            for file, side in zip(files, pair, strict=True):
                file.write(f"{' '.join(side)}\n")
            counts["num_pairs"] += 1
            counts["num_tokens"] += len(pair[0]) + len(pair[1])
    if not counts["num_pairs"]:
        raise ValueError(
            f"A pair of the corpus must have words on both sides, got {args.corpus!r} with {counts['left_out']} pairs "
            "that do not. Give another corpus or split."
        )
    return counts


def replicate(path: Path, copies: Path, size: int, noise: float = NOISE) -> int:
    """Writes the lines of a file again and again until there are `size`, with noise in every copy but the first.

    Args:
        path (`Path`): text; its name is part of the seed, so that two sides have noise of their own.
        copies (`Path`): file to write.
        size (`int`): lines to write; fewer than there are is the beginning.
        noise (`float`, *optional*): probability that a word of a copy gets a digit.

    Returns:
        `int`: words written.
    """
    rng, num_lines, num_words = random.Random(f"{SEED} {path.name}"), 0, 0
    with open(copies, "w", encoding="utf-8") as file:
        while num_lines < size:
            is_first = not num_lines
            for line in islice(words(path), size - num_lines):
                if not is_first:
                    line = [f"{word}{rng.randrange(10)}" if rng.random() < noise else word for word in line]
                file.write(f"{' '.join(line)}\n")
                num_lines, num_words = num_lines + 1, num_words + len(line)
    return num_words


def in_common(links: Iterable[Sequence[tuple[int, int]]], others: Iterable[Sequence[tuple[int, int]]]) -> float:
    """Returns intersection over union of the links of a corpus, 1 if there are none."""
    both = either = 0
    for mine, theirs in zip(links, others, strict=True):
        shared = len({*mine} & {*theirs})
        both, either = both + shared, either + len(mine) + len(theirs) - shared
    return both / either if either else 1.0


def compare(name: str, folder: Path) -> dict[str, dict[str, float]]:
    """Counts the links of a system and compares each kind with hf_nat's.

    Returns:
        `dict[str, dict[str, float]]`: `links` and `in_common` of each kind.
    """
    if name == "eflomal":
        forward, reverse = (list(read_links(folder, name, kind)) for kind in ("forward", "reverse"))
        write_links(links_file(folder, name, JOINT), symmetrize(forward, reverse, JOINT))
    result: dict[str, dict[str, float]] = {"links": {}, "in_common": {}}
    for ours, kind in OURS.items():
        if links_file(folder, name, kind).is_file():
            result["links"][kind] = sum(map(len, read_links(folder, name, kind)))
            result["in_common"][kind] = in_common(read_links(folder, name, kind), read_links(folder, ours, kind))
    return result


def markdown_table(result: dict[str, Any]) -> str:
    """Prints one row per system, medians over the turns; links are joint ones where a system has them."""
    rows = []
    for name in (name for name in RUNS if name in result["turns"][0]):
        turns = [turn[name] for turn in result["turns"]]
        kind = JOINT if JOINT in turns[0]["links"] else OURS[name]
        seconds, cpu, peak = (median(turn[key] for turn in turns) for key in ("seconds", "cpu_seconds", "peak_mb"))
        links, common = (median(turn[key][kind] for turn in turns) for key in ("links", "in_common"))
        agreement = "" if name in OURS else f"{100 * common:.1f} %"
        rows.append((name, f"{seconds:.1f}", f"{cpu:.1f}", f"{peak:,.0f}", f"{links:,.0f}", agreement))
    return Table(("system", "seconds", "CPU seconds", "peak MB", "links", f"in common with {JOINT}"), rows).markdown()


def scaling_table(result: dict[str, Any]) -> str:
    """Prints one row per size and direction."""
    header = ("pairs", "million words", "direction", "seconds", "CPU seconds", "seconds / million words", "peak MB")
    rows = []
    for size, measured in sorted(result["scaling"].items(), key=lambda entry: int(entry[0])):
        million = measured["num_tokens"] / 1e6
        for name, kind in OURS.items():
            if name in measured["systems"]:
                row = measured["systems"][name]
                seconds = [f"{value:.1f}" for value in (row["seconds"], row["cpu_seconds"], row["seconds"] / million)]
                rows.append((f"{int(size):,}", f"{million:.1f}", kind, *seconds, f"{row['peak_mb']:,.0f}"))
    return Table(header, rows).markdown()


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", required=True, help="anything that hf_nat.data.corpora.load_corpus reads")
    parser.add_argument("--split", default="train")
    parser.add_argument("--source_lang", required=True, help="language key of the source")
    parser.add_argument("--target_lang", required=True, help="language key of the target")
    parser.add_argument("--repeats", type=int, default=3, help="turns of all systems")
    parser.add_argument("--sizes", type=int, nargs="+", default=[], help="pairs to align, of the replicated corpus")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads of each system")
    parser.add_argument("--output", required=True, help="JSON file to write; what it holds already is not repeated")
    args = parser.parse_args(argv)
    if min(args.repeats, args.threads, *args.sizes) < 1:
        parser.error(f"--repeats, --threads and --sizes must be >= 1, got {[args.repeats, args.threads, *args.sizes]}")
    if len(set(args.sizes)) < len(args.sizes):
        parser.error(f"--sizes must be distinct, got {args.sizes}")
    return args


def find_peers() -> dict[str, str | None]:
    """Returns the version of each peer, None for one that is not installed."""
    versions: dict[str, str | None] = {}
    for name in PEERS:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
            print(f"{name} is not installed and is left out: pip install --no-deps {name}", file=sys.stderr)
    return versions


def load_result(args: argparse.Namespace) -> dict[str, Any]:
    """Reads what was measured with these settings, or starts with nothing.

    Raises:
        ValueError: if the file is of other settings.
    """
    settings = {key: value for key, value in vars(args).items() if key not in ("repeats", "sizes", "output")}
    settings |= {"peers": find_peers(), "noise": NOISE, "seed": SEED}
    if not Path(args.output).is_file():
        return {"settings": settings, "turns": [], "scaling": {}}
    result = read_json(args.output)
    if result.get("settings") != settings:
        raise ValueError(
            f"`output` must be a new file or one of the same settings, got {args.output!r} with "
            f"{result.get('settings')} instead of {settings}. Give another name, or delete it to start again."
        )
    return result


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, writes the JSON file after each turn and size, and prints the tables."""
    args = parse_arguments(argv)
    if not Path("/proc/self/status").is_file():
        raise OSError(f"Memory is read from /proc, which {sys.platform} does not have. Run the benchmark on Linux.")
    result = load_result(args)
    result["environment"] = environment() | {"torch_threads": args.threads}
    result["environment"]["versions"]["numpy"] = metadata.version("numpy")
    names = [name for name in RUNS if result["settings"]["peers"].get(name, "ours")]
    turns = range(len(result["turns"]), args.repeats)
    pending = [
        (size, name)
        for size in args.sizes
        for name in ("hf_nat forward", f"hf_nat {JOINT}")
        if name not in result["scaling"].get(str(size), {"systems": {}})["systems"]
    ]
    with (
        tempfile.TemporaryDirectory(prefix="hf_nat-") as folder,
        progress_bar(len(turns) * len(names) + len(pending), "Aligning", unit="runs") as bar,
    ):
        text, copies = Path(folder, "text"), Path(folder, "copies")
        text.mkdir()
        copies.mkdir()
        result["corpus"] = write_text(args, text)
        for turn in turns:
            first = turn % len(names)
            measured = {name: measure(name, text, args.threads, bar) for name in (*names[first:], *names[:first])}
            result["turns"].append({name: measured[name] | compare(name, text) for name in names})
            write_json(args.output, result)
        written = 0
        for size, name in pending:
            if written != size:
                written, num_tokens = size, sum(replicate(text / side, copies / side, size) for side in SIDES)
            row = result["scaling"].setdefault(str(size), {"num_tokens": num_tokens, "systems": {}})
            row["systems"][name] = measure(name, copies, args.threads, bar)
            write_json(args.output, result)
    print(markdown_table(result))
    if result["scaling"]:
        print(f"\n{scaling_table(result)}")


if __name__ == "__main__":
    if sys.argv[1:2] == [CHILD]:
        measured_process(sys.argv[2], Path(sys.argv[3]))
    else:
        main()
