"""Several corpora as one: a step of its own, whose rows say which corpus they come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset, Features, Value, concatenate_datasets

from ..base.bounds import require_number
from ..base.config import option
from ..base.folders import atomic_contents
from ..base.languages import require_two_languages
from ..base.utils import progress_bar, write_json
from ..data.corpora import load_corpus
from ..data.several import corpus_place, named_corpora
from .checksums import recorded_checksums
from .manifest import read_manifest, shard_entries
from .shards import (
    EXTRA_COLUMNS,
    corpus_features,
    empty_values,
    plan_shards,
    require_column_types,
    without_datasets_bars,
)


# What a mix does not record of the manifest of one of its corpora: its files, and what the mix says itself.
_NOT_OF_MANIFEST = ("shards", "counts", "num_sources", "flag_counts", "source_lang", "target_lang", "shard_size")


# A weight beyond it is a slip: the rows of such a corpus would be repeated until memory ends.
_MOST_OFTEN = 1000


@dataclass(frozen=True, kw_only=True)
class MixArguments:
    """Which corpora become one.

    Raises:
        ValueError: if there are no corpora, two have one name, weights are not as many, or a number is out of range.
    """

    corpora: list[str] = field(
        metadata={"help": "distilled or real corpora: CORPUS or NAME=CORPUS, CORPUS#CONFIGURATION for one of several"}
    )
    output_dir: str = field(metadata={"help": "folder of the new corpus, new or empty"})
    source_lang: str = field(metadata={"help": "language key of the source in the `translation` feature"})
    target_lang: str = field(metadata={"help": "language key of the target"})
    weights: list[float] | None = option(
        None, "for each corpus, how often its training rows are taken: 2 is twice, 0.5 half of them; default: 1 each"
    )
    train_split: str = option("train", "split that is mixed")
    validation_split: str | None = option("validation", "split of the first corpus to copy; null for none")
    test_split: str | None = option("test", "split of the first corpus to copy; null for none")
    shard_size: int = option(10_000, "rows per file")
    license: str | None = option(None, "license of the new corpus, as the Hub spells it")
    seed: int = option(1, "seed of the order, and of the rows that a weight leaves out")

    def __post_init__(self) -> None:
        if not self.corpora:
            raise ValueError("`corpora` must name at least 1 corpus, got none.")
        _ = self.places
        require_two_languages(self.source_lang, self.target_lang)
        if len(self.all_weights) != len(self.corpora):
            raise ValueError(
                f"`weights` must be as many as `corpora`, got {len(self.all_weights)} and {len(self.corpora)}."
            )
        for weight in self.all_weights:
            require_number(
                "weights", weight, above=0, most=_MOST_OFTEN, remedy="Leave a corpus out to take none of it."
            )
        require_number("shard_size", self.shard_size, least=1)
        require_number("seed", self.seed, least=0)

    @property
    def places(self) -> dict[str, dict[str, Any]]:
        """`corpus` and `config_name` of each corpus by its name."""
        return {name: {"config_name": None} | corpus_place(text) for name, text in named_corpora(self.corpora).items()}

    @property
    def all_weights(self) -> list[float]:
        """The weight of each corpus."""
        return [1.0] * len(self.corpora) if self.weights is None else self.weights

    @property
    def splits(self) -> dict[str, str]:
        """The corpora's names of the splits, by those that they have in the new corpus."""
        named = {"train": self.train_split, "validation": self.validation_split, "test": self.test_split}
        return {split: name for split, name in named.items() if name}

    def load(self, name: str, split: str) -> Dataset:
        """Loads a split of one of the corpora.

        Raises:
            ValueError: as `load_corpus`, and if a column that distilled corpora have is of another type.
        """
        options: dict[str, Any] = {"source_lang": self.source_lang, "target_lang": self.target_lang}
        place = self.places[name]
        rows = load_corpus(place["corpus"], split, **options, config_name=place["config_name"])
        require_column_types(rows.features.arrow_schema, f"split {split!r} of `{place['corpus']}`")
        return rows

    def load_splits(self) -> dict[str, dict[str, Dataset]]:
        """Loads the rows of each split of the new corpus, by the name of their corpus."""
        first = next(iter(self.places))
        return {
            split: {name: self.load(name, own) for name in (self.places if split == "train" else [first])}
            for split, own in self.splits.items()
        }

    def manifests(self) -> dict[str, dict[str, Any]]:
        """Reads the manifest of each corpus that is distilled and a folder here, by its name.

        Raises:
            ValueError: if one is damaged.
        """
        folders = {name: Path(place["corpus"]) / (place["config_name"] or "") for name, place in self.places.items()}
        return {name: read_manifest(path) for name, path in folders.items() if (path / "manifest.json").is_file()}

    def settings(self) -> dict[str, Any]:
        """Returns what the rows depend on beside the corpora."""
        kept = ("source_lang", "target_lang", "shard_size", "seed")
        weights = dict(zip(self.places, self.all_weights, strict=True))
        return {**{name: getattr(self, name) for name in kept}, "weights": weights}


def mix_corpora(args: MixArguments, splits: Mapping[str, Mapping[str, Dataset]]) -> None:
    """Writes several corpora as one, in an order drawn at random.

    A row keeps its columns and its `id`, the number in its own corpus, and has the name of that in `corpus`. A corpus
    with weight w gives all its training rows floor(w) times, and of the rest a part drawn at random without
    replacement. A row of a corpus that is not distilled has its target as `real_target` too, and no score. The bytes
    depend on corpora and arguments alone. The rows appear in the folder once all are written.

    Args:
        args (`MixArguments`): corpora, weights and output folder. The folder ends up with `data/*.parquet` and, last,
            `manifest.json`, whose list `mix` has an entry for each corpus: weight, rows, and how it was made.
        splits (`Mapping[str, Mapping[str, Dataset]]`): rows of each split by the name of their corpus.
    """
    present = {column for own in splits.values() for rows in own.values() for column in rows.column_names}
    columns = [name for name in EXTRA_COLUMNS if name in present and name != "corpus"]
    with atomic_contents(args.output_dir, ["data", "manifest.json"]) as folder, without_datasets_bars():
        shards = []
        chosen = _chosen_rows(args, splits["train"])
        copied = [rows for split, own in splits.items() if split != "train" for rows in own.values()]
        total = sum(map(len, [*chosen, *copied]))
        with progress_bar(total, "Mixing") as bar:
            for split, corpora in splits.items():
                rows = _together(args, corpora, columns)
                if split == "train":
                    rows = rows.select(_order(args, corpora, chosen))
                for shard in plan_shards(folder, {split: len(rows)}, args.shard_size):
                    shard.write(rows.select(range(shard.start, shard.stop)))
                    bar.update(shard.stop - shard.start)
                    shards.append(shard)
        manifest = _manifest(args, splits["train"], chosen, ["corpus", *columns])
        checksums = recorded_checksums(folder, [shard.path for shard in shards])
        counts = {split: sum(shard.stop - shard.start for shard in shards if shard.split == split) for split in splits}
        entries = {"counts": counts, **shard_entries(folder, shards, checksums)}
        write_json(folder / "manifest.json", manifest | entries)


def _chosen_rows(args: MixArguments, corpora: Mapping[str, Dataset]) -> list[np.ndarray]:
    """Returns for each corpus the numbers of the rows that are taken, as often as they are."""
    chosen = []
    for number, (rows, weight) in enumerate(zip(corpora.values(), args.all_weights, strict=True)):
        whole, size = int(weight), len(rows)
        rest = np.random.default_rng([args.seed, number]).permutation(size)[: round((weight - whole) * size)]
        chosen.append(np.concatenate([np.tile(np.arange(size), whole), np.sort(rest)]))
    if not sum(map(len, chosen)):
        raise ValueError(f"`weights` must leave at least 1 row, got {args.all_weights}, which leave none.")
    return chosen


def _order(args: MixArguments, corpora: Mapping[str, Dataset], chosen: Sequence[np.ndarray]) -> np.ndarray:
    """Returns the numbers of the rows of all corpora, one behind the other, in the order of the new one."""
    starts = np.cumsum([0, *(len(rows) for rows in corpora.values())])
    rows = np.concatenate([own + start for own, start in zip(chosen, starts, strict=False)])
    return rows[np.random.default_rng(args.seed).permutation(len(rows))]


def _together(args: MixArguments, corpora: Mapping[str, Dataset], columns: Sequence[str]) -> Dataset:
    """Puts the rows of corpora one behind the other, all with the same columns."""
    features = Features({**corpus_features(args.source_lang, args.target_lang, columns), "corpus": Value("string")})
    parts = []
    for name, rows in corpora.items():
        kept = [column for column in features if column in rows.column_names and column != "corpus"]
        options: dict[str, Any] = {"name": name, "target_lang": args.target_lang, "columns": list(features)}
        try:
            part = rows.select_columns(kept).map(
                _same_columns,
                batched=True,
                with_indices=True,
                remove_columns=kept,
                features=features,
                fn_kwargs=options,
            )
        except (OverflowError, pa.ArrowInvalid) as error:
            types = {column: str(features[column].dtype) for column in kept if isinstance(features[column], Value)}
            raise ValueError(
                f"The columns of `{name}` must hold what their types in a distilled corpus can, {types}: {error}. "
                "Rename or drop what is something else."
            ) from error
        parts.append(part)
    return concatenate_datasets(parts)


def _same_columns(
    batch: dict[str, list[Any]], indices: list[int], name: str, target_lang: str, columns: list[str]
) -> dict[str, list[Any]]:
    """Fills in the columns that a corpus does not have."""
    size = len(indices)
    absent = {column: empty_values(column, size) for column in columns}
    absent |= {"id": indices, "real_target": [pair[target_lang] for pair in batch["translation"]]}
    return {**absent, **batch, "corpus": [name] * size}


def _manifest(
    args: MixArguments, corpora: Mapping[str, Dataset], chosen: Sequence[np.ndarray], columns: Sequence[str]
) -> dict[str, Any]:
    """Returns what is said of the mix, but for its files."""
    parts, manifests = [], args.manifests()
    for (name, place), weight, rows, taken in zip(
        args.places.items(), args.all_weights, corpora.values(), chosen, strict=True
    ):
        made = manifests.get(name, {})
        own = {key: value for key, value in made.items() if key not in _NOT_OF_MANIFEST}
        sizes = {"weight": weight, "num_rows": len(rows), "num_taken": len(taken)}
        parts.append({"name": name, "place": place["corpus"], "configuration": place["config_name"], **sizes, **own})
    teachers = list(dict.fromkeys(part["teacher"] for part in parts if "teacher" in part))
    return {
        **args.settings(),
        "strategy": "mix",
        "decoding": {},
        "mix": parts,
        "teacher": ", ".join(teachers) or "none, all targets are real",
        "corpus": ", ".join(part["place"] for part in parts),
        "config_name": None,
        "splits": args.splits,
        "license": args.license,
        "columns": list(columns),
    }
