"""Small random corpora that the tests of the measures of parallel data share."""

from __future__ import annotations

import random
from collections.abc import Sequence


Row = tuple[list[str], list[str], list[tuple[int, int]]]


def random_corpus(seed: int, num_rows: int = 15) -> list[Row]:
    """Rows (source, target, links) with empty lines, rows and source words without a link, and many-to-many links.

    The sources depend on `num_rows` alone, as those of a real and a distilled corpus are the same.
    """
    shared, own = random.Random(num_rows), random.Random(seed)
    rows = []
    for _ in range(num_rows):
        source = shared.choices("aaaabbbccd\u00a0e", k=shared.randrange(6))
        target = own.choices("xxxyyzvw", k=own.randrange(6))
        places = [(i, j) for i in range(len(source)) for j in range(len(target)) if source[i] != "e"]
        rows.append((source, target, own.sample(places, k=min(len(places), own.randrange(7)))))
    return rows


def columns(rows: Sequence[Row]) -> tuple[list[list[str]], list[list[str]], list[list[tuple[int, int]]]]:
    """Sources, targets and links of the rows."""
    return [row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows]
