from __future__ import annotations

import pytest

from hf_nat.alignment import format_links, parse_links


def test_lines_come_back() -> None:
    lines = ["0-0 1-2 10-3", "", "2-1"]
    links = list(parse_links(lines))
    assert links == [[(0, 0), (1, 2), (10, 3)], [], [(2, 1)]]
    assert [format_links(row) for row in links] == lines


def test_scores_of_other_tools_are_left_out() -> None:
    assert list(parse_links(["0-0:0.98 1-1:1.0"])) == [[(0, 0), (1, 1)]]


@pytest.mark.parametrize("word", ["1", "\u0661-0", "1-", "-1-2", "a-b", "1_2", "0-0-0"])
def test_other_words_are_an_error_that_names_file_and_line(word: str) -> None:
    with pytest.raises(ValueError, match=f"`links.txt` line 2 must hold links .* got '{word}'"):
        list(parse_links(["0-0", f"0-0 {word}"], "links.txt"))
