"""Noise on sources: what each kind does, that a seed decides, and what a distilled row keeps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import MarianMTModel, PreTrainedTokenizerFast

from hf_nat.base.utils import read_json
from hf_nat.distillation.source_noise import NOISE, SourceNoise
from hf_nat.steps import distill


PAIRS = [
    {"en": "A dog runs in the Park.", "xx": "Ein Hund."},
    {"en": "two men", "xx": "zwei"},
    {"en": " ", "xx": ""},
    {"en": "!!!", "xx": "!"},
    {"en": "The women walk home?", "xx": "Die Frauen"},
]


def noisy(seed: int = 1, pairs: list[dict[str, str]] = PAIRS, **shares: float) -> list[tuple[str, str, list[str]]]:
    changed, columns = SourceNoise(shares, seed, "en", "xx")(pairs, range(len(pairs)))
    return [
        (new["en"], made["clean_source"], made["source_noise"]) for new, made in zip(changed, columns, strict=True)
    ]


def test_each_kind_changes_what_it_says() -> None:
    clean = [pair["en"] for pair in PAIRS]
    assert [text for text, _, _ in noisy(punctuation=1)] == [
        *("A dog runs in the Park", "two men.", " ", "!!!", "The women walk home")
    ]
    for seed in range(20):
        for text, before, kinds in noisy(seed, casing=1):
            capitals = " ".join(word[:1].upper() + word[1:] for word in before.split(" "))
            assert text in (before.lower(), before.upper(), capitals)
            assert kinds == (["casing"] if text != before else [])
        for (text, before, kinds), source in zip(noisy(seed, typos=1), clean, strict=True):
            assert before == source
            assert abs(len(text) - len(source)) <= 1
            assert len(text.split()) == len(source.split())
            assert kinds == (["typos"] if text != source else [])
    assert {kind for seed in range(20) for *_, kinds in noisy(seed, typos=1) for kind in kinds} == {"typos"}
    tree = SourceNoise({"typos": 1}, 1, "en", "xx")([{"en": "eeee"}] * 50, range(50))[0]
    assert {row["en"] for row in tree} == {"eee", "eeeee"}, "two equal letters that change places are no typo"


def test_punctuation_of_a_long_line_takes_no_time_of_its_square() -> None:
    line = "." * 200_000 + "a"
    assert [text for text, *_ in noisy(pairs=[{"en": line, "xx": "x"}], punctuation=1)] == [f"{line}."]


def test_merged_rows_have_both_sides_of_two_rows_and_blanks_stay() -> None:
    changed, columns = SourceNoise({"merge": 1}, 1, "en", "xx")(PAIRS, range(5))
    wanted = [0, None, None, 3, None]
    for place, first in enumerate(wanted):
        one = PAIRS[place]
        both = one if first is None else {lang: f"{one[lang]} {PAIRS[place + 1][lang]}" for lang in one}
        assert changed[place] == both
        assert columns[place] == {"clean_source": both["en"], "source_noise": [] if first is None else ["merge"]}
    chinese = SourceNoise({"merge": 1}, 1, "en", "zh")(
        [{"en": "A.", "zh": "一。"}, {"en": "B.", "zh": "二。"}], range(2)
    )
    assert chinese[0][0] == {"en": "A. B.", "zh": "一。二。"}
    alone = [{"en": "a"}, {"en": "b"}]
    assert SourceNoise({"merge": 1}, 1, "en", "xx")(alone, range(2))[0] == [{"en": "a b"}, {"en": "b"}]


def test_seed_and_number_decide_and_shares_are_met() -> None:
    pairs = [{"en": f"Some words {row}.", "xx": "x"} for row in range(2000)]
    shares = {"casing": 0.2, "punctuation": 0.5, "typos": 0.1}
    once = noisy(3, pairs, **shares)
    assert once == noisy(3, pairs, **shares) != noisy(4, pairs, **shares)
    for kind, share in shares.items():
        assert sum(kind in kinds for *_, kinds in once) / 2000 == pytest.approx(share, abs=0.04)
    fewer = noisy(3, pairs, punctuation=0.5)
    assert [("punctuation" in kinds) for *_, kinds in fewer] == [("punctuation" in kinds) for *_, kinds in once]
    part, _ = SourceNoise(shares, 3, "en", "xx")(pairs[500:600], range(500, 600))
    assert [pair["en"] for pair in part] == [text for text, *_ in once[500:600]]


def test_distilled_row_keeps_what_it_was_made_from(
    copy_teacher: MarianMTModel,
    tiny_tokenizer: PreTrainedTokenizerFast,
    arguments: Callable[..., Any],
    rows: Callable[[Path], list[dict[str, Any]]],
    sources: list[str],
) -> None:
    shares = dict.fromkeys(NOISE, 0.5)
    folder = distill(copy_teacher, tiny_tokenizer, arguments("noisy", source_noise=shares))
    found = rows(folder)
    expected = []
    for start in range(0, len(sources), 3):
        pairs = [{"en": source, "xx": f"real {source}"} for source in sources[start : start + 3]]
        changed, columns = SourceNoise(shares, 1, "en", "xx")(pairs, range(start, start + len(pairs)))
        expected += [
            {"id": start + place, "en": pair["en"], "real_target": pair["xx"], **made}
            for place, (pair, made) in enumerate(zip(changed, columns, strict=True))
        ]
    assert [
        {"en": row["translation"]["en"], **{name: row[name] for name in expected[0] if name != "en"}} for row in found
    ] == [dict(row) for row in expected]
    assert {kind for row in found for kind in row["source_noise"]} == set(NOISE)
    manifest = read_json(folder / "manifest.json")
    assert manifest["source_noise"] == shares
    assert manifest["columns"] == ["clean_source", "source_noise"]
    assert "| `clean_source` |" in (folder / "README.md").read_text(encoding="utf-8")
    # The teacher read the noisy source: the same as distilling it.
    clean = rows(distill(copy_teacher, tiny_tokenizer, arguments("clean")))
    assert [row["translation"]["xx"] for row in clean] != [row["translation"]["xx"] for row in found]
    with pytest.raises(ValueError, match="source_noise"):
        distill(copy_teacher, tiny_tokenizer, arguments("noisy"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source_noise": {"case": 0.1}}, "`source_noise` must be one of"),
        ({"source_noise": {"merge": 2}}, "must give merge a share from 0 to 1, got 2"),
        ({"source_noise": {"merge": "often"}}, "must give merge a share from 0 to 1, got 'often'"),
        ({"source_noise": {"merge": 0.1}, "long_source": "error"}, "`long_source` must not be error"),
    ],
)
def test_recipes_that_cannot_be(arguments: Callable[..., Any], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        arguments(**changes)
