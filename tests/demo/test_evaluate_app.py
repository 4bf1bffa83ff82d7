"""Every `evaluate` module has a page, which computes what the module does."""

from __future__ import annotations

from pathlib import Path

import evaluate
import pytest

import hf_nat.demo.evaluate_app as evaluate_app
import hf_nat.metrics
from hf_nat.demo.evaluate_app import build_evaluate_app


MODULES = sorted(path.parent for path in Path(hf_nat.metrics.__file__).parent.glob("evaluate_modules/*/*.py"))
TEXTS = {
    "predictions": "a dog runs\nthe cat sleeps",
    "references": "a dog runs\na cat sleeps",
    "sources": "a b\na c",
    "targets": "x y\nx z",
    "alignments": "0-0 1-1\n0-0 1-1",
    "distilled_targets": "x y\nx y",
    "distilled_alignments": "0-0 1-1\n0-0",
    "target_lang": "en",
}


@pytest.fixture
def gradio():
    return pytest.importorskip("gradio", reason="Gradio is not installed: pip install 'hf_nat[demo]'")


@pytest.mark.usefixtures("gradio")
@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name)
def test_page_computes_what_the_module_does(module: Path) -> None:
    app = build_evaluate_app(module)
    loaded = evaluate.load(str(module))
    names = [*loaded.features, *(["target_lang"] if "predictions" in loaded.features else [])]
    (compute,) = [function.fn for function in app.fns.values() if function.api_name == "compute"]
    inputs = {name: TEXTS[name].splitlines() for name in loaded.features}
    inputs |= {name: TEXTS[name] for name in names if name not in inputs}
    assert compute(*(TEXTS[name] for name in names), "{}") == loaded.compute(**inputs)


def test_lines_end_at_line_feeds_alone() -> None:
    assert evaluate_app._lines("a\u2028b\x85c\rd\n\ne\n") == ["a\u2028b\x85c\rd", "", "e"]
    assert evaluate_app._lines("") == [] and evaluate_app._lines("\n") == [""]


def test_options_of_a_visitor_are_small_numbers_and_truth_values() -> None:
    read = evaluate_app._read_options
    assert read("") == {} and read('{"lowercase": true, "beta": 3, "seed": 12345}') == {
        "lowercase": True,
        "beta": 3,
        "seed": 12345,
    }
    for text in ('{"wordnet_dir": "/etc"}', '{"char_order": 300000}', '{"beta": NaN}', '{"a": [1]}', "[1]", "3"):
        with pytest.raises(ValueError, match="must be"):
            read(text)


def test_texts_of_a_visitor_are_short() -> None:
    evaluate_app._require_short(["a " * 500, "b\n" * 9000])
    for texts in (["a" * 1001], ["a\n" * 20_001], ["a" * 900 + "\n" + "b\n" * 10_000, "c\n" * 10_000]):
        with pytest.raises(ValueError, match="A page takes at most 20,000 characters, and 1,000 a line"):
            evaluate_app._require_short(texts)


def test_bad_input_is_an_error_of_the_page(gradio) -> None:
    app = build_evaluate_app(next(path for path in MODULES if path.name == "complexity"))
    (compute,) = [function.fn for function in app.fns.values() if function.api_name == "compute"]
    for alignments, options in (("0-0 1-7\n0-0", "{}"), ("0-0\n0-0", "{"), ("0-0\n0-0", '{"base": 3}')):
        with pytest.raises(gradio.Error):
            compute("a b\na c", "x y\nx z", alignments, options)
