"""The rules of a filter: a named column of the corpus first, a threshold on it second."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa

from ..base.bounds import require_number


@dataclass(frozen=True)
class Rule:
    """Rejects rows by a column.

    Args:
        column (`str`): of the corpus; a row without a value stays.
        kind (`str`): what the threshold is:
            - `"min"`: rows below it go;
            - `"max"`: rows above it go;
            - `"worst"`: the share (0-1) of the rows with a value that go, the lowest; rows of the same value go or
              stay together, so that it may be less;
            - `"first"`: so many rows of a rank from 0 stay.
        least, most (`float`, *optional*): range of the threshold; a share lies between 0 and 1.
    """

    column: str
    kind: Literal["min", "max", "worst", "first"]
    least: float | None = None
    most: float | None = None

    def require(self, name: str, value: float | None) -> None:
        """Raises ValueError unless a threshold, given as `name`, is one; None is no rule."""
        bounds = {"above": 0, "below": 1} if self.kind == "worst" else {"least": self.least, "most": self.most}
        require_number(name, value, **bounds, remedy="Leave it out for no rule.")

    def rejects(self, values: np.ndarray, cut: float) -> np.ndarray:
        """Returns which rows go: `[rows]`; `cut` is the threshold, or for the worst the value below which they go."""
        if self.kind == "first":
            return values >= cut
        # In the column's own precision; a missing value is nan, and neither below nor above anything.
        with np.errstate(over="ignore"):
            cut = values.dtype.type(cut)
        return values > cut if self.kind == "max" else values < cut


# By the key of `FilterArguments` that has the threshold, in the order in which rows are counted.
RULES = {
    "min_score": Rule("teacher_score", "min"),
    "worst_score": Rule("teacher_score", "worst"),
    "max_length_ratio": Rule("length_ratio", "max", least=1),
    "max_copy_rate": Rule("copy_rate", "max", least=0, most=1),
    "max_number_differences": Rule("number_differences", "max", least=0),
    "max_url_differences": Rule("url_differences", "max", least=0),
    "min_language_posterior": Rule("language_posterior", "min", least=0, most=1),
    "min_backward_score": Rule("backward_score", "min"),
    "worst_backward_score": Rule("backward_score", "worst"),
    "max_per_source": Rule("source_rank", "first", least=1),
    "max_per_target": Rule("target_rank", "first", least=1),
}
# Made of the rows that the other rules leave, and so last: of the side whose text rows share.
RANK_COLUMNS = {"source_rank": 0, "target_rank": 1}
# Those that cut sentences into tokens.
TOKEN_COLUMNS = ("length_ratio", "copy_rate", "language_posterior")
# All that a filter can add to a corpus.
FILTER_COLUMNS = tuple(dict.fromkeys(rule.column for rule in RULES.values() if rule.column != "teacher_score"))


def values_of(rows: pa.Table, column: str) -> np.ndarray:
    """Returns a column of numbers: `[rows]`, float32; nan where there is none."""
    return rows[column].cast(pa.float32()).to_numpy().astype(np.float32)


def worst_cut(values: np.ndarray, share: float) -> float:
    """Returns the value below which the worst share (0-1) of the known values lies, at most; -inf without any."""
    known = np.sort(values[~np.isnan(values)])
    index = int(share * len(known) + 1e-9)  # 0.29 * 100 is a little less than 29.
    return float(known[index]) if index < len(known) else float("-inf")


def rejected(rows: pa.Table, flags: Sequence[str], cuts: Mapping[str, float]) -> dict[str, np.ndarray]:
    """Returns for each reason, flags and then rules, which of the rows it rejects: `[rows]`.

    Args:
        rows (`pa.Table`): with the column `flags` and those of the rules.
        flags (`Sequence[str]`): whose rows go.
        cuts (`Mapping[str, float]`): threshold of each rule.
    """
    marks = rows["flags"].to_pylist()
    found = {flag: np.array([flag in row for row in marks], dtype=bool) for flag in flags}
    for name, cut in cuts.items():
        found[name] = RULES[name].rejects(values_of(rows, RULES[name].column), cut)
    return found


def any_of(masks: Mapping[str, np.ndarray], num_rows: int) -> np.ndarray:
    """Returns the rows that some reason rejects: `[rows]`."""
    return np.logical_or.reduce([np.zeros(num_rows, dtype=bool), *masks.values()])
