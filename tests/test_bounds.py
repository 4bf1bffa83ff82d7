import math
import re

import pytest

from hf_nat.base.bounds import require_choice, require_number


@pytest.mark.parametrize(
    ("bounds", "inside", "outside", "rule"),
    [
        ({}, [-1e300, 0, 10**400], [], "a finite number"),
        ({"least": 1}, [1, 10**400], [0, 0.99], ">= 1"),
        ({"above": 0}, [1e-300, 2], [0, -0.0, -1], "> 0"),
        ({"least": 0, "most": 1}, [0, 0.5, 1], [-1e-9, 1.1], ">= 0 and <= 1"),
        ({"above": 0, "below": 1}, [0.5], [0, 1], "> 0 and < 1"),
    ],
)
def test_number_keeps_its_bounds(bounds, inside, outside, rule):
    for value in (None, *inside):
        require_number("x", value, **bounds)
    for value in outside:
        with pytest.raises(ValueError, match=re.escape(f"`x` must be {rule}, got {value}.") + "$"):
            require_number("x", value, **bounds)
    for value in (math.nan, math.inf, -math.inf):
        wanted = f"`x` must be a finite number {rule}".removesuffix(" a finite number")
        with pytest.raises(ValueError, match=re.escape(f"{wanted}, got {value}. Use 1.") + "$"):
            require_number("x", value, **bounds, remedy="Use 1.")


def test_choice_is_one_of_those_that_there_are():
    for value in ("a", "b"):
        require_choice("x", value, ("b", "a"))
    for value, options, message in (
        (None, {}, "`x` must be one of ['b', 'a'], got None."),
        ("", {"where": "for y", "remedy": "Use b."}, "`x` must be one of ['b', 'a'] for y, got ''. Use b."),
    ):
        with pytest.raises(ValueError, match=re.escape(message) + "$"):
            require_choice("x", value, ("b", "a"), **options)
