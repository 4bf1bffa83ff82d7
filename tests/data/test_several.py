"""Names and places of several corpora."""

from __future__ import annotations

from pathlib import Path

import pytest

from hf_nat import AnalyzeArguments
from hf_nat.data.several import named_corpora


def test_what_exists_is_a_corpus_and_else_the_first_sign_ends_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("x/lang=de", "real=c"):
        (tmp_path / folder).mkdir(parents=True)
    assert named_corpora(["x/lang=de", "beam=x/lang=de", "c", "one=data#a=b"], real="c=v1") == {
        "real": "c=v1",
        "lang_de": "x/lang=de",
        "beam": "x/lang=de",
        "c": "c",
        "one": "data#a=b",
    }
    args = AnalyzeArguments(source_lang="a", target_lang="b", real="c", distilled=["beam=d"])
    assert {name: corpus.corpus for name, corpus in args.corpora.items()} == {"real": "c", "beam": "d"}


@pytest.mark.parametrize(
    ("corpora", "message"),
    [
        (["a/x", "b/x"], r"must be distinct, got \['real', 'x', 'x'\]"),
        (["real=x"], "must be distinct"),
        (["a/b=c"], "without `/`, got 'a/b'"),
        (["x" * 5000 + "=c", "x" * 5000 + "=d"], "must be distinct"),
    ],
)
def test_names_are_those_of_folders_of_their_own(corpora: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        named_corpora(corpora, real="c")
