"""One YAML file is one run: keys of a YAML file, then `--key value` overrides, into dataclasses."""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from transformers import HfArgumentParser


def option(default: Any, help: str, aliases: Sequence[str] = ()) -> Any:
    """Declares a key of a run: a dataclass field with a default, the line that `--help` prints, and other names of it
    on the command line."""
    return dataclasses.field(default=default, metadata={"help": help, "aliases": list(aliases)})


def load_config(dataclass_types: Sequence[Any], argv: Sequence[str], prog: str | None = None) -> tuple[Any, ...]:
    """Fills dataclasses from `[CONFIG.yaml ...] [--key value ...]`; the last value given for a key wins.

    Args:
        dataclass_types (`Sequence[type]`): the dataclasses whose fields are the allowed keys.
        argv (`Sequence[str]`): YAML files first, then overrides as `--key value`, `--key=value` or `--key-name value`.
            Paths inside a YAML file are relative to the current folder.
        prog (`str`, *optional*): name of the command in the help text.

    Returns:
        One instance per dataclass, in their order.

    Raises:
        ValueError: for a key that no dataclass has (file and nearest key are named), or a file that is no mapping.
        FileNotFoundError: if a YAML file does not exist.
    """
    argv = list(argv)
    num_files = next((i for i, argument in enumerate(argv) if argument.startswith("-")), len(argv))
    known = {field.name for dataclass_type in dataclass_types for field in dataclasses.fields(dataclass_type)}
    from_files = [option for path in argv[:num_files] for option in _options_of_file(Path(path), known)]
    parser = HfArgumentParser(list(dataclass_types), prog=prog, allow_abbrev=False)
    *filled, unused = parser.parse_args_into_dataclasses(
        from_files + argv[num_files:], return_remaining_strings=True, look_for_args_file=False
    )
    if unused:
        raise ValueError(f"Unknown option {unused[0]!r} on the command line.{_nearest(unused[0].lstrip('-'), known)}")
    return tuple(filled)


def _options_of_file(path: Path, known: set[str]) -> list[str]:
    """Turns the keys of a YAML file into command-line options; a null leaves the default."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no configuration file {path}. Options start with `--`, files come first.")
    content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold `key: value` lines, got a {type(content).__name__}.")
    options = []
    for key, value in content.items():
        if key not in known:
            raise ValueError(f"Unknown key {key!r} in {path}.{_nearest(str(key), known)}")
        if isinstance(value, list):
            options += [f"--{key}", *map(str, value)]
        elif value is not None:
            options.append(f"--{key}={json.dumps(value) if isinstance(value, dict) else value}")
    return options


def _nearest(key: str, known: set[str]) -> str:
    """Suggests the known key that looks most like `key`."""
    close = difflib.get_close_matches(key.replace("-", "_"), sorted(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
