"""Small things every part needs: JSON files, checksums, the environment of a run."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import resource
import sys
import textwrap
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from .files import atomic_path


_PACKAGES = (
    *("torch", "transformers", "accelerate", "datasets", "tokenizers", "sacrebleu", "sacremoses"),
    *("ctranslate2", "onnxruntime", "openvino"),
)


def write_json(path: str | Path, value: Any) -> None:
    """Writes `value` atomically as indented JSON with sorted keys and a final newline.

    Raises:
        OSError: if it cannot be written, by name.
        ValueError: if a text is not Unicode.
    """
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        # So Python has a file name that is not UTF-8.
        found = text[max(0, error.start - 20) : error.end + 10]
        raise ValueError(f"`{path}` must hold Unicode text, got {found!r}. Rename the file.") from None
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def require_plain_file(path: str | Path) -> None:
    """Raises ValueError where a name is taken by something else than a file: a pipe, say, has no end."""
    if os.path.lexists(path) and not os.path.isfile(path):
        kind = "folder, pipe or device" if os.path.exists(path) else "link to nothing"
        raise ValueError(f"`{path}` must be a plain file, got a {kind}.")


def read_json(path: str | Path) -> Any:
    """Reads a JSON file; raises a ValueError with its name if it is damaged, or as `require_plain_file`."""
    require_plain_file(path)
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise json.JSONDecodeError(f"`{path}` must be JSON: {error.msg}", error.doc, error.pos) from error
    except UnicodeDecodeError as error:
        raise ValueError(f"`{path}` must be UTF-8: {error}.") from error
    except RecursionError as error:
        raise ValueError(f"`{path}` must be JSON: nested too deeply.") from error


def read_record(path: str | Path, kinds: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Reads a JSON file that holds an object, see `check_record`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, or holds something else.
    """
    value = read_json(path)
    check_record(value, kinds or {}, f"`{path}`")
    return value


def check_record(value: Any, kinds: Mapping[str, Any], place: str) -> None:
    """Raises unless a value of a JSON file is an object whose keys have the types that are needed.

    Args:
        value: the value.
        kinds (`Mapping[str, type or tuple of types]`): types of the values of keys; a key that is missing is None.
        place (`str`): what the error names, with the file.

    Raises:
        ValueError: naming the first key that is wrong.
    """
    if not isinstance(value, dict):
        raise ValueError(f"{place} must hold a JSON object, got {textwrap.shorten(repr(value), 60)}.")
    for key, kind in kinds.items():
        found = value.get(key)
        # A truth value is an int for Python.
        if not isinstance(found, kind) or (isinstance(found, bool) and kind is not bool):
            names = " or ".join(one.__name__ for one in (kind if isinstance(kind, tuple) else (kind,)))
            raise ValueError(
                f"{place} must hold `{key}` as {names}, got {textwrap.shorten(repr(found), 60)}. The file is damaged, "
                "or of something else."
            )


def sha256_file(path: str | Path) -> str:
    """Returns the SHA-256 of a file's bytes as 64 hex digits; raises as `require_plain_file`."""
    require_plain_file(path)
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_files(folder: str | Path, patterns: Sequence[str], but_for: Sequence[str] = ()) -> dict[str, str]:
    """Returns the SHA-256 of the files of a folder that match a pattern, but for some names, by their paths in it."""
    folder = Path(folder)
    paths = {path for pattern in patterns for path in folder.glob(pattern) if path.name not in but_for}
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in sorted(paths)}


def environment() -> dict[str, Any]:
    """Describes what a number was measured with: package versions, Python, machine, threads and accelerator."""
    versions = {}
    for package in ("hf_nat", *_PACKAGES):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return {
        "versions": versions,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_name(),
        "cpu_count": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "device": device,
    }


def _cpu_name() -> str:
    """The processor as the kernel names it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def peak_memory_mb() -> float:
    """Returns the largest resident memory that this process has had, in MB."""
    status = Path("/proc/self/status")
    if status.is_file():  # On Linux `ru_maxrss` of a process begins with that of the one which started it.
        lines = status.read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def progress_bar(total: int | None, desc: str, unit: str = "sentences", disable: bool = False) -> tqdm:
    """Returns a progress bar with rate and time left, silent where standard error is not a terminal."""
    return tqdm(total=total, desc=desc, unit=unit, disable=disable or not sys.stderr.isatty(), dynamic_ncols=True)
