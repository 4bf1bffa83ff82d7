"""On what graph and model are compared, and what of it is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from checkpoints import SENTENCES, checkpoint
from datasets import Dataset


pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

from hf_nat.base.utils import read_json, write_json
from hf_nat.cards import model_card
from hf_nat.data.several import pair_features
from hf_nat.decoding import load_model
from hf_nat.decoding.shortlist import ShortList
from hf_nat.export.export import export, save_graphs
from hf_nat.export.parity import Samples, compare, load_samples, require_parity
from hf_nat.steps import Export, ExportArguments
from hf_nat_cli import main


def test_ties_are_counted_and_other_differences_fail() -> None:
    expected = ([[5, 2], [6, 2], [7, 2]], [-1.0, -2.0, -3.0])
    found = ([[5, 2], [8, 2], [7, 2]], [-1.0, -2.000009, -3.5])
    counts = compare(Samples("random", [[2]] * 3), None, expected, found)  # type: ignore[arg-type]
    assert (counts["num_sentences"], counts["num_equal"], counts["num_tied"]) == (3, 2, 1)
    require_parity(expected, found)
    with pytest.raises(ValueError, match=r"but 1 of 3 differ, with scores more than 1e-05 nats apart\. Export with"):
        require_parity(expected, (found[0], [-1.0, -2.1, -3.0]))
    with pytest.raises(ValueError, match="but 1 of 3 differ"):
        require_parity(expected, (found[0], [-1.0, -2.1, -3.0]), refines=True)
    hundred = ([[5, 2]] * 100, [-1.0] * 100)
    require_parity(hundred, ([[8, 2], *hundred[0][1:]], [-2.0, *hundred[1][1:]]), refines=True)


def args_of(folder: Path, **options: Any) -> ExportArguments:
    """Arguments of an export into a folder beside the model."""
    return ExportArguments(model=str(folder / "model"), output_dir=str(folder / "out"), **options)


def write_run(model: Path, **arguments: Any) -> None:
    """Writes what `hf-nat train` tells of the corpus."""
    named = {"source_lang": "en", "target_lang": "de", "config_name": None, "validation_split": "val"}
    made = {"num_parameters": 1, "environment": {"device": "cpu", "versions": {}}}
    write_json(model / "run.json", {"arguments": named | arguments, **made})


def test_the_validation_split_of_the_training_is_compared_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = checkpoint(tmp_path / "model", "ctc_nat")
    model, tokenizer = load_model(folder)
    random = load_samples(args_of(tmp_path), model, tokenizer)
    assert (random.name, random.split, random.references, len(random.sources)) == ("random", None, None, 24)
    assert len(load_samples(args_of(tmp_path, max_samples=5), model, tokenizer).sources) == 5
    for lang in ("en", "de"):
        Path(f"val.{lang}").write_text("".join(f"{line} {lang}\n" for line in SENTENCES))
    write_run(folder, corpus="{split}.{lang}")
    before = Export(args_of(tmp_path)).inputs()
    samples = load_samples(args_of(tmp_path, max_samples=4), model, tokenizer)
    assert (samples.name, samples.split, samples.target_lang) == ("{split}.{lang}", "val", "de")
    assert samples.references == [f"{line} de" for line in SENTENCES[:4]]
    for corpus in (["{split}.{lang}", "other"], "other"):
        write_run(folder, corpus=corpus, validation_corpus=None if isinstance(corpus, list) else "{split}.{lang}")
        assert load_samples(args_of(tmp_path), model, tokenizer).name == "{split}.{lang}"
    assert Export(args_of(tmp_path)).inputs()["validation"] == before["validation"]
    sentences = args_of(tmp_path, sentences="val.en")
    assert load_samples(sentences, model, tokenizer).name == "val.en"
    assert "validation" not in Export(sentences).inputs()
    caplog.clear()
    for changes in ({"validation_split": None}, {"validation_share": 0.1}, {"corpus": []}, {"source_lang": 3}):
        write_run(folder, **{"corpus": "{split}.{lang}"} | changes)
        assert load_samples(args_of(tmp_path), model, tokenizer).name == "random"
    assert not caplog.records
    write_run(folder, corpus="gone.{split}.{lang}")
    assert load_samples(args_of(tmp_path), model, tokenizer).name == "random"
    assert "compared on random tokens, since the validation split of the model cannot be loaded" in caplog.text


@pytest.mark.slow
def test_embeddings_may_stay_in_single_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx = pytest.importorskip("onnx")
    monkeypatch.chdir(tmp_path)
    write_run(checkpoint(tmp_path / "model", "ctc_nat"), corpus="{split}.{lang}")
    for lang in ("en", "de"):
        Path(f"val.{lang}").write_text("".join(f"{line}\n" for line in SENTENCES))
    command = ["export", "--model", "model", "--output_dir", "out", "--quantize", "int8"]
    command += ["--quantize_embeddings", "false", "--reduce_range", "true"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "float32: 4 of 4 translations are equal to the model's; BLEU" in printed and "8 bits cost" not in printed
    graph = onnx.load("out/onnx/model_int8.onnx").graph
    matrices = {value.name: value for value in graph.initializer if len(value.dims) > 1}
    vocabulary = [value for value in matrices.values() if max(value.dims) >= 60]
    assert {value.data_type for value in vocabulary} == {onnx.TensorProto.FLOAT} and len(vocabulary) > 1
    eighths = [onnx.numpy_helper.to_array(v) for v in matrices.values() if v.data_type == onnx.TensorProto.INT8]
    assert eighths and all(abs(values).max() <= 64 for values in eighths)
    record = read_json("out/onnx/export.json")
    assert record["quantization"] == {"embeddings": False, "reduce_range": True}
    assert (record["samples"], record["split"]) == ("{split}.{lang}", "val")
    card = Path("out/README.md").read_text(encoding="utf-8")
    for told in (
        "compared on sentences of `{split}.{lang}`, split `val`",
        "projection are in single precision in the graph with 8 bits",
        "use 7 of the 8 bits",
        "library_name: onnx\n",
        "- onnx\n",
    ):
        assert told in card
    # What the command advises where 8 bits cost too much.
    record["parity"]["int8"]["bleu"]["graph"] = record["parity"]["float32"]["bleu"]["graph"] - 0.4
    record["quantization"] = {}
    write_json("out/onnx/export.json", record)
    assert main(command) == 0
    assert "8 bits cost more than 0.3 BLEU. `--quantize_embeddings false`" in capsys.readouterr().out
    written = Path("out/onnx/export.json").stat().st_mtime_ns
    Path("val.en").unlink()
    assert main(command) == 0
    assert Path("out/onnx/export.json").stat().st_mtime_ns == written, "a split that is gone says nothing new"


def test_the_card_tells_random_tokens_and_a_short_list(exported: Path, tmp_path: Path) -> None:
    assert "compared on random tokens" in model_card(exported)
    record = read_json(exported / "onnx/export.json")
    for name in ("config.json", "generation_config.json", "onnx/export.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_json(tmp_path / name, read_json(exported / name))
    parity = {"float32": record["parity"]["float32"] | {"num_equal": 22, "num_tied": 2}}
    write_json(tmp_path / "onnx/export.json", record | {"shortlist": [50, 200], "parity": parity})
    card = " ".join(model_card(tmp_path).split())
    assert "the 50 target tokens that each source token" in card and "depends on the sentences beside it" in card
    assert "| 24 | 22, and 2 of equal score |" in card
    older = {name: value for name, value in record.items() if name not in ("samples", "split", "quantization")}
    del older["parity"]["float32"]["num_tied"]
    write_json(tmp_path / "onnx/export.json", older)
    assert "compared on" not in model_card(tmp_path)


@pytest.mark.slow
def test_a_graph_with_another_short_list_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = Dataset.from_dict(
        {"translation": [{"en": line, "de": line} for line in SENTENCES]}, features=pair_features("en", "de")
    )
    monkeypatch.setattr(ExportArguments, "load_shortlist", lambda self: rows)
    checkpoint(tmp_path / "model", "ctc_nat")
    args = args_of(tmp_path, shortlist="corpus", source_lang="en", target_lang="de", shortlist_best=2)

    def other(model: Any, args: Any, short_list: ShortList, folder: Path) -> list[str]:
        wrong = ShortList(short_list.best, short_list.always[:3], short_list.vocab_size)
        return save_graphs(model, args, wrong, folder)

    monkeypatch.setattr("hf_nat.export.export.save_graphs", other)
    with pytest.raises(ValueError, match="The graph must translate every sample as the model does, but"):
        export(args)
