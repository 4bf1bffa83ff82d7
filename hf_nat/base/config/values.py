"""Values of keys: texts of a YAML file or a command line, or Python's own, become what a field is annotated with."""

from __future__ import annotations

import os
import re
import textwrap
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from inspect import isclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin


@dataclass(frozen=True)
class Scalar:
    """A scalar as somebody wrote it.

    Args:
        text (`str`): its own text, without the quotes of YAML.
        value (`str`, `int`, `float`, `bool` or `None`): what it means to a reader who expects nothing: the core schema
            of YAML 1.2 for a plain scalar, the text for a quoted one.
    """

    text: str
    value: str | int | float | bool | None


class Mismatch(Exception):
    """A value is not of the annotated type."""


_TRUTH = dict.fromkeys(("true", "t", "yes", "y", "on", "1"), True) | dict.fromkeys(
    ("false", "f", "no", "n", "off", "0"), False
)
# The home folder at the start of a text, and where lists of corpora have it: `SRC,TGT` and `NAME=CORPUS`.
_HOME = re.compile(r"(?:^|(?<=[,=]))~(?=/)")


def typed(value: Any, annotation: Any) -> Any:
    """Converts a value to an annotated type; a text that starts with `~/` then names the home folder.

    Args:
        value: a `Scalar`, a value of Python, or lists and mappings of either.
        annotation: `str`, `int`, `float`, `bool`, `Path`, `None`, `Any`, an `Enum`, a `Literal`, `list`, `tuple` or
            `dict` (with or without types of their elements), a union of these, or a class, whose instances are taken
            as they are.

    Raises:
        Mismatch: if the value is none of that type.
    """
    origin = get_origin(annotation) or annotation
    if origin is Any:
        return plain(value)
    if origin in (Union, types.UnionType):
        return _member_of_union(value, get_args(annotation))
    if origin is Literal:
        return _choice(value, {choice: choice for choice in get_args(annotation)})
    if isclass(origin) and issubclass(origin, Enum):
        return value if isinstance(value, origin) else _choice(value, {member.value: member for member in origin})
    if origin in (list, tuple, Sequence):
        return _sequence(value, origin, get_args(annotation))
    if origin in (dict, Mapping):
        return _mapping(value, get_args(annotation))
    if origin in _SCALARS:
        return _SCALARS[origin](value)
    if not (isclass(origin) and isinstance(value, origin)):
        raise Mismatch
    return value


def plain(value: Any) -> Any:
    """Returns a value of Python for one that nobody annotated."""
    if isinstance(value, Scalar):
        value = value.value
    if isinstance(value, str):
        return expand_home(value)
    if isinstance(value, Mapping):
        return {key: plain(element) for key, element in value.items()}
    if isinstance(value, list | tuple):
        return [plain(element) for element in value]
    return value


def expand_home(text: str) -> str:
    """Returns a text whose `~/` at the start, or after a comma or `=`, is the home folder."""
    return _HOME.sub(lambda _: os.path.expanduser("~"), text)


def is_null(value: Any) -> bool:
    """Says whether a value is a null of YAML or None."""
    return (value.value if isinstance(value, Scalar) else value) is None


def takes(annotation: Any, *kinds: type) -> bool:
    """Says whether a type, or a member of a union, is one of some classes or a kind of them."""
    if get_origin(annotation) in (Union, types.UnionType):
        return any(takes(member, *kinds) for member in get_args(annotation))
    return (get_origin(annotation) or annotation) in kinds


def choices(annotation: Any) -> list[str]:
    """Returns the texts of an Enum, a Literal, or one of transformers' `IntervalStrategy | str`, else nothing."""
    origin, args = get_origin(annotation) or annotation, get_args(annotation)
    if origin in (Union, types.UnionType):
        members = _without_text_beside_enum([member for member in args if member is not type(None)])
        return choices(members[0]) if len(members) == 1 else []
    if origin is Literal:
        return [_spelled(choice) for choice in args]
    return [str(member.value) for member in origin] if isclass(origin) and issubclass(origin, Enum) else []


def expected(annotation: Any) -> str:
    """Describes a type in words: what a value of it must be."""
    origin, args = get_origin(annotation) or annotation, get_args(annotation)
    if origin in (Union, types.UnionType):
        members = _without_text_beside_enum(args)
        return " or ".join(dict.fromkeys(map(expected, sorted(members, key=lambda member: member is type(None)))))
    if names := choices(annotation):
        return f"one of {', '.join(names)}"
    if origin in (list, tuple, Sequence):
        return f"a list such as [a, b]{f', each {expected(args[0])}' if args else ''}"
    if origin in (dict, Mapping):
        return "a mapping such as {key: value}"
    return _WORDS.get(origin) or f"an instance of {getattr(origin, '__name__', origin)}, given from Python"


def shown(value: Any) -> str:
    """Returns a value as an error shows it, on one line."""
    if isinstance(value, Scalar):
        value = value.text
    return textwrap.shorten(repr(_texts(value)), 80, placeholder=" ...")


def _texts(value: Any) -> Any:
    """The texts of all scalars of a value, as they were written."""
    if isinstance(value, Scalar):
        return value.text
    if isinstance(value, Mapping):
        return {key: _texts(element) for key, element in value.items()}
    return [_texts(element) for element in value] if isinstance(value, list) else value


def _spelled(choice: Any) -> str:
    return str(choice).lower() if isinstance(choice, bool) else str(choice)


def _text(value: Any) -> str:
    if "\0" in str(value.text if isinstance(value, Scalar) else value):
        raise Mismatch  # No name of a file, and no text that a model reads, has one.
    if isinstance(value, Scalar) and not (value.value is None and value.text == ""):
        return expand_home(value.text)
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, str | os.PathLike):
        return expand_home(os.fspath(value))
    raise Mismatch


def _truth(value: Any) -> bool:
    truth = _TRUTH.get(value.text.lower()) if isinstance(value, Scalar) else value
    if not isinstance(truth, bool):
        raise Mismatch
    return truth


def _whole_number(value: Any) -> int:
    number = _number_of(value, int)
    if not isinstance(number, int):
        raise Mismatch
    return number


def _number(value: Any) -> float:
    try:
        return float(_number_of(value, float))
    except OverflowError:
        raise Mismatch from None


def _number_of(value: Any, read: Callable[[str], float]) -> Any:
    """The number that a scalar means, or that Python reads from its text: 10_000, or in quotes."""
    number = value.value if isinstance(value, Scalar) else value
    if isinstance(value, Scalar) and isinstance(number, str):
        try:
            return read(value.text)
        except ValueError:
            raise Mismatch from None
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise Mismatch
    return number


def _none(value: Any) -> None:
    if not is_null(value):
        raise Mismatch


def _choice(value: Any, choices: Mapping[Any, Any]) -> Any:
    """The choice that has the text of a scalar, or equals a value of Python."""
    for choice, result in choices.items():
        same_text = isinstance(value, Scalar) and value.text == _spelled(choice)
        if same_text or (type(value) is type(choice) and value == choice):
            return result
    raise Mismatch


def _sequence(value: Any, origin: type, args: Sequence[Any]) -> Any:
    """A list; one scalar is a list of one."""
    if isinstance(value, Mapping) or is_null(value):
        raise Mismatch
    elements = value if isinstance(value, list | tuple) else [value]
    annotation = args[0] if args else Any
    return (tuple if origin is tuple else list)(typed(element, annotation) for element in elements)


def _mapping(value: Any, args: Sequence[Any]) -> dict[Any, Any]:
    if not isinstance(value, Mapping):
        raise Mismatch
    of_key, of_element = args or (Any, Any)
    keys = {key: Scalar(key, key) if isinstance(key, str) else key for key in value}
    return {typed(keys[key], of_key): typed(element, of_element) for key, element in value.items()}


def _without_text_beside_enum(members: Sequence[Any]) -> list[Any]:
    """Members of a union; in transformers' `IntervalStrategy | str` the Enum says which texts there are."""
    has_enum = any(isclass(member) and issubclass(member, Enum) for member in members)
    return [member for member in members if not (has_enum and member is str)]


def _member_of_union(value: Any, members: Sequence[Any]) -> Any:
    """The first member that fits: a text where a text is meant, else the narrowest type first."""
    is_text = isinstance(value, Scalar) and isinstance(value.value, str)
    narrow_first = [type(None), bool, int, float, Path, str]

    def rank(member: Any) -> int:
        origin = get_origin(member) or member
        if origin is Literal or (isclass(origin) and issubclass(origin, Enum)):
            return -2
        if origin is str and is_text:
            return -1
        return narrow_first.index(origin) if origin in narrow_first else len(narrow_first)

    for member in sorted(_without_text_beside_enum(members), key=rank):
        try:
            return typed(value, member)
        except Mismatch:
            continue
    raise Mismatch


_SCALARS: dict[Any, Callable[[Any], Any]] = {
    str: _text,
    bool: _truth,
    int: _whole_number,
    float: _number,
    Path: lambda value: Path(_text(value)),
    type(None): _none,
    None: _none,
}
_WORDS = {
    str: "a text",
    bool: "true or false",
    int: "a whole number such as 100",
    float: "a number such as 5e-4",
    Path: "a path",
    type(None): "null",
    None: "null",
}
