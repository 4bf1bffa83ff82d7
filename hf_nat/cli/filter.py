"""`hf-nat filter`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..base.config import load_config
from ..base.processes import process_state
from ..base.utils import read_json
from ..distillation.filter_report import DROPPED_FILE, REPORT_FILE
from ..steps import Filter, FilterArguments


def run(argv: Sequence[str]) -> None:
    """Leaves suspicious rows of a distilled corpus out and writes the new corpus's card."""
    folder = Filter(*load_config((FilterArguments,), argv, prog="hf-nat filter")).run()
    if not process_state().is_main_process:
        return
    manifest = read_json(folder / "manifest.json")
    applied = manifest["filters"][-1]
    print(f"{folder}: {manifest['counts']['train']} of {applied['num_rows']} training pairs stay")
    print(f"left out: {applied['num_dropped']} ({_counts(applied['reasons'])}; a row may count for several reasons)")
    for reason, found in read_json(folder / REPORT_FILE)["reasons"].items():
        if found["rows"]:
            print(f"{reason}: {found['rows']} ({found['alone']} for nothing else), {_cut(found)}such as")
            for row in found["examples"]:
                source, target = (row["translation"][manifest[key]] for key in ("source_lang", "target_lang"))
                print(f"  {row['id']}{_value(row, found)}: {source!r} -> {target!r}")
    print(f"all of them: {folder / DROPPED_FILE}")
    before, after = applied["corpus"], str(folder)
    if Path(before).name == folder.name:
        before, after = f"before={before}", f"after={after}"
    print(f"complexity and faithfulness before and after: {_analyze_line(manifest, before, after, folder)}")
    if manifest["counts"].get("validation"):  # What proxies are scored on.
        words = ["hf-nat", "recommend", "--candidates", before, after, "--student", "STUDENT.yaml"]
        words += ["--proxy_updates", "1000", "--output_dir", f"{folder}-recommendation"]
        print(f"then a proxy student before and after: {shlex.join(words)}")
    print(f"flagged and kept: {_counts(manifest['flag_counts'])}")


def _analyze_line(manifest: dict[str, Any], before: str, after: str, folder: Path) -> str:
    """Returns the command that measures both corpora against the real one; REAL where no parallel corpus is known."""
    is_known = not manifest.get("source_alone") and not manifest.get("mix")
    real = {key: manifest.get(key) for key in ("config_name", "source_column", "target_column")} if is_known else {}
    split = manifest.get("splits", {}).get("train", "train")
    if is_known and split != "train":
        real["real_split"] = split
    words = ["hf-nat", "analyze", "--real", manifest["corpus"] if is_known else "REAL"]
    words += [word for key, value in real.items() if value for word in (f"--{key}", value)]
    words += ["--distilled", before, after, "--source_lang", manifest["source_lang"]]
    return shlex.join([*words, "--target_lang", manifest["target_lang"], "--output_dir", f"{folder}-analysis"])


def _cut(found: dict[str, Any]) -> str:
    return "" if found.get("cut") is None else f"{found['column']} cut at {found['cut']:.6g}, "


def _value(row: dict[str, Any], found: dict[str, Any]) -> str:
    value = row.get(found.get("column", ""))
    return "" if value is None else f" ({value:.6g})"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "none"
