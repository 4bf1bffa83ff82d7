"""The configurations of a corpus repository: each a distilled corpus in a folder of its own, one README.md for all."""

from __future__ import annotations

import re
from collections import ChainMap, Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import pyarrow.parquet as pq
from datasets import DatasetInfo, Features, SplitDict, SplitInfo
from datasets.info import DatasetInfosDict
from huggingface_hub import DatasetCard, DatasetCardData

from ..analysis import read_measures
from ..distillation.manifest import check_manifest
from ..distillation.shards import split_of
from .rendering import is_hub_id, is_unedited, languages, read_card, read_optional, read_required, render, sealed


T = TypeVar("T")

# The configuration that `load_dataset` takes unasked; its shards lie in `data/`, its other files at the top.
DEFAULT_CONFIG = "default"
# What the card of a configuration is made from.
CARD_SOURCES = ("manifest.json", "measures.json", "metrics.json")
_NO_NAMES = ("data", "runs")


@dataclass(frozen=True)
class CorpusConfig:
    """One distilled corpus of a repository.

    Args:
        name (`str`): name for `load_dataset`.
        manifest (`dict`): its `manifest.json`.
        measures (`dict`, *optional*): its `measures.json`.
        speed (`dict`, *optional*): its `metrics.json`.
        shards (`tuple[Path, ...]`): its parquet files, as far as they are here.
    """

    name: str
    manifest: dict[str, Any]
    measures: dict[str, Any] | None = None
    speed: dict[str, Any] | None = None
    shards: tuple[Path, ...] = ()

    @property
    def pair(self) -> str:
        """Its languages, as `en-de`."""
        return f"{self.manifest['source_lang']}-{self.manifest['target_lang']}"

    @property
    def hub_source(self) -> str | None:
        """The dataset of the Hub that it was made of, None where that was here."""
        corpus = self.manifest["corpus"]
        return corpus if not self.manifest.get("corpus_is_local") and is_hub_id(corpus) else None

    @property
    def splits(self) -> dict[str, int]:
        """Rows of each split, the usual three first; a split without rows has no file and is none."""
        usual = ("train", "validation", "test")
        counts = self.manifest["counts"]
        order = sorted(counts, key=lambda split: (usual.index(split) if split in usual else len(usual), split))
        return {split: counts[split] for split in order if counts[split]}

    def missing_shards(self) -> list[str]:
        """Returns the shards of the manifest that are not here."""
        here = {shard.name for shard in self.shards}
        return [name for name in self.manifest.get("shards", {}) if Path(name).name not in here]

    def data_files(self) -> dict[str, Any]:
        """Its entry in the list `configs` of the card's metadata."""
        folder = _data_dir(self.name)
        files = [{"split": split, "path": f"{folder}/{split}-*.parquet"} for split in self.splits]
        return {"config_name": self.name, "data_files": files}

    @cached_property
    def info(self) -> dict[str, Any] | None:
        """Its entry in the list `dataset_info`, by which `load_dataset` tells a corpus that lacks a shard.

        Columns and bytes come from the shards; without them there is no entry.
        """
        if not self.shards:
            return None
        sizes: Counter[str] = Counter()
        for shard in self.shards:
            file = pq.read_metadata(shard)
            groups = (file.row_group(index) for index in range(file.num_row_groups))
            sizes[split_of(shard.name)] += sum(group.total_byte_size for group in groups)
        splits = SplitDict({split: SplitInfo(split, sizes[split], rows) for split, rows in self.splits.items()})
        features = Features.from_arrow_schema(pq.read_schema(self.shards[0]))
        metadata = DatasetCardData()
        DatasetInfosDict({self.name: DatasetInfo(features=features, splits=splits)}).to_dataset_card_data(metadata)
        return {"config_name": self.name, **metadata["dataset_info"]}


def check_config_name(name: str) -> None:
    """Raises ValueError unless `name` can be that of a configuration and of its folder."""
    if not re.fullmatch(r"\w[\w.-]*", name) or name in _NO_NAMES or name.startswith("checkpoint-"):
        raise ValueError(
            f"`config_name` must be of letters, digits, '.', '-' and '_' and not one of {list(_NO_NAMES)}, got "
            f"{name!r}. Use, for instance, the strategy."
        )


def read_configs(folder: Path, with_measures: bool = True) -> dict[str, CorpusConfig]:
    """Reads the configurations of a folder, or of the small files of a repository, by name; see `read_config`."""
    folders = {path.parent.name: path.parent for path in folder.glob("[!.]*/manifest.json")}
    if (folder / "manifest.json").is_file():
        folders[DEFAULT_CONFIG] = folder
    return {
        name: read_config(where, name, "data/*.parquet" if where == folder else "*.parquet", with_measures)
        for name, where in folders.items()
    }


def read_config(folder: Path, name: str, shards: str = "data/*.parquet", with_measures: bool = True) -> CorpusConfig:
    """Reads a distilled corpus as the configuration `name`.

    Args:
        folder (`Path`): where its manifest lies.
        name (`str`): name of the configuration.
        shards (`str`, *optional*): pattern of its parquet files in `folder`; by default as distillation leaves them.
        with_measures (`bool`, *optional*, defaults to `True`): read its `measures.json`, too.

    Raises:
        ValueError: if there is no `manifest.json`, which is written when a distillation is complete.
    """
    manifest, measures, speed = CARD_SOURCES
    made = read_required(folder, manifest, "Run the distillation to its end")
    check_manifest(made, folder / manifest)
    return CorpusConfig(
        name,
        made,
        read_measures(folder / measures) if with_measures and (folder / measures).exists() else None,
        read_optional(folder, speed),
        tuple(sorted(folder.glob(shards))),
    )


def place_in_config(path: str, name: str) -> str:
    """Returns where a file of a distillation's output folder lies in a repository, as part of a configuration."""
    return path if name == DEFAULT_CONFIG else f"{name}/{path.removeprefix('data/')}"


def files_of_config(name: str) -> list[str]:
    """Returns patterns of all files of a configuration in a repository."""
    return ["data/*.parquet", *CARD_SOURCES] if name == DEFAULT_CONFIG else [f"{name}/*"]


def dataset_infos(configs: Iterable[CorpusConfig]) -> dict[str, dict[str, Any]]:
    """Returns the entries of `dataset_info` by name, of the configurations whose shards are here."""
    return {config.name: entry for config in configs if (entry := config.info) is not None}


def corpus_card(configs: Mapping[str, CorpusConfig], example: str, dataset_info: Mapping[str, dict[str, Any]]) -> str:
    """Renders the card of configurations, given their entries of `dataset_info` as far as there are any."""
    configs = {name: configs[name] for name in sorted(configs, key=lambda name: (name != DEFAULT_CONFIG, name))}
    manifests = [config.manifest for config in configs.values()]
    pairs = ", ".join(_distinct(config.pair for config in configs.values()))
    licenses = _distinct(manifest["license"] for manifest in manifests if manifest.get("license"))
    sources = _distinct(source for config in configs.values() if (source := config.hub_source))
    title = f"Distilled {pairs} corpus"
    known, unknown = languages(*manifests)
    metadata = DatasetCardData(
        language=known or None,
        license=licenses[0] if len(licenses) == 1 else licenses or None,
        annotations_creators=["machine-generated"],
        multilinguality=["translation"],
        task_categories=["translation"],
        size_categories=_distinct(_size_category(manifest["counts"]["train"]) for manifest in manifests),
        source_datasets=sources or ["extended"],
        pretty_name=title,
        tags=["hf_nat", "knowledge-distillation"],
        configs=[config.data_files() for config in configs.values()],
        dataset_info=[dataset_info[name] for name in configs if name in dataset_info] or None,
    )
    return render(
        "corpus_card.md.jinja",
        metadata=metadata.to_yaml(),
        title=title,
        unknown_languages=unknown,
        example=example,
        configs=list(configs.values()),
    )


def merge_corpus_cards(configs: Mapping[str, CorpusConfig], folder: str | Path, ours: str | None, example: str) -> str:
    """Makes the README.md of a repository to which configurations are added, or in which they are replaced.

    Words that someone wrote are kept, those of `ours` before those of the repository, and only the lists of
    configurations in their metadata are brought up to date. Where there are none, the card is rendered from all
    manifests.

    Args:
        configs (`Mapping[str, CorpusConfig]`): the configurations that come, by name.
        folder (`str | Path`): a folder with the card and the manifests of the repository, as far as it has any.
        ours (`str`, *optional*): README.md that comes along.
        example (`str`): what the example loads.

    Raises:
        ValueError: if `ours` comes without manifest and without a list of configurations, which the repository has.
    """
    folder = Path(folder)
    theirs = read_card(folder / "README.md") if (folder / "README.md").is_file() else None
    words = next((card for card in (ours, theirs) if card is not None and not is_unedited(card)), None)
    coming = {
        "configs": {name: config.data_files() for name, config in configs.items()},
        "dataset_info": dataset_infos(configs.values()),
    }
    replaced = configs.keys() or {DEFAULT_CONFIG}
    lists = {}
    for key, entries in coming.items():
        others = {name: entry for name, entry in _entries(theirs, key).items() if name not in replaced}
        lists[key] = _merged(others, _entries(words, key), entries)
    if words is None:
        return sealed(corpus_card({**read_configs(folder), **configs}, example, lists["dataset_info"]))
    if not configs and lists["configs"] and not _entries(words, "configs"):
        raise ValueError(
            f"`README.md` must list its `configs`, as the repository has others ({', '.join(lists['configs'])}), got "
            "none. Add them to its metadata."
        )
    return _with_entries(words, lists)


def _data_dir(name: str) -> str:
    return "data" if name == DEFAULT_CONFIG else name


def _entries(card: str | None, key: str) -> dict[str, dict[str, Any]]:
    """Returns a list of a card's metadata, `configs` or `dataset_info`, by the names of the configurations."""
    if card is None or not card.startswith("---"):
        return {}
    entries = DatasetCard(card, ignore_metadata_errors=True).data.get(key) or []
    entries = [entries] if isinstance(entries, Mapping) else entries
    return {entry.get("config_name", DEFAULT_CONFIG): entry for entry in entries}


def _merged(*lists: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Merges entries of one name, the keys of later ones before those of former ones."""
    names = _distinct(name for entries in lists for name in entries)
    return {name: dict(ChainMap(*(entries.get(name, {}) for entries in reversed(lists)))) for name in names}


def _with_entries(card: str, lists: Mapping[str, Mapping[str, dict[str, Any]]]) -> str:
    """Puts such lists into a card's metadata, if they are not there; its words stay."""
    if all(_entries(card, key) == entries for key, entries in lists.items()):
        return card
    changed = DatasetCard(card, ignore_metadata_errors=True)
    for key, entries in lists.items():
        if entries:
            changed.data[key] = list(entries.values())
    return str(changed)


def _distinct(values: Iterable[T]) -> list[T]:
    return list(dict.fromkeys(values))


def _size_category(rows: int) -> str:
    """Returns the Hub's name for a number of rows, as 10K<n<100K."""
    names = ["1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T"]
    place = next((index for index in range(len(names)) if rows < 10 ** (index + 3)), len(names))
    if place in (0, len(names)):
        return "n<1K" if place == 0 else "n>1T"
    return f"{names[place - 1]}<n<{names[place]}"
