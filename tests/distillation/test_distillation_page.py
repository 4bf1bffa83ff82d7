"""The page of distillation: its commands have keys that there are, and its table has every strategy."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from hf_nat.base.config import load_config
from hf_nat.distillation.filter_rules import FILTER_COLUMNS, RULES
from hf_nat.distillation.strategies import CHOOSING, STRATEGIES
from hf_nat.steps import (
    DataArguments,
    DistillArguments,
    FilterArguments,
    MixArguments,
    ModelArguments,
    NATSeq2SeqTrainingArguments,
)


ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "configs/DISTILLATION.md").read_text(encoding="utf-8")
GROUPS = {
    "distill": (DistillArguments,),
    "filter": (FilterArguments,),
    "mix": (MixArguments,),
    "train": (ModelArguments, DataArguments, NATSeq2SeqTrainingArguments),
}


def test_the_table_has_every_strategy() -> None:
    cells = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `")]
    assert {name for cell in cells for name in re.findall(r"`(\w[\w-]*)`", cell)} == STRATEGIES.keys()
    assert set(CHOOSING) < STRATEGIES.keys()


def test_the_table_has_every_rule_and_its_column() -> None:
    rows = [line.split("|")[1:3] for line in PAGE.splitlines() if line.startswith("| `--")]
    assert {name for cell, _ in rows for name in re.findall(r"`--(\w+)", cell)} == {"strategy", *RULES}
    columns = {name for _, cell in rows[1:] for name in re.findall(r"`(\w+)`", cell)}
    assert columns == {"teacher_score", *FILTER_COLUMNS}


@pytest.mark.parametrize(
    "line", [line for block in re.findall(r"```bash\n(.*?)```", PAGE, re.S) for line in block.splitlines()]
)
def test_every_command_has_keys_that_there_are(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    program, command, *argv = shlex.split(line)
    assert program == "hf-nat"
    less = ["--use_cpu=true"] if command == "train" else []
    load_config(GROUPS[command], [*argv, *less], prog=f"hf-nat {command}")


def test_lists_of_the_page_are_what_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    mix = [
        "--corpora",
        "a=x",
        "b=y#z",
        "--weights",
        "1",
        "0.5",
        "--source_lang=s",
        "--target_lang=t",
        "--output_dir=o",
    ]
    (args,) = load_config((MixArguments,), mix, prog="hf-nat mix")
    assert args.places == {"a": {"corpus": "x", "config_name": None}, "b": {"corpus": "y", "config_name": "z"}}
    assert args.all_weights == [1.0, 0.5]
    argv = ["configs/toy/cmlm_distilled.yaml", "--corpus", "a", "b", "--use_cpu=true"]
    _, data, _ = load_config(GROUPS["train"], argv, prog="hf-nat train")
    assert data.corpus == ["a", "b"]
    argv = ["configs/toy/distill.yaml", "--corpus", "null", "--source", "news.src"]
    (args,) = load_config((DistillArguments,), argv, prog="hf-nat distill")
    assert (args.source, args.splits) == ("news.src", {"train": "train"})
