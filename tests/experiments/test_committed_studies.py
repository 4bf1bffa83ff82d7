"""The pages of the studies under configs/ are what their committed results say."""

from __future__ import annotations

from pathlib import Path

import pytest

from hf_nat.base.utils import read_json
from hf_nat.experiments.distillation_studies import CAPACITY, DECODING, EXPERTS, INTERPOLATION
from hf_nat.experiments.matrix_report import write_matrix_report
from hf_nat.experiments.multimodality_report import corpora_table, systems_table


CONFIGS = Path(__file__).parents[2] / "configs"
STUDIES = {study.name: study for study in (CAPACITY, DECODING, EXPERTS, INTERPOLATION)}
RESULTS = [path for name in STUDIES for path in CONFIGS.glob(f"*/results/{name}/{name}.json")]
LANGUAGES = list(CONFIGS.glob("*/results/multimodality/multimodality.json"))


def test_results_are_found() -> None:
    assert len(RESULTS) >= 3 and LANGUAGES


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: f"{path.parts[-4]}/{path.stem}")
def test_page_is_made_from_the_results(path: Path, tmp_path: Path) -> None:
    write_matrix_report(tmp_path, STUDIES[path.stem], read_json(path))
    made, committed = (folder / "report.md" for folder in (tmp_path, path.parent))
    assert made.read_text(encoding="utf-8") == committed.read_text(encoding="utf-8")
    plots = ("students.png", "corpora.png", "metrics.png", "measures/sentence_entropy.png")
    assert all((path.parent / plot).is_file() for plot in plots)


@pytest.mark.parametrize("path", LANGUAGES, ids=lambda path: path.parts[-4])
def test_page_of_three_languages_holds_its_tables(path: Path) -> None:
    page = path.with_name("report.md").read_text(encoding="utf-8")
    results = read_json(path)
    assert systems_table(results).markdown() in page and corpora_table(results).markdown() in page
    assert path.with_name("simplex.png").is_file()
