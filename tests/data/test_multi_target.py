from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from datasets import Dataset

from hf_nat.data import concatenate_targets, select_targets


LANGS = ("de", "fr", "cs")


@pytest.fixture
def corpus(tmp_path: Path) -> str:
    for lang in ("en", *LANGS):
        (tmp_path / f"train.{lang}").write_text("".join(f"{lang} {row}\n" for row in range(600)), encoding="utf-8")
    return str(tmp_path / "{split}.{lang}")


def test_every_pair_of_every_language_is_there_in_order(corpus: str) -> None:
    rows = concatenate_targets(corpus, "en", LANGS)
    assert rows["translation"][:] == [{"en": f"en {i}", "multi": f"{lang} {i}"} for lang in LANGS for i in range(600)]
    assert rows["language"][:] == [lang for lang in LANGS for _ in range(600)]


def test_selection_keeps_the_sources_and_draws_languages_uniformly(corpus: str) -> None:
    rows = select_targets(corpus, "en", LANGS, seed=3)
    for i, (pair, lang) in enumerate(zip(rows["translation"], rows["language"], strict=True)):
        assert pair == {"en": f"en {i}", "multi": f"{lang} {i}"}
    counts = Counter(rows["language"])
    # Chi-square with 2 degrees of freedom: above 13.8 in one of 1,000 seeds.
    assert sum((counts[lang] - 200) ** 2 / 200 for lang in LANGS) < 13.8
    assert select_targets(corpus, "en", LANGS, seed=3)["language"][:] == rows["language"][:]
    assert select_targets(corpus, "en", LANGS, seed=4)["language"][:] != rows["language"][:]


def test_no_language_is_an_error(corpus: str) -> None:
    with pytest.raises(ValueError, match="`target_langs` must name at least 1 language"):
        concatenate_targets(corpus, "en", [])


def test_a_language_named_twice_is_an_error(corpus: str) -> None:
    with pytest.raises(ValueError, match="`target_langs` must name each language once, got"):
        concatenate_targets(corpus, "en", ["de", "fr", "de"])


@pytest.mark.parametrize("changed", [0, 15_000, 19_999])
def test_corpora_of_other_sources_are_an_error(changed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it is one sentence, behind those that are compared first."""

    def load(corpus: str, split: str, *, source_lang: str, target_lang: str, **others: object) -> Dataset:
        pairs = [{"en": f"en {row}", target_lang: "x"} for row in range(20_000)]
        if target_lang == "fr":
            pairs[changed]["en"] = "another"
        return Dataset.from_dict({"translation": pairs})

    monkeypatch.setattr("hf_nat.data.multi_target.load_corpus", load)
    assert len(concatenate_targets("corpus", "en", ["de", "cs"])) == 40_000
    with pytest.raises(ValueError, match="must have the same sources, but those of 'fr' and 'de' differ"):
        concatenate_targets("corpus", "en", ["de", "fr"])
