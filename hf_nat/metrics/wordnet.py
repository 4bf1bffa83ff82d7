"""Synonyms from the dictionary files of WordNet."""

from __future__ import annotations

from pathlib import Path


# Endings that WordNet's morphology takes off an inflected word, and what it puts in their place.
_DETACHMENTS = {
    "noun": [
        ("s", ""),
        ("ses", "s"),
        ("xes", "x"),
        ("zes", "z"),
        ("ches", "ch"),
        ("shes", "sh"),
        ("men", "man"),
        ("ies", "y"),
    ],
    "verb": [("s", ""), ("ies", "y"), ("es", "e"), ("es", ""), ("ed", "e"), ("ed", ""), ("ing", "e"), ("ing", "")],
    "adj": [("er", ""), ("est", ""), ("er", "e"), ("est", "e")],
    "adv": [],
}


class WordNet:
    """Looks up the synsets of English words.

    Args:
        directory (`str | Path`): folder of WordNet's `dict` files: `index.noun`, `index.verb`, `index.adj`,
            `index.adv` and, where they exist, the lists of irregular forms `noun.exc`, `verb.exc`, ...

    Raises:
        ValueError: if an index is missing or one of its lines is malformed.

    Source: Fellbaum 1998; file formats wndb(5WN) and morphy(7WN) of WordNet 3.0.
    """

    def __init__(self, directory: str | Path):
        self.directory = Path(directory)
        self._index = {pos: _read_index(self.directory / f"index.{pos}") for pos in _DETACHMENTS}
        self._irregular = {pos: _read_exceptions(self.directory / f"{pos}.exc") for pos in _DETACHMENTS}
        self._cache: dict[str, frozenset[tuple[str, str]]] = {}

    def synsets(self, word: str) -> frozenset[tuple[str, str]]:
        """Returns the (part of speech, offset) of every synset that holds a word or a base form of it."""
        if word not in self._cache:
            self._cache[word] = frozenset(
                (pos, offset)
                for pos, index in self._index.items()
                for form in self._forms(word.lower(), pos)
                for offset in index.get(form, ())
            )
        return self._cache[word]

    def synonyms(self, left: str, right: str) -> bool:
        """Says whether two words share a synset."""
        return not self.synsets(left).isdisjoint(self.synsets(right))

    def _forms(self, word: str, pos: str) -> list[str]:
        """The word itself and its base forms."""
        detached = [word[: -len(end)] + new for end, new in _DETACHMENTS[pos] if word.endswith(end)]
        return [word, *self._irregular[pos].get(word, detached)]


def _read_index(path: Path) -> dict[str, list[str]]:
    """Offsets of the synsets of each lemma."""
    if not path.is_file():
        raise ValueError(f"`wordnet_dir` must hold WordNet's file {path.name}, got the folder {str(path.parent)!r}.")
    index = {}
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            # The licence at the head is indented; an entry ends in as many 8-digit offsets as it says it has synsets.
            if line.startswith(" "):
                continue
            fields = line.split()
            count = int(fields[2]) if len(fields) > 2 and fields[2].isdigit() else 0
            offsets = fields[-count:]
            if not 0 < count <= len(fields) - 6 or not all(len(o) == 8 and o.isdigit() for o in offsets):
                raise ValueError(f"{path}, line {number}, must end in its synset offsets, got {line.strip()!r}.")
            index[fields[0]] = offsets
    return index


def _read_exceptions(path: Path) -> dict[str, list[str]]:
    """Base forms of irregular words; none without the file."""
    if not path.is_file():
        return {}
    lines = (line.split() for line in path.read_text(encoding="utf-8").split("\n"))
    return {fields[0]: fields[1:] for fields in lines if fields}
