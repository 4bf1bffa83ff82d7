"""Pages of results show text of a corpus as text."""

from __future__ import annotations

import re

import markdown
import pytest

from hf_nat.base.reporting import text_cell


TEXTS = [
    "[click](javascript:alert(1))",
    "![x](http://evil.example/beacon.png)",
    "<script>alert(1)</script>",
    "</td><td> a | b",
    "**bold** _it_ `code` ~~no~~ # & &lt; \\*",
    "<http://evil.example>",
    "one\n\n- two",
]


@pytest.mark.parametrize("text", TEXTS)
def test_text_of_a_cell_is_no_markup(text: str) -> None:
    page = markdown.markdown(f"| a |\n|---|\n| {text_cell(text)} |", extensions=["tables"])
    assert page.count("<td>") == 1
    (cell,) = re.findall("<td>(.*?)</td>", page)
    assert not re.search("<[^/]", cell)
    parts = {"&lt;": "<", "&gt;": ">", "&amp;": "&", **{f"&#{ord(c)};": c for c in "\\`*_[]()!<>&|#~"}}
    assert re.sub("&[a-z0-9#]+;", lambda found: parts[found[0]], cell) == " ".join(text.splitlines())
