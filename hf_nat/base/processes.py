"""The processes of a launcher: which one this is, and what the main one alone does."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, parse_flag_from_env


T = TypeVar("T")


def process_state() -> PartialState:
    """Returns this process's place among those that a launcher started, and its device.

    Without an accelerator `PartialState()` would let every process believe that it is alone. The processes wait a day
    for each other, as the slowest of a long distillation may need.
    """
    cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    return PartialState(cpu=cpu, timeout=timedelta(days=1))


def main_process_decides(decide: Callable[[], T]) -> T:
    """Calls a function on the main process and gives its result to all; what it raises, all raise.

    Raises:
        ValueError: with the message of the ValueError or OSError that the main process met.
    """
    state = process_state()
    outcome: list[Any] = [None, None]
    if state.is_main_process:
        try:
            outcome[0] = decide()
        except (ValueError, OSError) as error:
            if state.num_processes == 1:
                raise
            outcome[1] = str(error)
    if state.num_processes > 1:
        outcome = broadcast_object_list(outcome)
    if outcome[1] is not None:
        raise ValueError(outcome[1])
    return outcome[0]
