"""What a graph decodes is what `generate` does, for every architecture that has one."""

from __future__ import annotations

import ast
import io
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import SENTENCES, checkpoint
from datasets import Dataset
from nat_model_tester import tiny_teacher
from transformers import MarianMTModel, MarianTokenizer


pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

from hf_nat.cards import model_card
from hf_nat.data.several import pair_features
from hf_nat.decoding import DecodingArguments, load_model, translate
from hf_nat.decoding.shortlist import load_short_list
from hf_nat.demo.browser import exported_files
from hf_nat.export.export import export
from hf_nat.steps import Export, ExportArguments
from hf_nat_cli import main


def marian(student: Any) -> MarianMTModel:
    """A tiny AT model of a student's vocabulary."""
    return tiny_teacher(vocab_size=student.config.vocab_size)


def check(place: Path, model_type: str, args: dict[str, Any], **fields: Any) -> Export:
    """Exports a tiny model; its translations must be those of torch, alone and in a batch."""
    model_folder = checkpoint(place / "model", model_type, **fields)
    step = Export(ExportArguments(model=str(model_folder), output_dir=str(place / "exported"), **args))
    step.run()
    knobs = step.args.knobs
    model, tokenizer = load_model(model_folder)
    exported, _ = load_model(place / "exported", backend="onnx")
    expected = translate(model, tokenizer, SENTENCES, with_scores=True, **knobs)
    for max_batch_tokens in (4096, 1):  # all in one batch, then one by one
        found = translate(exported, tokenizer, SENTENCES, max_batch_tokens=max_batch_tokens, with_scores=True, **knobs)
        assert [(t.text, t.num_tokens) for t in found] == [(t.text, t.num_tokens) for t in expected]
        for before, after in zip(expected, found, strict=True):
            assert after.score == (None if before.score is None else pytest.approx(before.score, abs=1e-5))
    shown, _ = load_model(step.folder, backend="onnx", quantize=args.get("quantize"))
    sentences = [s for s in SENTENCES if s]
    assert as_printed(step.folder, sentences) == [t.text for t in translate(shown, tokenizer, sentences, **knobs)]
    return step


def as_printed(folder: Path, sentences: list[str], python: Path | None = None) -> list[str]:
    """What the script of an exported model's card translates, where only the runtime and the tokenizers are.

    It is called as the card says, from a place that has nothing to do with the folder: by a Python that has nothing
    else, else by the one of the tests without most of its libraries.
    """
    card = (folder / "README.md").read_text(encoding="utf-8")
    (printed,) = re.findall(r"```python\n(.*?)```", card, flags=re.S)
    assert "\npython translate.py FOLDER " in card
    place = folder.parent / "elsewhere"
    place.mkdir(exist_ok=True)
    (place / "translate.py").write_text(printed, encoding="utf-8")
    blocked = ("hf_nat", "torch", "transformers", "datasets", "huggingface_hub", "safetensors", "onnx")
    code = (
        f"import sys, runpy\nsys.modules.update(dict.fromkeys({blocked}))\ndel sys.argv[0]\n"
        "runpy.run_path(sys.argv[0])"
    )
    start = [sys.executable, "-I", "-c", code] if python is None else [python, "-I"]
    command = [*start, "translate.py", str(folder), *sentences]
    done = subprocess.run(command, check=True, cwd=place, capture_output=True, text=True)
    return ast.literal_eval(done.stdout)


@pytest.fixture(scope="module")
def bare_python(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a new environment with what the card says that its script needs."""
    (line,) = re.findall("^pip (install .*)$", (exported / "README.md").read_text(encoding="utf-8"), flags=re.M)
    folder = tmp_path_factory.mktemp("environment")
    python = folder / "bin" / "python"
    if subprocess.run([sys.executable, "-m", "venv", folder], capture_output=True).returncode:
        pytest.skip("This Python cannot make an environment.")
    command = [python, "-I", "-m", "pip", *line.split(), "--retries=1"]
    done = subprocess.run(command, capture_output=True, text=True)
    if "connection" in done.stderr.lower():
        pytest.skip(f"The package index cannot be reached: {done.stderr[-200:]}")
    assert not done.returncode, done.stderr
    return python


@pytest.mark.slow
@pytest.mark.parametrize("name", ["exported", "rounds"])
def test_the_script_of_a_card_needs_only_what_it_says(
    name: str, bare_python: Path, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(name)
    assert subprocess.run([bare_python, "-I", "-c", "import transformers"], capture_output=True).returncode == 1
    exported, tokenizer = load_model(folder, backend="onnx")
    sentences = [s for s in SENTENCES if s]
    expected = [t.text for t in translate(exported, tokenizer, sentences)]
    assert as_printed(folder, sentences, bare_python) == expected != sentences


def test_ctc_as_a_graph_in_both_precisions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    step = check(tmp_path, "ctc_nat", {"quantize": "int8"})
    parity = step.record["parity"]
    assert parity["float32"]["num_equal"] == parity["float32"]["num_sentences"] > 0
    assert 0 <= parity["int8"]["num_equal"] <= parity["int8"]["num_sentences"]
    int8, tokenizer = load_model(step.folder, backend="onnx", quantize="int8", threads=1)
    assert len(translate(int8, tokenizer, SENTENCES)) == len(SENTENCES)
    for options, message in (
        ({"max_length": 9}, "with which the model was exported"),
        ({"return_history": True}, "must be left out for an exported model"),
        ({"num_return_sequences": 2}, "`num_return_sequences` must be left out for a model that is one graph"),
        ({"terms": [[[5]]]}, "`terms` must be left out"),
        ({"teacher": marian(int8)}, "at least 2 candidates"),
    ):
        with pytest.raises(ValueError, match=message):
            int8.generate(torch.tensor([[5, 2]]), **options)  # type: ignore[operator]
    with pytest.raises(ValueError, match="right-padded"):
        int8.generate(torch.tensor([[0, 5, 2]]))  # type: ignore[operator]
    # The same step again does nothing; the folder is a model that can be pushed.
    modified = (step.folder / "onnx/model.onnx").stat().st_mtime_ns
    step.run()
    assert (step.folder / "onnx/model.onnx").stat().st_mtime_ns == modified
    card = step.folder / "README.md"
    assert "hf download" not in card.read_text(encoding="utf-8")
    assert main(["push", "--folder", str(step.folder), "--repo_id", "a/b", "--dry_run", "true"]) == 0
    assert "\nhf download a/b --local-dir FOLDER\npython translate.py FOLDER " in model_card(step.folder, "a/b")
    listed = capsys.readouterr().out
    assert all(name in listed for name in ("onnx/model.onnx", "onnx/model_int8.onnx", "onnx/export.json", "README.md"))


def test_the_language_of_the_references_is_a_setting_where_there_are_any(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("a\n")
    texts = {"sentences": str(tmp_path / "text"), "references": str(tmp_path / "text")}
    args = ExportArguments(model=str(tmp_path), output_dir=str(tmp_path / "out"), **texts, target_lang="de")
    assert Export(args).settings() != Export(replace(args, target_lang="zh")).settings()
    alone = replace(args, sentences=None, references=None, target_lang=None)
    assert "target_lang" not in Export(alone).settings()


def test_a_model_that_refines_as_encoder_and_step(tmp_path: Path) -> None:
    step = check(tmp_path, "cmlm", {"max_iterations": 4, "length_beam": 2})
    names = {path.name for path in (step.folder / "onnx").iterdir()}
    assert names == {"encoder_model.onnx", "step_model.onnx", "export.json"}
    model, tokenizer = load_model(tmp_path / "model")
    exported, _ = load_model(step.folder, backend="onnx")
    knobs = {"max_iterations": 2, "collapse_repeats": True}  # the loop's own
    expected = [t.text for t in translate(model, tokenizer, SENTENCES, length_beam=2, **knobs)]
    assert [t.text for t in translate(exported, tokenizer, SENTENCES, **knobs)] == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model_type", "args", "fields"),
    [
        ("vanilla_nat", {}, {}),
        ("vanilla_nat", {"length_beam": 3, "collapse_repeats": True}, {"source_copy": "soft"}),
        ("vanilla_nat", {}, {"source_copy": "attention", "position_embedding_type": "learned"}),
        ("ctc_nat", {"collapse_repeats": True}, {"source_copy": "none", "upsample_ratio": 3}),
        ("da_transformer", {"graph_decoding": "greedy"}, {}),
        ("da_transformer", {"graph_decoding": "lookahead"}, {"graph_size_ratio": 2.5}),
        ("cmlm", {"max_iterations": 4}, {"correction_ratio": 0.5}),
        ("cmlm", {"max_iterations": 4, "length_beam": 2, "quantize": "int8"}, {}),
        ("levenshtein_transformer", {"max_iterations": 3, "quantize": "int8"}, {}),
        ("iterative_nat", {"max_iterations": 3}, {}),
        ("iterative_nat", {"max_iterations": 5, "length_beam": 2}, {"source_copy": "none"}),
        ("flowseq", {}, {}),
        ("flowseq", {"collapse_repeats": True}, {"flow_steps": [1, 1], "attention_output_projection": True}),
        ("insertion_transformer", {}, {}),
        ("insertion_transformer", {"max_iterations": 3}, {}),
        ("levenshtein_transformer", {}, {}),
        ("levenshtein_transformer", {"max_iterations": 3, "collapse_repeats": True}, {"deletion_decoder": "own"}),
    ],
)
def test_models_as_graphs(tmp_path: Path, model_type: str, args: dict[str, Any], fields: dict[str, Any]) -> None:
    check(tmp_path, model_type, args, **fields)


@pytest.mark.slow
def test_the_end_of_a_graph_of_vertices_in_8_bits(tmp_path: Path) -> None:
    # It scores a single token, by a vector: ONNX Runtime multiplies by none in 8 bits.
    parity = check(tmp_path, "da_transformer", {"quantize": "int8", "graph_decoding": "lookahead"}).record["parity"]
    assert parity["int8"]["num_sentences"] == parity["float32"]["num_equal"]


@pytest.mark.slow
def test_a_tokenizer_of_sentencepiece_models_has_no_file_for_others(tmp_path: Path) -> None:
    spm = pytest.importorskip("sentencepiece", reason="a MarianTokenizer needs sentencepiece")
    folder = checkpoint(tmp_path / "model", "ctc_nat")
    for file in folder.glob("*token*"):
        file.unlink()
    sides = [str(folder / f"{side}.spm") for side in ("source", "target")]
    for side in sides:
        with open(side, "wb") as writer:
            spm.SentencePieceTrainer.train(
                sentence_iterator=iter(SENTENCES), model_writer=writer, vocab_size=40, hard_vocab_limit=False,
                bos_id=-1, eos_id=-1, minloglevel=2,
            )  # fmt: skip
    model = spm.SentencePieceProcessor(model_file=sides[0])
    pieces = ["<pad>", "<s>", "</s>", "<unk>", "<mask>", *(model.id_to_piece(i) for i in range(1, len(model)))]
    size = json.loads((folder / "config.json").read_text(encoding="utf-8"))["vocab_size"]
    pieces += [f"x{i}" for i in range(len(pieces), size)]
    (folder / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(pieces)}), encoding="utf-8")
    special = {"bos_token": "<s>", "mask_token": "<mask>"}
    tokenizer = MarianTokenizer(*sides, str(folder / "vocab.json"), **special)
    tokenizer.save_pretrained(folder)
    step = Export(ExportArguments(model=str(folder), output_dir=str(tmp_path / "exported")))
    step.run()
    parity = step.record["parity"]["float32"]
    assert parity["num_equal"] == parity["num_sentences"] > 0
    assert step.record["tokenizer_json"] is False and not (step.folder / "tokenizer.json").exists()
    card = (step.folder / "README.md").read_text(encoding="utf-8")
    assert "There is no `tokenizer.json`, since none gives the same ids" in " ".join(card.split())
    assert "from tokenizers import" not in card
    with pytest.raises(ValueError, match="must have tokenizer.json, .* gives the same ids for every text"):
        exported_files(step.folder)


@pytest.mark.slow
@pytest.mark.parametrize("model_type", ["insertion_transformer", "levenshtein_transformer"])
def test_candidates_that_differ_from_the_first_round_on(tmp_path: Path, model_type: str) -> None:
    knobs = {"num_candidates": 3, "eos_penalty": 0.5, "max_iterations": 3}
    check(tmp_path, model_type, {}, knobs=knobs)
    exported, tokenizer = load_model(tmp_path / "exported", backend="onnx")
    with pytest.raises(ValueError, match="`num_candidates` must be 3, with which the model was exported"):
        translate(exported, tokenizer, SENTENCES, num_candidates=2)


@pytest.mark.slow
@pytest.mark.parametrize("model_type", ["ctc_nat", "cmlm", "levenshtein_transformer", "insertion_transformer"])
def test_a_graph_chooses_from_the_short_list_of_its_batch(
    tmp_path: Path, model_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = [{"en": sentence, "de": sentence[::-1]} for sentence in SENTENCES]
    rows = Dataset.from_dict({"translation": pairs}, features=pair_features("en", "de"))
    monkeypatch.setattr(ExportArguments, "load_shortlist", lambda self: rows)
    model_folder = checkpoint(tmp_path / "model", model_type)
    languages = {"shortlist": "corpus", "source_lang": "en", "target_lang": "de"}
    sizes = {"shortlist_best": 2, "shortlist_frequent": 5}
    args = ExportArguments(model=str(model_folder), output_dir=str(tmp_path / "exported"), **languages, **sizes)
    export(args)
    model, tokenizer = load_model(model_folder)
    exported, _ = load_model(tmp_path / "exported", backend="onnx")
    short_list = load_short_list(args, model, tokenizer)
    assert short_list is not None
    searches: tuple[dict[str, Any], ...] = ({}, {"ctc_beam_size": 4, "ctc_length_bonus": 3.0})
    for knobs in searches if model_type == "ctc_nat" else searches[:1]:
        for sentences in (SENTENCES[:1], SENTENCES[1:2], SENTENCES[3:]):
            batch = tokenizer(sentences, return_tensors="pt", padding=True)
            inputs = {name: batch[name] for name in ("input_ids", "attention_mask")} | knobs
            expected = model.generate(**inputs, short_list=short_list)  # type: ignore[operator]
            assert torch.equal(exported.generate(**inputs), expected)  # type: ignore[operator]
            assert not torch.equal(model.generate(**inputs), expected)  # type: ignore[operator]


@pytest.mark.slow
def test_only_the_words_of_a_short_list_leave_their_8_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    onnx = pytest.importorskip("onnx")
    rows = Dataset.from_dict({"translation": [{"en": "a", "de": "b"}]}, features=pair_features("en", "de"))
    monkeypatch.setattr(ExportArguments, "load_shortlist", lambda self: rows)
    model_folder = checkpoint(tmp_path / "model", "ctc_nat")
    languages = {"shortlist": "corpus", "source_lang": "en", "target_lang": "de"}
    folder = tmp_path / "exported"
    export(ExportArguments(model=str(model_folder), output_dir=str(folder), quantize="int8", **languages))
    graph = onnx.load(folder / "onnx/model_int8.onnx").graph
    weights = {value.name for value in graph.initializer if len(value.dims) > 1}
    assert not [node.name for node in graph.node if node.op_type == "DequantizeLinear" and node.input[0] in weights]


@pytest.mark.slow
def test_a_teacher_chooses_among_the_candidates_of_a_graph(tmp_path: Path) -> None:
    step = check(tmp_path, "vanilla_nat", {"length_beam": 3})
    model, tokenizer = load_model(tmp_path / "model")
    exported, _ = load_model(step.folder, backend="onnx")
    teacher = marian(model)
    expected = translate(model, tokenizer, SENTENCES, teacher=teacher, length_beam=3)
    assert [t.text for t in translate(exported, tokenizer, SENTENCES, teacher=teacher)] == [t.text for t in expected]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model_type", "knobs"),
    [("ctc_nat", {}), ("ctc_nat", {"ctc_beam_size": 4, "ctc_length_bonus": 0.5}), ("cmlm", {})],
)
def test_openvino_reads_the_graph(tmp_path: Path, model_type: str, knobs: dict[str, Any]) -> None:
    pytest.importorskip("openvino")
    step = check(tmp_path, model_type, {})
    model: Any = load_model(step.folder, backend="openvino")[0]
    onnx, tokenizer = load_model(step.folder, backend="onnx")
    found, expected = ([t.text for t in translate(one, tokenizer, SENTENCES, **knobs)] for one in (model, onnx))
    assert len(found) == len(expected)
    precisions = {session.precision for session in model.sessions.values()}
    assert None not in precisions
    if precisions == {"f32"}:  # with bf16 it may write others
        assert found == expected


@pytest.mark.parametrize(
    ("model_type", "changes", "message"),
    [
        ("flowseq", {"num_samples": 3}, "`num_samples` must be 1 for a graph"),
        ("da_transformer", {"graph_decoding": "viterbi"}, "`graph_decoding` must be 'greedy' or 'lookahead'"),
    ],
)
def test_what_has_no_graph_is_refused_before_anything_is_written(
    tmp_path: Path, model_type: str, changes: dict[str, Any], message: str
) -> None:
    folder = checkpoint(tmp_path / "model", model_type)
    model, _ = load_model(folder)
    for name, value in changes.items():
        setattr(model.generation_config, name, value)
    model.generation_config.save_pretrained(folder)  # type: ignore[union-attr]
    with pytest.raises(ValueError, match=message):
        Export(ExportArguments(model=str(folder), output_dir=str(tmp_path / "exported"))).run()
    assert not (tmp_path / "exported").exists()


def test_backends_need_a_graph_and_fitting_options(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "model", "ctc_nat")
    with pytest.raises(FileNotFoundError, match="hf-nat export"):
        load_model(folder, backend="onnx")
    with pytest.raises(ValueError, match="`backend` must be one of"):
        load_model(folder, backend="tensorrt")
    with pytest.raises(ValueError, match="`quantize` must be left out"):
        load_model(folder, quantize="int8")
    with pytest.raises(ValueError, match="`backend` must be one of"):
        DecodingArguments(backend="tensorrt")
    with pytest.raises(ValueError, match="`threads` must be >= 1"):
        DecodingArguments(threads=0)
    with pytest.raises(ValueError, match=r"`quantize` must be one of \['int8'\], got 'int4'"):
        DecodingArguments(backend="onnx", quantize="int4")


def test_what_a_newcomer_mixes_up_is_told(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a dog runs\n")))
    without = Path(shutil.copytree(exported, tmp_path / "without"))
    (without / "generation_config.json").unlink()
    onnx = ["--backend", "onnx"]
    for command, message in (
        (["translate", "--model", str(exported)], "It is an exported model, which translates with `backend: onnx`"),
        (["export", "--model", str(exported), "--output_dir", str(tmp_path / "x")], "else give what it was made of."),
        (["translate", "--model", f"{exported}/onnx", *onnx], f"`{exported}/onnx/config.json`. Give `{exported}`."),
        (["translate", "--model", f"{exported}/onnx"], f"`{exported}/onnx/config.json`. Give `{exported}`."),
        (["translate", "--model", str(exported), *onnx, "--quantize", "int4"], "must be one of ['int8'], got 'int4'"),
        (
            ["translate", "--model", str(exported), *onnx, "--quantize", "int8"],
            "Export the model with `--quantize int8`",
        ),
        (["translate", "--model", str(without), *onnx], "generation_config.json`. Export the model again."),
    ):
        assert main(command) == 2
        captured = capsys.readouterr()
        assert message in captured.err and len(captured.err.splitlines()) == 1 and captured.out == ""


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_scores_are_computed_when_they_are_asked_for(backend: str, exported: Path) -> None:
    pytest.importorskip("openvino" if backend == "openvino" else "onnx")
    model: Any = load_model(exported, backend=backend)[0]
    session = model.sessions["model"]
    source = torch.tensor([[5, 6, 2]])
    assert not session._compiled
    alone = model.generate(source)
    assert list(session._compiled) == [("sequences",)]
    compiled = session.open(("sequences",))
    assert len(compiled.get_outputs() if backend == "onnx" else compiled.model_outputs) == 1
    both = model.generate(source, return_dict_in_generate=True)
    assert list(session._compiled) == [("sequences",), ("sequences", "token_scores")]
    assert torch.equal(both.sequences, alone)
    assert both.token_scores.any()


def likes_short_words(prefix: tuple[int, ...], token: int) -> float:
    """A language model."""
    return -0.07 * token - 0.1 * len(prefix)


def test_a_beam_search_reads_the_frames_of_a_graph(exported: Path) -> None:
    model: Any = load_model(exported.parent / "model")[0]
    graph: Any = load_model(exported, backend="onnx")[0]
    input_ids = torch.tensor([[5, 6, 7, 8, 2], [9, 10, 2, 0, 0], [2, 0, 0, 0, 0]])
    beam = {"ctc_beam_size": 4, "ctc_length_bonus": 0.5, "return_dict_in_generate": True}
    for options in (
        {},
        {"num_return_sequences": 3},
        {"language_model": likes_short_words, "lm_weight": 2.0},
        {"teacher": marian(model)},
    ):
        expected = model.generate(input_ids, **beam, **options)
        found = graph.generate(input_ids, **beam, **options)
        assert torch.equal(found.sequences, expected.sequences)
        torch.testing.assert_close(found.token_scores, expected.token_scores, atol=1e-4, rtol=1e-4)
    plain = model.generate(input_ids)
    assert not torch.equal(model.generate(input_ids, ctc_beam_size=4, ctc_length_bonus=3.0), plain)
    with pytest.raises(ValueError, match="`ctc_beam_size` must be > 1 with a `language_model`"):
        graph.generate(input_ids, language_model=likes_short_words)


@pytest.mark.slow
def test_the_beam_of_the_model_is_that_of_its_graph(tmp_path: Path) -> None:
    checkpoint(tmp_path / "model", "ctc_nat", {"ctc_beam_size": 3, "ctc_length_bonus": 2.0})
    export(ExportArguments(model=str(tmp_path / "model"), output_dir=str(tmp_path / "exported")))
    texts = [
        [t.text for t in translate(*load_model(tmp_path / name, **backend), SENTENCES)]
        for name, backend in (("model", {}), ("exported", {"backend": "onnx"}))
    ]
    assert texts[0] == texts[1]


def test_what_graphs_do_not_do_is_refused(exported: Path) -> None:
    model: Any = load_model(exported, backend="onnx")[0]
    with pytest.raises(ValueError, match="`short_list` must be left out for an exported model"):
        model.generate(torch.tensor([[5, 2]]), short_list=lambda sources: sources)
    for name in ("inputs", "input_ids"):
        with pytest.raises(ValueError, match="at most `max_position_embeddings` = 32 tokens, got 33"):
            model.generate(**{name: torch.full((1, 33), 5)})
    with pytest.raises(ValueError, match="`threads` must be >= 1, got 0"):
        load_model(exported, backend="onnx", threads=0)
