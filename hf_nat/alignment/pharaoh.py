"""Links as text, the format that aligners exchange: `0-0 1-2`, source index first, a sentence a line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence


_LINK = re.compile(r"([0-9]{1,9})-([0-9]{1,9})")


def parse_links(lines: Iterable[str], name: str = "alignments") -> Iterator[list[tuple[int, int]]]:
    """Reads Pharaoh lines, of any aligner; what follows a link after a colon (a score) is left out.

    Args:
        lines (`Iterable[str]`): `"0-0 1-2"`, an empty line for a sentence without links.
        name (`str`, *optional*): name of the file in error messages.

    Returns:
        `Iterator[list[tuple[int, int]]]`: links (source index, target index) of each line, from 0, in their order.

    Raises:
        ValueError: for a word that is no link; file and line (from 1) are named.
    """
    for number, line in enumerate(lines, start=1):
        links = []
        for word in line.split():
            match = _LINK.fullmatch(word.split(":")[0])
            if match is None:
                raise ValueError(
                    f"`{name}` line {number} must hold links as `source-target`, from 0, got {word!r}. Give a file in "
                    "Pharaoh format, as `hf-nat align` writes it."
                )
            links.append((int(match[1]), int(match[2])))
        yield links


def format_links(links: Sequence[tuple[int, int]]) -> str:
    """Writes the links of one sentence as a Pharaoh line, without its end."""
    return " ".join([f"{source}-{target}" for source, target in links])
