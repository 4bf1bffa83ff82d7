"""What a run goes on from: the states of a checkpoint, which may be damaged or of something else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from transformers.trainer import TRAINER_STATE_NAME

from ..base.utils import read_record


def require_state(checkpoint: str | Path) -> None:
    """Raises unless a checkpoint says how far its run was.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, or of something else.
    """
    kinds = {"global_step": int, "max_steps": int, "train_batch_size": int, "log_history": list}
    read_record(Path(checkpoint) / TRAINER_STATE_NAME, kinds)


@contextmanager
def reading_checkpoint(checkpoint: str | None) -> Iterator[None]:
    """Guards the lines that read states of a checkpoint: libraries have errors of many kinds for a damaged file.

    Raises:
        ValueError: naming the checkpoint.
    """
    try:
        yield
    except (OSError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"`{checkpoint}` must be a whole checkpoint to go on from, but a state of it is damaged: "
            f"{type(error).__name__}: {reason:.150}. Where `resume_from_checkpoint` names it, name another one; "
            "else delete it: the run goes on from the one before, or starts anew."
        ) from error
