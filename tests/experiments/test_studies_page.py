"""The page of the studies: its files are plans that can be run, and its table has every study of the paper."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hf_nat.base.config import load_config
from hf_nat.experiments.born_again import BornAgain
from hf_nat.experiments.distillation_studies import CAPACITY, DECODING
from hf_nat.experiments.matrix import Matrix
from hf_nat.experiments.registry import EXPERIMENTS
from hf_nat.steps import Train


ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "configs/STUDIES.md").read_text(encoding="utf-8")
# In the order of the page.
FILES = ("distill", "train", "decoding", "capacity", "born_again")
PLANS: dict[str, Callable[[Any], Any]] = {
    "decoding": lambda args: Matrix(args, DECODING),
    "capacity": lambda args: Matrix(args, CAPACITY),
    "born-again": BornAgain,
}


def test_the_table_has_every_study_of_the_paper() -> None:
    named = set(re.findall(r"`hf-nat experiment ([a-z-]+)`", PAGE))
    assert named == EXPERIMENTS.keys() - {"claims", "report"}
    links = re.findall(r"\]\(([^)]+)\)", PAGE)
    assert len(links) > 10 and all((ROOT / "configs" / link).is_file() for link in links)


def test_the_studies_of_the_page_are_of_one_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my").mkdir()
    for name, text in zip(FILES, re.findall(r"```yaml\n(.*?)```", PAGE, re.S), strict=True):
        assert f"`my/{name}.yaml`" in PAGE
        (tmp_path / f"my/{name}.yaml").write_text(text, encoding="utf-8")
    real = "my/{split}.{lang}"
    commands = [shlex.split(line) for line in re.findall(r"^hf-nat .*$", PAGE, re.M)]
    assert {command[2] for command in commands} == PLANS.keys()
    for _, _, study, file in commands:
        (args,) = load_config((EXPERIMENTS[study].arguments,), [file])
        plan = PLANS[study](args)
        assert {own.place["corpus"] for own in plan.real_corpora()} == {real}
        trainings = [step.data for step in plan.steps() if isinstance(step, Train)]
        assert {data.corpus for data in trainings if not str(data.corpus).startswith("runs/my/")} == {real}
        assert {data.source_lang for data in trainings} == {"en"}
