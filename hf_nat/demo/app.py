"""The page in a browser, by Gradio (extra `demo`)."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, cast

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..base.bounds import require_number
from ..decoding import DecodingArguments, LoadingArguments
from ..models import NATPreTrainedModel
from .page import render_traces
from .trace import trace_student, trace_teacher


_MAX_ITERATIONS = 20


def build_demo(
    model: str,
    teacher: str | None = None,
    *,
    decoding: DecodingArguments | None = None,
    examples: Sequence[str] = (),
) -> Any:
    """Builds the page of a student and, beside it, of its teacher.

    Args:
        model (`str`): NAT model, a folder or a Hub id.
        teacher (`str`, *optional*): autoregressive model, which decodes greedily.
        decoding ([`DecodingArguments`], *optional*): how the student decodes; the page's slider sets its rounds.
        examples (`Sequence[str]`, *optional*): sentences to choose from.

    Returns:
        `gradio.Blocks`: call `launch()` on it.

    Raises:
        ImportError: if Gradio is missing.
        ValueError: if `model` is autoregressive or `teacher` is not.
    """
    gradio = import_gradio()
    decoding = decoding or DecodingArguments()
    student, tokenizer = load_student(model, decoding)
    options = decoding.generate_kwargs(student)
    options.pop("max_batch_tokens")
    pair = None if teacher is None else load_teacher(teacher, decoding)

    def show(sentence: str, max_iterations: int, replay_seconds: float) -> str:
        # Who calls the page's API may send what its boxes and sliders cannot.
        if not isinstance(sentence, str) or not sentence.split():
            raise gradio.Error("Type a sentence first.")
        sentence, own = " ".join(sentence.split()), options | {"max_iterations": max_iterations}
        try:
            require_number("replay_seconds", float(replay_seconds), least=0)
            student_trace = trace_student(student, tokenizer, sentence, **own)
            other = None if pair is None else trace_teacher(*pair, sentence, source_prefix=decoding.source_prefix)
            return render_traces(student_trace, other, replay_seconds=replay_seconds)
        except (TypeError, ValueError) as error:
            raise gradio.Error(str(error)) from error

    generation: Any = student.generation_config
    iterations = options.get("max_iterations", generation.max_iterations)
    limit = cast(Any, student).iteration_limit or max(_MAX_ITERATIONS, iterations)
    # The first call of a model is slower than all others.
    show("a", iterations, 0)
    with gradio.Blocks(title="Watch a translation being written", analytics_enabled=False) as demo:
        names = f"`{model}`" + ("" if teacher is None else f" beside `{teacher}`")
        gradio.Markdown(f"## Watch a translation being written\n\n{names}, on {student.device.type}.")
        with gradio.Row():
            sentence = gradio.Textbox(label="Sentence", placeholder="A sentence in the source language", scale=4)
            # Gradio wants room to slide, where it is not used too.
            rounds = gradio.Slider(1, max(limit, 2), iterations, step=1, label="Rounds at most", interactive=limit > 1)
            replay = gradio.Slider(0, 20, 4, step=1, label="Replay lasts (seconds)")
        button = gradio.Button("Translate", variant="primary")
        if examples:
            gradio.Examples([[example] for example in examples], [sentence])
        page = gradio.HTML()
        inputs = [sentence, rounds, replay]
        gradio.on([button.click, sentence.submit], show, inputs, page, api_name="translate", concurrency_limit=1)
    return demo


def load_student(path: str, decoding: DecodingArguments) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Loads the model whose rounds are shown, with its tokenizer.

    Raises:
        OSError, ValueError: as `DecodingArguments.load_model`, and for an autoregressive model or `terms`.
    """
    if decoding.terms is not None:
        raise ValueError(f"`terms` must be left out for the demo, got {decoding.terms!r}. Use `hf-nat translate`.")
    student, tokenizer = decoding.load_model(path)
    if not isinstance(student, NATPreTrainedModel):
        raise ValueError(
            f"`model` must be non-autoregressive, got a {type(student).__name__} at {path!r}. Give it as `teacher`."
        )
    return student, tokenizer


def load_teacher(path: str, decoding: DecodingArguments) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Loads the model that writes from left to right, with its tokenizer.

    Raises:
        OSError, ValueError: as `DecodingArguments.load_model`, and for a non-autoregressive model.
    """
    told = LoadingArguments(**{key.name: getattr(decoding, key.name) for key in fields(LoadingArguments)})
    teacher, tokenizer = told.load_model(path, parameter="teacher")
    if isinstance(teacher, NATPreTrainedModel):
        raise ValueError(f"`teacher` must be autoregressive, got a {type(teacher).__name__} at {path!r}.")
    return teacher, tokenizer


def import_gradio() -> Any:
    """Imports Gradio.

    Raises:
        ImportError: if it is missing, with the remedy.
    """
    try:
        return importlib.import_module("gradio")
    except ImportError as error:
        raise ImportError("The demonstration needs Gradio: pip install 'hf_nat[demo]'.") from error
