"""The command line of a run: `--key value`, `--key=value`, `--flag`, `--no_flag`, and its `--help`."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

from .keys import Key, nearest
from .values import Scalar, choices
from .yaml_file import parse_mapping, plain_scalar


PLACE = "Command line"
# What stands after an option although it starts with `-`: standard input or output, a number, a text with blanks.
_VALUE = re.compile(r"-|-\.?\d.*|-\.inf|.*\s.*", re.DOTALL)


def read_options(words: Sequence[str], keys: Mapping[str, Key]) -> Iterator[tuple[str, Any]]:
    """Yields the keys that a command line gives, with values as `read_yaml` has them.

    Raises:
        ValueError: for an option that no key has, or one without its value.
    """
    spellings = {_normal(spelling): key for key in keys.values() for spelling in key.spellings}
    flags = {f"--no_{key.name}": key for key in keys.values() if key.takes(bool)}
    position = 0
    while position < len(words):
        word = words[position]
        option, has_value, value = word.partition("=")
        key = spellings.get(_normal(option))
        negated = flags.get(_normal(option)) if key is None else None
        if key is None and negated is None:
            raise ValueError(_unknown(word, option, keys))
        position += 1
        if negated is not None:
            if has_value:
                raise ValueError(f"{PLACE}: {option} must stand alone, got {word!r}. Leave the value out.")
            yield negated.name, Scalar("false", False)
            continue
        assert key is not None
        following = [value] if has_value else _values_after(words[position:], key)
        position += 0 if has_value else len(following)
        yield key.name, _value(key, option, following)


def _normal(option: str) -> str:
    """`--key-name` as `--key_name`."""
    return option[:2] + option[2:].replace("-", "_")


def _values_after(words: Sequence[str], key: Key) -> list[str]:
    """The words after an option that are its values."""
    count = 0
    while count < len(words) and (not words[count].startswith("-") or _VALUE.fullmatch(words[count])):
        count += 1
        if not key.takes(list, tuple, Sequence):
            break
    return list(words[:count])


def _value(key: Key, option: str, words: Sequence[str]) -> Any:
    if not words:
        if key.takes(bool):
            return Scalar("true", True)
        raise ValueError(f"{PLACE}: {option} must be followed by a value, got none. Write {option}=VALUE.")
    values = [_word(word, key, option) for word in words]
    return values[0] if len(values) == 1 else values


def _word(word: str, key: Key, option: str) -> Any:
    """A word as a plain scalar, an empty one as an empty text, or a mapping where the key takes one."""
    if word.lstrip().startswith("{") and key.takes(dict, Mapping):
        return parse_mapping(word, f"{PLACE}: {option}")
    return plain_scalar(word) if word else Scalar("", "")


def _unknown(word: str, option: str, keys: Mapping[str, Key]) -> str:
    if not word.startswith("-"):
        remedy = " Configuration files come before the options." if Path(word).suffix in (".yaml", ".yml") else ""
        return f"Unknown option {word!r} on the command line. Options start with `--`.{remedy}"
    return f"Unknown option {word!r} on the command line.{nearest(option.lstrip('-'), keys)}"


def help_text(keys: Mapping[str, Key], prog: str) -> str:
    """Returns what `--help` prints: one line for each listed key, with type and default."""
    lines = [f"usage: {prog} [CONFIG.yaml ...] [--key value ...]"]
    listed = [key for key in keys.values() if key.group is not None and key.remedy is None]
    for group in dict.fromkeys(key.group for key in listed):
        lines += ["", str(group), *(_help_line(key) for key in listed if key.group == group)]
    lines += [
        "",
        "A YAML file holds the same keys. The last value of a key wins; the command line comes after the files.",
        "`--key-name` is `--key_name`, `--flag` alone is true, `--no_flag` false.",
    ]
    if any(key.group is None and key.remedy is None for key in keys.values()):
        lines.append(
            "Every other key of transformers' Seq2SeqTrainingArguments that has an effect here can be given too."
        )
    return "\n".join(lines)


def _help_line(key: Key) -> str:
    name = f"  {', '.join(key.spellings)} {_metavar(key)}"
    # The first sentence, whole: transformers explains some of its keys in paragraphs.
    text = re.split(r"(?<=\.)\s", " ".join(str(key.field.metadata.get("help", "")).split()))[0]
    return f"{name:<44} {text}{_default(key.default)}"


def _metavar(key: Key) -> str:
    if 0 < len(names := choices(key.annotation)) <= 4:
        return "|".join(names)
    kinds = {bool: "BOOL", int: "INT", float: "FLOAT", dict: "MAPPING"}
    several = key.takes(list, tuple, Sequence)
    written = str(key.annotation) if several else ""
    kind = next((name for kind, name in kinds.items() if key.takes(kind) or f"[{kind.__name__}]" in written), "TEXT")
    return f"{kind} ..." if several else kind


def _default(default: Any) -> str:
    if default is dataclasses.MISSING:
        return " (required)"
    if isinstance(default, Enum):
        default = default.value
    if default is None or default in ("", [], {}):
        return ""
    if isinstance(default, list | tuple):
        default = " ".join(map(str, default))
    return f" (default: {str(default).lower() if isinstance(default, bool) else default})"
