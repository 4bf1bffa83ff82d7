"""Models that start from the blocks of another one, with as many layers, fewer or more."""

import re
from typing import Literal

import torch
from transformers import PreTrainedModel


LayerSelection = Literal["spread", "first", "last"]
_LAYER = re.compile(r"(model\.(?:encoder|decoder)\.layers\.)(\d+)\.")


def selected_layers(num_layers: int, num_wanted: int, selection: LayerSelection = "spread") -> list[int]:
    """Chooses the layers of a stack that a stack of another depth starts from.

    Args:
        num_layers (`int`): layers that there are.
        num_wanted (`int`): layers that are wanted. More than there are repeat neighbours.
        selection (`"spread"`, `"first"` or `"last"`, *optional*): evenly over the stack with its two ends, the lowest
            ones, or the highest ones. A single layer is the lowest one of `spread`.

    Returns:
        `list[int]`: for each wanted layer the number of its model, from 0, in rising order.

    Raises:
        ValueError: if a number is below 1, or the first or last ones are to be more than there are.

    Source: Sanh et al. 2019 (DistilBERT) spread the layers.
    """
    if num_layers < 1 or num_wanted < 1:
        raise ValueError(f"Stacks must have at least 1 layer, got {num_layers} and {num_wanted}.")
    if selection == "spread":
        return [i * (num_layers - 1) // max(num_wanted - 1, 1) for i in range(num_wanted)]
    if num_wanted > num_layers:
        raise ValueError(
            f"`layer_selection` must be spread for more layers than there are, got {selection!r} for {num_wanted} of "
            f"{num_layers}."
        )
    first = 0 if selection == "first" else num_layers - num_wanted
    return list(range(first, first + num_wanted))


@torch.no_grad()
def copy_blocks(
    student: PreTrainedModel, teacher: PreTrainedModel, vocab_size: int, layer_selection: LayerSelection = "spread"
) -> None:
    """Copies every weight under `model.`, and an AT student's `final_logits_bias`, which is no weight.

    The student keeps its embeddings and biases of tokens behind `vocab_size`.

    Args:
        student (`PreTrainedModel`): model whose weights are set.
        teacher (`PreTrainedModel`): model whose parameters carry the same names.
        vocab_size (`int`): tokens that both have.
        layer_selection (`str`, *optional*, defaults to `"spread"`): see `selected_layers`.

    Raises:
        ValueError: if the parameters do not correspond.
    """
    weights = _by_student_names(student, teacher, layer_selection)
    prefix = f"{student.base_model_prefix}."
    differing = {name for name in student.state_dict().keys() ^ weights.keys() if name.startswith(prefix)}
    if differing:
        raise ValueError(
            f"Teacher and student must have the same parameters under `{prefix}`, got a difference in "
            f"{sorted(differing)[:3]}. Use a MarianMT teacher with a shared embedding."
        )
    for name, parameter in student.named_parameters():
        if name not in weights or not parameter.requires_grad:
            continue
        weight, target = weights[name], parameter.detach()
        if name in ("model.shared.weight", "lm_head.weight"):
            weight, target = weight[:vocab_size], target[:vocab_size]
        if target.shape != weight.shape:
            raise ValueError(
                f"`{name}` must have the same shape in teacher and student, got {tuple(weight.shape)} and "
                f"{tuple(parameter.shape)}. Leave the sizes out of `config_overrides`."
            )
        target.copy_(weight)
    bias = dict(student.named_buffers()).get("final_logits_bias")
    if bias is not None and "final_logits_bias" in weights:
        bias[:, :vocab_size] = weights["final_logits_bias"][:, :vocab_size]


def _by_student_names(
    student: PreTrainedModel, teacher: PreTrainedModel, selection: LayerSelection
) -> dict[str, torch.Tensor]:
    """The teacher's weights under the names that they have in the student, whose layers may be others."""
    weights = teacher.state_dict()
    found = {name: weight for name, weight in weights.items() if not _LAYER.match(name)}
    for side in ("encoder", "decoder"):
        wanted, there = (getattr(model.config, f"{side}_layers") for model in (student, teacher))
        for layer, source in enumerate(selected_layers(there, wanted, selection)):
            origin = f"model.{side}.layers.{source}."
            for name, weight in weights.items():
                if name.startswith(origin):
                    found[f"model.{side}.layers.{layer}.{name.removeprefix(origin)}"] = weight
    return found
