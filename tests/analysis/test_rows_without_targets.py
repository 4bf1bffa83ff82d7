"""Measures of corpora whose rows have no real target, or several targets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset

from hf_nat.analysis import AlignedCorpus, AnalyzeArguments, MeasureArguments, measure_corpus
from hf_nat.base.utils import read_json
from hf_nat.distillation.shards import corpus_features
from hf_nat.metrics import training_bleu
from hf_nat.steps import Analyze
from hf_nat_cli import main


ARGS = MeasureArguments(source_lang="en", target_lang="de", tokens="space", num_bootstrap=30)
REAL = [(f"a{i} b{i % 3} c c d", f"x{i} y{i % 3} z u v") for i in range(12)]


def row(number: int, target: str, real_target: str | None, **more: Any) -> dict[str, Any]:
    """A row of a distilled corpus, made of this row of the real one."""
    pair = {"en": REAL[number][0], "de": target}
    own = {"id": number, "translation": pair, "real_target": real_target, "teacher_score": -1.0, "flags": []}
    return own | more


def rewritten(number: int) -> str:
    return REAL[number][1] if number % 2 else f"x{number} y z u"


# Sources alone; and a mix of rows with and without real targets, one of them twice.
ALONE = [row(number, rewritten(number), None) for number in range(12)]
MIXED = [row(number, rewritten(number), REAL[number][1] if number < 7 else None) for number in (*range(12), 3, 9)]


def measured(rows: list[dict[str, Any]], folder: Path, real: list[tuple[str, str]] = REAL) -> dict[str, Any]:
    pairs = [{"translation": {"en": source, "de": target}} for source, target in real]
    corpora = [
        AlignedCorpus("real", Dataset.from_list(pairs), folder / "real", ARGS),
        AlignedCorpus("own", Dataset.from_list(rows, features=corpus_features("en", "de")), folder / "own", ARGS),
    ]
    return measure_corpus(corpora[1], corpora[0])


def test_sources_alone_have_all_measures_but_training_bleu(tmp_path: Path) -> None:
    found = measured(ALONE, tmp_path)
    assert found["training_bleu"] is None and found["training_bleu_interval"] is None
    assert found["num_real_targets"] == 0
    assert found["complexity"] > 0 and found["faithfulness"] > 0
    assert found["faithfulness_interval"] is not None, "their sources are those of the rows that `id` names"


def test_training_bleu_is_of_the_rows_that_have_a_real_target(tmp_path: Path) -> None:
    found = measured(MIXED, tmp_path)
    counted = [(own["translation"]["de"], own["real_target"]) for own in MIXED if own["real_target"] is not None]
    sides: list[Any] = list(zip(*counted, strict=True))
    assert found["num_real_targets"] == len(counted) == 8
    assert found["training_bleu"] == training_bleu(*sides, target_lang="de").score
    assert found["training_bleu_signature"].startswith("BLEU|")


def test_bootstrap_counts_the_same_rows(tmp_path: Path) -> None:
    low, high = measured(MIXED, tmp_path)["training_bleu_interval"]
    # Oracle: the samples one by one, as texts.
    values, rng = [], np.random.default_rng(ARGS.seed)
    for _ in range(ARGS.num_bootstrap):
        drawn = rng.integers(len(REAL), size=len(REAL))
        sample = [own for number in drawn for own in MIXED if own["id"] == number and own["real_target"] is not None]
        targets = [own["translation"]["de"] for own in sample]
        values.append(training_bleu(targets, [own["real_target"] for own in sample], target_lang="de").score)
    assert (low, high) == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])))


@pytest.mark.parametrize("rows", [ALONE, MIXED])
def test_rows_of_other_sources_are_not_paired(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    others = [(f"{source} f" if number > 7 else source, target) for number, (source, target) in enumerate(REAL)]
    found = measured(rows, tmp_path, others)
    assert found["faithfulness_interval"] is None and found["training_bleu_interval"] is None
    assert found["faithfulness"] > 0 and found["num_real_targets"] == (8 if rows is MIXED else 0)


def write(rows: list[dict[str, Any]], folder: Path, extra: tuple[str, ...] = ()) -> str:
    """Writes rows as a training split."""
    (folder / "data").mkdir(parents=True)
    file = folder / "data/train-00000-of-00001.parquet"
    Dataset.from_list(rows, features=corpus_features("en", "de", extra)).to_parquet(file)
    return str(folder)


def write_real(folder: Path) -> str:
    for number, lang in enumerate(("en", "de")):
        (folder / f"train.{lang}").write_text("".join(f"{pair[number]}\n" for pair in REAL), encoding="utf-8")
    return f"{folder}/{{split}}.{{lang}}"


def test_every_target_of_a_source_is_measured(tmp_path: Path) -> None:
    targets = [[rewritten(number), f"x{number} v u"][: 1 + number % 2] for number in range(12)]
    own = [row(number, texts[0], REAL[number][1]) for number, texts in enumerate(targets)]
    lists = [
        pair | {"targets": texts, "target_scores": [-1.0] * len(texts)}
        for pair, texts in zip(own, targets, strict=True)
    ]
    expanded = [row(number, text, REAL[number][1]) for number, texts in enumerate(targets) for text in texts]
    keys: dict[str, Any] = {"source_lang": "en", "target_lang": "de", "tokens": "space", "num_bootstrap": 30}
    corpora = {
        "lists": write(lists, tmp_path / "lists", ("targets", "target_scores")),
        "rows": write(expanded, tmp_path / "rows"),
        "best": write(own, tmp_path / "best"),
    }
    distilled = [f"{name}={place}" for name, place in corpora.items()]
    args = AnalyzeArguments(
        real=write_real(tmp_path), distilled=distilled, output_dir=str(tmp_path / "report"), **keys
    )
    Analyze(args).run()
    _, *found = read_json(tmp_path / "report/measures.json")["corpora"]
    lists_found, rows_found, best_found = ({**one, "name": "", "seconds": 0} for one in found)
    assert lists_found == rows_found != best_found
    assert lists_found["num_pairs"] == 18 and lists_found["training_bleu_interval"] is not None
    # The links of `hf-nat align` are those of the same pairs.
    options = ["--corpus", corpora["lists"], "--source_lang=en", "--target_lang=de"]
    assert main(["align", *options, f"--output_file={tmp_path / 'links.txt'}"]) == 0
    links = (tmp_path / "links.txt").read_text()
    assert links == (tmp_path / "report/corpora/lists/links.txt").read_text() and links.count("\n") == 18


def test_report_says_of_how_many_rows_training_bleu_is(tmp_path: Path) -> None:
    alone, mixed = write(ALONE, tmp_path / "alone"), write(MIXED, tmp_path / "mixed")
    options = ["--source_lang=en", "--target_lang=de", "--tokens=space", "--num_bootstrap=5"]
    corpora = [f"--real={write_real(tmp_path)}", f"--distilled={alone}", f"--distilled={mixed}"]
    report = tmp_path / "report"
    assert main(["analyze", *options, *corpora, f"--output_dir={report}"]) == 0
    _, alone_found, found = read_json(report / "measures.json")["corpora"]
    table = [line for line in (report / "report.md").read_text().splitlines() if line.startswith("| ")]
    cells = {line[0]: line for line in ([cell.strip() for cell in own.split("|")[1:-1]] for own in table)}
    assert alone_found["training_bleu"] is None and cells["alone"][-1] == ""
    assert cells["mixed"][-1] == f"{found['training_bleu']:.2f} (8 pairs)"
