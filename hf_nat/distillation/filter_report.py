"""What a filter says of the rows that it leaves out: how many by each rule, which, and some of them to read."""

from __future__ import annotations

import heapq
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, TextIO
from zlib import crc32

import numpy as np
import pyarrow as pa

from .filter_rules import RULES


REPORT_FILE = "filter.json"
DROPPED_FILE = "dropped.jsonl"
_NUM_EXAMPLES = 3
_SHOWN_COLUMNS = ("id", "translation", "teacher_score", "flags")


class FilterReport:
    """Counts the rows that go, writes each as a line of JSON, and keeps examples of each reason.

    Args:
        reasons (`Sequence[str]`): their names.
        file (`TextIO`): open for the rows.
        columns (`Sequence[str]`): what was measured, and is written of a row.
    """

    def __init__(self, reasons: Sequence[str], file: TextIO, columns: Sequence[str]) -> None:
        self.counts = dict.fromkeys(reasons, 0)
        self._alone = dict.fromkeys(reasons, 0)
        self._examples: dict[str, list[tuple[int, int, dict[str, Any]]]] = {reason: [] for reason in reasons}
        self._file, self._columns, self._num_rows = file, columns, 0

    def add(self, rows: pa.Table, rejected: Mapping[str, np.ndarray]) -> None:
        """Adds the rows that a reason rejects, out of those of a shard; masks are `[rows]`."""
        together = np.array([rejected[reason] for reason in self.counts])  # [reasons, rows]
        numbers = np.flatnonzero(together.any(axis=0))
        dropped = rows.select([*_SHOWN_COLUMNS, *self._columns]).take(numbers).to_pylist()
        for number, row in zip(numbers, dropped, strict=True):
            reasons = [reason for reason in self.counts if rejected[reason][number]]
            row = {name: _plain(value) for name, value in row.items()} | {"reasons": reasons}
            self._file.write(json.dumps(row, ensure_ascii=False) + "\n")
            for reason in reasons:
                self.counts[reason] += 1
                self._alone[reason] += len(reasons) == 1
                self._keep_example(reason, row)
            self._num_rows += 1

    def _keep_example(self, reason: str, row: dict[str, Any]) -> None:
        # From all over the corpus, and the same in every run: those of the lowest checksums.
        kept = [*self._examples[reason], (crc32(f"{row['id']} {self._num_rows}".encode()), self._num_rows, row)]
        self._examples[reason] = heapq.nsmallest(_NUM_EXAMPLES, kept, key=lambda entry: entry[:2])

    def summary(self, cuts: Mapping[str, float]) -> dict[str, Any]:
        """Returns what `filter.json` says of each reason.

        Args:
            cuts (`Mapping[str, float]`): the value of the column at which each rule cut.

        Returns:
            `dict[str, Any]`: by reason, `rows` that went, those that went by it `alone`, `examples` and, of a rule,
            its `column` and `cut`.
        """
        summary: dict[str, Any] = {}
        for reason, count in self.counts.items():
            rule = {"column": RULES[reason].column, "cut": _plain(cuts[reason])} if reason in RULES else {}
            examples = [row for _, _, row in self._examples[reason]]
            summary[reason] = {"rows": count, "alone": self._alone[reason], **rule, "examples": examples}
        return summary


def _plain(value: Any) -> Any:
    """Returns a value as JSON can hold it: null for a number that is not finite."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
