"""The tables of the corpus pages are what the committed metrics say."""

import re
import runpy
from pathlib import Path

import pytest

from hf_nat import Train, load_model, translate
from hf_nat.analysis import measures_table
from hf_nat.base.utils import read_json
from hf_nat.experiments.born_again import scores_table


ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "configs/multi30k/results"
PAGE = (RESULTS / "README.md").read_text(encoding="utf-8")
_results = runpy.run_path(str(ROOT / "scripts/results_table.py"))
results_table, main = _results["results_table"], _results["main"]
training_table = runpy.run_path(str(ROOT / "scripts/benchmark_training.py"))["markdown_table"]
_decoding = runpy.run_path(str(ROOT / "scripts/benchmark_decoding.py"))
markdown_table, footprint_table = _decoding["markdown_table"], _decoding["footprint_table"]
alignment_table, scaling_table = (
    runpy.run_path(str(ROOT / "scripts/benchmark_alignment.py"))[name] for name in ("markdown_table", "scaling_table")
)


def test_multi30k_page_holds_the_table_of_its_metrics():
    page = (RESULTS.parent / "README.md").read_text(encoding="utf-8")
    assert results_table(RESULTS / "systems", RESULTS / "benchmark/cpu.json") in page


@pytest.mark.parametrize("name", ["cpu", "race_cpu", "race_teacher2_cpu", "race_students_cpu", "race_base_cpu"])
def test_multi30k_page_holds_the_tables_of_its_benchmarks(name):
    assert markdown_table(read_json(RESULTS / f"benchmark/{name}.json")) in PAGE


@pytest.mark.parametrize("name", ["race_cpu", "race_teacher2_cpu", "race_students_cpu"])
def test_multi30k_page_holds_scores_sizes_and_memory_of_the_race(name):
    assert footprint_table(read_json(RESULTS / f"benchmark/{name}.json")) in PAGE


def test_benchmark_page_holds_the_table_of_the_training_benchmark():
    table = training_table(read_json(ROOT / "scripts/results/benchmark_training_cpu.json"))
    assert table in (ROOT / "scripts/README.md").read_text(encoding="utf-8")


def test_training_costs_no_more_than_is_aimed_at():
    """CTC twice, DA-Transformer four times the time and memory of vanilla NAT; glancing 1.5 times a model's time."""
    costs = read_json(ROOT / "scripts/results/benchmark_training_cpu.json")["architectures"]
    speed, memory = ({name: cost[key] for name, cost in costs.items()} for key in ("speed_ratio", "memory_ratio"))
    for name, most in (("ctc_nat", 2), ("da_transformer", 4)):
        assert 1 / speed[name] <= most and memory[name] <= most and memory[f"{name}+glancing"] <= most
    for name in ("vanilla_nat", "ctc_nat", "da_transformer"):
        assert speed[name] / speed[f"{name}+glancing"] <= 1.5


@pytest.mark.parametrize("name", ["compare_trainers", "compare_training", "benchmark_distillation"])
def test_benchmark_page_holds_the_table_of(name):
    table = runpy.run_path(str(ROOT / f"scripts/{name}.py"))["markdown_table"]
    result = read_json(ROOT / f"scripts/results/{name}_cpu.json")
    assert table(result) in (ROOT / "scripts/README.md").read_text(encoding="utf-8")


def test_benchmark_page_holds_the_table_of_strategies_that_choose():
    table = runpy.run_path(str(ROOT / "scripts/benchmark_distillation.py"))["choosing_table"]
    result = read_json(ROOT / "scripts/results/benchmark_distillation_cpu.json")
    assert table(result) in (ROOT / "scripts/README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "name", ["converged_words", "converged_teacher2_words", "converged_bpe", "converged_early_words"]
)
def test_multi30k_page_holds_the_measures_of_its_distilled_corpora(name):
    measures = read_json(RESULTS / f"measures/{name}.json")
    assert measures_table(measures["corpora"]).markdown() in PAGE


def test_multi30k_page_holds_the_tables_of_born_again_teachers_and_experts():
    born_again = read_json(RESULTS / "nano/born_again.json")
    assert scores_table(born_again["iterations"]).markdown() in PAGE
    assert (
        measures_table([born_again["real"], *(row["measures"] for row in born_again["iterations"])]).markdown() in PAGE
    )
    assert measures_table(read_json(RESULTS / "nano/measures.json")["corpora"]).markdown() in PAGE


@pytest.mark.parametrize("folder", ["longer", "strategies", "nano/systems"])
def test_multi30k_page_holds_the_tables_of_longer_training_and_of_strategies(folder):
    assert results_table(RESULTS / folder) in PAGE


def test_multi30k_page_holds_the_table_that_its_command_makes(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    command = re.search(r"python scripts/results_table.py (\S+/converged .*?)\n```", PAGE, flags=re.DOTALL)
    main(command[1].replace("\\\n", " ").split())
    assert capsys.readouterr().out in PAGE


def test_multi30k_page_holds_the_tables_of_the_alignment_benchmark():
    result = read_json(ROOT / "scripts/results/benchmark_alignment_cpu.json")
    assert alignment_table(result) in PAGE
    assert scaling_table(result) in PAGE


def test_benchmark_page_holds_the_table_of_the_benchmark_of_serving():
    table = runpy.run_path(str(ROOT / "scripts/benchmark_serving.py"))["markdown_table"]
    result = read_json(RESULTS / "benchmark/serving_cpu.json")
    assert table(result) in (ROOT / "scripts/README.md").read_text(encoding="utf-8")
    assert max(row["resident_growth"] for row in result["results"]) <= 1.05


def test_no_metrics_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=f"got none in {tmp_path}"):
        results_table(tmp_path)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "configs").rglob("*.md")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_links_of_the_pages_lead_somewhere(path):
    links = re.findall(r"\]\(([^)]+)\)", path.read_text(encoding="utf-8"))
    for link in (link for link in links if not link.startswith("http")):
        place, _, section = link.partition("#")
        found = path.parent / place if place else path
        assert found.exists(), link
        headings = re.findall(r"^#+ (.+)$", found.read_text(encoding="utf-8"), flags=re.M) if section else []
        assert not section or section in [re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings], link


def test_the_kept_teacher_is_the_one_of_the_table_and_translates():
    folder = RESULTS.parent / "checkpoints/teacher"
    scored = read_json(RESULTS / "converged/teacher2__beam5.json")
    assert read_json(folder / "eval-test_2016_flickr/metrics.json") == scored
    assert read_json(folder / "metrics.json") == read_json(RESULTS / "converged/training/teacher2.json")
    assert f"value: {scored['scores']['bleu']['score']:.2f}" in (folder / "README.md").read_text(encoding="utf-8")
    config = ROOT / "configs/multi30k/converged/teacher.yaml"
    settings = Train.from_config(str(config), use_cpu=True).settings()
    assert settings == read_json(folder / "step.json")["settings"], "a copy would not be taken for a finished run"
    model, tokenizer = load_model(folder)
    (found,) = translate(model, tokenizer, ["A man is reading a book in the park."], num_beams=5)
    assert found.text == "Ein Mann liest im Park ein Buch."


def test_the_kept_student_is_the_one_of_the_table_and_translates():
    folder = RESULTS.parent / "checkpoints/ctc_nat_glancing_distilled"
    name = "ctc_nat_glancing_distilled_teacher2"
    scored = read_json(RESULTS / f"converged/{name}.json")
    assert read_json(folder / "eval-test_2016_flickr/metrics.json") == scored
    assert read_json(folder / "metrics.json") == read_json(RESULTS / f"converged/training/{name}.json")
    assert f"value: {scored['scores']['bleu']['score']:.1f}" in (folder / "README.md").read_text(encoding="utf-8")
    model, tokenizer = load_model(folder)
    (found,) = translate(model, tokenizer, ["A man is reading a book in the park."])
    assert found.text == "Ein Mann liest ein Buch im Park."
