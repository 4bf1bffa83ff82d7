#!/usr/bin/env python
"""Whether the Levenshtein Transformer can learn a few sentences by heart, and whether it then edits as it is defined.

    python scripts/overfit_levenshtein.py --teacher runs/multi30k/converged/teacher --source data/multi30k/train.en.gz
        --target data/multi30k/train.de.gz --num_sentences 32 --num_epochs 1500 --size mini --variants default
        --output configs/multi30k/results/levenshtein/overfit_longer.json

A model without dropout and label smoothing that knows its sentences has the losses of words and deletions near 0 and
that of placeholders near its floor, writes each target in the first round, and deletes and inserts nothing after it.
What is far from that is a fault of training or of decoding.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from transformers import set_seed

from hf_nat.base.reporting import Table
from hf_nat.base.utils import environment, progress_bar, write_json
from hf_nat.data.tokenizer import load_tokenizer
from hf_nat.models.levenshtein_edits import kept_tokens
from hf_nat.models.sizes import SIZES
from hf_nat.training.arguments import ModelArguments
from hf_nat.training.model import build_model


VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "alpha 0.5": {"deletion_roll_in_alpha": 0.5},
    "beta 0.5": {"insertion_roll_in_beta": 0.5},
    "sampled words": {"sample_deletion_roll_in": True},
    "own deletion stack": {"deletion_decoder": "own"},
    "own placeholder stack": {"placeholder_decoder": "own"},
    "EOS penalty 1": {"eos_penalty": 1.0},
}
"""What is tried: fields of the configuration by name, and the EOS penalty, with which it is decoded."""
Batch = dict[str, torch.Tensor]


def read_batches(args: argparse.Namespace, tokenizer: Any) -> list[Batch]:
    """Reads the first pairs into batches of 32, shortest first."""
    sides = []
    for path in (args.source, args.target):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            texts = [line.strip() for line in itertools.islice(file, args.num_sentences)]
        sides.append(tokenizer(texts).input_ids)
    pairs = sorted(zip(*sides, strict=True), key=lambda pair: len(pair[1]))
    return [_batch(pairs[i : i + 32], tokenizer.pad_token_id) for i in range(0, len(pairs), 32)]


def _batch(pairs: Sequence[tuple[list[int], list[int]]], pad: int) -> Batch:
    rows = [list(map(torch.tensor, side)) for side in zip(*pairs, strict=True)]
    source = torch.nn.utils.rnn.pad_sequence(rows[0], batch_first=True, padding_value=pad)
    labels = torch.nn.utils.rnn.pad_sequence(rows[1], batch_first=True, padding_value=-100)
    return {"input_ids": source, "attention_mask": source.ne(pad).long(), "labels": labels}


def train(model: Any, batches: Sequence[Batch], num_epochs: int) -> list[dict[str, float]]:
    """Trains with Adam, its learning rate falling in a line to 0; returns the losses of some ten epochs."""
    curve = []
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, num_epochs * len(batches))
    model.train()
    bar = progress_bar(num_epochs, "epochs", unit="epochs")
    for epoch in range(1, num_epochs + 1):
        for i in torch.randperm(len(batches)).tolist():
            model(**batches[i]).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
        if epoch % max(num_epochs // 10, 1) == 0:
            with torch.random.fork_rng():
                curve.append({"epoch": epoch, **losses(model, batches)})
        bar.update()
    return curve


@torch.no_grad()
def losses(model: Any, batches: Sequence[Batch]) -> dict[str, float]:
    """The three losses in nats, each a mean over the sentences, by their tokens, of the mean over their positions."""
    torch.manual_seed(1)
    model.train()  # In training the losses draw their canvases; there is no dropout.
    found = [(len(batch["labels"]), model(**batch).loss_components) for batch in batches]
    total = sum(size for size, _ in found)
    return {name: sum(size * float(parts[name]) for size, parts in found) / total for name in found[0][1]}


@torch.no_grad()
def placeholder_floor(model: Any, batches: Sequence[Batch], num_draws: int = 20) -> float:
    """The placeholders' loss, in nats, of a model that knows its sentences and all that a shortened one tells.

    Where a target holds a token twice, what is left of it may be either: the loss cannot be less than the entropy of
    the number of missing tokens. A mean over draws of the roll-in, weighted as in `losses`.
    """
    model.train()
    pad, floors = model.config.pad_token_id, []
    for batch in batches:
        targets = [row[row.ne(-100)].tolist() for row in batch["labels"]]
        weights = np.array([len(target) for target in targets])
        for _ in range(num_draws):
            canvases = model._roll_in(batch["labels"], None).insertion_canvas
            kept = [row[row.ne(pad)].tolist() for row in canvases]
            means = [np.mean(slot_entropies(*pair)) for pair in zip(targets, kept, strict=True)]
            floors.append((len(targets), weights @ means / weights.sum()))
    sizes, values = zip(*floors, strict=True)
    return float(np.average(values, weights=sizes))


def slot_entropies(target: Sequence[int], kept: Sequence[int]) -> list[float]:
    """Entropy, in nats, of the number of tokens missing before each token that is left of a target.

    Args:
        target (`Sequence[int]`): with EOS.
        kept (`Sequence[int]`): what is left of it, with EOS; all ways to find it in the target are equally probable,
            as `random_keep` draws first how many stay, then which.

    Returns:
        `list[float]`: one for each token of `kept`.
    """
    is_there = np.array([[token == other for other in target] for token in kept], dtype=float)
    # Ways to find all up to a token of what is left, and all from it on, by its place in the target.
    before, after = is_there.copy(), is_there.copy()
    for j in range(1, len(kept)):
        before[j] *= np.concatenate([[0], before[j - 1].cumsum()[:-1]])
    for j in reversed(range(len(kept) - 1)):
        after[j] *= np.concatenate([after[j + 1][::-1].cumsum()[::-1][1:], [0]])
    places = np.arange(len(target))
    gaps = places - places[:, None] - 1
    entropies = []
    for j in range(len(kept)):
        ways, missing = (before[j - 1][:, None] * after[j], gaps) if j else (after[j], places)
        counts = np.bincount(missing[missing >= 0], weights=ways[missing >= 0])
        probs = counts[counts > 0] / counts.sum()
        entropies.append(float(-probs @ np.log(probs)))
    return entropies


def edits(
    model: Any, batches: Sequence[Batch], rounds: int, eos_penalty: float = 0.0
) -> Iterator[tuple[bool, int, int, int]]:
    """Yields for each sentence: is the output the target, its length, and what later rounds deleted and inserted."""
    model.eval()
    knobs = {"eos_penalty": eos_penalty}
    pad, eos = model.config.pad_token_id, model.config.eos_token_id
    for batch in batches:
        source = {name: batch[name] for name in ("input_ids", "attention_mask")}
        first, last = (model.generate(**source, **knobs, max_iterations=number) for number in (1, rounds))
        target = batch["labels"].masked_fill(batch["labels"].eq(-100), pad)
        before, after, wanted = ([_cut(row, pad, eos) for row in rows.tolist()] for rows in (first, last, target))
        for one, two, gold in zip(before, after, wanted, strict=True):
            width = max(len(one), len(two), 1)
            rows = torch.tensor([row + [pad] * (width - len(row)) for row in (one, two)])
            common = int(kept_tokens(rows[:1], rows[1:], pad)[0].sum())
            yield two == gold, len(two), len(one) - common, len(two) - common


def _cut(row: list[int], pad: int, eos: int) -> list[int]:
    return [token for token in row if token not in (pad, eos)]


def measure(
    args: argparse.Namespace, options: dict[str, Any], batches: Sequence[Batch], tokenizer: Any
) -> dict[str, Any]:
    """Trains one variant and measures it."""
    set_seed(1)
    start = {"init_from_teacher": args.teacher} if args.size is None else {"size": args.size}
    eos_penalty = options.get("eos_penalty", 0.0)
    fields = {name: value for name, value in options.items() if name != "eos_penalty"}
    plain = {"dropout": 0.0, "placeholder_label_smoothing": 0.0, **fields}
    model = build_model(
        ModelArguments(model_type="levenshtein_transformer", model_config=plain, **start),
        tokenizer,
        label_smoothing=0.0,
    )
    clock = time.perf_counter()
    before = losses(model, batches)
    curve = train(model, batches, args.num_epochs)
    rows = list(edits(model, batches, 10, eos_penalty))
    exact, lengths, undone, added = (sum(column) / len(rows) for column in zip(*rows, strict=True))
    return {
        "losses_before": before,
        "losses": losses(model, batches),
        "placeholder_floor": placeholder_floor(model, batches),
        "curve": curve,
        "exact": exact,
        "tokens": lengths,
        "undone_after_first_round": undone,
        "added_after_first_round": added,
        "seconds": round(time.perf_counter() - clock, 1),
    }


def table(results: dict[str, Any]) -> Table:
    """Makes the table of the page; the placeholders' floor, where it was measured, stands in parentheses."""
    heads = ("placeholder", "word", "deletion")
    floors = {
        name: f" ({row['placeholder_floor']:.3f})" if "placeholder_floor" in row else ""
        for name, row in results["variants"].items()
    }
    rows = [
        [
            name,
            *(f"{row['losses'][head]:.3f}{floors[name] if head == 'placeholder' else ''}" for head in heads),
            f"{100 * row['exact']:.1f}",
            *(f"{row[key]:.2f}" for key in ("tokens", "undone_after_first_round", "added_after_first_round")),
        ]
        for name, row in results["variants"].items()
    ]
    return Table(["variant", *heads, "exact, %", "tokens", "deleted later", "inserted later"], rows)


def main(argv: Sequence[str] | None = None) -> None:
    """Writes the JSON file, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", required=True, help="whose blocks and tokenizer it starts from")
    parser.add_argument("--size", choices=SIZES, help="new weights of this size instead of the blocks")
    parser.add_argument("--source", required=True)
    parser.add_argument("--target", required=True)
    parser.add_argument("--num_sentences", type=int, default=500)
    parser.add_argument("--num_epochs", type=int, default=40)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--output", required=True)
    args = parser.parse_args(argv)
    tokenizer = load_tokenizer(args.teacher)
    batches = read_batches(args, tokenizer)
    results = {
        "num_sentences": args.num_sentences,
        "size": args.size,
        "num_epochs": args.num_epochs,
        "variants": {name: measure(args, VARIANTS[name], batches, tokenizer) for name in args.variants},
        "environment": environment(),
    }
    write_json(args.output, results)
    print(table(results).markdown())


if __name__ == "__main__":
    main()
