from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import evaluate
import pytest
from random_corpora import columns, random_corpus

import hf_nat.metrics
from hf_nat.metrics import LexicalCounts, complexity, evaluate_corpus, faithfulness, fuzzy_reordering


MODULES = Path(hf_nat.metrics.__file__).parent / "evaluate_modules"
NAMES = ["complexity", "faithfulness", "fuzzy_reordering"]


def load(name: str, cache_dir: Path) -> evaluate.EvaluationModule:
    return evaluate.load(str(MODULES / name), cache_dir=str(cache_dir))


def as_lines(rows) -> dict[str, list[str]]:
    return {
        "sources": [" ".join(source) for source, _, _ in rows],
        "targets": [" ".join(target) for _, target, _ in rows],
        "alignments": [" ".join(f"{i}-{j}" for i, j in links) for _, _, links in rows],
    }


def inputs(rows, others) -> dict[str, list[str]]:
    other = as_lines(others)
    return {
        **as_lines(rows),
        "distilled_targets": other["targets"],
        "distilled_alignments": other["alignments"],
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_module_states_its_inputs(name, tmp_path):
    module = load(name, tmp_path)
    assert (module.name, module.module_type) == (name, "measurement")
    assert list(module.features)[:3] == ["sources", "targets", "alignments"]
    for feature in module.features:
        assert f"    {feature} (list of str): " in module.inputs_description
    assert "arxiv.org/abs/1911.02727" in module.citation


@pytest.mark.parametrize("options", [{}, {"base": 2, "include_unlinked": True, "weighting": "tokens"}], ids=str)
def test_complexity_module_is_the_function(options, tmp_path):
    rows = random_corpus(0)
    expected = complexity(LexicalCounts.from_corpus(*columns(rows)), **options)
    result = load("complexity", tmp_path).compute(**as_lines(rows), **options)
    assert result == {
        "complexity": expected.value,
        "per_word": expected.per_word,
        "num_types": expected.num_types,
        "num_links": expected.num_links,
        "occurrences": expected.occurrences,
    }


@pytest.mark.parametrize("options", [{}, {"eps": 1e-3, "min_count": 2}, {"add_k": 0.5}], ids=str)
def test_faithfulness_module_is_the_function(options, tmp_path):
    rows, others = random_corpus(0), random_corpus(1)
    expected = faithfulness(*(LexicalCounts.from_corpus(*columns(side)) for side in (rows, others)), **options)
    result = load("faithfulness", tmp_path).compute(**inputs(rows, others), **options)
    assert result == {
        "faithfulness": expected.value,
        "agreement": expected.agreement,
        "unseen_mass": expected.unseen_mass,
        "per_word": expected.per_word,
        "num_types": expected.num_types,
    }


@pytest.mark.parametrize("options", [{}, {"gaps": True, "boundary": True}, {"micro": True}], ids=str)
def test_fuzzy_reordering_module_is_the_function(options, tmp_path):
    rows = random_corpus(0)
    expected = fuzzy_reordering(columns(rows)[2], source_lengths=[len(source) for source, _, _ in rows], **options)
    result = load("fuzzy_reordering", tmp_path).compute(**as_lines(rows), **options)
    assert result == {
        "fuzzy_reordering": expected.value,
        "scores": expected.scores,
        "num_sentences": expected.num_sentences,
    }


def test_rows_may_be_added_one_by_one(tmp_path):
    lines = as_lines(random_corpus(0))
    module = load("complexity", tmp_path)
    for source, target, links in zip(*lines.values(), strict=True):
        module.add(sources=source, targets=target, alignments=links)
    assert module.compute() == load("complexity", tmp_path).compute(**lines)


def test_tokens_are_split_on_spaces_and_tabs_only(tmp_path):
    assert list(evaluate_corpus.tokens([" a\u00a0b\t\tc  d\u2028e\n", "", " \t"])) == [
        ["a\u00a0b", "c", "d\u2028e\n"],
        [],
        [],
    ]
    result = load("complexity", tmp_path).compute(sources=["a\u00a0b c"], targets=["x"], alignments=["0-0"])
    assert list(result["per_word"]) == ["a\u00a0b"]


def test_a_link_outside_its_sentence_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="got 1-0 in row 0 with 1 source"):
        load("fuzzy_reordering", tmp_path).compute(sources=["a"], targets=["x"], alignments=["1-0"])


def test_the_measures_do_not_need_evaluate():
    program = "import sys; sys.modules.update(evaluate=None, datasets=None); import hf_nat.metrics.faithfulness"
    subprocess.run([sys.executable, "-c", program], check=True)
