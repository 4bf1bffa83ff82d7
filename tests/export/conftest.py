"""Exported models that several tests read."""

from __future__ import annotations

from pathlib import Path

import pytest
from checkpoints import checkpoint

from hf_nat.steps import Export, ExportArguments


def exported_model(place: Path, model_type: str) -> Path:
    """Exports a small model."""
    step = Export(ExportArguments(model=str(checkpoint(place / "model", model_type)), output_dir=str(place / "graph")))
    step.run()
    return step.folder


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported CTC model."""
    return exported_model(tmp_path_factory.mktemp("exported"), "ctc_nat")


@pytest.fixture(scope="session")
def rounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported CMLM: an encoder and a step."""
    return exported_model(tmp_path_factory.mktemp("rounds"), "cmlm")
