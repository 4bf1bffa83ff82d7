"""The corpus of interface strings: what becomes of the entries of a gettext catalogue."""

from __future__ import annotations

import runpy
import struct
from pathlib import Path
from typing import Any

import pytest


ENTRIES = {
    "": "Content-Type: text/plain; charset=UTF-8\nPlural-Forms: nplurals=2; plural=(n != 1);\n",
    "~Open": "Ö~ffnen",
    "menu\x04Save _As…": "Speichern _unter…",
    "dialog\x04Save As…": "Speichern als…",
    "Two\n  lines": "Zwei\nZeilen",
    "%1 of $(ARG1)": "%1 von $(ARG1)",
    "one file\0many files": "eine Datei\0viele Dateien",
    "a_b_c is a name": "a_b_c ist ein Name",
    "Cut &amp; &Paste": "Ausschneiden &amp; &Einfügen",
    "R & D": "F & E",
    "r & d:": "F & E:",
    "_Accept the license of %FILE_NAME": "Lizenz von %FILE_NAME a_kzeptieren",
    "http://x.org/a_b is %ADDRESS_OLD": "http://x.org/a_b ist %ADDRESS_OLD",
    "DDE _Command": "DDE_-Befehl",
    "_From print": "_\u200bDruckbereich",
    "01/01/1904": "01.01.1904",
    "OK": "OK",
    "Not yet": "",
    " ": "leer",
}
PAIRS = [
    ("%1 of $(ARG1)", "%1 von $(ARG1)"),
    ("Accept the license of %FILE_NAME", "Lizenz von %FILE_NAME akzeptieren"),
    ("Cut &amp; Paste", "Ausschneiden &amp; Einfügen"),
    ("DDE Command", "DDE-Befehl"),
    ("From print", "Druckbereich"),
    ("Open", "Öffnen"),
    ("R & D", "F & E"),
    ("Save As…", "Speichern als…"),
    ("Two lines", "Zwei Zeilen"),
    ("a_b_c is a name", "a_b_c ist ein Name"),
    ("http://x.org/a_b is %ADDRESS_OLD", "http://x.org/a_b ist %ADDRESS_OLD"),
]


@pytest.fixture
def script() -> dict[str, Any]:
    return runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "gettext_corpus.py"))


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    """A catalogue as msgfmt writes it: both tables of lengths and offsets, and the strings, sorted."""
    sides = [[text.encode() for text in side] for side in zip(*sorted(ENTRIES.items()), strict=True)]
    number, offset = len(ENTRIES), 28 + 16 * len(ENTRIES)
    tables, strings = b"", b""
    for text in [*sides[0], *sides[1]]:
        tables += struct.pack("<II", len(text), offset + len(strings))
        strings += text + b"\0"
    header = struct.pack("<7I", 0x950412DE, 0, number, 28, 28 + 8 * number, 0, offset)
    (tmp_path / "de.mo").write_bytes(header + tables + strings)
    return tmp_path / "de.mo"


def test_entries_become_pairs(script: dict[str, Any], catalogue: Path) -> None:
    assert sorted(script["pairs_of"]([catalogue])) == PAIRS
    assert script["pairs_of"]([catalogue, catalogue]) == script["pairs_of"]([catalogue])


def test_splits_share_no_source(
    script: dict[str, Any], catalogue: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    languages = ["--source_lang=en", "--target_lang=de"]
    argv = [f"--catalogues={tmp_path}/*.mo", *languages, f"--output_dir={tmp_path / 'out'}", "--num_held_out=2"]
    script["main"](argv)
    assert "train: 7 pairs" in capsys.readouterr().out
    found = {}
    for split in ("train", "validation", "test"):
        sides = [
            (tmp_path / "out" / f"{split}.{lang}").read_text(encoding="utf-8").splitlines() for lang in ("en", "de")
        ]
        found[split] = list(zip(*sides, strict=True))
    assert [len(found[split]) for split in ("validation", "test")] == [2, 2]
    assert sorted(pair for own in found.values() for pair in own) == PAIRS


@pytest.mark.parametrize(
    ("changes", "message"),
    [(["--num_held_out=6"], "leave pairs to train on, got 6 of 11"), (["--catalogues=none.mo"], "at least one file")],
)
def test_what_cannot_be_a_corpus_is_an_error(
    changes: list[str], message: str, script: dict[str, Any], catalogue: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [f"--catalogues={catalogue}", "--source_lang=en", "--target_lang=de", f"--output_dir={catalogue.parent}"]
    with pytest.raises(SystemExit):
        script["main"]([*argv, *changes])
    assert message in capsys.readouterr().err


def test_another_file_is_no_catalogue(script: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "x.mo").write_bytes(b"text")
    with pytest.raises(ValueError, match="must be a gettext catalogue"):
        script["read_catalogue"](tmp_path / "x.mo")
