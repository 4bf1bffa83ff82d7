"""An `evaluate` module as a page in a browser, by Gradio (extra `demo`)."""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import evaluate

from .app import import_gradio


# What a page computes for a visitor should take seconds; some metrics take the square of a line's length.
_MOST_CHARACTERS, _LONGEST_LINE, _LARGEST = 20_000, 1000, 1000


def build_evaluate_app(module: str | Path) -> Any:
    """Builds a page that computes a metric or measurement of pasted text.

    Args:
        module (`str` or `Path`): file or folder of the module.

    Returns:
        `gradio.Blocks`: call `launch()` on it.

    Raises:
        ImportError: if Gradio is missing.
    """
    gradio = import_gradio()
    metric = evaluate.load(str(module))
    inputs = list(metric.features)
    parameters = inspect.signature(metric._compute).parameters.values()
    required = [
        parameter.name
        for parameter in parameters
        if parameter.name not in inputs
        and parameter.default is parameter.empty
        and parameter.kind is not parameter.VAR_KEYWORD
    ]

    def compute(*values: str) -> Any:
        *texts, options = values
        given: dict[str, Any] = {name: _lines(text) for name, text in zip(inputs, texts, strict=False)}
        given |= dict(zip(required, texts[len(inputs) :], strict=True))
        try:
            _require_short(texts)
            return metric.compute(**given, **_read_options(options))
        except Exception as error:  # Whatever a module makes of a visitor's text and options.
            raise gradio.Error(str(error)) from error

    with gradio.Blocks(title=metric.name, analytics_enabled=False) as app:
        gradio.Markdown(f"## {metric.name}\n\n{metric.description}")
        boxes = [gradio.Textbox(label=f"{name}, one a line", lines=3) for name in inputs]
        boxes += [gradio.Textbox(label=name) for name in required]
        boxes.append(gradio.Textbox("{}", label="options, as JSON: numbers and truth values"))
        button, result = gradio.Button("Compute", variant="primary"), gradio.JSON(label="result")
        button.click(compute, boxes, result, api_name="compute")
        gradio.Markdown(metric.inputs_description)
    return app


def _require_short(texts: Sequence[str]) -> None:
    """Raises ValueError if texts are longer than a page computes for a visitor."""
    lines = [line for text in texts for line in _lines(text)]
    if sum(map(len, lines)) > _MOST_CHARACTERS or max(map(len, lines), default=0) > _LONGEST_LINE:
        raise ValueError(
            f"A page takes at most {_MOST_CHARACTERS:,} characters, and {_LONGEST_LINE:,} a line, got more. Use the "
            "module with `evaluate.load`."
        )


def _read_options(text: str) -> dict[str, Any]:
    """Reads a visitor's options: numbers and truth values alone, so that none is a file of the server or endless work.

    Raises:
        ValueError: if there is another value, or a number that is too large.
    """
    options = json.loads(text or "{}")
    if not isinstance(options, dict):
        raise ValueError(f'Options must be a JSON object such as {{"lowercase": true}}, got {text:.60}.')
    for name, value in options.items():
        if not isinstance(value, int | float) or not (name == "seed" or abs(value) <= _LARGEST):
            raise ValueError(f"`{name}` must be true, false or a number up to {_LARGEST} here, got {value!r:.60}.")
    return options


def _lines(text: str) -> list[str]:
    """Parts text at line feeds alone, as files are; a last one ends a line and begins none."""
    return text.removesuffix("\n").split("\n") if text else []
