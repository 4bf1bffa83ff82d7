from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset, load_dataset
from transformers import PreTrainedTokenizerFast

from hf_nat.alignment import align, format_links, symmetrize
from hf_nat.analysis import AlignedCorpus, AnalyzeArguments, MeasureArguments, measure_corpus
from hf_nat.analysis.measures import ALIGNMENTS
from hf_nat.base.utils import read_json
from hf_nat.data import ToyTask, generate_toy_corpus, load_corpus
from hf_nat.metrics import LexicalCounts, complexity, faithfulness, fuzzy_reordering
from hf_nat.steps import Analyze
from hf_nat_cli import main


LANGS = ["--source_lang=src", "--target_lang=tgt", "--tokens=space"]
SIZE = 400


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A toy corpus, and what a perfect teacher would make of it: every target in the most probable mode."""
    folder = tmp_path_factory.mktemp("corpora")
    real, task = generate_toy_corpus(folder / "toy", sizes={"train": SIZE}), ToyTask()
    mode = task.modes[0][0]

    def distill(row: dict) -> dict:
        source = row["translation"]["src"]
        return {"translation": {"src": source, "tgt": task.translate(source, mode)}}

    rows = load_dataset("parquet", data_files=str(real / "data/train-*.parquet"), split="train")
    (folder / "distilled/data").mkdir(parents=True)
    rows.map(distill).to_parquet(folder / "distilled/data/train-00000-of-00001.parquet")
    return real, folder / "distilled"


@pytest.fixture(scope="module")
def report(corpora: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    options = [
        f"--real={corpora[0]}",
        f"--distilled=best={corpora[1]}",
        "--num_bootstrap=30",
        f"--output_dir={folder}",
    ]
    assert main(["analyze", *LANGS, *options]) == 0
    return folder


def load_rows(corpus: str, args: MeasureArguments) -> Dataset:
    return load_corpus(corpus, args.split, source_lang=args.source_lang, target_lang=args.target_lang)


def words(path: Path) -> tuple[list[list[str]], list[list[str]]]:
    rows = load_dataset("parquet", data_files=str(path / "data/train-*.parquet"), split="train")["translation"]
    return [row["src"].split() for row in rows], [row["tgt"].split() for row in rows]


def test_measures_are_those_of_the_functions(corpora: tuple[Path, Path], report: Path) -> None:
    real, distilled = read_json(report / "measures.json")["corpora"]
    counts = []
    for path, measured in zip(corpora, (real, distilled), strict=True):
        sources, targets = words(path)
        links = list(align(sources, targets))
        counts.append(LexicalCounts.from_corpus(sources, targets, links))
        assert measured["complexity"] == complexity(counts[-1]).value
        assert measured["reordering"] == fuzzy_reordering(links).value
        low, high = measured["complexity_interval"]
        assert low <= measured["complexity"] + 1e-9 and measured["complexity"] - 1e-9 <= high
    expected = faithfulness(*counts)
    assert distilled["faithfulness"] == expected.value
    assert (distilled["agreement"], distilled["unseen_mass"]) == (expected.agreement, expected.unseen_mass)
    assert real["faithfulness"] is None and real["training_bleu"] is None


def test_distillation_into_one_mode_is_seen(report: Path) -> None:
    real, distilled = read_json(report / "measures.json")["corpora"]
    assert distilled["complexity"] < 0.2 * real["complexity"]
    assert distilled["reordering"] > real["reordering"] + 0.1
    assert distilled["sentence_entropy"] < 0.2 * real["sentence_entropy"]
    assert 20 < distilled["training_bleu"] < 90
    assert distilled["training_bleu_signature"].startswith("BLEU|")


def test_report_shows_tables_plots_words_and_colored_examples(report: Path) -> None:
    text = (report / "report.md").read_text(encoding="utf-8")
    page = (report / "report.html").read_text(encoding="utf-8")
    for plot in ("complexity_faithfulness.png", "sentence_entropy.png", "reordering.png"):
        assert (report / plot).stat().st_size > 5000
        assert f'src="{plot}"' in page
    (real, _) = read_json(report / "measures.json")["corpora"]
    assert f"{real['complexity']:.3f}" in text
    assert "## best" in text
    assert page.count("<span style=") > 20
    assert "| best, target | <span" in text


def test_distilled_folder_keeps_its_measures(corpora: tuple[Path, Path], report: Path) -> None:
    assert read_json(corpora[1] / "measures.json")["corpora"] == read_json(report / "measures.json")["corpora"]


def test_real_against_real_is_exactly_faithful(corpora: tuple[Path, Path], tmp_path: Path) -> None:
    options = [f"--real={corpora[0]}", f"--distilled=again={corpora[0]}", "--num_bootstrap=5"]
    assert main(["analyze", *LANGS, *options, f"--output_dir={tmp_path}"]) == 0
    (corpora[0] / "measures.json").unlink()
    again = read_json(tmp_path / "measures.json")["corpora"][1]
    assert again["faithfulness"] == again["unseen_mass"] == 0.0
    assert again["faithfulness_interval"] == [0.0, 0.0]
    assert again["training_bleu"] == pytest.approx(100)


def test_files_of_a_killed_run_are_taken_over_and_the_measures_are_the_same(
    corpora: tuple[Path, Path], tmp_path: Path
) -> None:
    def measured() -> dict:
        args = MeasureArguments(source_lang="src", target_lang="tgt", tokens="space", num_bootstrap=0)
        return measure_corpus(AlignedCorpus("real", load_rows(str(corpora[0]), args), tmp_path, args)) | {"seconds": 0}

    first = measured()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.txt")}
    assert {path.name for path in before} == {"source.txt", "target.txt", "links.txt"}
    (tmp_path / "links.txt").unlink()
    assert measured() == first
    after = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.txt")}
    assert {path.name for path in before if before[path] != after[path]} == {"links.txt"}


@pytest.mark.parametrize("is_killed", [False, True])
def test_files_of_other_settings_are_refused_finished_or_not(
    is_killed: bool, corpora: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(**changes: object) -> Analyze:
        keys = {"source_lang": "src", "target_lang": "tgt", "tokens": "space", "num_bootstrap": 0, **changes}
        return Analyze(AnalyzeArguments(real=str(corpora[0]), output_dir=str(tmp_path / "report"), **keys))

    if is_killed:
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(AlignedCorpus, "_align", interrupt)
            step().run()
        assert not list((tmp_path / "report").rglob("links.txt"))
    else:
        step().run()
    message = "`alignment` must be the same in every run into .*report': it was 'forward', got 'intersect'"
    with pytest.raises(ValueError, match=message):
        step(alignment="intersect").run()
    step().run()
    num_links = step().results["corpora"][0]["num_links"]
    assert num_links == sum(map(len, align(*words(corpora[0]))))


def test_a_tokenizer_counts_by_its_content_and_not_by_its_place(
    corpora: tuple[Path, Path], tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    keys = {"source_lang": "src", "target_lang": "tgt", "num_bootstrap": 0}
    for name in ("one", "other"):
        tiny_tokenizer.save_pretrained(tmp_path / name)
        args = AnalyzeArguments(
            real=str(corpora[0]), output_dir=str(tmp_path / "report"), tokens=str(tmp_path / name), **keys
        )
        Analyze(args).run()
    (tmp_path / "other").rename(tmp_path / "away")
    Analyze(args).check()  # An earlier step may be about to make it.
    (tmp_path / "away").rename(tmp_path / "other")
    with open(tmp_path / "other/tokenizer.json", "ab") as file:
        file.write(b" ")
    with pytest.raises(ValueError, match="`tokenizer` must be the same in every run"):
        Analyze(args).run()


def interrupt(*arguments: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_links_of_another_aligner_take_the_place_of_ours(
    alignment: str, corpora: tuple[Path, Path], tmp_path: Path
) -> None:
    sources, targets = words(corpora[0])
    if alignment in ("forward", "reverse"):
        links = list(align(sources, targets, reverse=alignment == "reverse"))
    else:
        links = symmetrize(list(align(sources, targets)), list(align(sources, targets, reverse=True)), alignment)
    file = tmp_path / "links.txt"
    file.write_text("".join(f"{format_links(row)}\n" for row in links), encoding="utf-8")
    args = MeasureArguments(source_lang="src", target_lang="tgt", tokens="space", alignment=alignment, num_bootstrap=0)
    measured = [
        measure_corpus(
            AlignedCorpus("real", load_rows(str(corpora[0]), args), tmp_path / f"corpus{given is None}", args, given)
        )
        for given in (None, str(file))
    ]
    assert measured[0] | {"seconds": 0} == measured[1] | {"seconds": 0}


def test_corpus_with_other_rows_has_measures_but_no_pairing(corpora: tuple[Path, Path], tmp_path: Path) -> None:
    args = MeasureArguments(source_lang="src", target_lang="tgt", tokens="space", num_bootstrap=5)
    rows = load_rows(str(corpora[0]), args)
    real = AlignedCorpus("real", rows, tmp_path / "real", args)
    part = AlignedCorpus("part", rows.select(range(100)), tmp_path / "part", args)
    measured = measure_corpus(part, real)
    assert measured["faithfulness"] > 0
    assert measured["faithfulness_interval"] is None and measured["training_bleu"] is None
    with_targets = rows.select(range(100)).map(lambda row: {"real_target": row["translation"]["tgt"]})
    measured = measure_corpus(AlignedCorpus("part", with_targets, tmp_path / "part", args), real)
    assert measured["training_bleu"] == pytest.approx(100)


@pytest.mark.parametrize(
    "columns",
    [{"id": "a7"}, {"id": -1}, {"id": 0.5}, {"id": None}, {"id": [1]}, {"real_target": 3}, {"real_target": ["x"]}],
)
def test_columns_that_only_bear_the_names_of_a_distilled_corpus(
    columns: dict[str, Any], corpora: tuple[Path, Path], tmp_path: Path
) -> None:
    args = MeasureArguments(source_lang="src", target_lang="tgt", tokens="space", num_bootstrap=5)
    rows = load_rows(str(corpora[0]), args)
    real = AlignedCorpus("real", rows, tmp_path / "real", args)
    foreign = traced(rows, list(range(SIZE))).remove_columns(list(columns)).map(lambda row: columns)
    measured = measure_corpus(AlignedCorpus("foreign", foreign, tmp_path / "foreign", args), real)
    assert measured["training_bleu"] == pytest.approx(100)


def traced(rows: Dataset, kept: list[int]) -> Dataset:
    """Some rows of a corpus as a filter leaves them: with the number and the target of their real row."""
    return rows.map(lambda row: {"real_target": row["translation"]["tgt"]}).select(kept)


def test_filtered_rows_are_paired_with_the_real_ones_by_their_id(corpora: tuple[Path, Path], tmp_path: Path) -> None:
    args = MeasureArguments(source_lang="src", target_lang="tgt", tokens="space", num_bootstrap=40)
    rows = load_rows(str(corpora[0]), args)
    real = AlignedCorpus("real", rows, tmp_path / "real", args)
    kept = list(range(1, SIZE, 3))
    part = AlignedCorpus("part", traced(rows, kept), tmp_path / "part", args)
    assert part.real_rows(real).tolist() == kept
    low, high = measure_corpus(part, real)["faithfulness_interval"]
    assert low < faithfulness(real.counts, part.counts).value < high
    # Oracle: the samples one by one, as corpora written out.
    values, rng = [], np.random.default_rng(args.seed)
    columns = [list(column) for column in (real.sources(), real.targets(), real.links())]
    own = [list(column) for column in (part.sources(), part.targets(), part.links())]
    for _ in range(args.num_bootstrap):
        drawn = rng.integers(SIZE, size=SIZE)
        sample = LexicalCounts.from_corpus(*([column[row] for row in drawn] for column in columns))
        places = [kept.index(row) for row in drawn if row in kept]
        values.append(
            faithfulness(sample, LexicalCounts.from_corpus(*([column[i] for i in places] for column in own))).value
        )
    values = np.array(values) + faithfulness(real.counts, part.counts).value - np.mean(values)
    assert (low, high) == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])))


def test_rows_of_another_corpus_are_not_paired_even_where_the_lengths_agree(
    corpora: tuple[Path, Path], tmp_path: Path
) -> None:
    args = MeasureArguments(source_lang="src", target_lang="tgt", tokens="space", num_bootstrap=5)
    rows = load_rows(str(corpora[0]), args)
    other = AlignedCorpus("other", rows.select(range(200)), tmp_path / "other", args)
    for number, kept in enumerate([list(range(200, 400)), list(range(1, 201))]):
        part = AlignedCorpus("part", traced(rows, kept), tmp_path / f"part{number}", args)
        measured = measure_corpus(part, other)
        assert part.real_rows(other) is None
        assert measured["faithfulness_interval"] is None
        assert measured["training_bleu"] == pytest.approx(100)


def test_report_of_filtered_rows_shows_examples_of_the_right_rows(corpora: tuple[Path, Path], tmp_path: Path) -> None:
    real, distilled = (
        load_rows(str(path), MeasureArguments(source_lang="src", target_lang="tgt")) for path in corpora
    )
    targets = [pair["tgt"] for pair in real["translation"]]
    traced_rows = distilled.map(lambda row: {"real_target": targets[row["id"]]})
    (tmp_path / "part/data").mkdir(parents=True)
    traced_rows.select(range(7, SIZE, 2)).to_parquet(tmp_path / "part/data/train-00000-of-00001.parquet")
    options = [f"--real={corpora[0]}", f"--distilled={tmp_path / 'part'}", "--num_bootstrap=0", "--num_examples=5"]
    assert main(["analyze", *LANGS, *options, f"--output_dir={tmp_path / 'report'}"]) == 0
    text = (tmp_path / "report/report.md").read_text(encoding="utf-8")
    shown = re.findall(r"^\| (real|part), (source|target) \| (.*) \|$", text, flags=re.M)
    assert len(shown) == 20
    for real_source, real_target, source, _ in zip(
        *[iter(re.sub("<.*?>", "", line[2]) for line in shown)] * 4, strict=True
    ):
        assert real_source == source, "both must be the same sentence"
        assert {"src": real_source, "tgt": real_target} in real["translation"][:]


def test_empty_rows_are_measured_over(tmp_path: Path) -> None:
    for lang, lines in (("src", "a b\n\na\n"), ("tgt", "x y\nx\n\n")):
        (tmp_path / f"train.{lang}").write_text(lines, encoding="utf-8")
    args = MeasureArguments(source_lang="src", target_lang="tgt", tokens="space", num_bootstrap=5)
    corpus = AlignedCorpus("real", load_rows(str(tmp_path / "{split}.{lang}"), args), tmp_path / "real", args)
    assert np.isnan(corpus.entropies()[1])
    assert measure_corpus(corpus)["num_pairs"] == 3


def test_line_ends_and_tabs_within_a_sentence_are_spaces(tmp_path: Path) -> None:
    args = MeasureArguments(source_lang="en", target_lang="de", num_bootstrap=0)
    counts = []
    for name, (one, other) in {"plain": (" ", " "), "broken": ("\n", "\t\r\n")}.items():
        pairs = [(f"a{one}dog runs", f"ein Hund{other}läuft"), ("two dogs", f"zwei{one}Hunde")]
        rows = Dataset.from_list([{"translation": {"en": source, "de": target}} for source, target in pairs])
        corpus = AlignedCorpus(name, rows, tmp_path / name, args)
        counts.append((corpus.complexity, list(corpus.sources()), list(corpus.targets()), list(corpus.links())))
    assert repr(counts[0]) == repr(counts[1])


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["0-0"] * (SIZE - 1), "must have one length, one of them ends at 399"),
        (["0-0"] * 7 + ["99-0"] + ["0-0"] * (SIZE - 8), r"got 99-0 in row 7 with"),
        (["0-0"] * 3 + ["0:0"] + ["0-0"] * (SIZE - 4), "line 4 must hold links as `source-target`"),
    ],
)
def test_links_that_do_not_fit_are_an_error_that_names_file_and_row(
    lines: list[str], message: str, corpora: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "links.txt"
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    options = [f"--real={corpora[0]}", f"--real_links={file}", f"--output_dir={tmp_path / 'report'}"]
    assert main(["analyze", *LANGS, *options]) == 2
    error = capsys.readouterr().err
    assert str(file) in error
    assert re.search(message, error)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--alignment=diagonal"], "`alignment` must be one of"),
        (["--num_bootstrap=-1"], "`num_bootstrap` must be 0 or >= 2, got -1"),
        (["--distilled", "a/x", "b/x"], "Names of corpora must be distinct, got ['real', 'x', 'x']"),
        (["--distilled=a", "--distilled_links", "b", "c"], "one for each distilled corpus, got 2 for 1"),
    ],
)
def test_options_that_break_a_rule(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["analyze", *LANGS, "--real=x", *options]) == 2
    assert message in capsys.readouterr().err


def test_distilled_may_be_given_once_or_again_and_again(corpora: tuple[Path, Path], tmp_path: Path) -> None:
    options = [f"--real={corpora[0]}", f"--distilled=one={corpora[0]}", f"--distilled=two={corpora[1]}"]
    assert main(["analyze", *LANGS, "--num_bootstrap=0", *options, f"--output_dir={tmp_path}"]) == 0
    (corpora[0] / "measures.json").unlink()
    names = [row["name"] for row in read_json(tmp_path / "measures.json")["corpora"]]
    assert names == ["real", "one", "two"]
