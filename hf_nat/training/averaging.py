"""Checkpoint averaging: the mean of the weights of several checkpoints of one run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import SAFE_WEIGHTS_NAME, logging

from ..base.utils import read_json


logger = logging.get_logger(__name__)


def average_checkpoints(folders: Sequence[str | Path]) -> dict[str, torch.Tensor]:
    """Returns the element-wise mean of the weights of `folders`, summed in float32, in the checkpoints' own dtype.

    Args:
        folders (`Sequence[str | Path]`): checkpoint folders, each with a `model.safetensors`.

    Raises:
        ValueError: if no folder is given, or two of them hold different parameters.
    """
    if not folders:
        raise ValueError("`folders` must name at least one checkpoint, got none. Save checkpoints during training.")
    total: dict[str, torch.Tensor] = {}
    dtypes: dict[str, torch.dtype] = {}
    for folder in folders:
        weights = load_file(Path(folder) / SAFE_WEIGHTS_NAME)
        if total and weights.keys() != total.keys():
            odd = sorted(weights.keys() ^ total.keys())[0]
            raise ValueError(
                f"Checkpoints must hold the same parameters, got {odd!r} in only one of {folders[0]}, {folder}."
            )
        for name, tensor in weights.items():
            dtypes[name] = tensor.dtype
            total[name] = total[name] + tensor.float() if name in total else tensor.float()
    return {name: (tensor / len(folders)).to(dtypes[name]) for name, tensor in total.items()}


def by_score(
    folders: Sequence[Path], logs: Sequence[Mapping[str, float]], metric: str, greater_is_better: bool
) -> list[Path]:
    """Returns the checkpoints that were scored, the worst first; of equal ones the older.

    Args:
        folders (`Sequence[Path]`): checkpoints of a run, oldest first.
        logs (`Sequence[Mapping[str, float]]`): `log_history` of the trainer's state.
        metric (`str`): `eval_loss`, for instance.
        greater_is_better (`bool`): whether the best one has the largest value.
    """
    values = {log["step"]: log[metric] if greater_is_better else -log[metric] for log in logs if metric in log}
    scored = [folder for folder in folders if checkpoint_step(folder) in values]
    return sorted(scored, key=lambda folder: values[checkpoint_step(folder)])


def list_checkpoints(run_dir: str | Path) -> list[Path]:
    """Returns the complete checkpoint folders of a run, oldest first.

    A run killed while it wrote a checkpoint leaves one without the trainer's state, which is written last. Folders of
    other names (`checkpoint-best`) are not ours.
    """
    folders = Path(run_dir).glob(f"{PREFIX_CHECKPOINT_DIR}-*")
    ours = (folder for folder in folders if re.fullmatch(rf"{PREFIX_CHECKPOINT_DIR}-\d+", folder.name))
    return sorted((folder for folder in ours if _is_complete(folder)), key=checkpoint_step)


def _is_complete(folder: Path) -> bool:
    try:
        read_json(folder / TRAINER_STATE_NAME)
    except (FileNotFoundError, ValueError):
        logger.warning(f"{folder} has no sound {TRAINER_STATE_NAME}: half-written or damaged, it is not used.")
        return False
    return (folder / SAFE_WEIGHTS_NAME).is_file()


def checkpoint_step(folder: Path) -> int:
    """Returns the number of updates that a checkpoint folder's name tells."""
    return int(folder.name.removeprefix(f"{PREFIX_CHECKPOINT_DIR}-"))
