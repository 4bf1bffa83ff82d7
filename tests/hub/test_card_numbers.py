"""A card shows the numbers of its folder's files and no others: it follows each, and none outlives its file."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from distilled_corpus import write_corpus
from hub_server import HubServer
from huggingface_hub import DatasetCardData, ModelCardData, metadata_load

import hf_nat
from hf_nat.base.utils import read_json, write_json
from hf_nat.cards import write_corpus_card, write_model_card
from hf_nat.hub.push import PushArguments, push


TEMPLATES = Path(hf_nat.__file__).parents[1] / "hub_cards"
NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?")
MEASURES = {
    "settings": {"tokens": "runs/teacher", "alignment": "forward"},
    "corpora": [
        {"complexity": 1.76543, "reordering": 0.51234, "faithfulness": None, "training_bleu": None},
        {"complexity": 1.23456, "reordering": 0.75432, "faithfulness": 3.57913, "training_bleu": 45.67891}
        | {"training_bleu_signature": "BLEU|nrefs:1|tok:moses-0.2.0"},
    ],
}
SPEED = {"num_sentences": 3, "seconds": 12.5, "num_processes": 2, "environment": {"device": "NVIDIA H100"}}


def numbers(text: str) -> list[str]:
    """The numbers of a text in order, thousands not parted; a seal and a category of sizes (n<1K) are none."""
    return [number.replace(",", "") for number in NUMBER.findall(re.sub(r"<!--.*?-->|\S*n<\S*", "", text))]


def words_of_templates() -> set[str]:
    """The numbers that stand in the templates and references themselves."""
    texts = [path.read_text(encoding="utf-8") for path in (*TEMPLATES.glob("*.jinja"), TEMPLATES / "references.bib")]
    return {number for text in texts for number in numbers(re.sub(r"\{\{.*?\}\}", "", text))}


def changed(value: Any) -> Any:
    """Changes every number, those in strings too."""
    if isinstance(value, dict):
        return {key: changed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [changed(item) for item in value]
    if isinstance(value, str):
        return re.sub(r"\d", lambda digit: str((int(digit[0]) + 3) % 10), value)
    if isinstance(value, bool) or value is None:
        return value
    return value * 7 + 1013 if isinstance(value, int) else value * 1.37 + 11.03


def sources(folder: Path) -> list[Path]:
    """The files that a card is made from."""
    return sorted(path for path in folder.rglob("*.json") if not path.name.startswith("tokenizer"))


@pytest.fixture(params=["corpus", "teacher", "student"])
def card(request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[list[Path], Callable[[], str]]:
    """The sources of a card and what renders it: of a corpus, a teacher, a student of that corpus."""
    monkeypatch.chdir(tmp_path)
    corpus = write_corpus(Path("distilled"), "beam")
    write_json(corpus / "measures.json", MEASURES)
    write_json(corpus / "metrics.json", SPEED)
    for shard in (corpus / "data").iterdir():
        shard.unlink()  # Their sizes would be numbers that these tests do not change.
    if request.param == "corpus":
        return sources(corpus), lambda: write_corpus_card(corpus).read_text(encoding="utf-8")
    folder: Path = request.getfixturevalue("model_folder").relative_to(tmp_path)
    evaluation = read_json(folder / "eval-test/metrics.json") | {"iterations_mean": 4.56789}
    evaluation["scores"]["bleu"]["interval"] = [29.87654, 33.21098]
    write_json(folder / "eval-test/metrics.json", evaluation)
    files = sources(folder)
    if request.param == "student":
        write_json(folder / "config.json", read_json(folder / "config.json") | {"model_type": "cmlm"})
        run = read_json(folder / "run.json")
        run["arguments"] |= {"model_type": "cmlm", "corpus": str(corpus)}
        write_json(folder / "run.json", run)
        files += sources(corpus)
    return files, lambda: write_model_card(folder).read_text(encoding="utf-8")


def body(card: str) -> list[str]:
    """The lines of a card behind its metadata."""
    return card.split("\n---\n", 1)[1].splitlines()


def test_texts_of_records_add_no_line_and_end_no_code(card) -> None:
    files, render = card
    before = body(render())
    for file in files:
        if file.name == "metrics.json" and "split" in (record := read_json(file)):
            record["split"] += "\n## Install first\n`x`|"
            record["decoding"]["note"] = "a`\n\n# b|c"
            write_json(file, record)
        if file.name == "run.json":
            record = read_json(file)
            record["arguments"]["source_lang"] += "`\n## Run first"
            write_json(file, record)
    after = body(render())
    assert {line for line in after if line.startswith(("## ", "# b"))} <= set(before)
    assert not [line for line in after if "`x`" in line or "note=a`" in line or "en`" in line.replace("`en`", "")]


def test_card_follows_every_number_of_its_files(card) -> None:
    files, render = card
    before = render().splitlines()
    for file in files:
        write_json(file, changed(read_json(file)))
    after = render().splitlines()
    assert len(before) == len(after)
    static, followed = words_of_templates(), 0
    for old, new in zip(before, after, strict=True):
        stale = [a for a, b in zip(numbers(old), numbers(new), strict=False) if a == b and a not in static]
        assert not stale, f"{stale} stayed in {new!r}"
        followed += old != new
    assert followed > 12


def test_number_goes_with_its_file(card) -> None:
    files, render = card
    for file in files:
        write_json(file, changed(read_json(file)))
    for file in files:
        content = file.read_text(encoding="utf-8")
        file.unlink()
        try:
            shown = render()
        except ValueError as error:
            assert f"must hold a {file.name}" in str(error)
        else:
            held = " ".join(other.read_text(encoding="utf-8") for other in files if other.exists())
            values = {float(number) for number in numbers(held)}
            for number in set(numbers(shown)) - words_of_templates():
                digits = len(number.partition(".")[2])
                assert any(f"{value:.{digits}f}" == number for value in values), f"{number} without {file}"
        file.write_text(content, encoding="utf-8")


def test_metadata_is_what_the_hub_client_reads_and_writes(card) -> None:
    _, render = card
    readme = next(path for path in Path().rglob("README.md")) if render() else Path()
    metadata = metadata_load(readme)
    kind = DatasetCardData if "configs" in metadata else ModelCardData
    data = kind(**metadata)
    assert data.to_dict() == metadata
    assert json.loads(json.dumps(metadata)) == metadata, "values of YAML that JSON does not have"


def test_student_card_names_strategy_teacher_and_measures(tmp_path: Path, model_folder: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    corpus = write_corpus(tmp_path / "m" / "beam", "beam")
    write_json(corpus / "measures.json", MEASURES)
    run = read_json(model_folder / "run.json")
    run["arguments"] |= {"corpus": "m", "config_name": "beam"}
    write_json(model_folder / "run.json", run)
    manifest = read_json(corpus / "manifest.json")
    write_json(corpus / "manifest.json", manifest | {"corpus": "wmt/wmt14", "teacher": "Helsinki-NLP/opus-mt-en-de"})
    text = write_model_card(model_folder).read_text(encoding="utf-8")
    assert "| Targets written by | Helsinki-NLP/opus-mt-en-de |" in text
    assert "| Strategy of distillation | beam: `length_penalty=1.0`, `max_new_tokens=200`, `num_beams=5` |" in text
    assert "| Complexity C(d) of the targets, nats | 1.235 |" in text
    assert "| Faithfulness F(d) of the targets, nats | 3.579 |" in text
    assert metadata_load(model_folder / "README.md")["datasets"] == ["wmt/wmt14"]
    (corpus / "manifest.json").unlink()
    assert "Helsinki" not in write_model_card(model_folder).read_text(encoding="utf-8")


def test_student_of_a_corpus_on_the_hub_names_its_strategy(
    tmp_path: Path, model_folder: Path, hub: HubServer, logged_in: None, monkeypatch, caplog
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    corpus = write_corpus(tmp_path / "beam", "beam")
    write_json(corpus / "measures.json", MEASURES)
    push(PushArguments(str(corpus), "owner/corpora", config_name="beam"))
    run = read_json(model_folder / "run.json")
    run["arguments"] |= {"corpus": "owner/corpora", "config_name": "beam"}
    write_json(model_folder / "run.json", run)
    text = write_model_card(model_folder).read_text(encoding="utf-8")
    assert "| Strategy of distillation | beam:" in text and "| Complexity C(d) of the targets, nats | 1.235 |" in text
    assert not [request for request in hub.log if "parquet" in request.line and request.line.startswith("GET")]
    write_json(model_folder / "run.json", run | {"arguments": run["arguments"] | {"corpus": "owner/nowhere"}})
    assert "Strategy of distillation" not in write_model_card(model_folder).read_text(encoding="utf-8")
    assert "owner/nowhere could not be read" in caplog.text


def test_only_metrics_that_the_hub_knows_are_in_the_metadata(model_folder: Path) -> None:
    result = read_json(model_folder / "eval-test/metrics.json")
    result["scores"] |= {"ribes": {"score": 87.654, "signature": "RIBES|a"}, "chrf3": {"score": 1.0, "signature": "b"}}
    write_json(model_folder / "eval-test/metrics.json", result)
    text = write_model_card(model_folder).read_text(encoding="utf-8")
    metadata = metadata_load(model_folder / "README.md")
    assert metadata["metrics"] == ["bleu", "chrf"]
    assert {metric["type"] for metric in metadata["model-index"][0]["results"][0]["metrics"]} == {"bleu", "chrf"}
    assert "| ribes | 87.65 |" in text


def test_rows_and_bytes_of_the_metadata_are_those_of_the_shards(corpus_folder: Path) -> None:
    write_corpus_card(corpus_folder)
    (info,) = metadata_load(corpus_folder / "README.md")["dataset_info"]
    for split in info["splits"]:
        found = [pq.read_metadata(path) for path in (corpus_folder / "data").glob(f"{split['name']}-*")]
        assert split["num_examples"] == sum(metadata.num_rows for metadata in found)
        assert split["num_bytes"] == sum(metadata.row_group(0).total_byte_size for metadata in found)
