from __future__ import annotations

import datasets
import pytest


@pytest.fixture(autouse=True)
def datasets_cache(tmp_path_factory, monkeypatch):
    """Keeps what these tests load out of the user's cache, and one test's cache from the next."""
    path = tmp_path_factory.mktemp("datasets_cache")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", path)
    return path
