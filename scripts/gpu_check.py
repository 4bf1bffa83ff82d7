#!/usr/bin/env python
"""Pieces of a check on one GPU, each within 8 minutes, without network, from the tree and Multi30k alone.

    ./scripts/gpu_check.sh teacher --multi30k data/multi30k --output runs/gpu_check/teacher

`tests` runs the tests marked gpu, the training benchmark at sizes base and big and, with a teacher and a CTC student
of a minute's training, the decoding benchmark. `teacher`, `students` and `levt` train a teacher from
configs/multi30k_gpu, let it translate the training split, train students on that and score all of them. Training stops
when its share of the time is over: scores say that all of it works, not how good it is.

The output folder gets `results.json` and `results.md`, written after every stage, `log.txt` and in `tests` the JSON
files of the benchmarks: at most 7 files, under 8 MB. A stage that fails is written down and the others go on; what
needs it, or a package that is absent, is not run. The exit status is 1 if a stage failed. Without a GPU all is done on
the CPU, in single precision: `--size nano` tries every piece there.
"""

from __future__ import annotations

import argparse
import gc
import math
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_nat.base.allocator import keep_freed_memory
from hf_nat.base.reporting import Table
from hf_nat.base.utils import environment, read_json, write_json
from hf_nat.experiments.plans import resolve_distillation
from hf_nat.steps import DecodingArguments, Distill, Evaluate, EvaluateArguments, Train
from hf_nat.training.run import train


ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "configs" / "multi30k_gpu"
TEST_SPLIT = "test_2016_flickr"
TRAIN_ALONE = {
    "eval_strategy": "no",
    "save_strategy": "no",
    "load_best_model_at_end": False,
    "average_checkpoints": 0,
    "num_train_epochs": 10_000,
    "report_to": "none",
    "disable_tqdm": True,
}
NANO = {"max_tokens": 200, "max_train_samples": 40, "max_validation_samples": 4}
LONGEST = {"base": 64, "nano": 8}  # outputs of a teacher of some minutes' training, which may loop
NANO_SECONDS = 5.0  # of a training
MAX_LOG_BYTES = 2_000_000
# Share of the time that the teacher is trained for, its beam, and the students, the most informative first.
ONE_PASS = "ctc_nat_glancing_distilled"
TRAININGS: dict[str, tuple[float, int, list[str]]] = {
    "teacher": (0.4, 5, [ONE_PASS]),
    "students": (
        0.15,
        1,
        [
            "da_transformer_distilled",
            "vanilla_nat_glancing_distilled",
            "cmlm_distilled",
            "vanilla_nat_distilled",
            "insertion_transformer_distilled",
            "iterative_nat_distilled",
            "flowseq_distilled",
        ],
    ),
    "levt": (0.2, 1, ["levenshtein_transformer_distilled"]),
}


class NotRun(Exception):
    """Why a stage was not run."""


class StopAt(TrainerCallback):
    """Ends training at a moment of `time.perf_counter`, after the update that is under way."""

    def __init__(self, moment: float) -> None:
        self.moment = moment

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Looks at the clock."""
        control.should_training_stop = control.should_training_stop or time.perf_counter() >= self.moment


class Check:
    """One piece: its stages one after the other, and what they left.

    Args:
        args (`argparse.Namespace`): the command line.
        work (`Path`): folder of all that is not kept.
    """

    def __init__(self, args: argparse.Namespace, work: Path) -> None:
        self.args, self.work, self.output = args, work, Path(args.output)
        self.on_gpu, self.is_nano = torch.cuda.is_available(), args.size == "nano"
        # A trial on a CPU says nothing of time, and may have any.
        self.end = math.inf if self.is_nano else time.perf_counter() + args.seconds
        self.output.mkdir(parents=True, exist_ok=True)
        self.log = self.output / "log.txt"
        self.log.write_text("", encoding="utf-8")
        self.results: dict[str, Any] = {"piece": args.piece, "size": args.size, "environment": environment()}
        self.stages: dict[str, dict[str, Any]] = {}
        self.results["stages"] = self.stages

    def left(self) -> float:
        """Returns the seconds that are left."""
        return self.end - time.perf_counter()

    def stage(self, name: str, work: Callable[[], Any], needs: Sequence[str] = ()) -> None:
        """Does a part of the piece and writes down how it went."""
        print(f"{name} ...", flush=True)
        started, row = time.perf_counter(), self.stages.setdefault(name, {})
        try:
            if missing := [stage for stage in needs if self.stages[stage]["status"] != "done"]:
                raise NotRun(f"it needs: {', '.join(missing)}")
            if self.left() <= 0:
                raise NotRun("no time was left")
            with open(self.log, "a", encoding="utf-8") as log, redirect_stdout(log), redirect_stderr(log):
                row |= {"status": "done", "result": work()}
        except NotRun as reason:
            row |= {"status": "not run", "reason": str(reason)}
        except Exception as error:
            with open(self.log, "a", encoding="utf-8") as log:
                traceback.print_exc(file=log)
            row |= {"status": "failed", "reason": " ".join(f"{type(error).__name__}: {error}".split())[:500]}
        row["seconds"] = time.perf_counter() - started
        gc.collect()
        if self.on_gpu:
            torch.cuda.empty_cache()
        self.write()
        print(f"{name}: {row['status']} {row.get('reason', '')}", flush=True)

    def write(self) -> None:
        """Writes the results of all stages so far, and shortens the log."""
        write_json(self.output / "results.json", self.results)
        rows = [
            [name, row["status"], f"{row['seconds']:.0f}", row.get("reason") or says(row["result"])]
            for name, row in self.stages.items()
        ]
        table = Table(["stage", "status", "seconds", "what it says"], rows).markdown()
        (self.output / "results.md").write_text(f"{table}\n", encoding="utf-8")
        log = self.log.read_bytes()
        if len(log) > MAX_LOG_BYTES:
            self.log.write_bytes(log[-MAX_LOG_BYTES:])

    def call(self, *command: str, limit: float) -> str:
        """Runs a Python program, its output going to the log, and returns that output.

        Raises:
            RuntimeError: if the program fails, or runs longer than `limit` seconds or the piece.
        """
        seconds = None if self.is_nano else max(1.0, min(limit, self.left()))
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as file:
            try:
                status = subprocess.run(
                    [sys.executable, *command], cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, timeout=seconds
                ).returncode
            except subprocess.TimeoutExpired:
                status = None
            file.seek(0)
            output = file.read()
        print(output)
        if status != 0:
            end = f"was stopped after {seconds:.0f} s" if status is None else f"ended with status {status}"
            raise RuntimeError(f"`{' '.join(command)[:80]}` {end}: {output.strip()[-300:]}")
        return output

    @property
    def corpus(self) -> dict[str, Any]:
        """The real corpus."""
        pattern = str(Path(self.args.multi30k, "{split}.{lang}.gz"))
        return {"corpus": pattern, "source_lang": "en", "target_lang": "de"}

    def train(self, config: str, seconds: float, **places: Any) -> dict[str, Any]:
        """Trains a model for so many seconds, the preparation of the data included."""
        until = time.perf_counter() + min(seconds, self.left(), NANO_SECONDS if self.is_nano else math.inf)
        size: dict[str, Any] = {}
        if self.is_nano:
            size = NANO if "init_from_teacher" in places else NANO | {"size": "nano", "vocab_size": 120}
        machine = {"bf16": self.on_gpu, "use_cpu": not self.on_gpu, "output_dir": str(self.work / config)}
        step = Train.from_config(CONFIGS / f"{config}.yaml", **TRAIN_ALONE | size | machine | places)
        metrics = train(step.model, step.data, step.training, callbacks=[StopAt(until)])
        kept = ("num_parameters", "num_updates", "epochs", "eval_loss", "eval_bleu")
        return {name: metrics.get(name) for name in kept} | {
            name: value for name, value in metrics.items() if "per_second" in name
        }

    def distill(self, num_beams: int) -> dict[str, Any]:
        """Lets the teacher translate the training split."""
        args = resolve_distillation(
            CONFIGS / "distill_base.yaml",
            **self.corpus,
            teacher=str(self.work / "teacher_base"),
            output_dir=str(self.work / "distilled_base"),
            backend="torch",
            strategy="beam" if num_beams > 1 else "greedy",
            num_beams=num_beams,
            max_new_tokens=LONGEST[self.args.size],
            max_samples=12 if self.is_nano else None,
        )
        made = read_json(Distill(args).run() / "metrics.json")
        rows = {"rows": made["num_sentences"], "rows_per_second": made["sentences_per_second"]}
        return {**rows, "num_beams": num_beams}

    def evaluate(self, name: str, **decoding: Any) -> dict[str, Any]:
        """Scores a model on the test split."""
        step = Evaluate(
            EvaluateArguments(model=str(self.work / name), split=TEST_SPLIT, **self.corpus),
            DecodingArguments(**decoding),
        )
        step.run()
        scores = {metric: score["score"] for metric, score in step.metrics["scores"].items()}
        kept = ("sentences_per_second", "iterations_mean")
        return scores | {key: step.metrics[key] for key in kept if step.metrics.get(key) is not None}


def says(result: Any) -> str:
    """Puts the numbers of a stage on one line."""
    if not isinstance(result, dict):
        return str(result)
    return ", ".join(
        f"{key} {value:,.2f}".removesuffix(".00") for key, value in result.items() if isinstance(value, int | float)
    )


def check_training(check: Check) -> None:
    """Teacher, its translations, students on these, and the scores of all."""
    share, num_beams, students = TRAININGS[check.args.piece]
    seconds = share * check.args.seconds
    check.stage("teacher_base", lambda: check.train("teacher_base", seconds, **check.corpus))
    check.stage("test of teacher_base", lambda: check.evaluate("teacher_base", num_beams=num_beams), ["teacher_base"])
    check.stage("distill_base", lambda: check.distill(num_beams), ["teacher_base"])
    teacher = str(check.work / "teacher_base")
    places = {"corpus": str(check.work / "distilled_base"), "init_from_teacher": teacher, "tokenizer": teacher}
    for place, name in enumerate(students):
        # A third is for the scores.
        seconds = 2 / 3 * check.left() / (len(students) - place)

        def train_student(name: str = name, seconds: float = seconds) -> dict[str, Any]:
            return check.train(name, seconds, **places)

        def score_student(name: str = name) -> dict[str, Any]:
            return check.evaluate(name)

        check.stage(name, train_student, ["distill_base"])
        check.stage(f"test of {name}", score_student, [name])


def check_tests(check: Check) -> None:
    """The tests for GPUs and the benchmarks."""
    check.stage("tests marked gpu", lambda: run_tests(check))
    for size, limit in (("base", 100), ("big", 60)):

        def benchmark(size: str = size, limit: int = limit) -> dict[str, Any]:
            return benchmark_training(check, size, limit)

        check.stage(f"training benchmark, {size}", benchmark)
    seconds = 0.1 * check.args.seconds
    check.stage("teacher_base", lambda: check.train("teacher_base", seconds, **check.corpus))
    teacher = str(check.work / "teacher_base")
    places = {**check.corpus, "validation_split": "val", "init_from_teacher": teacher, "tokenizer": teacher}
    check.stage(ONE_PASS, lambda: check.train(ONE_PASS, seconds, **places), ["teacher_base"])
    models = ["teacher_base", ONE_PASS]
    check.stage("decoding benchmark", lambda: benchmark_decoding(check, with_ct2=False), models)
    check.stage("decoding benchmark with CTranslate2", lambda: benchmark_decoding(check, with_ct2=True), models)


def run_tests(check: Check) -> str:
    """Runs the tests that need a GPU, side by side where pytest can; returns what pytest says at the end."""
    if find_spec("pytest") is None:
        raise NotRun("pytest is not installed")
    # Launches of several processes ask for more than one GPU.
    files = sorted(path for path in ROOT.glob("tests/**/test_*.py") if "training" not in path.parts)
    tests = [str(path.relative_to(ROOT)) for path in files if "@pytest.mark.gpu" in path.read_text(encoding="utf-8")]
    if check.is_nano:
        tests = [path for path in tests if "levenshtein" in path]
    workers = ["-n", str(min(8, os.cpu_count() or 1))] if find_spec("xdist") and not check.is_nano else []
    options = ["-m", "gpu", "-q", "-rf", "-o", "addopts=", "-p", "no:cacheprovider", *workers]
    return check.call("-m", "pytest", *options, *tests, limit=120).strip().splitlines()[-1]


def benchmark_training(check: Check, size: str, limit: float) -> dict[str, Any]:
    """Runs the training benchmark; returns the share of the matmul rate of each architecture."""
    output = check.output / f"training_{size}.json"
    options = ["--size", size, "--max_tokens", "8000", "--num_batches", "2", "--repeats", "3"]
    if size == "big":
        options += ["--architectures", "vanilla_nat", "marian", "cmlm", "ctc_nat"]
    if check.is_nano:
        small = ["--max_tokens", "250", "--vocab_size", "100", "--num_batches", "1", "--repeats", "1"]
        options = ["--size", "nano", *small, "--architectures", "vanilla_nat", "marian"]
    machine = ["--device", "cuda", "--dtype", "bfloat16"] if check.on_gpu else []
    check.call("scripts/benchmark_training.py", *options, *machine, "--output", str(output.absolute()), limit=limit)
    result = read_json(output)
    rate = {"matmul TFLOP/s": result["matmul_flops_per_second"] / 1e12}
    return rate | {f"% of it, {name}": 100 * row["matmul_share"] for name, row in result["architectures"].items()}


def benchmark_decoding(check: Check, with_ct2: bool) -> dict[str, Any]:
    """Runs the decoding benchmark; returns the sentences a second of each system in the largest batches."""
    if with_ct2 and find_spec("ctranslate2") is None:
        raise NotRun("ctranslate2 is not installed")
    teacher, student = (str((check.work / name).absolute()) for name in ("teacher_base", ONE_PASS))
    dtype, limit = "bfloat16" if check.on_gpu else "float32", f"max_new_tokens={LONGEST[check.args.size]}"
    systems = [f"transformers={teacher}:dtype={dtype},{limit}", f"ctc_nat={student}:dtype={dtype}"]
    if with_ct2:
        precision = "float16" if check.on_gpu else "float32"
        ct2 = f"={teacher}:backend=ct2,compute_type={precision},{limit}"
        systems += [f"ct2{ct2}", f"ct2_beam5{ct2},num_beams=5"]
    else:
        systems.insert(1, f"transformers_beam5={teacher}:dtype={dtype},{limit},num_beams=5")
    corpus = [option for key, value in check.corpus.items() for option in (f"--{key}", value)]
    corpus[1] = str(Path(corpus[1]).absolute())
    sizes = ["1", "2"] if check.is_nano else ["1", "8", "64", "256"]
    options = ["--num_sentences", "4" if check.is_nano else "1000", "--max_batches", "4", "--repeats", "2"]
    output = check.output / f"decoding{'_ct2' if with_ct2 else ''}.json"
    check.call(
        *("scripts/benchmark_decoding.py", "--systems", *systems, *corpus, "--split", TEST_SPLIT, *options),
        *("--batch_sizes", *sizes, "--output", str(output.absolute())),
        limit=60,
    )
    measured = read_json(output)["batch_sizes"]
    return {
        **{f"{name}, ms at batch 1": row["ms_per_batch"] for name, row in measured["1"].items()},
        **{f"{name}, /s at {sizes[-1]}": row["sentences_per_second"] for name, row in measured[sizes[-1]].items()},
    }


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("piece", choices=["tests", *TRAININGS])
    parser.add_argument("--size", choices=["base", "nano"], default="base", help="nano is a trial on a CPU")
    parser.add_argument(
        "--multi30k",
        default=os.environ.get("MULTI30K", "data/multi30k"),
        help="folder of {train,val,test_2016_flickr}.{en,de}.gz; default: the variable MULTI30K, else data/multi30k",
    )
    parser.add_argument("--output", help="folder of the results; default: runs/gpu_check/PIECE")
    parser.add_argument("--seconds", type=float, default=420.0, help="time of the piece")
    args = parser.parse_args(argv)
    args.output = args.output or f"runs/gpu_check/{args.piece}"
    if not 0 < args.seconds <= 440:
        parser.error(f"--seconds must be above 0 and at most 440, got {args.seconds:g}")
    names = [f"{split}.{lang}.gz" for split in ("train", "val", TEST_SPLIT) for lang in ("en", "de")]
    if missing := [name for name in names if not Path(args.multi30k, name).is_file()]:
        parser.error(f"--multi30k must be the folder of Multi30k, got {args.multi30k!r} without {missing[0]}")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the piece; returns 1 if a stage failed."""
    keep_freed_memory()
    args = parse_arguments(argv)
    with tempfile.TemporaryDirectory(prefix="hf_nat-") as work:
        check = Check(args, Path(work))
        check_tests(check) if args.piece == "tests" else check_training(check)
        print((check.output / "results.md").read_text(encoding="utf-8"))
    return int(any(row["status"] == "failed" for row in check.stages.values()))


if __name__ == "__main__":
    sys.exit(main())
