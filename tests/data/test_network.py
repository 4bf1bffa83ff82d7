"""A name that is nothing here, where the Hub cannot be reached: one request, and one line that names it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import huggingface_hub
import pytest
from huggingface_hub import constants
from huggingface_hub.utils._http import default_client_factory, hf_request_event_hook

from hf_nat.data import load_corpus, load_tokenizer, network
from hf_nat.data.pretrained import load_pretrained_config, load_pretrained_model


httpx = pytest.importorskip("httpx2")


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[str]]:
    """Switches the Hub on, behind a network that is down, in one minute; returns what was asked of it."""
    asked: list[str] = []

    def refuse(request: Any) -> Any:
        hf_request_event_hook(request)
        asked.append(str(request.url))
        raise httpx.ConnectError("No route to host")

    for module in (constants, datasets.config):
        monkeypatch.setattr(module, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    # The turn of a minute is another question.
    monkeypatch.setattr(network, "time", SimpleNamespace(monotonic=lambda: 0.0))
    monkeypatch.chdir(tmp_path)
    huggingface_hub.set_client_factory(lambda: httpx.Client(transport=httpx.MockTransport(refuse)))
    network._fault.cache_clear()
    yield asked
    network._fault.cache_clear()
    huggingface_hub.set_client_factory(default_client_factory)


LOADERS: list[Callable[[str], Any]] = [
    load_pretrained_config,
    load_pretrained_model,
    load_tokenizer,
    lambda name: load_corpus(name, source_lang="en", target_lang="de"),
]


@pytest.mark.parametrize("load", LOADERS)
def test_one_request_tells_that_there_is_no_network(load: Callable[[str], Any], requests: list[str]) -> None:
    message = "there is no `.*/runs/teacher`, and the Hub does not give `runs/teacher`: .* No route to host"
    for _ in range(2):
        with pytest.raises(OSError, match=message.replace(": .* ", r": https://\S+ cannot be reached \(")) as raised:
            load("runs/teacher")
        assert "\n" not in str(raised.value)
    assert len(requests) == 1
    assert not constants.HF_HUB_OFFLINE and not datasets.config.HF_HUB_OFFLINE


def test_the_cache_is_read_without_network(
    requests: list[str], copy_teacher: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = tmp_path / f"models--some--model/snapshots/{'0' * 40}"
    (tmp_path / "models--some--model/refs").mkdir(parents=True)
    (tmp_path / "models--some--model/refs/main").write_text("0" * 40)
    copy_teacher.save_pretrained(snapshot)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert load_pretrained_model("some/model").num_parameters() == copy_teacher.num_parameters()
    assert len(requests) == 1


def test_another_minute_asks_again(requests: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for now in (0.0, 59.0, 60.0):
        monkeypatch.setattr(network.time, "monotonic", lambda now=now: now)
        with network.offline_without_network() as fault:
            assert fault is not None
    assert len(requests) == 2


def test_what_is_here_is_asked_of_nobody(requests: list[str], copy_teacher: Any, tmp_path: Path) -> None:
    copy_teacher.save_pretrained(tmp_path / "runs/teacher")
    load_pretrained_model("runs/teacher")
    assert not requests
