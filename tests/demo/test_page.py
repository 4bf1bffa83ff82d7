"""The page of the demonstration: in a string by default, in a real browser in the slow tier."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from nat_model_tester import save, tiny_student

from hf_nat.demo.app import build_demo
from hf_nat.demo.page import render_traces
from hf_nat.demo.trace import Step, Token, Trace


ROOT = Path(__file__).parents[2]
STUDENT = Trace(
    "a <b>",
    (
        Step(0, (Token("<mask>", "inserted", True), Token("<mask>", "inserted", True)), 0.01),
        Step(1, (Token("▁a", "filled"), Token("▁<b>", "filled")), 0.02),
        Step(2, (Token("▁a", "kept"), Token("▁<b>", "kept")), 0.03),
    ),
    0.04,
    False,
)
TEACHER = Trace(
    "a b", (Step(1, (Token("▁a", "inserted"),), 0.05), Step(2, (Token("▁b", "inserted"),), 0.1)), 0.2, True
)


def test_steps_appear_on_one_slowed_down_clock() -> None:
    page = render_traces(STUDENT, TEACHER, replay_seconds=2)
    delays = [float(delay) for delay in re.findall(r"animation-delay: ([\d.]+)s", page)]
    assert delays == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 1.0, 2.0])
    assert "40.0 ms" in page and "200.0 ms" in page and "5.0 times as long" in page
    assert "replayed 10 times slower" in page
    assert "Student: 2 rounds" in page and "Teacher: 2 tokens" in page
    assert "nothing to change" in page
    assert page.count("The source was cut") == 1


def test_a_round_is_said_to_change_nothing_only_if_no_step_of_it_did() -> None:
    here, gone = Token("▁a", "kept"), Token("▁b", "deleted")
    steps = [
        Step(0, (), 0.0),
        Step(1, (gone,), 0.1),
        Step(1, (here,), 0.1),
        Step(2, (here,), 0.2),
        Step(2, (here,), 0.3),
    ]
    trace = Trace("a", tuple(steps), 0.3, False)
    assert trace.shown_steps == [steps[1], steps[4]]
    assert render_traces(trace).count("nothing to change") == 1


def test_text_is_escaped() -> None:
    page = render_traces(STUDENT)
    assert "<b>" not in page and page.count("&lt;b&gt;") == 3
    assert "Teacher" not in page


def test_without_replay_all_is_there_at_once() -> None:
    page = render_traces(STUDENT, TEACHER, replay_seconds=0)
    assert set(re.findall(r"animation-delay: ([\d.]+)s", page)) == {"0.000"}
    assert "slower" not in page
    with pytest.raises(ValueError, match="`replay_seconds` must be >= 0, got -1"):
        render_traces(STUDENT, replay_seconds=-1)


def test_blank_sentence_has_a_page_too() -> None:
    blank = Trace("", (), 0.0, False)
    page = render_traces(blank, blank)
    assert page.count("(empty)") == 2 and "times as long" not in page


def test_missing_gradio_is_named(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(ImportError, match=r"pip install 'hf_nat\[demo\]'"):
        build_demo("nowhere")


@pytest.fixture
def folders(tmp_path: Path, copy_teacher, tiny_tokenizer) -> tuple[Path, Path]:
    """A student and its teacher."""
    student = tiny_student("vanilla_nat", tiny_tokenizer, max_position_embeddings=64)
    for name, model in (("student", student), ("teacher", copy_teacher)):
        save(tmp_path / name, model, tiny_tokenizer)
    return tmp_path / "student", tmp_path / "teacher"


@pytest.fixture
def address(folders: tuple[Path, Path]) -> Iterator[str]:
    """The command, serving on loopback."""
    pytest.importorskip("gradio", reason="Gradio is not installed")
    student, teacher = folders
    command = [sys.executable, "-u", "-m", "hf_nat", "demo", "--model", student, "--teacher", teacher]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                yield found[0]
                break
        else:
            raise AssertionError("".join(lines))
        process.terminate()


@pytest.mark.slow
def test_sentence_is_translated_in_a_browser(address: str, tmp_path: Path) -> None:
    pytest.importorskip("playwright", reason="Playwright is not installed")
    if not Path("/usr/bin/chromium").exists():
        pytest.skip("Chromium is not installed: apt-get install chromium")
    script = [
        sys.executable,
        ROOT / "scripts/demo_screenshot.py",
        "--address",
        address,
        "--output",
        tmp_path / "x.png",
    ]
    shown = subprocess.run([*script, "--sentence", "a dog runs"], capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    assert "Student: 1 round" in shown.stdout and "Teacher: " in shown.stdout
    assert "a dog runs" in shown.stdout, "the teacher copies"
    assert (tmp_path / "x.png").stat().st_size > 20_000


def test_autoregressive_model_is_no_student(folders: tuple[Path, Path]) -> None:
    pytest.importorskip("gradio", reason="Gradio is not installed")
    student, teacher = map(str, folders)
    with pytest.raises(ValueError, match="`model` must be non-autoregressive, got a MarianMTModel"):
        build_demo(teacher)
    with pytest.raises(ValueError, match="`teacher` must be autoregressive, got a VanillaNAT"):
        build_demo(student, student)
