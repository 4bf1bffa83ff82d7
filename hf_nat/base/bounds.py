"""The checks of a number and of a choice that a user gives."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from operator import ge, gt, le, lt


def require_choice(name: str, value: object, choices: Iterable[str], *, where: str = "", remedy: str = "") -> None:
    """Raises unless a value is one of those that there are.

    Args:
        name (`str`): name of the option, for the error.
        value (`object`): the value.
        choices (`Iterable[str]`): what it may be, in the order in which the error tells it.
        where (`str`, *optional*, defaults to `""`): where there are these, for the error.
        remedy (`str`, *optional*, defaults to `""`): last sentence of the error.

    Raises:
        ValueError: naming the choices, the value and the remedy.
    """
    known = list(choices)
    if value not in known:
        rule = f"`{name}` must be one of {known} {where}".rstrip()
        raise ValueError(f"{rule}, got {value!r}. {remedy}".rstrip())


def require_number(
    name: str,
    value: float | None,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
    remedy: str = "",
) -> None:
    """Raises unless a number, where one is given, is finite and within its bounds.

    Args:
        name (`str`): name of the option, for the error.
        value (`float`, *optional*): the number; None is one that was not given.
        least (`float`, *optional*): the smallest that is allowed.
        above (`float`, *optional*): what it must exceed.
        most (`float`, *optional*): the largest that is allowed.
        below (`float`, *optional*): what it must not reach.
        remedy (`str`, *optional*, defaults to `""`): last sentence of the error.

    Raises:
        ValueError: naming the rule, the value and the remedy.
    """
    if value is None:
        return
    bounds = [
        (sign, holds, bound)
        for sign, holds, bound in ((">=", ge, least), (">", gt, above), ("<=", le, most), ("<", lt, below))
        if bound is not None
    ]
    is_finite = -inf < value < inf  # `math.isfinite` fails with an integer that no float holds.
    if is_finite and all(holds(value, bound) for _, holds, bound in bounds):
        return
    rule = " and ".join(f"{sign} {bound}" for sign, _, bound in bounds)
    kind = "" if is_finite else "a finite number "
    raise ValueError(f"`{name}` must be {kind}{rule}".rstrip() + f", got {value}. {remedy}".rstrip())
