"""One YAML file is one run: keys of files, then of a command line or of Python, become typed dataclasses, once."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .command_line import PLACE, help_text, read_options
from .keys import Key, keys_of, nearest
from .values import Mismatch, Scalar, expand_home, expected, is_null, shown, typed
from .yaml_file import read_yaml


__all__ = ["load_config", "option", "refuse_changed", "resolve"]


def option(default: Any, help: str, aliases: Sequence[str] = (), *, may_be_empty: bool = False) -> Any:
    """Declares a key of a run.

    Args:
        default (`Any`): its default.
        help (`str`): the line that `--help` prints.
        aliases (`Sequence[str]`, *optional*): other names, as they are written on a command line (`--name`).
        may_be_empty (`bool`, *optional*, defaults to `False`): an empty text is a value; elsewhere it is a variable of
            a shell that was not set, and an error.
    """
    metadata = {"help": help, "aliases": list(aliases), "may_be_empty": may_be_empty}
    return dataclasses.field(default=default, metadata=metadata)


def refuse_changed(args: Any, names: Sequence[str], where: str, remedy: str = "") -> None:
    """Raises for a key that was given another value than its default although it has no effect.

    Args:
        args (`Any`): a dataclass.
        names (`Sequence[str]`): keys of it that have no effect.
        where (`str`): when that is, as "without `draft`".
        remedy (`str`, *optional*): what ends the error, beside leaving the key out.

    Raises:
        ValueError: naming the first such key and its value.
    """
    for key in dataclasses.fields(args):
        default = key.default if key.default_factory is dataclasses.MISSING else key.default_factory()
        value = getattr(args, key.name)
        if key.name in names and value != default:
            end = f" {remedy}" if remedy else ""
            raise ValueError(f"`{key.name}` must be left out {where}, got {value!r}.{end}")


def load_config(dataclass_types: Sequence[Any], argv: Sequence[str], prog: str | None = None) -> tuple[Any, ...]:
    """Fills dataclasses from `[CONFIG.yaml ...] [--key value ...]`; the last value given for a key wins.

    A value is read by the type of its field: where that is `str`, the text that was written is the value (`no`,
    `1.10`, `0123456`), which is only empty where the field allows it. A null is None where the type allows it, else
    it stands for the default. A scalar for a list is a list of one. A path may start with `~/`. In a mapping without
    types, numbers and truth values follow the core schema of YAML 1.2. The words of a command line are read as plain
    scalars of YAML, those for a mapping as YAML or JSON, and several words are a list.

    Args:
        dataclass_types (`Sequence[type]`): the dataclasses whose fields are the allowed keys. `keys_of` says what they
            may declare of their fields; a field with `action: extend` in its metadata collects what is given.
        argv (`Sequence[str]`): YAML files first, then overrides as `--key value`, `--key=value` or `--key-name value`.
            Paths inside a YAML file are relative to the current folder. `--help` prints the keys and exits.
        prog (`str`, *optional*): name of the command in the help text.

    Returns:
        One instance per dataclass, in their order.

    Raises:
        ValueError: for a file that is not YAML, and for a key that no dataclass has, that has no effect, is missing,
            or whose value is of another type; file, line and the nearest key are named.
        FileNotFoundError: if a YAML file does not exist.
    """
    argv = list(argv)
    num_files = next((i for i, argument in enumerate(argv) if argument.startswith("-")), len(argv))
    run = _Run(dataclass_types)
    if {"-h", "--help"} & {*argv[num_files:]}:
        print(help_text(run.keys, prog or Path(sys.argv[0]).name))
        raise SystemExit(0)
    run.read_files(argv[:num_files])
    for name, value in read_options(argv[num_files:], run.keys):
        run.give(name, value, PLACE)
    return run.fill(f" `{prog} --help` lists all keys." if prog else "")


def resolve(
    dataclass_types: Sequence[Any], *files: str | Path, overrides: Mapping[str, Any] | None = None
) -> tuple[Any, ...]:
    """Fills dataclasses as `load_config` does, from Python.

    Args:
        dataclass_types (`Sequence[type]`): the dataclasses whose fields are the allowed keys.
        *files (`str` or `Path`): YAML files; of a key that several give, the last one wins.
        overrides (`Mapping[str, Any]`, *optional*): values of Python that take the place of those of the files, also
            of a list that is extended otherwise. A path may be a `Path` and an Enum its text; a text is never read as
            a number.

    Returns:
        One instance per dataclass, in their order.

    Raises:
        ValueError: as `load_config`.
        FileNotFoundError: if a YAML file does not exist.
    """
    run = _Run(dataclass_types)
    run.read_files(files)
    for name, value in (overrides or {}).items():
        name = run.key(name, "the overrides").name
        run.values.pop(name, None)
        run.give(name, value, "Overrides")
    return run.fill("")


class _Run:
    """Collects the values of keys from their sources, each typed as soon as it is read.

    Args:
        dataclass_types (`Sequence[type]`): the dataclasses to fill.
    """

    def __init__(self, dataclass_types: Sequence[Any]):
        self.dataclass_types = dataclass_types
        self.keys = keys_of(dataclass_types)
        self._aliases = {
            alias.removeprefix("--").replace("-", "_"): key.name
            for key in self.keys.values()
            for alias in key.spellings
        }
        self.values: dict[str, Any] = {}

    def read_files(self, files: Sequence[str | Path]) -> None:
        """Takes the keys of YAML files, in their order."""
        for file in files:
            for name, value, place in read_yaml(Path(expand_home(str(file)))):
                self.give(self.key(name, place).name, value, place)

    def key(self, name: str, place: str) -> Key:
        """Returns a key by its name, for an error that names the place."""
        known = self._aliases.get(name, name)
        if known not in self.keys:
            raise ValueError(f"Unknown key {name!r} in {place}.{nearest(str(name), self.keys)}")
        return self.keys[known]

    def give(self, name: str, value: Any, place: str) -> None:
        """Sets a key to a value that is typed; a null is None, or the default where the type does not allow it."""
        key = self.keys[name]
        if key.remedy is not None:
            raise ValueError(f"{place}: `{name}` has no effect here: {key.remedy}.")
        if is_null(value):
            self.values.pop(name, None)
            if key.takes(type(None)):
                self.values[name] = None
            return
        try:
            result = typed(value, key.annotation)
        except Mismatch:
            raise ValueError(_mismatch(key, value, place)) from None
        if not key.may_be_empty and "" in (result if isinstance(result, list | tuple) else [result]):
            remedy = "Leave it out."
            if key.takes(type(None)) and result in ("", [""]):
                remedy = "Write null for none."
            if key.default is dataclasses.MISSING:
                remedy = "Give one."
            raise ValueError(f"{place}: `{name}` must not be empty, got {shown(value)}. {remedy}")
        if key.extends and self.values.get(name):
            result = [*self.values[name], *result]
        self.values[name] = result

    def fill(self, hint: str) -> tuple[Any, ...]:
        """Returns the dataclasses; `hint` ends the error about missing keys."""
        missing = [
            name for name, key in self.keys.items() if name not in self.values and key.default is dataclasses.MISSING
        ]
        if missing:
            raise ValueError(
                f"{', '.join(f'`{name}`' for name in missing)} must be given, got nothing. Write "
                f"`{missing[0]}: VALUE` in the YAML file or --{missing[0]}=VALUE.{hint}"
            )
        return tuple(
            dataclass_type(
                **{
                    field.name: self.values[field.name]
                    for field in dataclasses.fields(dataclass_type)
                    if field.name in self.values
                }
            )
            for dataclass_type in self.dataclass_types
        )


def _mismatch(key: Key, value: Any, place: str) -> str:
    """The error of a value of another type: the rule, the value, and the remedy where it is not the rule itself."""
    from_python = not isinstance(value, Scalar) and isinstance(value, int | float) and key.takes(str)
    remedy = " Quote it in the file that it comes from, or give a text." if from_python else ""
    remedy += " Take the null byte out." if "\\x00" in shown(value) else ""
    return f"{place}: `{key.name}` must be {expected(key.annotation)}, got {shown(value)}.{remedy}"
