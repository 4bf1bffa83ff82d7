"""Word alignment of METEOR: which word of a translation stands for which word of the reference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass
from typing import NamedTuple

from ..base.bounds import require_number


# Worth of a match in the search, by stage (exact, stem, synonym); the score has weights of its own.
SEARCH_WEIGHTS = (1.0, 0.5, 0.5)
BEAM_SIZE = 1000
# Bounds of the work on a sentence whose words are repeated many times.
_MAX_CHOICES = 32
_MAX_STEPS = 100_000
# The beam of a first, quick search, whose result bounds the second one.
_FIRST_BEAM = 20


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


class _Path(NamedTuple):
    """A partial alignment: its rank (lower is better), the hypothesis words used, as bits, the word after its last
    match if that ends at the current reference word, else -1, and its matches, newest first."""

    rank: tuple[float, int, int]
    used: int
    end: int
    matches: tuple[WordMatch, _Path] | None


class _Options(NamedTuple):
    """The possible matches of a reference word: stage by hypothesis position, and the positions as bits, by stage."""

    stages: dict[int, int]
    masks: tuple[int, ...]


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

    Words repeated many times on both sides, such as leader dots, would take time without bound: of more than 32
    possible matches of a word only the one that goes on with a chunk and the 32 nearest free ones of each stage are
    tried, and the beam narrows where some 100,000 steps would not reach the end of the sentence.

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
    require_number("beam_size", beam_size, least=1)
    if list(hypothesis) == list(reference):
        return [WordMatch(k, k, 0) for k in range(len(reference))]
    search = _Search(_options(hypothesis, reference, same))
    found = search.run(min(beam_size, _FIRST_BEAM))
    if beam_size > _FIRST_BEAM:
        found = search.run(beam_size, found)
    return _matches(found)


def count_chunks(matches: Sequence[WordMatch]) -> int:
    """Counts the runs of matches that are neighbours on both sides; `matches` in the order of the reference."""
    neighbours = sum(
        left.reference + 1 == right.reference and left.hypothesis + 1 == right.hypothesis
        for left, right in zip(matches, matches[1:], strict=False)
    )
    return len(matches) - neighbours


def _options(
    hypothesis: Sequence[str], reference: Sequence[str], same: Callable[[str, str], int | None]
) -> list[_Options]:
    """The possible matches of each reference word."""
    positions: dict[str, list[int]] = {}
    for i, left in enumerate(hypothesis):
        positions.setdefault(left, []).append(i)
    by_word: dict[str, _Options] = {}
    for right in dict.fromkeys(reference):
        found: dict[int, int] = {}
        masks = [0] * len(SEARCH_WEIGHTS)
        for left, places in positions.items():
            stage = same(left, right)
            if stage is not None:
                found.update(dict.fromkeys(places, stage))
                masks[stage] |= sum(1 << i for i in places)
        by_word[right] = _Options(dict(sorted(found.items())), tuple(masks))
    return [by_word[right] for right in reference]


class _Search:
    """The search of `align_words` over the options of each reference word, and what is known of their alignments.

    Where some reference words can all take the same hypothesis words and no other word can, the best alignment has as
    many matches of them as the smaller group has words: whoever leaves out more can only lose.
    """

    def __init__(self, options: Sequence[_Options]):
        self._options = options
        masks = [sum(choices.masks) for choices in options]
        totals = Counter(masks)
        alone = {mask for mask in totals if mask and all(other == mask or not other & mask for other in totals)}
        # For each reference word: the hypothesis words it can take, as bits, and how many of them it must leave taken.
        self._needed: list[tuple[int, int]] = []
        seen: Counter[int] = Counter()
        for mask in masks:
            seen[mask] += 1
            spare = max(0, totals[mask] - mask.bit_count())
            self._needed.append((mask, seen[mask] - spare if mask in alone else 0))
        self._max_worth = _max_worth(options, masks, alone)
        # From each reference word to the end: hypothesis words that can still be taken, as bits (only those tell paths
        # apart), steps of one path, and chunks that must begin, for words that must match but not next to the last.
        size = len(options)
        self._open_words, self._num_steps, self._min_chunks = ([0] * (size + 1) for _ in range(3))
        for j in range(size - 1, -1, -1):
            self._open_words[j] = self._open_words[j + 1] | masks[j]
            self._num_steps[j] = self._num_steps[j + 1] + 1 + min(len(options[j].stages), _MAX_CHOICES)
            must_match = masks[j] in alone and totals[masks[j]] <= masks[j].bit_count()
            must_begin = must_match and not (j and masks[j - 1] << 1 & masks[j])
            self._min_chunks[j] = self._min_chunks[j + 1] + must_begin

    def run(self, beam_size: int, bound: _Path | None = None) -> _Path:
        """Returns the best alignment found with a beam, no worse than `bound`."""
        # Worth comes first: fewer chunks are no better of an alignment that may gain less.
        limit = None if bound is None or -bound.rank[0] < self._max_worth else bound.rank[1:]
        paths = [_Path((0.0, 0, 0), 0, -1, None)]
        steps_left = _MAX_STEPS
        for j, options in enumerate(self._options):
            best: dict[tuple[int, int], _Path] = {}
            for path in paths:
                for extended in _extensions(path, j, options, self._needed[j]):
                    steps_left -= 1
                    _, chunks, distance = extended.rank
                    if limit is not None and (chunks + self._min_chunks[j + 1], distance) > limit:
                        continue
                    key = (extended.used & self._open_words[j + 1], extended.end)
                    if key not in best or extended.rank < best[key].rank:
                        best[key] = extended
            width = min(beam_size, max(1, steps_left // (self._num_steps[j + 1] or 1)))
            paths = sorted(best.values(), key=lambda path: path.rank)[:width]
        ends = paths[:1] if bound is None else [*paths[:1], bound]
        return min(ends, key=lambda path: path.rank)


def _max_worth(options: Sequence[_Options], masks: Sequence[int], alone: Set[int]) -> float:
    """A worth that no alignment exceeds, and the best one reaches unless words compete for others."""
    worths: dict[int, list[float]] = {}
    for choices, mask in zip(options, masks, strict=True):
        if mask:
            worths.setdefault(mask, []).append(SEARCH_WEIGHTS[min(choices.stages.values())])
    return sum(
        sum(sorted(found, reverse=True)[: mask.bit_count() if mask in alone else None])
        for mask, found in worths.items()
    )


def _extensions(path: _Path, j: int, options: _Options, needed: tuple[int, int]) -> Iterator[_Path]:
    """The ways to go on over reference word j: each free match, and no match unless one is needed."""
    mask, count = needed
    worth, chunks, distance = path.rank
    if (path.used & mask).bit_count() >= count:
        yield _Path(path.rank, path.used, -1, path.matches)
    for i in options.stages if len(options.stages) <= _MAX_CHOICES else _nearest(path, j, options):
        if not path.used >> i & 1:
            stage = options.stages[i]
            rank = (worth - SEARCH_WEIGHTS[stage], chunks + (i != path.end), distance + abs(i - j))
            yield _Path(rank, path.used | 1 << i, i + 1, (WordMatch(i, j, stage), path))


def _nearest(path: _Path, j: int, options: _Options) -> Set[int]:
    """The match that goes on with the chunk of a path, and the free ones nearest to position j, by stage."""
    chosen = {path.end} & options.stages.keys()
    for mask in options.masks:
        free = mask & ~path.used
        before, after = free & ((1 << j) - 1), free >> j
        for _ in range(_MAX_CHOICES):
            if not before and not after:
                break
            below, above = before.bit_length() - 1, (after & -after).bit_length() - 1 + j
            if not after or (before and j - below <= above - j):
                chosen.add(below)
                before ^= 1 << below
            else:
                chosen.add(above)
                after &= after - 1
    return chosen


def _matches(path: _Path) -> list[WordMatch]:
    """Follows a path back to its start."""
    matches = []
    link = path.matches
    while link is not None:
        match, previous = link
        matches.append(match)
        link = previous.matches
    return matches[::-1]
