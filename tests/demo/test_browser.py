"""The page of an exported model: its files by default, in Node and in a real browser in the slow tier."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import RepoCard
from nat_model_tester import save, tiny_student

from hf_nat.decoding import encode_non_blank, to_texts
from hf_nat.demo.browser import CDN, NPM_PACKAGES, exported_files, write_page
from hf_nat.hub.push import PushArguments, push
from hf_nat_cli import main


POSITIONS = 16


@pytest.fixture
def exported(tmp_path: Path, tiny_tokenizer) -> Path:
    """What an export leaves."""
    folder = tmp_path / "exported"
    tiny_tokenizer.save_pretrained(folder)
    config = {"eos_token_id": tiny_tokenizer.eos_token_id, "max_position_embeddings": POSITIONS}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "onnx").mkdir()
    (folder / "onnx/model.onnx").write_bytes(b"float32")
    (folder / "onnx/model_int8.onnx").write_bytes(b"int8")
    return folder


def test_a_static_space_holds_the_page_and_what_it_reads(exported: Path, tmp_path: Path, capsys) -> None:
    space = tmp_path / "space"
    argv = ["demo", f"--model={exported}", f"--space_dir={space}", "--examples", "a <b>dog</b> runs", "hello"]
    assert main(argv) == 0
    assert f"hf-nat push --folder {space}" in capsys.readouterr().out
    card = RepoCard.load(space / "README.md")
    assert (card.data.sdk, card.data.app_file) == ("static", "index.html")
    held = {path.relative_to(space).as_posix() for path in space.rglob("*") if path.is_file()}
    model = {"config.json", "tokenizer.json", "tokenizer_config.json", "onnx/model_int8.onnx"}
    assert held == {"README.md", "index.html", "translator.mjs", *(f"model/{name}" for name in model)}
    page = (space / "index.html").read_text(encoding="utf-8")
    assert "a &lt;b&gt;dog&lt;/b&gt; runs" in page and "<b>" not in page
    imports = json.loads(re.search(r'<script type="importmap">(.*?)</script>', page, re.S)[1])["imports"]
    for package, version in NPM_PACKAGES.items():
        assert any(address.startswith(f"{CDN}/{package}@{version}/") for address in imports.values())
    script = (space / "translator.mjs").read_text(encoding="utf-8")
    assert set(re.findall(r'from "([^"]+)"', script)) == imports.keys()
    plan = push(PushArguments(str(space), "owner/page", dry_run=True))
    assert plan.repo_type == "space" and "model/onnx/model_int8.onnx" in plan.files


def test_the_page_loads_int8_and_without_it_the_float32_graph(exported: Path, tmp_path: Path) -> None:
    for name in ("onnx/model_int8.onnx", "onnx/model.onnx"):
        assert exported_files(exported)[0] == name
        write_page(tmp_path / Path(name).stem, exported)
        page = (tmp_path / Path(name).stem / "index.html").read_text(encoding="utf-8")
        assert f'Translator.load("model", "{name}")' in page
        (exported / name).unlink()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "`space_dir` must be given for an exported model"),
        (("--space_dir=x", "--teacher=y"), "`teacher` must be left out for an exported model, got 'y'"),
        (("--space_dir=x", "--max_iterations=2"), "`max_iterations` must be left out for an exported model, got 2"),
        (("--space_dir=.",), "A Space needs a new folder"),
    ],
)
def test_options_that_the_page_cannot_have(options, said, exported: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["demo", f"--model={exported}", *options]) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"onnx/model.onnx": "onnx/encoder_model.onnx", "onnx/model_int8.onnx": "onnx/step_model.onnx"},
            "one graph for a browser, got .*encoder and step graphs need a loop",
        ),
        ({"onnx/model.onnx": "onnx/a.onnx", "onnx/model_int8.onnx": "onnx/b.onnx"}, "as one graph"),
        (
            {"tokenizer.json": "x.json"},
            "`model` must have tokenizer.json, .*: run such a model with `hf-nat t",
        ),
        ({"config.json": "onnx/model_int8.onnx_data"}, "`model` must have config.json"),
        ({"onnx/model.onnx": "onnx/model_int8.onnx.data"}, "one file for a browser, got .*model_int8.onnx.data"),
    ],
)
def test_what_a_browser_cannot_run_is_told(change, said, exported: Path, tmp_path: Path) -> None:
    for old, new in change.items():
        (exported / old).rename(exported / new)
    with pytest.raises(ValueError, match=said):
        write_page(tmp_path / "page", exported)
    assert not (tmp_path / "page").exists()


@pytest.fixture(scope="module")
def packages(tmp_path_factory) -> Path:
    """The npm packages of the page, in a folder `node_modules`."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    folder = tmp_path_factory.mktemp("npm")
    (folder / "package.json").write_text('{"type": "module"}')
    names = [f"{package}@{version}" for package, version in NPM_PACKAGES.items()]
    done = subprocess.run([npm, "install", "--ignore-scripts", *names], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"npm cannot install {names}: {done.stderr[-200:]}")
    return folder


NODE = """
import { readFileSync } from "node:fs";
import { Codec } from "./translator.mjs";
const [folder, sentences] = process.argv.slice(2);
const read = (name) => JSON.parse(readFileSync(name, "utf-8"));
const files = ["tokenizer.json", "config.json", "tokenizer_config.json"].map((name) => read(`${folder}/${name}`));
const codec = new Codec(...files);
const rows = read(sentences).map((sentence) => {
  const { ids, truncated } = codec.encode(sentence);
  return [ids, truncated, codec.decode(ids)];
});
process.stdout.write(JSON.stringify(rows));
"""
PIECES = [
    "a",
    "dog",
    " ",
    "<",
    "/s>",
    "▁",
    "\ufdd0",
    "\ufdd1",
    "é",
    "e\u0301",
    "\u200b",
    "日",
    "😀",
    "\t",
    "mask>",
    "</s>",
]
PIECES += ["\u00a0", "\ufeff", "\x1f", "\u2028", "<unk>", "-", "'", "\u2800", "ß", "\x00"]


@pytest.mark.slow
def test_token_ids_of_the_page_are_ours(exported: Path, packages: Path, tiny_tokenizer, sentences, tmp_path) -> None:
    draw = random.Random(0)
    texts = [*sentences, " ".join(sentences * 3), *PIECES]
    texts += ["".join(draw.choices(PIECES, k=draw.randrange(20))) for _ in range(2000)]
    shutil.copy(Path(write_page.__code__.co_filename).parent / "templates/translator.mjs", packages)
    (packages / "check.mjs").write_text(NODE, encoding="utf-8")
    (tmp_path / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
    command = ["node", packages / "check.mjs", exported, tmp_path / "texts.json"]
    printed = subprocess.run(command, capture_output=True, text=True)
    assert printed.returncode == 0, printed.stderr
    model = SimpleNamespace(config=SimpleNamespace(max_position_embeddings=POSITIONS))
    encoded = encode_non_blank(model, tiny_tokenizer, texts)
    ids, cut = [[] for _ in texts], [False for _ in texts]
    for i, row in enumerate(encoded.rows):
        ids[row], cut[row] = encoded.input_ids[i], i in encoded.cut
    expected = list(map(list, zip(ids, cut, to_texts(tiny_tokenizer, ids), strict=True)))
    got = json.loads(printed.stdout)
    assert [(text, *pair) for text, *pair in zip(texts, got, expected, strict=True) if pair[0] != pair[1]] == []
    assert any(cut) and [] in ids


def copying_graph(path: Path) -> None:
    """A graph from `input_ids` to the same ids; the score of a token is its id."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    helper, kind = onnx.helper, onnx.TensorProto
    inputs = [helper.make_tensor_value_info(name, kind.INT64, ["b", "s"]) for name in ("input_ids", "attention_mask")]
    outputs = [
        helper.make_tensor_value_info("sequences", kind.INT64, ["b", "t"]),
        helper.make_tensor_value_info("token_scores", kind.FLOAT, ["b", "t"]),
    ]
    nodes = [
        helper.make_node("Mul", ["input_ids", "attention_mask"], ["sequences"]),
        helper.make_node("Cast", ["input_ids"], ["token_scores"], to=kind.FLOAT),
    ]
    graph = helper.make_graph(nodes, "copy", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, path)


@contextmanager
def shown(exported: Path, packages: Path, page: Path) -> Iterator[str]:
    """The page on loopback, from a server of files that has the npm packages too."""
    write_page(page, exported, ["two men walk"])
    (page / "npm").symlink_to(packages / "node_modules")
    text = (page / "index.html").read_text(encoding="utf-8").replace(f'"{CDN}/', '"/npm/')
    for package, version in NPM_PACKAGES.items():
        text = text.replace(f"{package}@{version}/", f"{package}/")
    (page / "index.html").write_text(text, encoding="utf-8")
    handler = partial(SimpleHTTPRequestHandler, directory=page)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@contextmanager
def opened(address: str) -> Iterator[tuple[Any, Callable[[str], tuple[str, str]]]]:
    """The page in Chromium, and how to ask it: from a sentence to what the page says and its translation."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    if not Path("/usr/bin/chromium").exists():
        pytest.skip("Chromium is not installed: apt-get install chromium")
    requests, faults, patience = [], [], {"timeout": 180_000}
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(**patience)
        page.on("request", lambda request: requests.append(request.url))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: message.type == "error" and faults.append(message.text))
        page.goto(address, wait_until="domcontentloaded")
        status = page.locator("p[role=status]")
        sync_api.expect(status).not_to_have_text("The model is loading.", **patience)
        assert status.inner_text() == "Ready.", faults

        def ask(sentence: str) -> tuple[str, str]:
            status.evaluate("(status) => { status.textContent = 'asked'; }")
            page.get_by_label("Sentence").fill(sentence)
            page.get_by_role("button", name="Translate").click()
            sync_api.expect(status).not_to_have_text("asked", **patience)
            return status.inner_text(), page.get_by_label("Translation").inner_text()

        yield page, ask
        browser.close()
    assert faults == [] and [url for url in requests if not url.startswith((address, "data:", "blob:"))] == []


@pytest.mark.slow
def test_a_sentence_is_translated_in_a_browser(exported: Path, packages: Path, tiny_tokenizer, tmp_path: Path) -> None:
    copying_graph(exported / "onnx/model_int8.onnx")
    with shown(exported, packages, tmp_path / "page") as address, opened(address) as (page, ask):
        for sentence, cut in ((" a </s> dog runs ", ""), ("a dog runs " * 9, " The sentence was cut")):
            ids = tiny_tokenizer(sentence.strip(), split_special_tokens=True)["input_ids"][: POSITIONS - 1]
            content = ids[:-1] if ids[-1] == tiny_tokenizer.eos_token_id else ids
            said, text = ask(sentence)
            assert text == to_texts(tiny_tokenizer, [content])[0] != ""
            score = sum(content) / len(content)
            assert re.match(rf"\d+\.\d ms, score {score:.2f} nats a token\.{cut}", said)
            assert bool(cut) == ("cut" in said)
        assert ask("\u200b ") == ("Type a sentence first.", "")
        page.get_by_role("button", name="two men walk").click()
        page.locator("output", has_text=re.compile("^two men walk$")).wait_for()


@pytest.mark.slow
def test_an_exported_model_translates_in_a_browser_as_here(packages: Path, tiny_tokenizer, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    from hf_nat.decoding import load_model, translate
    from hf_nat.steps import Export, ExportArguments

    model = tiny_student("ctc_nat", tiny_tokenizer, max_position_embeddings=POSITIONS)
    save(tmp_path / "model", model, tiny_tokenizer)
    folder = tmp_path / "exported"
    Export(ExportArguments(model=str(tmp_path / "model"), output_dir=str(folder), quantize="int8")).run()
    sentences = ["a dog runs", "two men walk", "a " * 9]
    for quantize in ("int8", None):
        loaded = load_model(folder, backend="onnx", quantize=quantize)
        with shown(folder, packages, tmp_path / f"page_{quantize}") as address, opened(address) as (_, ask):
            for sentence, expected in zip(sentences, translate(*loaded, sentences), strict=True):
                said, text = ask(sentence)
                score = float(re.match(r"\d+\.\d ms, score (\S+) nats a token", said)[1])
                # A browser multiplies 8 bits by other instructions, which round otherwise.
                assert score == pytest.approx(expected.score, abs=0.1 if quantize else 0.01)
                assert text != "" if quantize else text == expected.text != ""
        (folder / "onnx/model_int8.onnx").unlink(missing_ok=True)
