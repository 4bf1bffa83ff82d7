"""What was written into each shard: a small file per shard while a run goes on, the manifest once it is complete."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from transformers.utils import logging

from ..base.files import atomic_path
from ..base.utils import read_json


logger = logging.get_logger(__name__)

# Beside `data`, hidden, and gone at the end of a run: the Hub sees nothing of it.
CHECKSUM_DIR = ".checksums"


def record_checksum(shard: Path, checksum: str) -> None:
    """Records the SHA-256 of a shard, atomically and in a file of its own, so that several processes may."""
    with atomic_path(checksum_path(shard)) as temporary:
        temporary.write_text(checksum + "\n", encoding="utf-8")


def recorded_checksums(output_dir: Path, shards: Iterable[Path]) -> dict[str, str]:
    """Returns the SHA-256 of each shard that a run recorded, by the name of its file.

    What a run that is going on recorded comes before the manifest of a complete one: a damaged corpus may be under
    repair.
    """
    checksums = {Path(name).name: checksum for name, checksum in _of_manifest(output_dir / "manifest.json").items()}
    for shard in shards:
        path = checksum_path(shard)
        if path.is_file():
            checksums[shard.name] = path.read_text(encoding="utf-8", errors="replace").strip()
    return checksums


def remove_checksums(output_dir: Path) -> None:
    """Removes what `record_checksum` wrote, once the manifest has it."""
    shutil.rmtree(output_dir / CHECKSUM_DIR, ignore_errors=True)


def checksum_path(shard: Path) -> Path:
    """Returns the file of `record_checksum` for a shard."""
    return shard.parents[1] / CHECKSUM_DIR / f"{shard.stem}.sha256"


def _of_manifest(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    try:
        return dict(read_json(path)["shards"])
    except (ValueError, KeyError, TypeError):
        logger.warning(f"{path} is damaged: the checksums of the shards are unknown.")
        return {}
