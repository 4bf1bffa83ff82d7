"""A graph, or its record, that is not as it was exported is told by name."""

from __future__ import annotations

import io
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

from checkpoints import SENTENCES

from hf_nat.base.utils import read_json, sha256_file, write_json
from hf_nat.decoding import load_model, translate
from hf_nat.steps import Export, ExportArguments
from hf_nat_cli import main


def swap(folder: Path) -> None:
    """Exchanges the two graphs of a folder."""
    encoder, step = (folder / f"onnx/{name}_model.onnx" for name in ("encoder", "step"))
    before = encoder.read_bytes()
    encoder.write_bytes(step.read_bytes())
    step.write_bytes(before)


def swap_with_sums(folder: Path) -> None:
    """Exchanges the two graphs, and their sums in the record."""
    swap(folder)
    record = read_json(folder / "onnx/export.json")
    encoder, step = (f"onnx/{name}_model.onnx" for name in ("encoder", "step"))
    sums = record["sha256"]
    sums[encoder], sums[step] = sums[step], sums[encoder]
    write_json(folder / "onnx/export.json", record)


def other_weights(folder: Path) -> None:
    """Puts the step of another model there: the same graph of other weights."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load(folder / "onnx/step_model.onnx")
    weight = max(model.graph.initializer, key=lambda value: len(value.raw_data))
    weight.raw_data = weight.raw_data[4:] + weight.raw_data[:4]
    onnx.save(model, folder / "onnx/step_model.onnx")


def other_input(folder: Path) -> None:
    """Gives an input of the step another name, and the step its sum."""
    onnx = pytest.importorskip("onnx")
    file = folder / "onnx/step_model.onnx"
    model = onnx.load(file)
    before = model.graph.input[0].name
    model.graph.input[0].name = "ids"
    for node in model.graph.node:
        node.input[:] = ["ids" if name == before else name for name in node.input]
    onnx.save(model, file)
    record = read_json(folder / "onnx/export.json")
    with_record(sha256=record["sha256"] | {"onnx/step_model.onnx": sha256_file(file)})(folder)


def cut(name: str) -> Callable[[Path], None]:
    """Keeps the first half of a graph."""

    def damage(folder: Path) -> None:
        file = folder / f"onnx/{name}_model.onnx"
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])

    return damage


def with_record(**changes: Any) -> Callable[[Path], None]:
    """Changes the record."""
    return lambda folder: write_json(folder / "onnx/export.json", read_json(folder / "onnx/export.json") | changes)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut("encoder"), "encoder_model.onnx` must be the graph that was exported"),
        (cut("step"), "step_model.onnx` must be the graph that was exported"),
        (swap, "encoder_model.onnx` must be the graph that was exported"),
        (swap_with_sums, r"encoder_model.onnx` must compute \['encoder_hidden_states'"),
        (other_weights, "step_model.onnx` must be the graph that was exported"),
        (lambda folder: (folder / "onnx/step_model.onnx").unlink(), "There is no graph `.*step_model.onnx`"),
        (
            with_record(graphs=["step_model", "encoder_model"]),
            r"`graphs` of .* must be \['encoder_model', 'step_model'\]",
        ),
        (with_record(graphs=["model"]), r"`graphs` of .* must be \['encoder_model', 'step_model'\], got \['model'\]"),
        (with_record(graphs=["encoder_model"]), "`graphs` of .* must be"),
        (with_record(sha256={}), "encoder_model.onnx` must be the graph that was exported"),
        (with_record(sha256=[]), "must hold `sha256` as dict"),
        (with_record(knobs={"rounds": 4}), "`knobs` must be one of .* in .*, got 'rounds'"),
        (other_input, r"step_model.onnx` must read inputs out of .*, got \['ids'\]"),
    ],
)
def test_damage_of_a_model_that_refines_is_told(
    damage: Callable[[Path], None],
    message: str,
    rounds: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = Path(shutil.copytree(rounds, tmp_path / "graphs"))
    damage(folder)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        load_model(folder, backend="onnx")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a dog runs\n")))
    assert main(["translate", "--model", str(folder), "--backend", "onnx"]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and len(captured.err.splitlines()) == 1 and re.search(message, captured.err)


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("onnx/export.json", {"graphs": []}, r"`graphs` of `.*export.json` must be \['model'\], got \[\]"),
        ("onnx/export.json", {"graphs": [["model"]]}, "`graphs` of .* must be"),
        ("onnx/export.json", {"graphs": ["../model"]}, "`graphs` of .* must be"),
        ("onnx/export.json", {"knobs": {}}, "`knobs` of .*export.json` must hold `max_iterations` as int, got None"),
        ("onnx/export.json", {"knobs": {"max_iterations": "x"}}, "must hold `max_iterations` as int, got 'x'"),
        ("onnx/export.json", {"knobs": {"max_iterations": 1, "zz": 1}}, "`knobs` must be one of .* in .*, got 'zz'"),
        ("onnx/export.json", {"sha256": {}}, "model.onnx` must be the graph that was exported"),
        (
            "config.json",
            {"model_type": "vanilla_nat"},
            "`model_type` of .* must be that of the config.json .*, got 'ctc_nat'",
        ),
        ("config.json", {"model_type": "marian"}, "`model_type` of .* must be an architecture that has a graph"),
        ("config.json", {"blank_token_id": 9}, "`.*/config.json` must be the config.json that was exported"),
        ("config.json", {"vocab_size": 20}, "`.*/config.json` must be the config.json that was exported"),
        ("tokenizer_config.json", {"a": 1}, "`.*/tokenizer_config.json` must be the tokenizer_config.json that was"),
        ("tokenizer.json", {"version": "2"}, "`.*/tokenizer.json` must be the tokenizer.json that was exported"),
        (
            "generation_config.json",
            {"max_length": "x"},
            "generation_config.json`: `max_length` must be of the type int",
        ),
        ("generation_config.json", {"ctc_beam_size": 2.5}, "generation_config.json`: `ctc_beam_size` must be of the"),
        ("generation_config.json", {"num_return_sequences": 3}, "generation_config.json`: Greedy methods"),
    ],
)
def test_a_damaged_record_is_told(
    file: str, changes: dict[str, Any], message: str, exported: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(exported, tmp_path / "graph"))
    write_json(folder / file, read_json(folder / file) | changes)
    with pytest.raises(ValueError, match=message):
        load_model(folder, backend="onnx")


def test_knobs_may_be_tuned_and_the_record_of_a_training_changed(exported: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(exported, tmp_path / "graph"))
    write_json(folder / "generation_config.json", read_json(folder / "generation_config.json") | {"ctc_beam_size": 2})
    sums = read_json(folder / "onnx/export.json")["sha256"] | {"run.json": "0"}
    with_record(sha256=sums)(folder)
    write_json(folder / "run.json", {})
    model, _ = load_model(folder, backend="onnx")
    assert model.generation_config.ctc_beam_size == 2


def test_a_graph_of_an_older_version_has_no_frames_for_a_search(exported: Path, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    folder = Path(shutil.copytree(exported, tmp_path / "graph"))
    file = folder / "onnx/model.onnx"
    model = onnx.load(file)
    (frames,) = [output for output in model.graph.output if output.name == "frame_logits"]
    model.graph.output.remove(frames)
    onnx.save(model, file)
    with_record(sha256=read_json(folder / "onnx/export.json")["sha256"] | {"onnx/model.onnx": sha256_file(file)})(
        folder
    )
    older, tokenizer = load_model(folder, backend="onnx")
    assert len(translate(older, tokenizer, SENTENCES)) == len(SENTENCES)
    with pytest.raises(ValueError, match=r"must compute .'frame_logits'., .* Export the model again"):
        translate(older, tokenizer, SENTENCES, ctc_beam_size=2)


def test_a_record_without_end_is_told(exported: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(exported, tmp_path / "graph"))
    (folder / "onnx/export.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match="export.json` must be JSON: nested too deeply"):
        load_model(folder, backend="onnx")


def test_a_graph_that_is_not_the_exported_one_is_told(exported: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(exported, tmp_path / "graph"))
    graph = folder / "onnx/model.onnx"
    data = graph.read_bytes()
    half = len(data) // 2
    for damaged in (b"", data[:1000], data[:half] + b"\xff" * 100 + data[half + 100 :]):
        graph.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"`.*model.onnx` must be the graph that was exported, but is not that"):
            load_model(folder, backend="onnx")


@pytest.mark.slow
def test_a_damaged_graph_is_made_again(exported: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(exported.parent, tmp_path / "copy")) / exported.name
    step = Export(ExportArguments(model=str(folder.parent / "model"), output_dir=str(folder)))
    (folder / "onnx/model.onnx").write_bytes(b"")
    assert not step.is_whole()
    step.run()
    assert step.is_whole()
    load_model(folder, backend="onnx")
