"""Steps that write a corpus, killed before each change of a file; and those that one process does, in two."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from distillation.strategy_runs import in_folder
from killing import dies_before_change
from transformers import MarianMTModel, PreTrainedTokenizerFast

from hf_nat.distillation import DistillArguments, FilterArguments, MixArguments
from hf_nat.steps import Filter, Mix, distill


pytestmark = pytest.mark.slow

DISTILLATIONS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "stream": {"streaming": True},
    "noise": {"source_noise": {"casing": 0.4, "punctuation": 0.4, "typos": 0.4, "merge": 0.4}},
    "n-best": {"strategy": "n-best", "num_candidates": 2},
    "expanded": {"strategy": "n-best", "num_candidates": 2, "expand": True},
    "sampling": {"strategy": "sampling"},
    "interpolation": {"strategy": "interpolation"},
    "mbr": {"strategy": "mbr", "num_candidates": 3},
    "rerank": {"strategy": "rerank", "num_candidates": 3},
    "union": {"strategy": "mbr", "num_candidates": 2},
    "ct2": {"backend": "ct2"},
    "ct2 mbr": {"backend": "ct2", "strategy": "mbr", "num_candidates": 3},
    "ct2 expanded": {"backend": "ct2", "strategy": "n-best", "num_candidates": 2, "expand": True},
    "ct2 stream": {"backend": "ct2", "streaming": True},
}
# Options that need a model on disk: the other direction's, and one whose candidates are added.
WITH_MODEL = {"rerank": "backward_teacher", "union": "union"}
RULES: dict[str, dict[str, Any]] = {
    "filter": {"drop": ["empty_source"]},
    "filter by measures": {"max_copy_rate": 0.9, "worst_score": 0.2, "max_per_source": 1},
    "filter by all others": {
        "backward_teacher": "FOLDER/second",
        "worst_backward_score": 0.2,
        "min_language_posterior": 0.1,
        "max_length_ratio": 3,
        "max_number_differences": 0,
        "max_url_differences": 0,
        "max_per_target": 1,
    },
}
NO_EXTRA_SPLITS = {"validation_split": None, "test_split": None}


@pytest.fixture
def steps(
    arguments: Callable[..., DistillArguments],
    copy_teacher: MarianMTModel,
    tiny_tokenizer: PreTrainedTokenizerFast,
    corpus: str,
    second: str,
    tmp_path: Path,
) -> dict[str, Callable[[str], Path]]:
    """What writes each kind of corpus, by its name, from the name of the folder."""
    small = {"strategy": "greedy", "shard_size": 6, "test_split": None}
    greedy = distill(copy_teacher, tiny_tokenizer, arguments("corpus", **small))
    mixed = {"corpora": [f"a={greedy}", f"b={corpus}"], "source_lang": "en", "target_lang": "xx"}

    def distillation(kind: str) -> Callable[[str], Path]:
        changes = {**small, **DISTILLATIONS[kind]}
        if option := WITH_MODEL.get(kind):
            changes[option] = [second] if option == "union" else second
        return lambda name: distill(copy_teacher, tiny_tokenizer, arguments(name, **changes))

    def filtering(rule: dict[str, Any]) -> Callable[[str], Path]:
        own = in_folder(rule, tmp_path)
        return lambda name: Filter(FilterArguments(corpus=str(greedy), output_dir=str(tmp_path / name), **own)).run()

    def mixing(name: str) -> Path:
        options: dict[str, Any] = {"shard_size": 12, **NO_EXTRA_SPLITS}
        return Mix(MixArguments(output_dir=str(tmp_path / name), **mixed, **options)).run()

    return {
        **{name: distillation(name) for name in DISTILLATIONS},
        **{name: filtering(rule) for name, rule in RULES.items()},
        "mix": mixing,
    }


def written(folder: Path) -> dict[str, int]:
    """When each shard was written, by its name without the number of all, which a stream has at its end."""
    return {path.stem.partition("-of-")[0]: path.stat().st_mtime_ns for path in folder.glob("data/*.parquet")}


@pytest.mark.parametrize("name", [*DISTILLATIONS, *RULES, "mix"])
def test_killed_before_any_change_of_a_file_the_same_command_ends_with_the_same_bytes(
    name: str,
    steps: dict[str, Callable[[str], Path]],
    file_bytes: Callable[[Path], dict[str, bytes]],
    tmp_path: Path,
) -> None:
    whole = file_bytes(steps[name]("whole"))
    folder = tmp_path / "killed"
    for number in count(1):
        if not dies_before_change(number, folder, lambda: steps[name]("killed")):
            break
        before = written(folder)
        steps[name]("killed")
        assert file_bytes(folder) == whole, f"killed before change {number}"
        assert (folder / "README.md").is_file()
        if name in DISTILLATIONS:
            assert before.items() <= written(folder).items(), f"killed before change {number}: shards made again"
        shutil.rmtree(folder)
    assert number > 20
    assert file_bytes(folder) == whole


@pytest.mark.parametrize("name", [*RULES, "mix"])
def test_two_processes_write_what_one_writes(
    name: str,
    steps: dict[str, Callable[[str], Path]],
    file_bytes: Callable[[Path], dict[str, bytes]],
    tmp_path: Path,
) -> None:
    one = file_bytes(steps[name]("one"))
    corpora = [f"a={tmp_path / 'corpus'}", f"b={tmp_path / '{split}.jsonl'}"]
    languages = {"source_lang": "en", "target_lang": "xx"}
    command, options = (
        ("mix", {"corpora": corpora, **languages, "shard_size": 12, **NO_EXTRA_SPLITS})
        if name == "mix"
        else ("filter", {"corpus": tmp_path / "corpus", **in_folder(RULES[name], tmp_path)})
    )
    words = [command, "--output_dir", tmp_path / "two"]
    for key, value in options.items():
        words += [f"--{key}", *(value if isinstance(value, list) else ["null" if value is None else value])]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "hf_nat"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([*launcher, *map(str, words)], env=environment, check=True)
    assert file_bytes(tmp_path / "two") == one
