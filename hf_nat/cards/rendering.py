"""Cards as text: templates, references, what a value looks like in a table, and the seal that tells an edited card."""

from __future__ import annotations

import hashlib
import importlib.resources
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, TypeGuard

import jinja2
from transformers.utils import logging

from ..base.files import atomic_path
from ..base.languages import iso_code
from ..base.reporting import template_environment
from ..base.utils import read_record, require_plain_file
from ..data.locations import may_be_hub_id


logger = logging.get_logger(__name__)

# Language keys of synthetic corpora: as ISO 639 codes they would claim languages that the text is not in.
_PLACEHOLDER_LANGUAGES = {"src", "tgt"}
_ENDS = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]+")
_SEAL = re.compile(r"\n<!-- Card written by hf_nat, and rewritten until you edit it: ([0-9a-f]{64}) -->\n\Z")


def render(template: str, **values: Any) -> str:
    """Renders a template of `hub_cards`; a name or a reference that it uses and nobody gave is an error."""
    environment = template_environment()
    environment.filters |= {"place": place, "settings": settings, "cell": cell, "listed_work": listed_work}
    environment.globals["bibtex"] = _references().__getitem__
    return environment.from_string((_templates() / template).read_text(encoding="utf-8")).render(values)


@contextmanager
def making_card(folder: str | Path) -> Iterator[None]:
    """Guards the lines that make a card of the records of a folder: a record of something else is an error of input.

    Raises:
        ValueError: naming the folder and what is missing.
    """
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError, jinja2.TemplateError) as error:
        raise ValueError(
            f"The records of `{folder}` must be those that hf_nat writes, but they cannot be made a card of: "
            f"{type(error).__name__}: {error}. One of its JSON files is damaged, or of something else."
        ) from error


def sealed(content: str) -> str:
    """Ends a card with a seal over its text, by which `is_unedited` knows it again."""
    seal = hashlib.sha256(content.encode()).hexdigest()
    return f"{content}\n<!-- Card written by hf_nat, and rewritten until you edit it: {seal} -->\n"


def is_unedited(card: str) -> bool:
    """Tells a card as `sealed` made it from one that someone wrote or changed."""
    seal = _SEAL.search(card)
    return seal is not None and hashlib.sha256(card[: seal.start()].encode()).hexdigest() == seal[1]


def edited_card(path: Path) -> str | None:
    """Reads a card that someone wrote or edited; None where there is no card, or one as `sealed` made it."""
    if not path.exists():
        return None
    card = read_card(path)
    return None if is_unedited(card) else card


def read_card(path: Path) -> str:
    """Reads a card; raises ValueError with its name if it is no text, or no file."""
    require_plain_file(path)
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"`{path}` must be UTF-8: {error}. Mend it, or delete it: it is then written anew."
        ) from error


def write_card(path: Path, make: Callable[[], str]) -> Path:
    """Makes a card and writes it with its seal, unless the file there is one that someone wrote or edited."""
    if edited_card(path) is not None:
        logger.warning(f"{path} was not written by hf_nat or has been edited, so it stays as it is.")
        return path
    content = sealed(make())
    with atomic_path(path) as temporary:
        temporary.write_text(content, encoding="utf-8")
    return path


def read_required(folder: Path, name: str, remedy: str) -> dict[str, Any]:
    """Reads a JSON file that a card cannot do without.

    Raises:
        ValueError: if it is missing, with the remedy.
    """
    if not (folder / name).is_file():
        raise ValueError(f"`folder` must hold a {name}, got {str(folder)!r} without one. {remedy}, then try again.")
    return _without_markup(read_record(folder / name))


def read_optional(folder: Path, name: str) -> dict[str, Any] | None:
    """Reads a JSON file if it is there."""
    return _without_markup(read_record(folder / name)) if (folder / name).exists() else None


def _without_markup(value: Any) -> Any:
    """Takes from the texts of a record what would end a line or a code span of a card, wherever it comes from."""
    if isinstance(value, str):
        return _ENDS.sub(" ", value).replace("`", "'")
    if isinstance(value, list):
        return list(map(_without_markup, value))
    return (
        {_without_markup(key): _without_markup(one) for key, one in value.items()}
        if isinstance(value, dict)
        else value
    )


def languages(*holders: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Returns the codes of the languages of runs or manifests (`en` of `eng_Latn`), and the keys that have none."""
    keys = dict.fromkeys(holder[key] for holder in holders for key in ("source_lang", "target_lang") if key in holder)
    codes = {key: None if key in _PLACEHOLDER_LANGUAGES else iso_code(key) for key in keys}
    known = dict.fromkeys(code for code in codes.values() if code is not None)
    return list(known), [key for key, code in codes.items() if code is None]


def is_hub_id(name: Any, local: Collection[str] = ()) -> TypeGuard[str]:
    """Tells `owner/name` on the Hub from a path: nothing of that name lies in the current folder, or is `local`."""
    if not isinstance(name, str) or name in local or Path(name).exists():
        return False
    return "/" in name and may_be_hub_id(name)


def place(path: str) -> str:
    """Shortens absolute paths (several by comma) to their last two parts: a card says nothing of someone's disk."""
    paths = [Path(part) for part in path.split(",")]
    return ",".join("/".join(part.parts[-2:]) if part.is_absolute() else str(part) for part in paths)


def settings(values: dict[str, Any]) -> str:
    """Prints settings as `name=value`, paths shortened."""
    return ", ".join(f"`{name}={value}`" for name, value in sorted(placed(values).items()))


def placed(values: dict[str, Any]) -> dict[str, Any]:
    """Shortens every path among settings, and in their lists."""

    def shortened(value: Any) -> Any:
        if isinstance(value, list):
            return list(map(shortened, value))
        return place(value) if isinstance(value, str) else value

    return {name: shortened(value) for name, value in values.items()}


def further_work(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Says what was done to the rows of a distilled corpus, or part of a mix, beside decoding by one teacher."""
    told: dict[str, str] = {}
    if manifest.get("source_alone"):
        told["Real targets"] = "none, sources alone"
    if noise := manifest.get("source_noise"):
        told["Noise of the sources"] = settings(noise)
    if further := manifest.get("teachers", [])[1:]:
        told["Further teachers"] = ", ".join(map(place, further))
    for name, judge in manifest.get("judge_names", {}).items():
        told[f"Judge, `{name}`"] = place(judge)
    for applied in manifest.get("filters", []):
        gone = f"{applied['num_dropped']:,} of {applied['num_rows']:,} rows by {settings(applied['rule'])}"
        told["Left out"] = f"{told['Left out']}; {gone}" if "Left out" in told else gone
    return told


def listed_work(manifest: Mapping[str, Any]) -> str:
    """Prints what `further_work` says in a line."""
    return "; ".join(f"{label}: {value}" for label, value in further_work(manifest).items())


def cell(value: Any) -> str:
    """Makes a value fit into one cell of a Markdown table."""
    return str(value).replace("|", "\\|").replace("\n", " ")


def _templates() -> Traversable:
    """Finds the card templates: in a checkout they lie beside `hf_nat`, an installed package holds them."""
    beside = Path(__file__).parents[2] / "hub_cards"
    return beside if beside.is_dir() else importlib.resources.files("hf_nat.hub_cards")


def _references() -> dict[str, str]:
    """Reads the BibTeX entries by their keys."""
    text = (_templates() / "references.bib").read_text(encoding="utf-8")
    entries = re.findall(r"^(@\w+\{(\w+),\n.*?^\})", text, flags=re.DOTALL | re.MULTILINE)
    return {key: entry for entry, key in entries}
