"""Interim."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml


def option(default: Any, help: str, aliases: Sequence[str] = ()) -> Any:
    return dataclasses.field(default=default, metadata={"help": help, "aliases": list(aliases)})


def load_config(dataclass_types: Sequence[Any], argv: Sequence[str], prog: str | None = None) -> tuple[Any, ...]:
    argv = list(argv)
    num_files = next((i for i, argument in enumerate(argv) if argument.startswith("-")), len(argv))
    overrides: dict[str, Any] = {}
    key = None
    for word in argv[num_files:]:
        if word.startswith("--"):
            key, eq, value = word[2:].partition("=")
            key = key.replace("-", "_")
            overrides[key] = value if eq else True
        elif overrides[key] is True:
            overrides[key] = word
        else:
            before = overrides[key]
            overrides[key] = [*before, word] if isinstance(before, list) else [before, word]
    return resolve(dataclass_types, *argv[:num_files], overrides=overrides)


def resolve(
    dataclass_types: Sequence[Any], *files: Any, overrides: Mapping[str, Any] | None = None
) -> tuple[Any, ...]:
    values: dict[str, Any] = {}
    for file in files:
        if not Path(file).is_file():
            raise FileNotFoundError(
                f"There is no configuration file {file}. Options start with `--`, files come first."
            )
        values |= {
            k: v for k, v in (yaml.safe_load(Path(file).read_text(encoding="utf-8")) or {}).items() if v is not None
        }
    values |= dict(overrides or {})
    result = []
    for cls in dataclass_types:
        hints = typing.get_type_hints(cls)
        own = {
            f.name: _convert(values.pop(f.name), str(hints[f.name]))
            for f in dataclasses.fields(cls)
            if f.name in values and f.init
        }
        result.append(cls(**own))
    if values:
        raise ValueError(f"Unknown key {next(iter(values))!r}.")
    return tuple(result)


def _convert(value: Any, hint: str) -> Any:
    if "list" in hint and not isinstance(value, list) and value is not None:
        value = [value]
    if isinstance(value, list):
        return [_convert(v, hint.replace("list", "")) for v in value]
    if isinstance(value, Path):
        return str(value)
    if not isinstance(value, str):
        if isinstance(value, bool) and "bool" not in hint and "str" in hint:
            return "no" if value is False else str(value)
        return value
    if value == "" and "None" in hint:
        return None
    if "dict" in hint:
        return yaml.safe_load(value)
    if "float" in hint or "int" in hint:
        try:
            number = float(value)
            return int(number) if "float" not in hint else number
        except ValueError:
            return value
    if "bool" in hint:
        return str(value).lower() == "true"
    return value
