"""What the demonstration says that a model did is what it did."""

from __future__ import annotations

import random

import pytest
import torch
from nat_model_tester import tiny_student
from transformers import PreTrainedTokenizerFast

from hf_nat.decoding import translate
from hf_nat.demo.page import render_traces
from hf_nat.demo.trace import Trace, edits, trace_student, trace_teacher
from hf_nat.models import ARCHITECTURES, NATPreTrainedModel


MASK = 4


@pytest.fixture(params=ARCHITECTURES)
def student(request: pytest.FixtureRequest, tiny_tokenizer: PreTrainedTokenizerFast) -> NATPreTrainedModel:
    """A model with random weights: it deletes, inserts and rewrites without sense."""
    return student_of(request.param, tiny_tokenizer)


def student_of(model_type: str, tiny_tokenizer: PreTrainedTokenizerFast, **fields: int) -> NATPreTrainedModel:
    return tiny_student(model_type, tiny_tokenizer, **{"seed": 3, "init_std": 1.0, **fields})


def written(trace: Trace, upto: int | None = None) -> list[str]:
    """The canvas after some of the steps."""
    tokens = trace.steps[:upto][-1].tokens if trace.steps[:upto] else ()
    return [token.text for token in tokens if token.edit != "deleted"]


def before(trace: Trace, index: int) -> list[str | None]:
    """The canvas that a step found, None where it wrote over a token."""
    fresh = ("inserted",)
    over = ("masked", "filled", "replaced")
    return [None if t.edit in over else t.text for t in trace.steps[index].tokens if t.edit not in fresh]


@pytest.mark.parametrize("knobs", [{}, {"collapse_repeats": True}, {"candidates": 3}], ids=str)
def test_steps_lead_from_canvas_to_canvas_and_to_the_translation(student, tiny_tokenizer, sentences, knobs) -> None:
    if "candidates" in knobs:
        knobs = {student.candidate_knobs[0]: 3}
    for sentence in sentences:
        trace = trace_student(student, tiny_tokenizer, sentence, **knobs)
        (translation,) = translate(student, tiny_tokenizer, [sentence], **knobs)
        assert (trace.text, trace.iterations) == (translation.text, translation.iterations)
        ids = tiny_tokenizer.convert_tokens_to_ids(written(trace))
        assert tiny_tokenizer.decode(ids, skip_special_tokens=True).strip() == trace.text
        times = [step.seconds for step in trace.steps]
        assert times[0] > 0 and times == sorted(times) and times[-1] <= trace.seconds
        iterations = [step.iteration for step in trace.steps]
        assert iterations == sorted(iterations) and set(range(1, trace.iterations + 1)) <= set(iterations)
        for index in range(len(trace.steps)):
            found = before(trace, index)
            there = written(trace, index) if index else []
            assert len(found) == len(there)
            assert all(old is None or old == new for old, new in zip(found, there, strict=True))


def test_graph_shows_the_vertices_that_were_visited(tiny_tokenizer, sentences) -> None:
    model = student_of("da_transformer", tiny_tokenizer)
    for sentence in sentences:
        trace = trace_student(model, tiny_tokenizer, sentence)
        assert trace.places == "vertices"
        before, visited, written = trace.steps
        size = 4 * len(tiny_tokenizer(sentence).input_ids)
        assert len(before.tokens) == len(visited.tokens) == min(size, 32) - 1  # without EOS
        path = [token.text for token in visited.tokens if token.edit == "filled"]
        assert path == [token.text for token in written.tokens if token.edit == "kept"] and path
        assert all(token.is_mask for token in visited.tokens[1:] if token.edit == "kept")
        dropped = [token for token in written.tokens if token.edit == "deleted"]
        assert len(dropped) == len(before.tokens) - len(path)


def test_frames_and_their_blanks_are_shown(tiny_tokenizer, sentences) -> None:
    model = student_of(
        "ctc_nat", tiny_tokenizer, vocab_size=len(tiny_tokenizer) + 1, blank_token_id=len(tiny_tokenizer)
    )
    seen, weight = 0, model.lm_head.weight
    first = tiny_tokenizer.convert_tokens_to_ids(trace_student(model, tiny_tokenizer, "hello").steps[1].tokens[0].text)
    for factor in (0.0, 2.0):
        with torch.no_grad():
            weight[-1] = factor * weight[first]  # twice as sure as what stands there without blanks
        for sentence in sentences:
            trace = trace_student(model, tiny_tokenizer, sentence)
            assert trace.places == "frames"
            frames = trace.steps[1].tokens
            assert len(frames) == min(2 * len(tiny_tokenizer(sentence).input_ids), 31)
            merged = [t for i, t in enumerate(frames) if i == 0 or t.text != frames[i - 1].text]
            assert [t.text for t in merged if not t.is_blank] == written(trace)
            assert not any(token.is_mask for token in frames)
            seen += sum(token.is_blank for token in frames)
            page = render_traces(trace)
            assert f"{len(frames)} frames" in page and ("∅" in page) == any(token.is_blank for token in frames)
    assert seen


def test_blank_sentence_has_an_empty_trace(student, tiny_tokenizer, copy_teacher) -> None:
    assert trace_student(student, tiny_tokenizer, "  ") == Trace("", (), 0.0, False)
    assert trace_teacher(copy_teacher, tiny_tokenizer, "") == Trace("", (), 0.0, False)


def test_unknown_knob_is_an_error(student, tiny_tokenizer) -> None:
    with pytest.raises(ValueError, match="beam_width"):
        trace_student(student, tiny_tokenizer, "hello", beam_width=3)


def test_teacher_writes_one_token_after_the_other(copy_teacher, tiny_tokenizer, sentences, caplog) -> None:
    for sentence in sentences:
        trace = trace_teacher(copy_teacher, tiny_tokenizer, sentence)
        (translation,) = translate(copy_teacher, tiny_tokenizer, [sentence], do_sample=False)
        assert trace.text == translation.text
        assert trace.iterations == translation.num_tokens
        tokens = [step.tokens[0].text for step in trace.steps]
        assert tokens == tiny_tokenizer.tokenize(trace.text)
        times = [step.seconds for step in trace.steps]
        assert times == sorted(times) and times[-1] <= trace.seconds
    assert not caplog.records


def test_source_beyond_the_positions_is_marked(student, copy_teacher, tiny_tokenizer, sentences) -> None:
    text = " ".join(sentences * 5)
    assert trace_student(student, tiny_tokenizer, text).truncated
    assert trace_teacher(copy_teacher, tiny_tokenizer, text).truncated
    assert not trace_teacher(copy_teacher, tiny_tokenizer, "hello").truncated


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ([], [], ""),
        ([], [MASK, MASK], "ii"),
        ([7, MASK], [7, 8], "kf"),
        ([7, 8], [MASK, 8], "mk"),
        ([7, 8], [7, 9], "kr"),
        ([7, 8, 7], [7], "kdd"),
        ([7], [9, 7, 9], "iki"),
        ([MASK, MASK, MASK], [7], "fdd"),
        ([MASK, MASK], [], "dd"),
        ([7, 8], [9, 9, 9], "ddiii"),
    ],
)
def test_edits_of_small_canvases(old: list[int], new: list[int], expected: str) -> None:
    assert "".join(edit[0] for _, edit in edits(old, new, MASK)) == expected


def test_edits_of_random_deletions_and_insertions() -> None:
    draw = random.Random(0)
    for _ in range(500):
        longer = [draw.choice([MASK, 7, 8]) for _ in range(draw.randrange(1, 8))]
        shorter = [token for token in longer if draw.random() < 0.6]
        for old, new in ((longer, shorter), (shorter, longer)):
            result = edits(old, new, MASK)
            assert [token for token, edit in result if edit != "deleted"] == new
            if len(old) != len(new) and set(old) != {MASK}:
                assert [token for token, edit in result if edit != "inserted"] == old
                assert {edit for _, edit in result} <= {"kept", "deleted" if old is longer else "inserted"}
