"""Cards say what the files of a folder say, run as printed, and never overwrite someone's words."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import DatasetCard, ModelCard

from hf_nat.base.utils import read_json, write_json
from hf_nat.cards import model_card, write_corpus_card, write_model_card
from hf_nat.cards.rendering import settings
from hf_nat.decoding import load_model
from hf_nat.distillation import DistillArguments
from hf_nat.evaluation import EvaluateArguments, evaluate
from hf_nat.hub import PushArguments, push
from hf_nat.models import ARCHITECTURES
from hf_nat.steps import distill


ROOT = Path(__file__).parents[2]


def code_block(card: Path) -> str:
    """The one Python block of a card."""
    (block,) = re.findall(r"```python\n(.*?)```", card.read_text(encoding="utf-8"), flags=re.DOTALL)
    return block


def run_as_printed(*cards: Path, after: str = "") -> str:
    """Runs the blocks of cards beside their folders, in one fresh interpreter, and returns what they printed."""
    process = subprocess.run(
        [sys.executable, "-c", "\n".join([*map(code_block, cards), after])],
        cwd=cards[0].parents[1],
        env=os.environ | {"HF_HOME": str(cards[0].parents[1] / "cache"), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_model_card_metadata_is_valid_and_complete(model_folder: Path) -> None:
    data = ModelCard.load(write_model_card(model_folder)).data
    assert data.language == ["en", "de"]
    assert data.library_name == "transformers"
    assert data.pipeline_tag == "translation"
    assert data.tags == ["hf_nat", "marian"]
    assert data.metrics == ["bleu", "chrf"]
    assert {(result.metric_type, result.metric_value, result.dataset_split) for result in data.eval_results} == {
        ("bleu", 31.42, "test"),
        ("chrf", 55.19, "test"),
    }
    assert data.eval_results[0].metric_args["signature"].startswith("nrefs:1|")


def test_model_card_shows_every_measured_number_with_its_signature(model_folder: Path) -> None:
    text = write_model_card(model_folder).read_text(encoding="utf-8")
    # A pipe inside a table cell has to be escaped, in code too.
    assert "| bleu | 31.42 | | `nrefs:1\\|case:mixed\\|tok:none-moses` |" in text
    assert "| Parameters | 15,123 |" in text
    assert "| Validation BLEU | 29.35 (`nrefs:1\\|tok:none-moses`) |" in text
    assert "| Updates | 4321 |" in text
    assert "multi30k/{split}.{lang}.gz" in text
    assert "/somewhere/private" not in text


def test_model_card_names_what_the_run_changed(model_folder: Path) -> None:
    assert "Changed from the preset" not in write_model_card(model_folder).read_text(encoding="utf-8")
    run = read_json(model_folder / "run.json")
    run["arguments"]["model_config"] = {"dropout": 0.3, "decoder_layers": 1}
    write_json(model_folder / "run.json", run)
    text = write_model_card(model_folder).read_text(encoding="utf-8")
    assert "| Changed from the preset | `decoder_layers=1`, `dropout=0.3` |" in text


def test_model_card_of_a_run_on_several_corpora_tells_of_each(model_folder: Path, corpus_folder: Path) -> None:
    run = read_json(model_folder / "run.json")
    run["arguments"] |= {"corpus": [str(corpus_folder), "a/hub_corpus#config"], "config_name": None}
    write_json(model_folder / "run.json", run)
    text = write_model_card(model_folder).read_text(encoding="utf-8")
    places = f"{corpus_folder.parent.name}/{corpus_folder.name}, a/hub_corpus#config"
    assert f"| Corpus | {places} |" in text
    assert f"| Targets written by ({places.partition(',')[0]}) | " in text
    assert ModelCard(text).data.datasets == ["a/hub_corpus"]


def test_model_card_of_a_run_that_went_on_from_a_checkpoint_claims_no_size(model_folder: Path) -> None:
    run = read_json(model_folder / "run.json")
    run["arguments"] |= {"init_from": "Helsinki-NLP/opus-mt-en-de", "size": "base", "corpus": "owner/corpus"}
    write_json(model_folder / "run.json", run)
    card = ModelCard.load(write_model_card(model_folder))
    assert "# marian en-de\n" in card.text
    assert card.data.base_model == "Helsinki-NLP/opus-mt-en-de"
    assert card.data.datasets == ["owner/corpus"]


@pytest.mark.parametrize(
    ("source_lang", "expected"),
    [
        *[("eng_Latn", ["en", "de"]), ("pt-br", ["pt", "de"]), ("ua", ["uk", "de"]), ("cz", ["cs", "de"])],
        *[("se", ["se", "de"]), ("src", ["de"]), ("x1", ["de"]), ("xx", ["de"]), ("source", ["de"])],
    ],
)
def test_model_card_names_only_languages_the_hub_knows(
    model_folder: Path, source_lang: str, expected: list[str]
) -> None:
    run = read_json(model_folder / "run.json")
    run["arguments"]["source_lang"] = source_lang
    write_json(model_folder / "run.json", run)
    card = ModelCard.load(write_model_card(model_folder))
    assert card.data.language == expected
    assert (f"The metadata leaves out `{source_lang}`, for want of" in card.text) == (expected == ["de"])


def test_model_card_blocks_run_as_printed_without_this_package(
    model_folder: Path, student_folders: list[Path]
) -> None:
    cards = [write_model_card(folder) for folder in (model_folder, *student_folders)]
    assert ["trust_remote_code=True" in code_block(card) for card in cards] == [False] + [True] * len(student_folders)
    # The interpreter starts beside the folders, not beside the package: a student's code comes from its folder.
    printed = run_as_printed(*cards, after="\nimport sys\nassert 'hf_nat' not in sys.modules\n")
    assert [line[0] + line[-1] for line in printed.splitlines()] == ["[]"] * len(cards)


def test_card_of_a_student_without_its_code_imports_this_package(student_folders: list[Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(student_folders[0], tmp_path / "alone" / student_folders[0].name))
    for file in folder.glob("*.py"):
        file.unlink()
    card = write_model_card(folder)
    text = card.read_text(encoding="utf-8")
    assert "`hf_nat` has to be installed" in text and "need not be installed" not in text
    assert code_block(card).startswith("import hf_nat\n") and "trust_remote_code" not in code_block(card)
    config = read_json(folder / "config.json")
    write_json(folder / "config.json", {key: value for key, value in config.items() if key != "auto_map"})
    assert write_model_card(folder).read_text(encoding="utf-8") == text
    write_json(folder / "config.json", config | {"auto_map": {"AutoConfig": "owner/other--configuration.Config"}})
    assert "trust_remote_code=True" in code_block(write_model_card(folder))


@pytest.mark.parametrize("options", [{}, {"leave_out": ["losses.py"]}])
def test_a_push_takes_all_code_of_a_student(options: dict[str, list[str]], student_folders: list[Path]) -> None:
    (folder,) = (folder for folder in student_folders if folder.name == "cmlm")
    if not options:
        (folder / "losses.py").unlink()
    with pytest.raises(ValueError, match="must go with the code that its config.json names, .* without losses.py. "):
        push(PushArguments(str(folder), "owner/student", dry_run=True, **options))


def test_student_card_says_what_it_is(student_folders: list[Path]) -> None:
    for folder in student_folders:
        card = ModelCard.load(write_model_card(folder))
        assert card.data.tags == ["hf_nat", folder.name, "non-autoregressive-translation"]
        assert "a translation model of type" not in card.text, f"the template has no words for {folder.name}"
        assert len(re.findall(r"^@inproceedings", card.text, flags=re.MULTILINE)) == 2, "no reference"


@pytest.mark.parametrize(
    ("model_type", "fields", "knobs", "said"),
    [
        ("vanilla_nat", {}, {}, []),
        ("vanilla_nat", {"glancing_ratio": 0.5}, {}, ["Qian et al., 2021"]),
        ("ctc_nat", {"glancing_end_ratio": 0.5, "glancing_steps": 3}, {}, ["Qian et al., 2021"]),
        ("vanilla_nat", {"order_agnostic": True}, {}, ["Du et al., 2021"]),
        (
            "da_transformer",
            {"fuzzy_alignment": True, "glancing_ratio": 0.1},
            {"graph_decoding": "viterbi"},
            ["Qian et al., 2021", "Ma et al., 2023", "Shao et al., 2022"],
        ),
        ("cmlm", {"correction_ratio": 0.3}, {}, ["mend tokens"]),
    ],
)
def test_student_card_says_how_it_learned_and_decodes(tmp_path: Path, model_type, fields, knobs, said) -> None:
    ARCHITECTURES[model_type][0](**fields).save_pretrained(tmp_path)
    write_json(tmp_path / "generation_config.json", {"max_length": 10, **knobs})
    card = write_model_card(tmp_path).read_text(encoding="utf-8")
    assert card.count("\nIt uses ") == len(said)
    assert all(text in card for text in said)
    assert card.count("@inproceedings{") == 2 + len(said)


def test_model_card_block_names_the_repository_it_was_written_for(model_folder: Path) -> None:
    assert 'checkpoint = "owner/name"\n' in model_card(model_folder, "owner/name")
    assert not (model_folder / "README.md").exists()


def test_model_card_without_config_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"must hold a config\.json, got '{re.escape(str(tmp_path))}'"):
        write_model_card(tmp_path)


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: text.replace("## Limits", "## Limits of this model"),
        lambda text: text + "My own words.\n",
        lambda text: "---\nlicense: mit\n---\nNot from here.\n",
        lambda text: "",
    ],
    ids=["inside", "after the seal", "foreign", "emptied"],
)
def test_card_that_was_edited_is_kept(model_folder: Path, edit) -> None:
    card = write_model_card(model_folder)
    edited = edit(card.read_text(encoding="utf-8"))
    card.write_text(edited, encoding="utf-8")
    assert write_model_card(model_folder) == card
    assert card.read_text(encoding="utf-8") == edited


def test_card_is_the_same_when_written_twice(model_folder: Path, corpus_folder: Path) -> None:
    for write, folder in ((write_model_card, model_folder), (write_corpus_card, corpus_folder)):
        first = write(folder).read_bytes()
        assert write(folder).read_bytes() == first


def test_corpus_card_metadata_is_valid_and_complete(corpus_folder: Path) -> None:
    data = DatasetCard.load(write_corpus_card(corpus_folder)).data.to_dict()
    assert data["language"] == ["en", "de"]
    assert data["license"] == "cc-by-4.0"
    assert data["task_categories"] == ["translation"]
    assert data["annotations_creators"] == ["machine-generated"]
    assert data["size_categories"] == ["n<1K"]
    assert [entry["split"] for entry in data["configs"][0]["data_files"]] == ["train", "validation", "test"]


def test_corpus_card_names_only_languages_the_hub_knows(corpus_folder: Path) -> None:
    manifest = read_json(corpus_folder / "manifest.json")
    write_json(corpus_folder / "manifest.json", manifest | {"source_lang": "ua", "target_lang": "xx"})
    card = DatasetCard.load(write_corpus_card(corpus_folder))
    assert card.data.language == ["uk"]
    assert "The metadata leaves out `xx`, for want of" in card.text


def test_corpus_card_counts_come_from_the_manifest(corpus_folder: Path) -> None:
    text = write_corpus_card(corpus_folder).read_text(encoding="utf-8")
    assert "| default | en-de | train | teacher | 3 |" in text
    assert "| default | en-de | validation | real | 1 |" in text
    assert "| Configuration | `looping` | `truncated` |\n|---|---|---|\n| default | 0 | 2 |" in text
    assert "| Teacher | runs/teacher |" in text
    assert "| Strategy | beam: `length_penalty=1.0`, `max_new_tokens=200`, `num_beams=5` |" in text
    assert "/somewhere/private" not in text


def test_corpus_card_shows_the_measures_of_their_file_alone(corpus_folder: Path) -> None:
    assert "Complexity" not in write_corpus_card(corpus_folder).read_text(encoding="utf-8")
    real = {"complexity": 1.23456, "reordering": 0.5, "faithfulness": None, "training_bleu": None}
    distilled = {"complexity": 0.98765, "reordering": 0.75, "faithfulness": 3.21, "training_bleu": 45.678}
    measures = {
        "settings": {"tokens": "/somewhere/private/runs/teacher", "alignment": "forward"},
        "corpora": [real, distilled | {"training_bleu_signature": "BLEU|tok:moses"}],
    }
    write_json(corpus_folder / "measures.json", measures)
    text = write_corpus_card(corpus_folder).read_text(encoding="utf-8")
    assert "| real | 1.235 | 0 | 0.500 | | runs/teacher | forward |" in text
    assert "| default | 0.988 | 3.210 | 0.750 | 45.68 (`BLEU\\|tok:moses`) | runs/teacher | forward |" in text
    measures["corpora"][1] |= {"training_bleu": None, "training_bleu_signature": None}
    write_json(corpus_folder / "measures.json", measures)
    assert "| default | 0.988 | 3.210 | 0.750 | | runs/" in write_corpus_card(corpus_folder).read_text(
        encoding="utf-8"
    )


def test_corpus_card_without_license_claims_none(corpus_folder: Path) -> None:
    manifest = read_json(corpus_folder / "manifest.json") | {"license": None}
    write_json(corpus_folder / "manifest.json", manifest)
    assert "license" not in DatasetCard.load(write_corpus_card(corpus_folder)).data.to_dict()


@pytest.mark.parametrize(
    ("rows", "category"),
    [
        (0, "n<1K"),
        (999, "n<1K"),
        (1000, "1K<n<10K"),
        (29_000, "10K<n<100K"),
        (4_500_000, "1M<n<10M"),
        (10**8, "100M<n<1B"),
        (10**12, "n>1T"),
    ],
)
def test_corpus_card_size_category(corpus_folder: Path, rows: int, category: str) -> None:
    manifest = read_json(corpus_folder / "manifest.json")
    manifest["counts"]["train"] = rows
    write_json(corpus_folder / "manifest.json", manifest)
    assert DatasetCard.load(write_corpus_card(corpus_folder)).data.to_dict()["size_categories"] == [category]


def test_corpus_card_block_runs_as_printed(corpus_folder: Path) -> None:
    printed = run_as_printed(write_corpus_card(corpus_folder))
    assert json.loads(printed.replace("'", '"')) == {"en": "a dog 0", "de": "beam"}


def test_corpus_card_of_an_unfinished_distillation_is_an_error(corpus_folder: Path) -> None:
    (corpus_folder / "manifest.json").unlink()
    with pytest.raises(ValueError, match=rf"must hold a manifest\.json, got '{re.escape(str(corpus_folder))}'"):
        write_corpus_card(corpus_folder)


def test_cards_read_what_distillation_and_evaluation_write(model_folder: Path, tmp_path: Path) -> None:
    for split in ("train", "validation", "test"):
        for lang, lines in (("en", "a man\nthe park\n"), ("de", "ein mann\nder park\n")):
            (tmp_path / f"{split}.{lang}").write_text(lines, encoding="utf-8")
    corpus = {"corpus": str(tmp_path / "{split}.{lang}"), "source_lang": "en", "target_lang": "de"}
    distilled = tmp_path / "distilled"
    teacher, tokenizer = load_model(model_folder, device="cpu")
    distill(teacher, tokenizer, DistillArguments(teacher=str(model_folder), **corpus, output_dir=str(distilled)))
    text = write_corpus_card(distilled).read_text(encoding="utf-8")
    assert "| default | en-de | train | teacher | 2 |" in text
    flags = read_json(distilled / "manifest.json")["flag_counts"]
    assert flags
    assert "| Configuration | " + " | ".join(f"`{flag}`" for flag in flags) + " |\n" in text
    assert "\n| default | " + " | ".join(map(str, flags.values())) + " |\n" in text

    metrics = evaluate(EvaluateArguments(model=str(model_folder), **corpus, split="validation"))
    text = write_model_card(model_folder).read_text(encoding="utf-8")
    for name, metric in metrics["scores"].items():
        signature = metric["signature"].replace("|", "\\|")
        assert f"| {name} | {metric['score']:.2f} | | `{signature}` |" in text


def test_examples_are_what_the_templates_make_of_the_committed_results() -> None:
    script = runpy.run_path(str(ROOT / "scripts/example_cards.py"))
    cards = script["example_cards"]()
    examples = {path.name: path.read_text(encoding="utf-8") for path in script["EXAMPLES"].iterdir()}
    assert examples == cards, "run scripts/example_cards.py"


def test_card_takes_no_folder_of_the_run_for_an_id_of_the_hub(
    model_folder: Path, corpus_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Rendered from another folder, where `runs/teacher` is not there."""
    run = read_json(model_folder / "run.json")
    names = {"init_from_teacher": "runs/teacher", "corpus": ["corpora/distilled", "a/hub_corpus"]}
    run |= {"arguments": run["arguments"] | names, "local_inputs": ["corpora/distilled", "runs/teacher"]}
    write_json(model_folder / "run.json", run)
    manifest = read_json(corpus_folder / "manifest.json") | {"corpus": "data/corpus", "corpus_is_local": True}
    write_json(corpus_folder / "manifest.json", manifest)
    monkeypatch.chdir(tmp_path)
    data = ModelCard(write_model_card(model_folder).read_text(encoding="utf-8")).data
    assert data.datasets == ["a/hub_corpus"] and data.base_model is None
    card = DatasetCard(write_corpus_card(corpus_folder).read_text(encoding="utf-8"))
    assert card.data.source_datasets == ["extended"]


def test_paths_in_lists_of_settings_are_shortened_too() -> None:
    found = settings({"ensemble": ["/home/alice/models/m1", "owner/m2"], "reranker": "/home/alice/secret/t"})
    assert found == "`ensemble=['models/m1', 'owner/m2']`, `reranker=secret/t`"
