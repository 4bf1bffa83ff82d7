"""An exported model as a page that runs it in the browser: two npm packages, no server."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from importlib.resources import as_file, files
from pathlib import Path

from .page import environment


# The releases that the page was tried with, and the file of each that it loads.
NPM_PACKAGES = {"@huggingface/tokenizers": "0.2.0", "onnxruntime-web": "1.30.0"}
CDN = "https://cdn.jsdelivr.net/npm"
_MODULES = {
    "@huggingface/tokenizers": ("@huggingface/tokenizers", "dist/tokenizers.min.mjs"),
    "onnxruntime-web/wasm": ("onnxruntime-web", "dist/ort.wasm.bundle.min.mjs"),
}
MODEL_FOLDER = "model"
_GRAPHS = ("onnx/model_int8.onnx", "onnx/model.onnx")
_STEP = "onnx/step_model.onnx"  # of a model that refines
_BESIDE = ("config.json", "tokenizer.json", "tokenizer_config.json")


def is_exported(folder: Path) -> bool:
    """Tells the folder of an exported model by its graphs; one with weights as well can be shown in any way."""
    return any(folder.glob("onnx/*.onnx")) and not any(folder.glob("*.safetensors"))


def exported_files(folder: Path) -> list[str]:
    """Lists what the page reads of an exported model: its int8 graph, or else that in float32, tokenizer and config.

    Args:
        folder (`Path`): the exported model.

    Raises:
        ValueError: if a file is missing, or the graph is not one file.
    """
    graph = next((name for name in _GRAPHS if (folder / name).is_file()), None)
    if graph is None and (folder / _STEP).is_file():
        raise ValueError(
            f"`model` must be one graph for a browser, got {str(folder)!r}, whose encoder and step graphs need a "
            "loop. Use a model of one pass, such as a CTC NAT, or run this one with `hf-nat translate` or `serve`."
        )
    if graph is None:
        names = sorted(path.name for path in folder.glob("onnx/*"))
        raise ValueError(
            f"`model` must be exported as one graph for a browser, {' or '.join(_GRAPHS)}, got {str(folder)!r} with "
            f"{names}. Use the folder of `hf-nat export`."
        )
    missing = [name for name in _BESIDE if not (folder / name).is_file()]
    if missing[:1] == ["tokenizer.json"]:
        raise ValueError(
            f"`model` must have tokenizer.json, which a browser reads, got {str(folder)!r} without. A tokenizer that "
            "reads SentencePiece models has none, since none gives the same ids for every text: run such a model with "
            "`hf-nat translate` or `hf-nat serve`, or train it with a tokenizer of this package."
        )
    if missing:
        raise ValueError(
            f"`model` must have {missing[0]} beside its graph, got {str(folder)!r} without. Export it again."
        )
    # What a graph of more than 2 GB keeps outside of it has its name in front.
    outside = [path.relative_to(folder).as_posix() for path in folder.glob(f"{graph}?*")]
    if outside:
        raise ValueError(
            f"`model` must be one file for a browser, got {str(folder)!r} with {outside[0]}. Use a smaller one."
        )
    return [graph, *_BESIDE]


def write_page(folder: Path, model: Path, examples: Sequence[str] = ()) -> None:
    """Writes the page and copies what it reads of a model; any server of files can show it.

    Args:
        folder (`Path`): folder of the page; made if it does not exist.
        model (`Path`): an exported model.
        examples (`Sequence[str]`, *optional*): sentences to choose from.

    Raises:
        ValueError: as `exported_files`.
    """
    graph, *beside = exported_files(model)
    for name in (graph, *beside):
        place = folder / MODEL_FOLDER / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(model / name, place)
    imports = {name: f"{CDN}/{package}@{NPM_PACKAGES[package]}/{path}" for name, (package, path) in _MODULES.items()}
    page = environment().get_template("browser.html.jinja")
    values = {"imports": imports, "cdn": CDN, "folder": MODEL_FOLDER, "graph": graph, "examples": list(examples)}
    (folder / "index.html").write_text(page.render(values), encoding="utf-8")
    with as_file(files("hf_nat.demo") / "templates" / "translator.mjs") as script:
        shutil.copyfile(script, folder / "translator.mjs")
