"""The keys of a run: the fields of its dataclasses, and what their classes say of them."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_type_hints

from .values import takes


# Keys that an unknown one may be short for.
_MOST_SUGGESTED = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Key:
    """One field of a dataclass, as a key of YAML files and command lines.

    Args:
        name (`str`): name of the field.
        annotation: its type.
        field (`dataclasses.Field`): default, and `help`, `aliases` and `action` of its metadata.
        group (`str`, *optional*): heading under which `--help` lists it; None leaves it out.
        remedy (`str`, *optional*): set for a key that must not be given: why, or what takes its place.
    """

    name: str
    annotation: Any
    field: dataclasses.Field
    group: str | None
    remedy: str | None

    @property
    def default(self) -> Any:
        """The default, or `dataclasses.MISSING` where the key must be given."""
        factory = self.field.default_factory
        return self.field.default if factory is dataclasses.MISSING else factory()

    @property
    def extends(self) -> bool:
        """Whether a list grows by what is given later, in place of giving way to it."""
        return self.field.metadata.get("action") == "extend"

    @property
    def may_be_empty(self) -> bool:
        """Whether an empty text is a value: where `option` or the default says so."""
        return self.default == "" or bool(self.field.metadata.get("may_be_empty"))

    @property
    def spellings(self) -> list[str]:
        """Names on the command line: `--key_name`, then aliases."""
        aliases = self.field.metadata.get("aliases", ())
        return [f"--{self.name}", *([aliases] if isinstance(aliases, str) else aliases)]

    def takes(self, *kinds: type) -> bool:
        """Whether the type, or a member of the union, is one of these classes."""
        return takes(self.annotation, *kinds)


def keys_of(dataclass_types: Sequence[Any]) -> dict[str, Key]:
    """Returns the keys of some dataclasses by name.

    A class may say more of its fields, those of its parents above all, in two class attributes: `WITHOUT_EFFECT`, from
    the names of keys that are refused to the remedy, and `HELP_GROUPS`, from headings to the inherited keys that
    `--help` lists; without it all are listed.
    """
    keys: dict[str, Key] = {}
    for dataclass_type in dataclass_types:
        hints = get_type_hints(dataclass_type)
        refused: Mapping[str, str] = getattr(dataclass_type, "WITHOUT_EFFECT", {})
        groups: Mapping[str, Iterable[str]] | None = getattr(dataclass_type, "HELP_GROUPS", None)
        # Without a docstring of its own a dataclass has its signature as one.
        doc, name = (dataclass_type.__doc__ or "").strip(), dataclass_type.__name__
        title = name if not doc or doc.startswith(f"{name}(") else doc.split("\n")[0]
        headings = {name: heading for heading, names in (groups or {}).items() for name in names}
        of_class = []
        for field in dataclasses.fields(dataclass_type):
            own = groups is None or field.name in dataclass_type.__annotations__
            of_class.append(
                Key(
                    name=field.name,
                    annotation=hints[field.name],
                    field=field,
                    group=headings.get(field.name, title if own else None),
                    remedy=refused.get(field.name),
                )
            )
        order = [title, *(groups or {}), None]
        of_class.sort(key=lambda key: order.index(key.group))
        keys |= {key.name: key for key in of_class if key.field.init}
    return keys


def nearest(name: str, keys: Mapping[str, Key]) -> str:
    """Suggests the key that looks most like an unknown one, else those that it may be short for, or nothing."""
    known, name = sorted(key.name for key in keys.values() if key.remedy is None), name.replace("-", "_")
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.7) or [
        key
        for key in known
        if name == "".join(word[:1] for word in key.split("_"))
        or (len(name) > 1 and any(word.startswith(name) for word in key.split("_")))
    ]
    return f" Did you mean {' or '.join(map(repr, close[:_MOST_SUGGESTED]))}?" if close else ""
