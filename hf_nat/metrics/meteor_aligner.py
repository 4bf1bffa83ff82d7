"""Word alignment of METEOR: which word of a translation stands for which word of the reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


# Worth of a match in the search, by stage (exact, stem, synonym); the score has weights of its own.
SEARCH_WEIGHTS = (1.0, 0.5, 0.5)
BEAM_SIZE = 1000


@dataclass(frozen=True)
class WordMatch:
    """One aligned pair of words.

    Args:
        hypothesis (`int`): position in the hypothesis, from 0.
        reference (`int`): position in the reference, from 0.
        stage (`int`): how the words match: 0 exact, 1 stem, 2 synonym.
    """

    hypothesis: int
    reference: int
    stage: int


@dataclass(frozen=True)
class _Path:
    """A partial alignment: its rank (lower is better), the end of its last match and its matches, newest first."""

    rank: tuple[float, int, int]
    used: int
    end: int
    matches: tuple[WordMatch, _Path] | None


def align_words(
    hypothesis: Sequence[str],
    reference: Sequence[str],
    same: Callable[[str, str], int | None],
    beam_size: int = BEAM_SIZE,
) -> list[WordMatch]:
    """Finds the alignment with most weighted matches, then fewest chunks, then the smallest sum of distances.

    A word has at most one match. A chunk is a run of matches that are neighbours on both sides; the distance of a
    match is the difference of its two positions. The search goes over the reference from left to right, never leaves
    out a match that is sure to be worth it, and keeps the best of all partial alignments that can be continued in the
    same ways. So it is exact as long as no more than `beam_size` of them differ; beyond that it drops the worst. Equal
    sentences are aligned on the diagonal at once.

    Args:
        hypothesis (`Sequence[str]`): words of the translation.
        reference (`Sequence[str]`): words of the reference.
        same (`Callable[[str, str], int | None]`): stage in which two words match, None if they do not.
        beam_size (`int`, *optional*, defaults to 1000): number of partial alignments to keep, >= 1.

    Returns:
        `list[WordMatch]`: the matches, in the order of the reference.

    Raises:
        ValueError: if `beam_size` is below 1.

    Source: Denkowski & Lavie 2011 (Meteor 1.3), section 2.1; the worth of a match (1 exact, 0.5 otherwise) is that of
    METEOR 1.5's scorer. Differs: the tool has a beam of 40 without merging, and its search holds the worth in an
    integer, in which a match worth 0.5 counts for nothing unless both words have no other match.
    """
    if beam_size < 1:
        raise ValueError(f"`beam_size` must be >= 1, got {beam_size}.")
    if list(hypothesis) == list(reference):
        return [WordMatch(k, k, 0) for k in range(len(reference))]
    options = _options(hypothesis, reference, same)
    # Hypothesis words that later reference words can still take, as bits: only those tell paths apart.
    open_words = [0] * (len(reference) + 1)
    for j in range(len(reference) - 1, -1, -1):
        open_words[j] = open_words[j + 1] | sum(1 << i for i, _ in options[j])
    needed = _needed_matches(options)
    paths = [_Path((0.0, 0, 0), 0, -1, None)]
    for j, choices in enumerate(options):
        best: dict[tuple[int, int], _Path] = {}
        for path in paths:
            for extended in _extensions(path, j, choices, needed[j]):
                key = (extended.used & open_words[j + 1], extended.end)
                if key not in best or extended.rank < best[key].rank:
                    best[key] = extended
        paths = sorted(best.values(), key=lambda path: path.rank)[:beam_size]
    return _matches(paths[0])


def count_chunks(matches: Sequence[WordMatch]) -> int:
    """Counts the runs of matches that are neighbours on both sides; `matches` in the order of the reference."""
    neighbours = sum(
        left.reference + 1 == right.reference and left.hypothesis + 1 == right.hypothesis
        for left, right in zip(matches, matches[1:], strict=False)
    )
    return len(matches) - neighbours


def _options(
    hypothesis: Sequence[str], reference: Sequence[str], same: Callable[[str, str], int | None]
) -> list[list[tuple[int, int]]]:
    """(hypothesis position, stage) of every possible match of each reference word."""
    stages: dict[tuple[str, str], int | None] = {}
    options: list[list[tuple[int, int]]] = []
    for right in reference:
        options.append([])
        for i, left in enumerate(hypothesis):
            if (left, right) not in stages:
                stages[left, right] = same(left, right)
            stage = stages[left, right]
            if stage is not None:
                options[-1].append((i, stage))
    return options


def _needed_matches(options: Sequence[Sequence[tuple[int, int]]]) -> list[tuple[int, int]]:
    """For each reference word: the hypothesis words it can take, as bits, and how many of them it must leave taken.

    Where some reference words can all take the same hypothesis words and no other word can, the best alignment has as
    many matches as the smaller group has words: whoever leaves out more can only lose.
    """
    masks = [sum(1 << i for i, _ in choices) for choices in options]
    needed = []
    for j, mask in enumerate(masks):
        count = 0
        if all(other == mask or not other & mask for other in masks):
            spare = max(0, masks.count(mask) - mask.bit_count())
            count = masks[: j + 1].count(mask) - spare
        needed.append((mask, count if mask else 0))
    return needed


def _extensions(path: _Path, j: int, choices: Sequence[tuple[int, int]], needed: tuple[int, int]) -> list[_Path]:
    """The ways to go on over reference word j: each free match, and no match unless one is needed."""
    mask, count = needed
    extensions = []
    if (path.used & mask).bit_count() >= count:
        extensions.append(_Path(path.rank, path.used, -1, path.matches))
    worth, chunks, distance = path.rank
    for i, stage in choices:
        if not path.used >> i & 1:
            rank = (worth - SEARCH_WEIGHTS[stage], chunks + (i != path.end), distance + abs(i - j))
            extensions.append(_Path(rank, path.used | 1 << i, i + 1, (WordMatch(i, j, stage), path)))
    return extensions


def _matches(path: _Path) -> list[WordMatch]:
    """Follows a path back to its start."""
    matches = []
    link = path.matches
    while link is not None:
        match, previous = link
        matches.append(match)
        link = previous.matches
    return matches[::-1]
