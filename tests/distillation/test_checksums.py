"""Shards that are not what was written: found on resume, reported and made again."""

from __future__ import annotations

import logging
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from transformers import MarianMTModel, PreTrainedTokenizerFast

from hf_nat.base.utils import read_json, sha256_file
from hf_nat.distillation import DistillArguments
from hf_nat.distillation.backends import TorchTeacher
from hf_nat.distillation.checksums import CHECKSUM_DIR
from hf_nat.steps import distill


SHARD = "train-00001-of-00004.parquet"


@pytest.fixture
def run(
    copy_teacher: MarianMTModel, tiny_tokenizer: PreTrainedTokenizerFast, arguments: Callable[..., DistillArguments]
) -> Callable[..., Path]:
    """Distills to the end."""
    return lambda name, **changes: distill(copy_teacher, tiny_tokenizer, arguments(name, **changes))


@pytest.fixture
def interrupted(
    run: Callable[..., Path], arguments: Callable[..., DistillArguments], monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Path]:
    """Distills two of the four training shards."""

    def start(name: str) -> Path:
        calls, decode = [], TorchTeacher.translate

        def fail_in_third_shard(*args, **kwargs):
            calls.append(args)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return decode(*args, **kwargs)

        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(TorchTeacher, "translate", fail_in_third_shard)
            run(name)
        return Path(arguments(name).output_dir)

    return start


def flip_a_byte(shard: Path, foreign: Path) -> None:
    content = bytearray(shard.read_bytes())
    content[len(content) // 4] ^= 1
    shard.write_bytes(content)
    assert pq.read_metadata(shard).num_rows == 3, "the footer must be sound for this test"


def truncate(shard: Path, foreign: Path) -> None:
    shard.write_bytes(shard.read_bytes()[:-7])


def empty(shard: Path, foreign: Path) -> None:
    shard.write_bytes(b"")


def replace_by_another_runs(shard: Path, foreign: Path) -> None:
    assert pq.read_metadata(foreign).num_rows == pq.read_metadata(shard).num_rows
    assert foreign.read_bytes() != shard.read_bytes()
    shutil.copy(foreign, shard)


DAMAGES = [flip_a_byte, truncate, empty, replace_by_another_runs]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("is_complete", [False, True])
def test_a_shard_that_is_not_what_was_written_is_reported_and_made_again(
    run, interrupted, file_bytes, caplog, damage, is_complete
):
    expected = file_bytes(run("whole"))
    foreign = run("foreign", strategy="sampling")
    folder = run("damaged") if is_complete else interrupted("damaged")
    shard, sound = folder / "data" / SHARD, folder / "data" / "train-00000-of-00004.parquet"
    damage(shard, foreign / "data" / SHARD)
    written = sound.stat().st_mtime_ns
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        run("damaged")
    warnings = [record.getMessage() for record in caplog.records if record.name.startswith("hf_nat.distillation")]
    assert len(warnings) == 1
    assert warnings[0].startswith(f"{shard} is damaged")
    assert "written again" in warnings[0]
    assert sound.stat().st_mtime_ns == written, "a sound shard must not be made again"
    assert file_bytes(folder) == expected
    assert read_json(folder / "metrics.json")["num_sentences"] == (3 if is_complete else 3 + 5)


def test_a_run_records_checksums_while_it_goes_on_and_only_then(interrupted, run):
    folder = interrupted("run")
    recorded = {path.name: path.read_text().strip() for path in (folder / CHECKSUM_DIR).iterdir()}
    assert recorded == {f"{path.stem}.sha256": sha256_file(path) for path in (folder / "data").iterdir()}
    assert len(recorded) == 2
    run("run")
    assert {path.name for path in folder.iterdir()} == {
        *("data", "manifest.json", "metrics.json", "README.md", "step.json")
    }


def test_a_shard_without_a_recorded_checksum_is_made_again(interrupted, run, file_bytes, caplog):
    folder = interrupted("run")
    (folder / CHECKSUM_DIR / f"{Path(SHARD).stem}.sha256").unlink()
    with caplog.at_level(logging.WARNING):
        run("run")
    assert f"{folder / 'data' / SHARD} has no recorded checksum" in caplog.text
    assert read_json(folder / "metrics.json")["num_sentences"] == 11 - 3
    assert file_bytes(folder) == file_bytes(run("whole"))


@pytest.mark.parametrize("garbage", [b"", b"\xff\xfe", b"0" * 64])
def test_a_damaged_checksum_costs_a_shard_and_no_more(interrupted, run, file_bytes, garbage):
    folder = interrupted("run")
    (folder / CHECKSUM_DIR / f"{Path(SHARD).stem}.sha256").write_bytes(garbage)
    run("run")
    assert read_json(folder / "metrics.json")["num_sentences"] == 11 - 3
    assert file_bytes(folder) == file_bytes(run("whole"))


@pytest.mark.parametrize("garbage", ["", "[1]", "{}", '{"shards": 1}'])
def test_a_damaged_manifest_is_reported_and_made_again(run, file_bytes, caplog, garbage):
    folder = run("run")
    expected = file_bytes(folder)
    (folder / "manifest.json").write_text(garbage)
    with caplog.at_level(logging.WARNING):
        run("run")
    assert f"{folder / 'manifest.json'} is damaged" in caplog.text
    assert file_bytes(folder) == expected


def test_an_end_between_checksum_and_file_leaves_no_shard(run, arguments, file_bytes, monkeypatch):
    replace = os.replace

    def end_before_shard(source, target):
        if Path(target).name == SHARD:
            raise KeyboardInterrupt
        replace(source, target)

    folder = Path(arguments("run").output_dir)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(os, "replace", end_before_shard)
        run("run")
    assert (folder / CHECKSUM_DIR / f"{Path(SHARD).stem}.sha256").is_file()
    assert not (folder / "data" / SHARD).exists()
    run("run")
    assert file_bytes(folder) == file_bytes(run("whole"))


def test_an_end_between_manifest_and_cleaning_up_is_made_good(run, file_bytes, monkeypatch):
    def end(folder: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(sys.modules["hf_nat.distillation.distill"], "remove_checksums", end)
        run("run")
    folder = run("run")
    assert not (folder / CHECKSUM_DIR).exists()
    assert file_bytes(folder) == file_bytes(run("whole"))


def test_damage_before_the_manifest_is_written_shows_in_it_and_is_repaired(run, file_bytes, monkeypatch):
    module = sys.modules["hf_nat.distillation.distill"]
    write_manifest = module.write_manifest

    def damage_first(output_dir, *args):
        flip_a_byte(output_dir / "data" / SHARD, output_dir)
        write_manifest(output_dir, *args)

    with monkeypatch.context() as patched:
        patched.setattr(module, "write_manifest", damage_first)
        folder = run("run")
    assert read_json(folder / "manifest.json")["shards"][f"data/{SHARD}"] != sha256_file(folder / "data" / SHARD)
    run("run")
    assert file_bytes(folder) == file_bytes(run("whole"))
