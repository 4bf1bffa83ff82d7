from __future__ import annotations

import time

import pytest

from hf_nat.distillation.flags import FLAGS, row_flags


def flags(source: str, output: str, *, truncated: bool = False) -> list[str]:
    lengths = {"num_source_tokens": len(source.split()), "num_output_tokens": len(output.split())}
    return row_flags(source, output, truncated=truncated, **lengths)


def test_a_sound_row_has_no_flag():
    assert flags("a dog runs over the street", "ein Hund läuft über die Straße") == []


@pytest.mark.parametrize(
    ("source", "output", "expected"),
    [
        ("", "", ["empty_source", "empty_output"]),
        (" \t", "\u00a0", ["empty_source", "empty_output"]),
        ("a dog", "", ["empty_output"]),
        ("a dog", " ", ["empty_output"]),
        ("", "ein Hund", ["empty_source"]),
    ],
)
def test_empty_sides(source, output, expected):
    assert flags(source, output) == expected


def test_truncated_is_passed_on_in_the_order_of_the_flags():
    assert flags("", "x " * 10, truncated=True) == ["empty_source", "truncated", "looping"]
    assert list(FLAGS) == [
        "empty_source",
        "empty_output",
        "truncated",
        "cut_source",
        "length_ratio",
        "looping",
        "kept_real",
        "source_alone",
    ]


@pytest.mark.parametrize(
    ("shorter", "longer", "expected"), [(1, 7, []), (1, 8, ["length_ratio"]), (10, 25, []), (10, 26, ["length_ratio"])]
)
def test_length_ratio_is_symmetric_and_lenient_to_short_sentences(shorter, longer, expected):
    for lengths in ((shorter, longer), (longer, shorter)):
        assert (
            row_flags("s", "o", num_source_tokens=lengths[0], num_output_tokens=lengths[1], truncated=False)
            == expected
        )


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("the the the the", True),
        ("the the the", False),
        ("er sagt, dass er sagt, dass er sagt, dass er sagt, dass er geht", True),
        ("er sagt, dass er sagt, dass er sagt, dass er geht", False),
        ("ParParParPar", True),
        ("犬が走る犬が走る犬が走る犬が走る", True),
        ("1 000 000 000 000 000 000", False),
        ("........ ------- ********", False),
        ("Und dann ...", False),
        ("x " * 30, True),
    ],
)
def test_looping_is_a_string_four_times_in_a_row(output, expected):
    assert ("looping" in row_flags("s", output, num_source_tokens=9, num_output_tokens=9, truncated=False)) is expected


def test_a_real_target_is_not_judged_as_an_output():
    lengths = {"num_source_tokens": 90, "num_output_tokens": 0}
    assert row_flags("s " * 90, "la la la la", truncated=True, kept_real=True, **lengths) == ["kept_real"]
    assert row_flags("s " * 90, " ", truncated=False, kept_real=True, **lengths) == ["empty_output", "kept_real"]


def test_a_source_that_loops_excuses_its_output():
    assert flags("ha ha ha ha ha", "ho ho ho ho ho") == []


def test_long_outputs_are_checked_in_linear_time():
    text = "".join(chr(ord("a") + (i * i * 7 + i // 3) % 26) for i in range(20_000))
    started = time.process_time()
    flags("s", text)
    assert time.process_time() - started < 2
