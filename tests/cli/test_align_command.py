from __future__ import annotations

from pathlib import Path

import pytest
from datasets import Dataset

from hf_nat.alignment import align, format_links
from hf_nat.data import generate_toy_corpus, load_corpus
from hf_nat_cli import main


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate_toy_corpus(tmp_path_factory.mktemp("toy"), sizes={"train": 200})


@pytest.fixture(scope="module")
def files(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    rows = load_corpus(corpus, source_lang="src", target_lang="tgt")["translation"]
    folder = tmp_path_factory.mktemp("text")
    for lang in ("src", "tgt"):
        text = "".join(f"{row[lang]}\n" for row in rows)
        (folder / f"train.{lang}").write_text(text, encoding="utf-8")
    return [folder / "train.src", folder / "train.tgt"]


def lines_of(files: list[Path], **options: str | bool) -> str:
    sources, targets = ([line.split() for line in file.read_text(encoding="utf-8").splitlines()] for file in files)
    return "".join(f"{format_links(links)}\n" for links in align(sources, targets, **options))


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        ([], {}),
        (["--reverse"], {"reverse": True}),
        (["--symmetrize", "grow-diag-final-and"], {"symmetrize": "grow-diag-final-and"}),
    ],
)
def test_files_to_file(files: list[Path], tmp_path: Path, options: list[str], arguments: dict) -> None:
    output = tmp_path / "links.txt"
    paths = [f"--source-file={files[0]}", f"--target-file={files[1]}", f"--output-file={output}"]
    assert main(["align", *paths, *options]) == 0
    assert output.read_text(encoding="utf-8") == lines_of(files, **arguments)


def test_dataset_to_standard_output(corpus: Path, files: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["align", "--dataset", str(corpus), "--source_lang", "src", "--target_lang", "tgt"]) == 0
    assert capsys.readouterr().out == lines_of(files)


def test_unequal_files_leave_no_output_and_name_the_line(
    files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    longer = tmp_path / "longer.tgt"
    longer.write_text(files[1].read_text(encoding="utf-8") + "a b\n", encoding="utf-8")
    output = tmp_path / "links.txt"
    options = [f"--source-file={files[0]}", f"--target-file={longer}", f"--output-file={output}"]
    assert main(["align", *options]) == 2
    assert f"line 201 of `{longer}` has no partner" in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.parametrize("options", [[], ["--source-file=a"], ["--source-file=a", "--target-file=b", "--corpus=c"]])
def test_not_one_corpus_is_an_error(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["align", *options]) == 2
    assert "Give both `--source-file` and `--target-file`, or `--corpus`" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["files", "table", "folder", "pattern"])
def test_the_corpus_is_no_output(
    form: str, corpus: Path, files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shard = "data/train-00000-of-00001.parquet"
    for path, name in ((files[0], "train.src"), (files[1], "train.tgt"), (corpus / shard, shard)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(path.read_bytes())
    options, output = {
        "files": ([f"--source-file={tmp_path}/train.src", f"--target-file={tmp_path}/train.tgt"], "train.tgt"),
        "table": ([f"--corpus={tmp_path / shard}"], shard),
        "folder": ([f"--corpus={tmp_path}"], shard),
        "pattern": ([f"--corpus={tmp_path}/{{split}}.{{lang}}"], "train.src"),
    }[form]
    before = (tmp_path / output).read_bytes()
    options = [*options, "--source_lang=src", "--target_lang=tgt", f"--output-file={tmp_path / output}"]
    assert main(["align", *options]) == 2
    assert "An output must be no input" in capsys.readouterr().err
    assert (tmp_path / output).read_bytes() == before


def test_columns_of_a_table(files: list[Path], tmp_path: Path) -> None:
    sides = [file.read_text(encoding="utf-8").splitlines() for file in files]
    rows = "".join(f"{source}\t{target}\n" for source, target in zip(*sides, strict=True))
    (tmp_path / "train.tsv").write_text(f"a\tb\n{rows}", encoding="utf-8")
    options = [f"--corpus={tmp_path / 'train.tsv'}", "--source_column=a", "--target_column=b"]
    assert main(["align", *options, f"--output-file={tmp_path / 'links.txt'}"]) == 0
    assert (tmp_path / "links.txt").read_text(encoding="utf-8") == lines_of(files)


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_every_target_of_a_row_is_a_line(suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"translation": {"a": "x y", "b": "u v"}, "targets": ["u v", "v"]}, {"translation": {"a": "x", "b": "u"}}]
    corpus = Dataset.from_list([{"targets": None, **row} for row in rows])
    place = tmp_path / f"rows.{suffix}"
    corpus.to_json(place) if suffix == "jsonl" else corpus.to_parquet(place)
    assert main(["align", "--corpus", str(place), "--source_lang", "a", "--target_lang", "b"]) == 0
    assert capsys.readouterr().out == "".join(
        f"{format_links(links)}\n" for links in align([["x", "y"]] * 2 + [["x"]], [["u", "v"], ["v"], ["u"]])
    )


def test_targets_that_are_no_list_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "rows.jsonl"
    place.write_text('{"translation": {"a": "x", "b": "u"}, "targets": "u"}\n')
    assert main(["align", "--corpus", str(place), "--source_lang", "a", "--target_lang", "b"]) == 2
    assert "`targets` must be a list of texts in each row of a corpus, got 'u'" in capsys.readouterr().err
