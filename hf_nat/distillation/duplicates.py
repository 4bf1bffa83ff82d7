"""Pairs that share a source or a target, best first, without their texts in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np


def text_keys(texts: Iterable[str]) -> np.ndarray:
    """Returns 64 bits of a hash of each text: `[texts]`; the number and kind of its blanks do not count.

    Two different texts among a hundred million share theirs with a probability of 0.03 %.
    """
    digests = (hashlib.blake2b(" ".join(text.split()).encode(), digest_size=8).digest() for text in texts)
    return np.frombuffer(b"".join(digests), dtype=np.uint64)


def ranks(keys: np.ndarray, scores: np.ndarray, is_ranked: np.ndarray) -> np.ndarray:
    """Returns the place of each row among the ranked rows of its key: `[rows]`, from 0, the best; -1 if not ranked.

    Args:
        keys (`np.ndarray`): `[rows]`, what rows share.
        scores (`np.ndarray`): `[rows]`, higher is better; nan is the worst. Of equal ones the first row is the best.
        is_ranked (`np.ndarray`): `[rows]`, whether a row takes part.
    """
    rows = np.flatnonzero(is_ranked)
    badness = -np.nan_to_num(scores[rows], nan=-np.inf)
    order = rows[np.lexsort((rows, badness, keys[rows]))]
    own, places = keys[order], np.arange(len(order))
    is_first = np.ones(len(order), dtype=bool)
    is_first[1:] = own[1:] != own[:-1]
    found = np.full(len(keys), -1, dtype=np.int32)
    found[order] = places - np.maximum.accumulate(np.where(is_first, places, 0))
    return found
