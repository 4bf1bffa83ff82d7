"""`hf-nat push`."""

from __future__ import annotations

from collections.abc import Sequence

from ..base.config import load_config
from ..hub.push import PushArguments, push


def run(argv: Sequence[str]) -> None:
    """Pushes a folder, or lists what would go with `--dry_run`."""
    (args,) = load_config((PushArguments,), argv, prog="hf-nat push")
    plan = push(args)
    print(plan.summary())
    print(f"Pushed to {plan.url}" if plan.url else "Dry run: nothing was sent.")
