#!/usr/bin/env python
"""Training speed and memory of all architectures on the same batches.

    python scripts/benchmark_training.py --output benchmark.json
    python scripts/benchmark_training.py --architectures vanilla_nat cmlm --size base --device cuda --dtype bfloat16 \
        --corpus "data/multi30k/{split}.{lang}.gz" --source_lang en --target_lang de --tokenizer runs/teacher \
        --output benchmark.json

What is timed is one update: forward, backward, AdamW. Architectures take turns at every batch, so that a machine that
slows down slows all of them; the first one is the baseline of all ratios. `marian` is the autoregressive teacher with
the loss that the Trainer gives it, `x+glancing` an architecture that passes its decoder twice in each update. Speed is
in target tokens per second, EOS counted and padding not. On a CPU a second is one of processor time, the kernel's
included and all threads added up, because other work on the machine does not change it much: one thread
(`OMP_NUM_THREADS=1`) measures best.

Memory is the peak of the bytes in tensors during one update of the batch with the most target tokens: weights,
optimizer state, gradients, activations. The device's allocator counts it, so that a CPU and a GPU give comparable
numbers; on a CPU the libraries take some 0.4 GB of the process beside it.

FLOPs are those of the matrix products that an update executes, counted by `FlopCounterMode` with attention included.
Their rate is compared with that of one large matrix product, measured between the updates.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate, islice
from statistics import mean, median
from typing import Any

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode, mm_flop

from hf_nat.base.allocator import keep_freed_memory
from hf_nat.base.reporting import Table
from hf_nat.base.utils import environment, progress_bar, write_json
from hf_nat.models import ARCHITECTURES, SIZES, marian_config, new_teacher, size_config
from hf_nat.models.configuration_nat import GlancingConfig
from hf_nat.training.sampler import TokenBatchSampler
from hf_nat.training.trainer import CrossEntropyLoss


PAD, BOS, EOS, _, MASK = range(5)
LABEL_SMOOTHING = 0.1
WITH_GLANCING = [
    f"{name}+glancing" for name, (config, _) in ARCHITECTURES.items() if issubclass(config, GlancingConfig)
]
COMPILED_WIDTHS = 32  # under --compile, widths are padded to a multiple of this
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# A product that PyTorch does not count: the projection's weight gradient in `linear_cross_entropy`.
IN_PLACE = {torch.ops.aten.addmm_: lambda _, a_shape, b_shape, **__: mm_flop(a_shape, b_shape)}
Batch = dict[str, torch.Tensor]


@dataclass
class Trainee:
    """A model in training, and what was measured of it: FLOPs per batch, seconds per update, peak bytes."""

    name: str
    model: Any = field(repr=False)
    dtype: torch.dtype
    flops: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    peak_bytes: int = 0

    def __post_init__(self) -> None:
        self.optimizer = torch.optim.AdamW(
            self.model.train().parameters(), lr=5e-4, betas=(0.9, 0.98), eps=1e-8, fused=True
        )
        self.teacher_loss = CrossEntropyLoss(LABEL_SMOOTHING)

    def update(self, batch: Batch) -> None:
        """Does what the Trainer does with a batch."""
        self.accumulate(batch)
        self.step()

    def accumulate(self, batch: Batch, num_items: int | None = None) -> None:
        """Adds the gradient of a batch, of an update with so many target tokens, by default its own."""
        with torch.autocast(self.model.device.type, self.dtype, enabled=self.dtype != torch.float32):
            if self.name == "marian":
                sources = {name: batch[name] for name in ("input_ids", "attention_mask")}
                decoder_input_ids = self.model.prepare_decoder_input_ids_from_labels(batch["labels"])
                outputs = self.model(**sources, decoder_input_ids=decoder_input_ids)
                loss = self.teacher_loss(outputs, batch["labels"], num_items)
            else:
                loss = self.model(**batch, num_items_in_batch=num_items).loss
        loss.backward()

    def step(self) -> None:
        """Lets the optimizer make its step."""
        self.optimizer.step()
        self.optimizer.zero_grad()

    def resident_bytes(self) -> int:
        """Bytes of weights and optimizer state, which stay between updates."""
        state = (tensor for entry in self.optimizer.state.values() for tensor in entry.values())
        return sum(tensor.nbytes for tensor in (*self.model.parameters(), *self.model.buffers(), *state))


def new_trainee(name: str, args: argparse.Namespace) -> Trainee:
    """Builds an untrained model of the size asked for."""
    torch.manual_seed(1)
    fields = {"vocab_size": args.vocab_size, "pad_token_id": PAD, "bos_token_id": BOS, "eos_token_id": EOS}
    if name == "marian":
        model: Any = new_teacher(marian_config(args.size, **fields))
    else:
        config_class, model_class = ARCHITECTURES[name.removesuffix("+glancing")]
        fields |= {"mask_token_id": MASK, "label_smoothing": LABEL_SMOOTHING}
        if name in WITH_GLANCING:
            fields["glancing_ratio"] = 0.5
        if name == "flowseq":
            fields["init_steps"] = 0  # its second phase, with the flow, is the long one
        model = model_class(config_class(**{**size_config(args.size), **fields}))
    return Trainee(name, model.to(args.device), DTYPES[args.dtype])


def synthetic_lengths(num_pairs: int) -> list[tuple[int, int]]:
    """Draws lengths of source and target like those of news: a median of 25 tokens, one pair in a hundred over 85."""
    rng = np.random.default_rng(0)
    sources = rng.lognormal(np.log(24), 0.55, num_pairs)
    targets = sources * rng.lognormal(0, 0.15, num_pairs)
    return [(1 + int(s), 1 + int(t)) for s, t in zip(sources.clip(1, 200), targets.clip(1, 200), strict=True)]


def add_length_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options that `pair_lengths` reads."""
    parser.add_argument("--corpus", help="take lengths from this corpus, read by hf_nat.data.corpora.load_corpus")
    parser.add_argument("--split", default="train", help="with --corpus")
    for name in ("source_lang", "target_lang", "tokenizer"):
        parser.add_argument(f"--{name}", help="with --corpus")


def require_lengths(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Ends the program where options that `pair_lengths` needs are absent."""
    if args.corpus and not (args.source_lang and args.target_lang and args.tokenizer):
        parser.error("--corpus needs --source_lang, --target_lang and --tokenizer")


def pair_lengths(args: argparse.Namespace) -> list[tuple[int, int]]:
    """Returns the lengths of source and target in tokens, of the corpus of the command line or like those of news."""
    return corpus_lengths(args) if args.corpus else synthetic_lengths(20_000)


def corpus_lengths(args: argparse.Namespace) -> list[tuple[int, int]]:
    """Reads the lengths of source and target of a corpus in tokens."""
    from hf_nat.data.corpora import load_corpus
    from hf_nat.data.encoding import encode_corpus
    from hf_nat.data.tokenizer import load_tokenizer

    languages = {"source_lang": args.source_lang, "target_lang": args.target_lang}
    corpus, tokenizer = load_corpus(args.corpus, args.split, **languages), load_tokenizer(args.tokenizer)
    rows, _ = encode_corpus(corpus, tokenizer, **languages, max_source_length=250, max_target_length=250)
    return [(len(source), len(target)) for source, target in zip(rows["input_ids"], rows["labels"], strict=True)]


def make_batches(lengths: Sequence[tuple[int, int]], args: argparse.Namespace) -> list[Batch]:
    """Fills the first batches of an epoch with random tokens; the batch with the most target tokens comes first."""
    generator = torch.Generator().manual_seed(0)
    multiple = COMPILED_WIDTHS if args.compile else 1

    def side(num_tokens: Sequence[int], pad: int) -> torch.Tensor:
        last = torch.tensor(num_tokens).unsqueeze(1) - 1
        positions = torch.arange(-(-max(num_tokens) // multiple) * multiple)
        tokens = torch.randint(MASK + 1, args.vocab_size, (len(last), len(positions)), generator=generator)
        return tokens.masked_fill(positions == last, EOS).masked_fill(positions > last, pad)

    batches = []
    for rows in islice(TokenBatchSampler([max(pair) for pair in lengths], args.max_tokens), args.num_batches):
        sources, targets = zip(*(lengths[row] for row in rows), strict=True)
        input_ids, labels = side(sources, PAD), side(targets, -100)
        batches.append({"input_ids": input_ids, "attention_mask": input_ids.ne(PAD).long(), "labels": labels})
    batches.sort(key=num_targets, reverse=True)
    return [{name: tensor.to(args.device) for name, tensor in batch.items()} for batch in batches]


def num_targets(batch: Batch) -> int:
    """Counts the target tokens of a batch, padding left out."""
    return int(batch["labels"].ne(-100).sum())


def clock(call: Callable[[], Any], device: torch.device) -> float:
    """Returns the seconds that a call takes, all its work on the device included; on a CPU those of the processor."""
    now = time.process_time if device.type == "cpu" else time.perf_counter
    start = now()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return now() - start


def peak_growth(call: Callable[[], Any], device: torch.device) -> int:
    """Returns the most bytes in tensors at any moment of a call that frees none of those before it, beyond these."""
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        call()
        return torch.cuda.max_memory_allocated(device) - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    return max(accumulate((event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())), initial=0))


def measure(trainees: Sequence[Trainee], batches: Sequence[Batch], args: argparse.Namespace) -> float:
    """Counts FLOPs and memory, then times `repeats` updates of each batch, the trainees taking turns to come first.

    Returns:
        FLOPs per second of a large matrix product, the median of one before every turn.
    """
    device, size = torch.device(args.device), 2048 if args.device == "cpu" else 8192
    matrix = torch.randn(size, size, device=device, dtype=DTYPES[args.dtype])
    matmul = partial(torch.mm, matrix, matrix)
    with progress_bar((args.repeats + 1) * len(batches) * len(trainees), "updates", unit="updates") as bar:
        for trainee in trainees:
            for batch in batches:
                # Attention made of matrix products, because its fused kernels are not counted on every device.
                with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False, custom_mapping=IN_PLACE) as counter:
                    trainee.update(batch)
                trainee.flops.append(counter.get_total_flops())
                bar.update()
            if args.compile:
                trainee.model.compile(dynamic=False)
                for batch in batches:
                    trainee.update(batch)
            growth = peak_growth(partial(trainee.update, batches[0]), device)
            trainee.peak_bytes = trainee.resident_bytes() + growth
        matmul_seconds = [clock(matmul, device)]
        for turn in range(args.repeats * len(batches)):
            matmul_seconds.append(clock(matmul, device))
            first = turn % len(trainees)
            for trainee in (*trainees[first:], *trainees[:first]):
                trainee.seconds.append(clock(partial(trainee.update, batches[turn % len(batches)]), device))
                bar.update()
    return 2 * size**3 / median(matmul_seconds[1:])


def summary(trainee: Trainee, baseline: Trainee, tokens: Sequence[int], matmul_rate: float) -> dict[str, Any]:
    """Puts measurements in figures: medians over the updates, each against the baseline's update of the same batch.

    Args:
        trainee (`Trainee`): what was measured on all batches in turn.
        baseline (`Trainee`): the trainee that ratios refer to.
        tokens (`Sequence[int]`): target tokens of each batch.
        matmul_rate (`float`): FLOPs per second of a large matrix product.
    """
    repeats = len(trainee.seconds) // len(tokens)
    timed = list(zip(trainee.seconds, baseline.seconds, [*tokens] * repeats, trainee.flops * repeats, strict=True))
    return {
        "num_parameters": trainee.model.num_parameters(),
        "seconds": trainee.seconds,
        "target_tokens_per_second": median(count / seconds for seconds, _, count, _ in timed),
        "speed_ratio": median(base / seconds for seconds, base, _, _ in timed),
        "flops_per_update": mean(trainee.flops),
        "matmul_share": median(flops / seconds / matmul_rate for seconds, _, _, flops in timed),
        "peak_bytes": trainee.peak_bytes,
        "memory_ratio": trainee.peak_bytes / baseline.peak_bytes,
    }


def markdown_table(result: dict[str, Any]) -> str:
    """Prints one row per architecture."""
    header = ("architecture", "target tokens/s", "speed", "peak MB", "memory", "GFLOP/update", "of the matmul rate")
    rows = [
        (
            name,
            f"{row['target_tokens_per_second']:.0f}",
            f"{row['speed_ratio']:.2f}x",
            f"{row['peak_bytes'] / 1e6:.0f}",
            f"{row['memory_ratio']:.2f}x",
            f"{row['flops_per_update'] / 1e9:.1f}",
            f"{100 * row['matmul_share']:.0f} %",
        )
        for name, row in result["architectures"].items()
    ]
    return Table(header, rows).markdown()


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = list(dict.fromkeys(["vanilla_nat", "marian", *ARCHITECTURES, *WITH_GLANCING]))
    parser.add_argument("--architectures", nargs="+", choices=known, default=known, metavar="NAME")
    parser.add_argument("--size", choices=SIZES, default="tiny")
    parser.add_argument("--vocab_size", type=int, default=8000)
    parser.add_argument("--max_tokens", type=int, default=4096, help="budget of a batch: rows x longest row")
    parser.add_argument("--num_batches", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3, help="timed updates of each batch")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="bfloat16 is autocast")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true", help="torch.compile on widths padded to multiples of 32")
    add_length_arguments(parser)
    parser.add_argument("--output", required=True, help="JSON file to write")
    args = parser.parse_args(argv)
    if len(set(args.architectures)) < len(args.architectures):
        parser.error(f"--architectures must be distinct, got {args.architectures}")
    require_lengths(parser, args)
    if min(args.num_batches, args.repeats) < 1:
        parser.error("--num_batches and --repeats must be >= 1")
    return args


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, writes the JSON file and prints the table."""
    keep_freed_memory()
    args = parse_arguments(argv)
    batches = make_batches(pair_lengths(args), args)
    trainees = [new_trainee(name, args) for name in args.architectures]
    matmul_rate = measure(trainees, batches, args)
    tokens = [num_targets(batch) for batch in batches]
    result = {
        "settings": vars(args),
        "batches": [{name: [*tensor.shape] for name, tensor in batch.items()} for batch in batches],
        "target_tokens": tokens,
        "matmul_flops_per_second": matmul_rate,
        "architectures": {t.name: summary(t, trainees[0], tokens, matmul_rate) for t in trainees},
        "environment": environment(),
    }
    write_json(args.output, result)
    print(markdown_table(result))


if __name__ == "__main__":
    main()
