"""Several distilled corpora in one repository or folder, one configuration each, none of which another push loses."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Translation, load_dataset
from datasets.exceptions import NonMatchingSplitsSizesError
from huggingface_hub import DatasetCard

from hf_nat.base.utils import read_json, sha256_file, write_json
from hf_nat.data.corpora import load_corpus
from hf_nat.hub.push import PushArguments, push


REPOSITORY = "datasets/owner/m30k"
MEASURES = {
    "settings": {"tokens": "runs/teacher", "alignment": "forward"},
    "corpora": [
        {"complexity": 1.75, "reordering": 0.5, "faithfulness": None, "training_bleu": None},
        {"complexity": 1.25, "reordering": 0.75, "faithfulness": 3.5, "training_bleu": None},
    ],
}


def push_to_hub(folder: Path, config_name: str | None = None, **options) -> None:
    push(PushArguments(str(folder), "owner/m30k", config_name=config_name, **options))


def targets(folder: Path, config_name: str, tmp_path: Path) -> set[str]:
    """The German side of a configuration's training split, as `load_dataset` reads it."""
    corpus = load_dataset(str(folder), config_name, cache_dir=str(tmp_path / "cache"))
    assert list(corpus) == ["train", "validation", "test"]
    assert isinstance(corpus["train"].features["translation"], Translation)
    return {pair["de"] for pair in corpus["train"]["translation"]}


def config_names(card: str) -> list[str]:
    return [entry["config_name"] for entry in DatasetCard(card).data["configs"]]


@pytest.mark.usefixtures("logged_in")
def test_second_configuration_leaves_the_first_as_it_is(hub, corpus_folder: Path, greedy_folder: Path) -> None:
    push_to_hub(corpus_folder, "beam")
    before = hub.files(REPOSITORY)
    push_to_hub(greedy_folder, "greedy")
    files = hub.files(REPOSITORY)
    assert {path: files[path] for path in before if path != "README.md"} == {
        path: content for path, content in before.items() if path != "README.md"
    }
    for name, folder in (("beam", corpus_folder), ("greedy", greedy_folder)):
        assert files[f"{name}/manifest.json"] == (folder / "manifest.json").read_bytes()
        for shard in (folder / "data").iterdir():
            assert files[f"{name}/{shard.name}"] == shard.read_bytes()
    card = files["README.md"].decode()
    assert config_names(card) == ["beam", "greedy"]
    assert 'load_dataset("owner/m30k", "beam")' in card
    assert "| beam | en-de | train | teacher | 3 |" in card
    assert "### greedy" in card
    assert not any(path.startswith("data/") or path.endswith("/README.md") for path in files)


@pytest.mark.usefixtures("logged_in")
def test_default_and_named_configurations_live_together(hub, corpus_folder: Path, greedy_folder: Path) -> None:
    push_to_hub(greedy_folder, "greedy")
    push_to_hub(corpus_folder)
    card = hub.files(REPOSITORY)["README.md"].decode()
    assert config_names(card) == ["default", "greedy"]
    assert 'load_dataset("owner/m30k")' in card


@pytest.mark.usefixtures("logged_in")
def test_configuration_pushed_again_loses_what_is_gone_and_nothing_else(
    hub, corpus_folder: Path, greedy_folder: Path
) -> None:
    write_json(corpus_folder / "measures.json", MEASURES)
    push_to_hub(corpus_folder, "beam")
    push_to_hub(greedy_folder, "greedy")
    card = hub.files(REPOSITORY)["README.md"].decode()
    assert "| beam | 1.250 | 3.500 | 0.750 | | runs/teacher | forward |" in card
    (corpus_folder / "measures.json").unlink()
    push_to_hub(corpus_folder, "beam")
    card = hub.files(REPOSITORY)["README.md"].decode()
    assert "1.250" not in card and "## Measures" not in card
    assert "beam/measures.json" not in hub.files(REPOSITORY)
    assert config_names(card) == ["beam", "greedy"]


@pytest.mark.usefixtures("logged_in")
def test_words_on_the_hub_stay_and_only_the_lists_follow(hub, corpus_folder: Path, greedy_folder: Path) -> None:
    push_to_hub(corpus_folder, "beam")
    files = dict(hub.files(REPOSITORY))
    foreign = "configs:\n- config_name: mine\n  data_files: mine/*.csv\n"
    card = files["README.md"].decode().replace("configs:\n", foreign, 1)
    card = card.replace("- config_name: beam\n", "- config_name: beam\n  default: true\n", 1)
    files["README.md"] = card.replace("## Limits", "## My limits").encode()
    hub.commit(REPOSITORY, "main", files, "by hand")
    push_to_hub(greedy_folder, "greedy")
    push_to_hub(corpus_folder, "beam")
    card = hub.files(REPOSITORY)["README.md"].decode()
    assert "## My limits" in card and "### greedy" not in card
    data = DatasetCard(card).data
    assert {entry["config_name"]: entry.get("default") for entry in data["configs"]} == {
        "mine": None,
        "beam": True,
        "greedy": None,
    }
    assert data["configs"][0]["data_files"] == "mine/*.csv"
    assert [entry["config_name"] for entry in data["dataset_info"]] == ["beam", "greedy"]


@pytest.mark.usefixtures("logged_in")
def test_own_words_about_a_configuration_lie_in_its_folder(hub, corpus_folder: Path) -> None:
    (corpus_folder / "README.md").write_text("Mine.")
    push_to_hub(corpus_folder, "beam")
    files = hub.files(REPOSITORY)
    assert files["beam/README.md"] == b"Mine."
    assert config_names(files["README.md"].decode()) == ["beam"]


@pytest.mark.usefixtures("logged_in")
def test_corpus_without_a_list_of_configurations_does_not_hide_the_others(
    hub, corpus_folder: Path, greedy_folder: Path
) -> None:
    push_to_hub(greedy_folder, "greedy")
    (corpus_folder / "manifest.json").unlink()
    (corpus_folder / "README.md").write_text("Mine.")
    with pytest.raises(ValueError, match=r"must list its `configs`, as the repository has others \(greedy\)"):
        push_to_hub(corpus_folder)
    (corpus_folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: default\n  data_files: data/*\n---\nMine.\n"
    )
    push_to_hub(corpus_folder)
    card = hub.files(REPOSITORY)["README.md"].decode()
    assert config_names(card) == ["greedy", "default"]
    assert card.endswith("Mine.\n")


def test_folders_put_together_load_before_any_push(tmp_path: Path, corpus_folder: Path, greedy_folder: Path) -> None:
    together = tmp_path / "m30k"
    for name, folder in (("beam", corpus_folder), ("greedy", greedy_folder)):
        plan = push(PushArguments(str(folder), local_dir=str(together), config_name=name))
        assert plan.url == str(together)
    assert targets(together, "beam", tmp_path) == {"beam"}
    assert targets(together, "greedy", tmp_path) == {"greedy"}
    options = {"source_lang": "en", "target_lang": "de"}
    assert len(load_corpus(together, "train", config_name="greedy", **options)) == 3
    with pytest.raises(ValueError, match=r"`config_name` must be one of \['beam', 'greedy'\]"):
        load_corpus(together, "train", **options)
    card = (together / "README.md").read_text()
    assert 'load_dataset("./m30k", "beam")' in card


@pytest.mark.usefixtures("logged_in")
def test_folder_put_together_is_the_repository_that_single_pushes_make(
    hub, tmp_path: Path, corpus_folder: Path, greedy_folder: Path
) -> None:
    for name, folder in (("beam", corpus_folder), ("greedy", greedy_folder)):
        push(PushArguments(str(folder), local_dir=str(tmp_path / "m30k"), config_name=name))
        push(PushArguments(str(folder), "owner/singly", config_name=name))
    push_to_hub(tmp_path / "m30k")
    singly = {
        path: content.replace(b"owner/singly", b"owner/m30k")
        for path, content in hub.files("datasets/owner/singly").items()
    }
    whole = hub.files(REPOSITORY)
    assert whole.keys() == singly.keys()
    assert [path for path in whole if whole[path] != singly[path]] == ["README.md"]
    cards = [files["README.md"].decode().rsplit("<!--", 1)[0] for files in (whole, singly)]
    assert cards[0] == cards[1]


def test_configuration_put_together_again_is_replaced(
    tmp_path: Path, corpus_folder: Path, greedy_folder: Path
) -> None:
    together = tmp_path / "m30k"
    push(PushArguments(str(corpus_folder), local_dir=str(together), config_name="beam"))
    (together / "beam/train-00000-of-00009.parquet").write_bytes(b"stale")
    push(PushArguments(str(greedy_folder), local_dir=str(together), config_name="beam"))
    assert targets(together, "beam", tmp_path) == {"greedy"}
    assert sorted(path.name for path in (together / "beam").glob("train-*")) == [
        "train-00000-of-00002.parquet",
        "train-00001-of-00002.parquet",
    ]


def test_dry_run_puts_nothing_together(tmp_path: Path, corpus_folder: Path) -> None:
    plan = push(PushArguments(str(corpus_folder), local_dir=str(tmp_path / "m30k"), config_name="beam", dry_run=True))
    assert "beam/manifest.json" in plan.files and "README.md" in plan.files
    assert not (tmp_path / "m30k").exists()


def test_lost_shard_is_an_error_when_loading(tmp_path: Path, corpus_folder: Path) -> None:
    push(PushArguments(str(corpus_folder), local_dir=str(tmp_path / "m30k"), config_name="beam"))
    (tmp_path / "m30k/beam/train-00001-of-00002.parquet").unlink()
    with pytest.raises(NonMatchingSplitsSizesError):
        targets(tmp_path / "m30k", "beam", tmp_path)


def test_shards_are_as_the_viewer_wants_them(corpus_folder: Path) -> None:
    for shard in (corpus_folder / "data").iterdir():
        file = pq.ParquetFile(shard)
        assert not any(isinstance(field.type, pa.ExtensionType) for field in file.schema_arrow)
        for index in range(file.metadata.num_row_groups):
            group = file.metadata.row_group(index)
            assert group.total_byte_size <= 100e6
            assert all(group.column(column).has_offset_index for column in range(group.num_columns))
    manifest = read_json(corpus_folder / "manifest.json")
    assert all(sha256_file(corpus_folder / name) == checksum for name, checksum in manifest["shards"].items())


@pytest.mark.parametrize("name", ["data", "runs", "checkpoint-1", "a/b", ".hidden", "", "a b"])
def test_config_name_that_cannot_be_a_folder_is_an_error(corpus_folder: Path, name: str) -> None:
    with pytest.raises(ValueError, match=f"`config_name` must be of letters.*, got '{name}'"):
        push(PushArguments(str(corpus_folder), "owner/m30k", config_name=name, dry_run=True))


def test_config_name_for_several_corpora_or_without_manifest_is_an_error(tmp_path: Path, corpus_folder: Path) -> None:
    push(PushArguments(str(corpus_folder), local_dir=str(tmp_path / "m30k"), config_name="beam"))
    with pytest.raises(ValueError, match=r"for a folder with one corpus, got 'x' .* with \['beam'\]"):
        push(PushArguments(str(tmp_path / "m30k"), "owner/m30k", config_name="x", dry_run=True))
    (corpus_folder / "manifest.json").unlink()
    with pytest.raises(ValueError, match=r"must hold a manifest\.json"):
        push(PushArguments(str(corpus_folder), "owner/m30k", config_name="x", dry_run=True))
