"""Traces as HTML: every step appears when the model wrote it, on a clock that runs as slowly as one likes."""

from __future__ import annotations

import jinja2

from ..base.bounds import require_number
from .trace import Trace


_LABELS = {
    "inserted": "insert",
    "deleted": "delete",
    "masked": "re-mask",
    "filled": "fill",
    "replaced": "replace",
}


def render_traces(student: Trace, teacher: Trace | None = None, *, replay_seconds: float = 4.0) -> str:
    """Draws the rounds of a student and the tokens of its teacher beside each other.

    Args:
        student ([`Trace`]): rounds.
        teacher ([`Trace`], *optional*): tokens from left to right.
        replay_seconds (`float`, *optional*, defaults to 4.0): what the slower of the two takes on the page; 0 shows
            the end at once.

    Returns:
        `str`: a fragment of HTML with its style.

    Raises:
        ValueError: if `replay_seconds` is negative.
    """
    require_number("replay_seconds", replay_seconds, least=0)
    slowest = max(trace.seconds for trace in (student, teacher) if trace is not None)
    return (
        environment()
        .get_template("traces.html.jinja")
        .render(
            student=student, teacher=teacher, labels=_LABELS, slowdown=replay_seconds / slowest if slowest else 0.0
        )
    )


def environment() -> jinja2.Environment:
    """The templates of this package, what is filled in escaped."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("hf_nat.demo"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
