"""One sentence translated under a clock: what a model wrote, and when."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.generation import BaseStreamer

from ..decoding import EncodedSources, encode_non_blank, max_new_tokens, to_texts


Edit = Literal["kept", "inserted", "deleted", "masked", "filled", "replaced"]


@dataclass(frozen=True)
class Token:
    """A token of a canvas.

    Args:
        text (`str`): the piece as the vocabulary has it; `▁` begins a word.
        edit (`str`): what the step did to it; a `deleted` one stood there before.
        is_mask (`bool`): it is the mask, a place still to be written; of a graph a vertex that was not visited.
        is_blank (`bool`): it is CTC's blank, which says that a frame holds no token.
    """

    text: str
    edit: Edit
    is_mask: bool = False
    is_blank: bool = False


@dataclass(frozen=True)
class Step:
    """What a decoder wrote at a time.

    Args:
        iteration (`int`): the round, 0 before the first; of an autoregressive model the token, from 1.
        tokens (`tuple[Token, ...]`): the canvas of a student with what this step deleted; the token of a teacher.
        seconds (`float`): when it was there, from the call of `generate`.
    """

    iteration: int
    tokens: tuple[Token, ...]
    seconds: float

    @property
    def edits(self) -> dict[str, int]:
        """Counts the edits, `kept` ones left out."""
        edits = [token.edit for token in self.tokens if token.edit != "kept"]
        return {edit: edits.count(edit) for edit in dict.fromkeys(edits)}


@dataclass(frozen=True)
class Trace:
    """How a model translated a sentence.

    Args:
        text (`str`): the translation.
        steps (`tuple[Step, ...]`): the canvas that a student starts from, and what follows; a teacher's tokens.
        seconds (`float`): the whole call of `generate`.
        truncated (`bool`): the source was cut to the model's positions.
        places (`str`): what the first canvas of a student is made of: `tokens`, `frames` or `vertices`.
    """

    text: str
    steps: tuple[Step, ...]
    seconds: float
    truncated: bool
    places: str = "tokens"

    @property
    def iterations(self) -> int:
        """Rounds of a student, tokens of a teacher: how often it had to wait for itself."""
        return self.steps[-1].iteration if self.steps else 0

    @property
    def shown_steps(self) -> list[Step]:
        """The steps that changed something, and one for every round in which none did."""
        edited = {step.iteration for step in self.steps if step.edits} | {0}
        last = {step.iteration: step for step in self.steps}
        return [
            step
            for step in self.steps
            if step.edits or (step.iteration not in edited and step is last[step.iteration])
        ]


_BLANK = Trace("", (), 0.0, False)


@dataclass
class _Clock(BaseStreamer):
    """Notes what `generate` hands out and when."""

    started: float = field(default_factory=time.perf_counter)
    puts: list[tuple[float, Any]] = field(default_factory=list)

    def put(self, value: Any) -> None:
        """Notes a value with the seconds since the start."""
        self.puts.append((self.read(), value))

    def end(self) -> None:
        """Does nothing: the end is no event."""

    def read(self) -> float:
        """Returns the seconds since the start."""
        return time.perf_counter() - self.started


def trace_student(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    sentence: str,
    *,
    source_prefix: str | None = None,
    **generate_kwargs: Any,
) -> Trace:
    """Translates a sentence with a NAT model; of several candidates the chosen one is shown.

    Args:
        model (`PreTrainedModel`): a NAT model in evaluation mode.
        tokenizer (`PreTrainedTokenizerBase`): its tokenizer.
        sentence (`str`): source sentence.
        source_prefix (`str`, *optional*): text put before it.
        generate_kwargs: passed on to `generate` (`max_iterations`, `length_beam`, ...).

    Returns:
        [`Trace`]: a step for every canvas; empty for a blank sentence.

    Raises:
        ValueError: if `generate` does not take an argument.
    """
    encoded = encode_non_blank(model, tokenizer, [sentence], source_prefix)
    if not encoded.rows:
        return _BLANK
    output, clock, seconds = _timed(model, encoded, return_history=True, **generate_kwargs)
    times = [(iteration, put) for iteration, (put, canvases) in enumerate(clock.puts) for _ in canvases]
    canvases = [canvas.tolist() for canvas in output.history[0]]
    written = output.sequences[0].tolist()
    # Other candidates may have gone on for longer; `collapse_repeats` comes after the last round.
    times = [*times[: len(canvases)], (output.iterations[0].item(), seconds)]
    steps, before, blank = [], list[int](), getattr(model.config, "blank_token_id", None)
    for (iteration, put), canvas in zip(times, [*canvases, written], strict=True):
        after = _content(canvas, tokenizer.eos_token_id)
        written_by = edits(before, after, tokenizer.mask_token_id)
        steps.append(Step(iteration, _tokens(tokenizer, written_by, blank), put))
        before = after
    if not steps[-1].edits:
        steps.pop()
    text, places = to_texts(tokenizer, [written])[0], cast(Any, model).canvas_places
    return Trace(text, tuple(steps), seconds, bool(encoded.cut), places)


def trace_teacher(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    sentence: str,
    *,
    source_prefix: str | None = None,
) -> Trace:
    """Translates a sentence greedily with an autoregressive model.

    Args:
        model (`PreTrainedModel`): a seq2seq model in evaluation mode.
        tokenizer (`PreTrainedTokenizerBase`): its tokenizer.
        sentence (`str`): source sentence.
        source_prefix (`str`, *optional*): text put before it.

    Returns:
        [`Trace`]: a step for every token but EOS; empty for a blank sentence.
    """
    encoded = encode_non_blank(model, tokenizer, [sentence], source_prefix)
    if not encoded.rows:
        return _BLANK
    # No `max_length`: that of the checkpoint would only bring a warning.
    options = {"num_beams": 1, "do_sample": False, "max_length": None}
    sequences, clock, seconds = _timed(model, encoded, **options, max_new_tokens=max_new_tokens(model, {}))
    # The first that it hands out are the tokens given to the decoder.
    times = [(put, token) for put, value in clock.puts[1:] for token in value.flatten().tolist()]
    shown = [(put, token) for put, token in times if token not in tokenizer.all_special_ids]
    steps = [Step(i, _tokens(tokenizer, [(token, "inserted")]), put) for i, (put, token) in enumerate(shown, start=1)]
    return Trace(to_texts(tokenizer, sequences.tolist())[0], tuple(steps), seconds, bool(encoded.cut))


def edits(before: Sequence[int], after: Sequence[int], mask_token_id: int | None) -> list[tuple[int, Edit]]:
    """Tells what a step of a decoder did: it deletes, or inserts, or rewrites in place.

    Args:
        before (`Sequence[int]`): token ids of the canvas before the step.
        after (`Sequence[int]`): those after it.
        mask_token_id (`int`): id of the mask.

    Returns:
        `list[tuple[int, str]]`: the tokens of `after` and, where they stood, those that the step deleted.
    """
    if len(before) == len(after):
        return [(new, _rewrite(old, new, mask_token_id)) for old, new in zip(before, after, strict=True)]
    if set(before) == {mask_token_id} and len(after) < len(before):
        # FlowSeq ends before its canvas does.
        return [*((token, "filled") for token in after), *((token, "deleted") for token in before[len(after) :])]
    shorter, longer = sorted((before, after), key=len)
    edit: Edit = "deleted" if longer is before else "inserted"
    result: list[tuple[int, Edit]] = []
    matched = 0
    for token in longer:
        kept = matched < len(shorter) and token == shorter[matched]
        matched += kept
        result.append((token, "kept" if kept else edit))
    if matched == len(shorter):
        return result
    # Neither is part of the other: the canvas was written anew.
    return [*((token, "deleted") for token in before), *((token, "inserted") for token in after)]


def _rewrite(old: int, new: int, mask_token_id: int | None) -> Edit:
    if old == new:
        return "kept"
    if new == mask_token_id:
        return "masked"
    return "filled" if old == mask_token_id else "replaced"


def _timed(model: PreTrainedModel, encoded: EncodedSources, **kwargs: Any) -> tuple[Any, _Clock, float]:
    """Calls `generate`: its output, what it handed out on the way, and the seconds it took."""
    input_ids, generate = torch.tensor(encoded.input_ids, device=model.device), cast(Any, model).generate
    clock = _Clock()
    return generate(input_ids=input_ids, streamer=clock, **kwargs), clock, clock.read()


def _tokens(
    tokenizer: PreTrainedTokenizerBase, edits: Sequence[tuple[int, Edit]], blank: int | None = None
) -> tuple[Token, ...]:
    # A blank may lie behind the tokenizer's vocabulary, without a name.
    names = tokenizer.convert_ids_to_tokens([token for token, _ in edits])
    return tuple(
        Token(name or "", edit, token == tokenizer.mask_token_id, token == blank)
        for name, (token, edit) in zip(names, edits, strict=True)
    )


def _content(canvas: list[int], eos_token_id: int | None) -> list[int]:
    """Returns the tokens before EOS."""
    return canvas[: canvas.index(eos_token_id)] if eos_token_id in canvas else canvas
