"""Arrays in a temporary file: what a corpus of any size needs beside its lexicon."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from threading import Lock

import numpy as np


@dataclass(frozen=True)
class StoredArray:
    """Where an array lies in a `Scratch`."""

    start: int
    dtype: np.dtype
    shape: tuple[int, ...]


class Scratch:
    """A temporary file of arrays, written and read by any number of threads; it disappears with the object.

    It lies where `tempfile` puts it: set `TMPDIR` to a disk with room.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="hf_nat-", buffering=0)  # noqa: SIM115
        self._end = 0
        self._lock = Lock()

    def write(self, array: np.ndarray) -> StoredArray:
        """Appends an array."""
        with self._lock:
            stored = StoredArray(self._end, array.dtype, array.shape)
            self._end += array.nbytes
        data, done = self._bytes(np.ascontiguousarray(array)), 0
        while done < len(data):
            done += os.pwrite(self._file.fileno(), data[done:], stored.start + done)
        return stored

    def read(self, stored: StoredArray) -> np.ndarray:
        """Returns a copy of an array that was written."""
        array = np.empty(stored.shape, stored.dtype)
        data, done = self._bytes(array), 0
        while done < len(data):
            done += os.preadv(self._file.fileno(), [data[done:]], stored.start + done)
        return array

    @staticmethod
    def _bytes(array: np.ndarray) -> memoryview:
        return array.reshape(-1).view(np.uint8).data
