"""Leaves suspicious rows of a distilled corpus out: a step of its own that says what went and why."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset

from ..base.config import option
from ..base.utils import atomic_folder, progress_bar, read_record, sha256_file, write_json
from ..data import tokenize, tokenizer_checksum
from .checksums import recorded_checksums
from .flags import FLAGS, HARMLESS
from .manifest import check_manifest, shard_entries
from .shards import Shard, without_datasets_bars


# All that says that a target is no translation of its source.
DEFAULT_DROP = tuple(flag for flag in FLAGS if flag not in HARMLESS)
NO_FLAG = "none"


@dataclass(frozen=True, kw_only=True)
class FilterArguments:
    """Which training rows of a distilled corpus are left out.

    Raises:
        ValueError: if a flag is unknown, no rule is left, a number is out of range, or `output_dir` is `corpus`.
    """

    corpus: str = field(metadata={"help": "folder of a distilled corpus, with its manifest.json"})
    output_dir: str = field(metadata={"help": "folder of the filtered corpus, new or empty"})
    drop: list[str] = field(
        default_factory=lambda: list(DEFAULT_DROP),
        metadata={
            "help": f"rows with one of these flags go, out of {', '.join(FLAGS)}; {NO_FLAG} for no flag. By default "
            "all but kept_real and source_alone: the targets of the others say too little, too much or nothing of "
            "their source"
        },
    )
    min_score: float | None = option(
        None, "rows with a lower teacher_score go (nats per token); a row without a score stays"
    )
    max_length_ratio: float | None = option(None, "rows whose longer side has more than so many times the tokens go")
    tokens: str = option(
        "space", "what `max_length_ratio` counts: space (words between blanks), moses, or a tokenizer's folder"
    )

    def __post_init__(self) -> None:
        for flag in self.flags:
            if flag not in FLAGS:
                raise ValueError(f"`drop` must be out of {list(FLAGS)}, or {NO_FLAG} alone, got {flag!r}.")
        if not self.flags and self.min_score is None and self.max_length_ratio is None:
            raise ValueError("A filter must have a rule, got none. Give `drop`, `min_score` or `max_length_ratio`.")
        if self.max_length_ratio is not None and not self.max_length_ratio >= 1:
            raise ValueError(f"`max_length_ratio` must be >= 1, got {self.max_length_ratio}.")
        if Path(self.output_dir).resolve() == Path(self.corpus).resolve():
            raise ValueError(f"`output_dir` must not be the corpus itself, got {self.output_dir!r}.")

    @property
    def flags(self) -> list[str]:
        """Flags whose rows go."""
        return [] if self.drop == [NO_FLAG] else self.drop

    @property
    def reasons(self) -> list[str]:
        """Names under which rows that go are counted: flags, then thresholds."""
        thresholds = [name for name in ("min_score", "max_length_ratio") if getattr(self, name) is not None]
        return [*(flag for flag in FLAGS if flag in self.flags), *thresholds]

    @property
    def rule(self) -> dict[str, Any]:
        """What decides about a row, as the manifest records it; unset parts are left out."""
        rule: dict[str, Any] = {name: getattr(self, name) for name in self.reasons if name not in FLAGS}
        if flags := [name for name in self.reasons if name in FLAGS]:
            rule["drop"] = flags
        if "max_length_ratio" in rule:
            checksum = tokenizer_checksum(self.tokens)
            rule |= {"tokens": self.tokens} | ({"tokenizer_sha256": checksum} if checksum else {})
        return rule


def filter_corpus(args: FilterArguments) -> None:
    """Writes a distilled corpus without the training rows that a rule rejects; validation and test stay as they are.

    The rows that stay keep their order and all columns, `id` included. Each shard of the new corpus holds what is left
    of the shard of its name. The bytes depend on the corpus and the arguments alone; memory is that of one shard. The
    rows appear in the folder once all are written.

    Args:
        args (`FilterArguments`): corpus, rule and output folder. The folder ends up with `data/*.parquet` and, last,
            `manifest.json`: that of the corpus with the new counts, and a last entry in `filters` that holds the
            corpus's checksum, the rule, and the rows that went by each reason; a row may go for several.

    Raises:
        ValueError: if the corpus has no manifest or is not what its manifest says, or no training row is left.
    """
    corpus, output_dir = Path(args.corpus), Path(args.output_dir)
    manifest = read_manifest(corpus)
    languages = (manifest["source_lang"], manifest["target_lang"])
    shards, counts, reasons = [], dict.fromkeys(manifest["counts"], 0), dict.fromkeys(args.reasons, 0)
    unfinished = output_dir / ".unfinished"
    with (
        atomic_folder(unfinished) as folder,
        progress_bar(sum(manifest["counts"].values()), "Filtering") as bar,
        without_datasets_bars(),
    ):
        for name, checksum in manifest["shards"].items():
            _require_sound(corpus / name, checksum)
            rows = pq.read_table(corpus / name)
            bar.update(len(rows))
            split = Path(name).name.rsplit("-", 3)[0]
            if split == "train":
                rejected = _rejected(rows, args, languages)
                for reason, mask in rejected.items():
                    reasons[reason] += int(mask.sum())
                rows = rows.filter(~np.logical_or.reduce(list(rejected.values())))
            shard = Shard(split, counts[split], counts[split] + len(rows), folder / name)
            shard.write(Dataset(rows))
            shards.append(shard)
            counts[split] = shard.stop
        num_rows = manifest["counts"]["train"]
        if not counts["train"]:
            raise ValueError(
                f"A filtered corpus must keep at least 1 training row, got 0 of {num_rows}: {reasons}. Use a weaker "
                "rule."
            )
        applied = {
            "corpus_manifest_sha256": sha256_file(corpus / "manifest.json"),
            "rule": args.rule,
            "corpus": args.corpus,
            "num_rows": num_rows,
            "num_dropped": num_rows - counts["train"],
            "reasons": reasons,
        }
        checksums = recorded_checksums(folder, [shard.path for shard in shards])
        entries = {"counts": counts, **shard_entries(folder, shards, checksums)}
        filters = [*manifest.get("filters", []), applied]
        write_json(folder / "manifest.json", manifest | entries | {"filters": filters})
    shutil.rmtree(output_dir / "data", ignore_errors=True)
    for name in ("data", "manifest.json"):
        (unfinished / name).replace(output_dir / name)
    shutil.rmtree(unfinished)


def read_manifest(corpus: Path) -> dict[str, Any]:
    """Reads the manifest of a distilled corpus.

    Raises:
        ValueError: if there is none, or it is damaged.
    """
    path = corpus / "manifest.json"
    if not path.is_file():
        raise ValueError(
            f"`corpus` must be a folder with a manifest.json, got {str(corpus)!r} without one. Run `hf-nat distill` "
            "to its end."
        )
    manifest = read_record(path, {"shards": dict})
    check_manifest(manifest, path)
    return manifest


def is_sound(folder: Path) -> bool:
    """Tells whether every shard of a corpus folder has the checksum that its manifest records."""
    try:
        shards = read_manifest(folder)["shards"]
    except ValueError:
        return False
    return all(
        (folder / name).is_file() and sha256_file(folder / name) == checksum for name, checksum in shards.items()
    )


def _require_sound(path: Path, checksum: str) -> None:
    found = sha256_file(path) if path.is_file() else "no file"
    if found != checksum:
        raise ValueError(
            f"`{path}` must have the SHA-256 that manifest.json records, {checksum}, got {found}. Make the corpus "
            "again."
        )


def _rejected(rows: pa.Table, args: FilterArguments, languages: tuple[str, str]) -> dict[str, np.ndarray]:
    """Returns for each reason which of the rows it rejects: `[rows]`."""
    flags = rows["flags"].to_pylist()
    rejected = {}
    for name in args.reasons:
        if name == "min_score":
            # In the column's own precision; a missing score is nan, and not below anything.
            rejected[name] = rows["teacher_score"].to_numpy() < np.float32(args.min_score)
        elif name == "max_length_ratio":
            rejected[name] = _length_ratios(rows, args.tokens, languages) > args.max_length_ratio
        else:
            rejected[name] = np.array([name in row for row in flags], dtype=bool)
    return rejected


def _length_ratios(rows: pa.Table, tokens: str, languages: tuple[str, str]) -> np.ndarray:
    """Returns the tokens of the longer side per token of the other, infinite if it has none, 1 if neither has."""
    pairs = rows["translation"].to_pylist()
    lengths = [[len(words) for words in tokenize((pair[lang] for pair in pairs), tokens, lang)] for lang in languages]
    shorter, longer = np.sort(np.array(lengths, dtype=float), axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(longer > 0, longer / shorter, 1.0)
