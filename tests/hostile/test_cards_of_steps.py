"""The card of a finished step that someone deleted: the same command writes it again, and nothing else."""

from __future__ import annotations

import shutil

import pytest
from hostile.places import INTO_MODEL, contents

from hf_nat_cli import main


_CARDS = {
    "train": "run-train",
    "distill": "run-distill",
    "filter": "run-filter",
    "mix": "run-mix",
    "export": "run-export",
    "evaluate": "teacher",
    **INTO_MODEL,
    "analyze": "corpus/distilled",
}


@pytest.mark.parametrize(
    "command", [pytest.param(name, marks=[pytest.mark.slow] if name == "export" else []) for name in _CARDS]
)
def test_a_deleted_card_is_written_again(command, finished, place):
    shutil.copytree(finished, place, dirs_exist_ok=True)
    out = [] if command in INTO_MODEL else ["--output_dir", f"run-{command}"]
    argv = [command, f"{command}.yaml", *out]
    if command in ("train", "distill", "export"):
        assert main(argv) == 0
    before = contents(place)
    (place / _CARDS[command] / "README.md").unlink()
    assert main(argv) == 0
    assert contents(place) == before
