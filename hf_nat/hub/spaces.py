"""Spaces of the Hub: demonstrations and `evaluate` modules, which carry this package, and pages of exported models."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import SpaceCardData

from ..base.folders import atomic_folder
from ..cards.rendering import is_hub_id, render
from ..decoding.arguments import TAKING_PART
from ..demo.browser import write_page
from .contents import card_metadata, choose_files, require_plain_files


# The release that the pages were tried with.
_GRADIO_VERSION = "6.31.0"
_PACKAGE = Path(__file__).parents[1]


def write_demo_space(
    folder: Path, model: str, teacher: str | None, decoding: Mapping[str, Any], examples: Sequence[str]
) -> None:
    """Writes the Space of a demonstration; checkpoints that lie here are copied into it, others stay on the Hub.

    Args:
        folder (`Path`): new folder.
        model (`str`): NAT model, a folder or a Hub id.
        teacher (`str`, *optional*): autoregressive model, a folder or a Hub id.
        decoding (`Mapping[str, Any]`): options of `DecodingArguments` that are not its defaults.
        examples (`Sequence[str]`): sentences to choose from.

    Raises:
        ValueError: if the folder holds something, a checkpoint's holds secrets, or an option of decoding names what
            lies here.
    """
    _require_on_hub(decoding)
    given = {"model": model, "teacher": teacher}
    here = {
        name: choose_files(Path(path), parameter=name)[0]
        for name, path in given.items()
        if path and Path(path).is_dir()
    }
    places = {name: name if name in here else path for name, path in given.items()}
    arguments = ", ".join(f"{name}={value!r}" for name, value in decoding.items())
    card = _card("Watch a translation being written", ["translation", "non-autoregressive"])
    card.models = [place for place in places.values() if place and is_hub_id(place)] or None
    texts = {
        "app.py": render("demo_app.py.jinja", **places, arguments=arguments, examples=list(examples)),
        "README.md": render("demo_card.md.jinja", metadata=card, **places),
    }
    with _new_space(folder) as space:
        _write_package(space)
        for name, files in here.items():
            for inside, file in files.items():
                (space / name / inside).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, space / name / inside)
        for name, text in texts.items():
            (space / name).write_text(text, encoding="utf-8")


def write_browser_space(folder: Path, model: Path, examples: Sequence[str]) -> None:
    """Writes the static Space of an exported model, which runs in the browser of whoever opens it.

    Args:
        folder (`Path`): new folder.
        model (`Path`): an exported model.
        examples (`Sequence[str]`): sentences to choose from.

    Raises:
        ValueError: if the folder holds something, or the model is not exported as one graph.
    """
    card = SpaceCardData(
        title="Translate in the browser",
        sdk="static",
        app_file="index.html",
        license="apache-2.0",
        tags=["translation", "non-autoregressive", "onnx"],
    )
    require_plain_files(model, parameter="model")
    with _new_space(folder) as space:
        write_page(space, model, examples)
        (space / "README.md").write_text(render("browser_card.md.jinja", metadata=card), encoding="utf-8")


def is_evaluate_module(folder: Path) -> bool:
    """Tells the folder of an `evaluate` module by its file, which has the folder's name.

    Of a model, a corpus or a Space it is none: files of their code, never run here, may have that name, too.
    """
    if not (folder / f"{folder.name}.py").is_file():
        return False
    others = ("config.json", "manifest.json", "*/manifest.json", "data/*.parquet")
    return not any(any(folder.glob(name)) for name in others) and "sdk" not in card_metadata(folder / "README.md")


def is_own_module(folder: Path) -> bool:
    """Whether an `evaluate` module is one of this package."""
    return folder.resolve().parent == _PACKAGE.resolve() / "metrics" / "evaluate_modules"


def write_evaluate_space(module: Path, folder: Path, repo_id: str) -> None:
    """Writes the Space of an `evaluate` module, which `evaluate.load(repo_id)` finds there; its file is executed.

    Args:
        module (`Path`): folder of the module.
        folder (`Path`): new folder.
        repo_id (`str`): owner/name; `evaluate` wants the module to be called `name.py`.

    Raises:
        ValueError: if the folder holds something.
    """
    import evaluate

    loaded = evaluate.load(str(module))
    name = repo_id.split("/")[1]
    card = _card(name, ["evaluate", loaded.module_type])
    values = {"metadata": card, "repo_id": repo_id, "name": name, "module": loaded}
    with _new_space(folder) as space:
        _write_package(space)
        shutil.copyfile(module / f"{module.name}.py", space / f"{name}.py")
        (space / "app.py").write_text(render("evaluate_app.py.jinja", name=name), encoding="utf-8")
        (space / "README.md").write_text(render("evaluate_card.md.jinja", **values), encoding="utf-8")


def _require_on_hub(decoding: Mapping[str, Any]) -> None:
    """Raises for a model or file that takes part in decoding and lies here, where a Space does not find it."""
    for name in TAKING_PART:
        value = decoding.get(name) or []
        for place in [value] if isinstance(value, str) else value:
            if os.path.exists(place):
                raise ValueError(
                    f"`{name}` must be on the Hub for a Space, got {place!r}, which is here alone. Leave it out, "
                    "or, if it is a model, push it first."
                )


def _card(title: str, tags: list[str]) -> SpaceCardData:
    return SpaceCardData(
        title=title, sdk="gradio", sdk_version=_GRADIO_VERSION, app_file="app.py", license="apache-2.0", tags=tags
    )


def require_new_space(folder: Path) -> None:
    """Raises ValueError unless a Space can be made here: nothing is there, or an empty folder."""
    if os.path.lexists(folder) and not (folder.is_dir() and not any(folder.iterdir())):
        raise ValueError(
            f"A Space needs a new folder, got {str(folder)!r}, which is a file or holds something. Choose another."
        )


@contextmanager
def _new_space(folder: Path) -> Iterator[Path]:
    require_new_space(folder)
    with atomic_folder(folder) as space:
        yield space


def _write_package(folder: Path) -> None:
    """Copies this package into a folder, with what it needs as the Space's requirements."""
    shutil.copytree(_PACKAGE, folder / "hf_nat", ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    requirements = importlib.metadata.requires("hf_nat") or []
    needed = [requirement for requirement in requirements if not re.search(r";.*\bextra\b", requirement)]
    (folder / "requirements.txt").write_text("".join(f"{line}\n" for line in needed), encoding="utf-8")
