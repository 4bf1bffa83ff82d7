"""The tables of the corpus pages are what the committed metrics say."""

import runpy
from pathlib import Path

import pytest

from hf_nat.analysis import measures_table
from hf_nat.experiments.born_again import scores_table
from hf_nat.utils import read_json


ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "configs/multi30k/README.md").read_text(encoding="utf-8")
results_table = runpy.run_path(str(ROOT / "scripts/results_table.py"))["results_table"]
training_table = runpy.run_path(str(ROOT / "scripts/benchmark_training.py"))["markdown_table"]
markdown_table = runpy.run_path(str(ROOT / "scripts/benchmark_decoding.py"))["markdown_table"]
alignment_table, scaling_table = (
    runpy.run_path(str(ROOT / "scripts/benchmark_alignment.py"))[name] for name in ("markdown_table", "scaling_table")
)


def test_multi30k_page_holds_the_table_of_its_metrics():
    assert results_table(ROOT / "configs/multi30k/results", ROOT / "configs/multi30k/benchmark/cpu.json") in PAGE


def test_multi30k_page_holds_the_table_of_its_benchmark():
    assert markdown_table(read_json(ROOT / "configs/multi30k/benchmark/cpu.json")) in PAGE


def test_benchmark_page_holds_the_table_of_the_training_benchmark():
    table = training_table(read_json(ROOT / "scripts/results/benchmark_training_cpu.json"))
    assert table in (ROOT / "scripts/README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["words", "bpe"])
def test_multi30k_page_holds_the_measures_of_its_distilled_corpora(name):
    measures = read_json(ROOT / f"configs/multi30k/measures/{name}.json")
    assert measures_table(measures["corpora"]).markdown() in PAGE


def test_multi30k_page_holds_the_tables_of_born_again_teachers_and_experts():
    born_again = read_json(ROOT / "configs/multi30k/nano/born_again.json")
    assert scores_table(born_again["iterations"]).markdown() in PAGE
    assert (
        measures_table([born_again["real"], *(row["measures"] for row in born_again["iterations"])]).markdown() in PAGE
    )
    assert measures_table(read_json(ROOT / "configs/multi30k/nano/measures.json")["corpora"]).markdown() in PAGE


@pytest.mark.parametrize("folder", ["longer", "strategies", "nano/results"])
def test_multi30k_page_holds_the_tables_of_longer_training_and_of_strategies(folder):
    assert results_table(ROOT / "configs/multi30k" / folder) in PAGE


def test_multi30k_page_holds_the_tables_of_the_alignment_benchmark():
    result = read_json(ROOT / "scripts/results/benchmark_alignment_cpu.json")
    assert alignment_table(result) in PAGE
    assert scaling_table(result) in PAGE


def test_no_metrics_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=f"got none in {tmp_path}"):
        results_table(tmp_path)


def test_benchmark_page_holds_the_table_of_the_benchmark_of_distillation():
    table = runpy.run_path(str(ROOT / "scripts/benchmark_distillation.py"))["markdown_table"]
    result = read_json(ROOT / "scripts/results/benchmark_distillation_cpu.json")
    assert table(result) in (ROOT / "scripts/README.md").read_text(encoding="utf-8")
