"""Students by their checkpoint or their training YAML: what they are, without building their weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import AutoModelForSeq2SeqLM, PreTrainedConfig

from ..data.pretrained import load_pretrained_config
from ..steps import Train


# Methods of training that make another student of an architecture, and what in its configuration says so.
METHODS = {
    "glancing": "is_glancing",
    "order-agnostic cross-entropy": "order_agnostic",
    "correction": "correction_ratio",
}


@dataclass(frozen=True)
class StudentModel:
    """Architecture and size of a student.

    Args:
        model_type (`str`): its architecture.
        num_parameters (`int`): its parameters, embeddings not counted.
        methods (`tuple[str, ...]`): what it is trained with beside, out of `METHODS`.
    """

    model_type: str
    num_parameters: int
    methods: tuple[str, ...] = ()


def is_training_yaml(student: str) -> bool:
    """Tells a training YAML from a checkpoint."""
    return student.endswith((".yaml", ".yml"))


def load_student(student: str) -> StudentModel:
    """Finds architecture and size of a student; no weights are loaded or made.

    Args:
        student (`str`): training YAML of `hf-nat train`, checkpoint folder or Hub id.

    Returns:
        `StudentModel`: the student.

    Raises:
        ValueError: for an unknown key, architecture or size.
        OSError: if there is no such file, folder or repository.
    """
    config = (
        _config_of_yaml(student) if is_training_yaml(student) else load_pretrained_config(student, parameter="student")
    )
    with torch.device("meta"):
        model = AutoModelForSeq2SeqLM.from_config(config)
    methods = tuple(name for name, field in METHODS.items() if getattr(config, field, False))
    return StudentModel(config.model_type, model.num_parameters(exclude_embeddings=True), methods)


def _config_of_yaml(path: str) -> PreTrainedConfig:
    """The configuration of the model that a training would build, but for its vocabulary."""
    # The precision of the training says nothing about the student, and may need another machine.
    return Train.from_config(path, bf16=False, fp16=False).config
