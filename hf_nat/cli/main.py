"""What every command of `hf-nat` starts and ends with; `hf_nat_cli` is the command itself."""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Sequence

import datasets
import torch
import transformers

from ..base.allocator import keep_freed_memory


def run_command(module: str, argv: Sequence[str]) -> None:
    """Runs the command of a module of this package; the processes of a launcher end together.

    Args:
        module (`str`): name of the module.
        argv (`Sequence[str]`): what follows the command on its command line.
    """
    keep_freed_memory()
    _set_up_logging()
    importlib.import_module(f"{__package__}.{module}").run(argv)
    if torch.distributed.is_initialized():
        # One that left early would break the others' connections.
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def _set_up_logging() -> None:
    """Sends the package's messages to standard error; progress bars are for terminals only."""
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("hf_nat").setLevel(logging.INFO)
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
        transformers.utils.logging.disable_progress_bar()
