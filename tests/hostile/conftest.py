"""Folders in which commands work."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hostile.places import INTO_MODEL, build_sound

from hf_nat_cli import main


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which every command works."""
    folder = tmp_path_factory.mktemp("sound") / "place"
    build_sound(folder)
    return folder


@pytest.fixture(scope="session")
def finished(sound: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same after some commands."""
    folder = tmp_path_factory.mktemp("finished") / "place"
    shutil.copytree(sound, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for command in ("evaluate", "filter", "analyze", "mix", *INTO_MODEL):
            out = [] if command in INTO_MODEL else ["--output_dir", f"run-{command}"]
            assert main([command, f"{command}.yaml", *out]) == 0, command
    return folder


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a case, which is also the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
