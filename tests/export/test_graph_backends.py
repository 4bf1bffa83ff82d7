"""Exported models behind the commands: scores, a server, as many threads as asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from checkpoints import SENTENCES


pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

from hf_nat.base.utils import read_json, write_json
from hf_nat.decoding import load_model, translate
from hf_nat_cli import main


@pytest.mark.parametrize("threads", [1, 3])
def test_a_graph_runs_with_as_many_threads_as_asked_for(exported: Path, threads: int) -> None:
    model: Any = load_model(exported, backend="onnx", threads=threads)[0]
    assert model.sessions["model"].open(("sequences",)).get_session_options().intra_op_num_threads == threads


def test_a_graph_has_the_scores_of_its_model(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for lang, lines in (("en", SENTENCES), ("de", SENTENCES[::-1])):
        Path(f"test.{lang}").write_text("".join(f"{line}\n" for line in lines))
    command = ["evaluate", "--corpus", "{split}.{lang}", "--source_lang", "en", "--target_lang", "de"]
    for name, folder, backend in (("torch", exported.parent / "model", []), ("onnx", exported, ["--backend", "onnx"])):
        assert main([*command, "--model", str(folder), "--metrics", "chrf", "--output_dir", name, *backend]) == 0
    metrics = {name: read_json(f"{name}/metrics.json") for name in ("torch", "onnx")}
    assert metrics["onnx"]["scores"] == metrics["torch"]["scores"]
    assert metrics["onnx"]["decoding"]["backend"] == "onnx" and "backend" not in metrics["torch"]["decoding"]
    assert Path("onnx/translations.txt").read_bytes() == Path("torch/translations.txt").read_bytes()


def test_a_graph_is_served(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("fastapi")
    served: list[Callable[[list[str]], Any]] = []
    monkeypatch.setattr("hf_nat.serving.app.build_app", lambda translate, *args, **kwargs: served.append(translate))
    monkeypatch.setattr("hf_nat.serving.server.Server", lambda *args: SimpleNamespace(run=lambda sockets: None))
    command = ["serve", "--model", str(exported), "--port", "0", "--backend", "onnx"]
    assert main(command) == 0
    expected = translate(*load_model(exported.parent / "model"), SENTENCES, with_scores=True)
    found = served[0](SENTENCES)
    assert [t.text for t in found] == [t.text for t in expected]
    assert [t.score for t in found if t.score] == pytest.approx([t.score for t in expected if t.score], abs=1e-5)
    # Whoever has a short list is told whose sentences share it.
    assert "short list" not in caplog.text
    record = read_json(exported / "onnx/export.json")
    write_json(exported / "onnx/export.json", record | {"shortlist": [50, 200]})
    try:
        assert main(command) == 0
    finally:
        write_json(exported / "onnx/export.json", record)
    assert "a translation depends on those of other clients" in caplog.text
