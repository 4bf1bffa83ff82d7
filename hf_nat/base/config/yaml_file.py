"""Reads a YAML file so that a text stays the text that was written, and an error names its line."""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import yaml

from .values import Scalar


# The nodes of a key and its value.
_Pair = tuple[yaml.Node, yaml.Node]
_TAG = "tag:yaml.org,2002:"
# Plain scalars by the core schema of YAML 1.2.2, section 10.3.2. `<<` is of YAML 1.1, and in use.
_CORE_SCHEMA = {
    "null": r"~|null|Null|NULL|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+",
    "float": r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
    "merge": r"<<",
}
_MOST_VALUES, _MOST_LEVELS = 100_000, 50


class _CoreLoader(yaml.SafeLoader):
    """Resolves plain scalars by the core schema."""

    yaml_implicit_resolvers: dict[str | None, Any] = {}


for _name, _pattern in _CORE_SCHEMA.items():
    # First characters None: a pattern is tried on every scalar.
    _CoreLoader.add_implicit_resolver(_TAG + _name, re.compile(rf"(?:{_pattern})\Z"), None)


def read_yaml(path: Path) -> Iterator[tuple[str, Any, str]]:
    """Yields the keys of a file, their values (`Scalar`s in lists and mappings with texts as keys) and their place.

    Raises:
        ValueError: for a file that is not YAML in UTF-8 with `key: value` lines, or gives a key twice.
        FileNotFoundError: if there is no such file.
    """
    if path.is_dir():
        raise ValueError(f"{path} must be a YAML file, got a folder. Name a file in it.")
    if not path.is_file():
        raise FileNotFoundError(f"There is no configuration file {path}. Options start with `--`, files come first.")
    root = _compose(path)
    if not isinstance(root, yaml.MappingNode):
        kinds = {yaml.SequenceNode: "a list", yaml.ScalarNode: "a single text"}
        got = "nothing" if root is None else kinds[type(root)]
        line = 1 if root is None else root.start_mark.line + 1
        raise ValueError(f"{path}, line {line}: the file must hold `key: value` lines, got {got}.")
    reader = _Reader(path)
    for key, (key_node, value_node) in reader.pairs(root).items():
        yield key, reader.value(value_node), reader.place(key_node)


def parse_mapping(text: str, place: str) -> dict[str, Any]:
    """Reads a mapping in YAML's flow style, of which JSON is a part.

    Raises:
        ValueError: if the text is none.
    """
    try:
        node = yaml.compose(text, Loader=_CoreLoader)
        return dict(_Reader(place).value(cast(yaml.Node, node)))
    except (yaml.YAMLError, RecursionError) as error:
        problem = getattr(error, "problem", None) or str(error)
        if isinstance(error, RecursionError):
            problem = f"values must lie at most {_MOST_LEVELS} deep in each other"
        raise ValueError(
            f"{place} must be a mapping such as {{key: value}}, got {textwrap.shorten(text, 80)!r}: "
            f"{' '.join(problem.split())}."
        ) from None


def plain_scalar(text: str) -> Scalar:
    """Returns a text as the plain scalar of YAML that it would be."""
    node = yaml.ScalarNode(_CoreLoader("").resolve(yaml.ScalarNode, text, (True, False)), text)
    return _Reader("").value(node)


def _compose(path: Path) -> yaml.Node | None:
    data = path.read_bytes()
    try:
        # PyYAML would guess UTF-16 from a byte order mark.
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{path}, line {line}: the file must be UTF-8, got byte 0x{data[error.start]:02x}. Save it as UTF-8."
        ) from None
    try:
        return yaml.compose(text, Loader=_CoreLoader)
    except RecursionError:
        raise ValueError(f"{path}: values must lie at most {_MOST_LEVELS} deep in each other.") from None
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise ValueError(
            f"{path}, line {line}: the file must be plain text in UTF-8, got the character "
            f"U+{ord(text[error.position]):04X}. Save it as UTF-8."
        ) from None
    except yaml.MarkedYAMLError as error:
        raise ValueError(_syntax_error(path, text, error)) from None


def _syntax_error(path: Path, text: str, error: yaml.MarkedYAMLError) -> str:
    lines = text.splitlines() or [""]
    mark = error.problem_mark or error.context_mark
    number = min(mark.line if mark else 0, len(lines) - 1)
    remedy = "Put a text that holds `: `, ` #`, brackets or quotes into quotes, and close what is open."
    if "\t" in lines[number]:
        remedy = "Indent with spaces in place of the tab."
    problem = " ".join(str(error.problem or error.context).split())
    got = textwrap.shorten(repr(lines[number]), 80, placeholder=" ...")
    return f"{path}, line {number + 1}: the file must be YAML, got {got}: {problem}. {remedy}"


class _Reader:
    """Turns the nodes of a file, or of another source, into values.

    Args:
        source (`Path` or `str`): what errors name.
    """

    def __init__(self, source: Path | str):
        self.source = source
        self._open: list[yaml.Node] = []
        self._num_read = 0

    def place(self, node: yaml.Node) -> str:
        """Names the line of a node."""
        return f"{self.source}, line {node.start_mark.line + 1}" if isinstance(self.source, Path) else self.source

    def pairs(self, node: yaml.MappingNode) -> dict[str, _Pair]:
        """Returns the nodes of a mapping by the texts of its keys; those of `<<` give way to its own."""
        self._count(node)
        merged: dict[str, _Pair] = {}
        own: dict[str, _Pair] = {}
        for key_node, value_node in node.value:
            if key_node.tag == f"{_TAG}merge":
                merged = self._merged(value_node) | merged
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                raise ValueError(f"{self.place(key_node)}: a key must be a text, got a list or a mapping. Quote it.")
            key = key_node.value
            if key in own:
                raise ValueError(
                    f"{self.place(key_node)}: a key must be given once, got {key!r} again, which line "
                    f"{own[key][0].start_mark.line + 1} has. Leave one of them out."
                )
            own[key] = (key_node, value_node)
        return merged | own

    def value(self, node: yaml.Node) -> Any:
        """Returns the value of a node."""
        self._count(node)
        if isinstance(node, yaml.ScalarNode):
            return Scalar(node.value, self._scalar(node))
        if node in self._open:
            raise ValueError(f"{self.place(node)}: an anchor must not hold itself. Take out its alias.")
        self._check_tag(node, "map" if isinstance(node, yaml.MappingNode) else "seq")
        self._open.append(node)
        value: Any
        if isinstance(node, yaml.MappingNode):
            value = {key: self.value(element) for key, (_, element) in self.pairs(node).items()}
        else:
            value = [self.value(element) for element in node.value]
        self._open.pop()
        return value

    def _count(self, node: yaml.Node) -> None:
        """Refuses what grows without end: ten lines of aliases can stand for a billion values."""
        self._num_read += 1
        if self._num_read > _MOST_VALUES:
            raise ValueError(
                f"{self.place(node)}: there must be at most {_MOST_VALUES} values, those behind aliases counted each "
                "time. Use fewer aliases."
            )
        if len(self._open) > _MOST_LEVELS:
            raise ValueError(f"{self.place(node)}: values must lie at most {_MOST_LEVELS} deep in each other.")

    def _merged(self, node: yaml.Node) -> dict[str, _Pair]:
        """The pairs of the mapping, or of the mappings of which the first wins, that stand at `<<`."""
        merged: dict[str, _Pair] = {}
        for source in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            if not isinstance(source, yaml.MappingNode):
                raise ValueError(f"{self.place(source)}: `<<` must stand before an alias of a mapping such as *name.")
            if source in self._open:
                raise ValueError(f"{self.place(source)}: an anchor must not hold itself. Take out its alias.")
            self._open.append(source)
            merged = self.pairs(source) | merged
            self._open.pop()
        return merged

    def _scalar(self, node: yaml.ScalarNode) -> str | int | float | bool | None:
        self._check_tag(node, "str", "merge", "null", "bool", "int", "float")
        text, kind = node.value, node.tag.removeprefix(_TAG)
        try:
            if kind == "null":
                return None
            if kind == "bool":
                return {"true": True, "false": False}[text.lower()]
            if kind == "int":
                return int(text, 0) if text.startswith(("0o", "0x")) else int(text)
            if kind == "float":
                return float(re.sub(r"\.(?=inf|nan)", "", text.lower()))
        except (ValueError, KeyError):
            if kind == "int" and (most := sys.get_int_max_str_digits()) and len(text) > most:
                raise ValueError(
                    f"{self.place(node)}: a number must have at most {most} digits, got {len(text)}."
                ) from None
            raise ValueError(f"{self.place(node)}: `!!{kind}` must stand before such a value, got {text!r}.") from None
        return text

    def _check_tag(self, node: yaml.Node, *kinds: str) -> None:
        if node.tag not in {_TAG + kind for kind in kinds}:
            tag = node.tag.replace(_TAG, "!!")
            raise ValueError(f"{self.place(node)}: a value must have no tag of its own, got {tag}. Leave the tag out.")
