"""Models of which each process holds a piece (FSDP, DeepSpeed ZeRO-3), made whole to decode and to save."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedModel


def is_sharded(model: PreTrainedModel) -> bool:
    """Tells whether a process holds only pieces of the parameters of `model`."""
    return any(isinstance(parameter, DTensor) or hasattr(parameter, "ds_id") for parameter in model.parameters())


def prepare_for_fsdp(model: PreTrainedModel, accelerator: Accelerator) -> None:
    """Makes one module of the embeddings that share a weight, because FSDP shards modules, not weights.

    accelerate puts embedding and output projection into one group, but not the embeddings of encoder and decoder.

    Args:
        model (`PreTrainedModel`): the model, before it is sharded.
        accelerator (`Accelerator`): the accelerator that will shard it.

    Raises:
        ValueError: where accelerate would quietly train without FSDP, on a CPU; under FSDP's first version, whose
            parameters cannot be told apart; with whole state dicts, which torch cannot load where embeddings are one.
    """
    if accelerator.distributed_type != DistributedType.FSDP:
        raise ValueError(
            f"FSDP must have an accelerator, got {accelerator.distributed_type.value}: accelerate has it for GPUs and "
            "the like alone. Use configs/accelerate/cpu.yaml or a DeepSpeed one on a CPU."
        )
    plugin = accelerator.state.fsdp_plugin
    for name, wanted, given in (
        ("fsdp_version", 2, plugin.fsdp_version),
        ("fsdp_state_dict_type", "SHARDED_STATE_DICT", plugin.state_dict_type.name),
    ):
        if given != wanted:
            raise ValueError(f"`{name}` must be {wanted}, got {given}. See configs/accelerate/fsdp.yaml.")
    model.set_input_embeddings(model.get_input_embeddings())


@torch.no_grad()
def whole_model(model: PreTrainedModel) -> PreTrainedModel:
    """Returns `model`, or a copy of it with all weights where each process holds only pieces of them.

    All processes must call this; none has to wait for the others when it then uses the copy. A forward pass of a
    sharded model is a collective operation: processes that decode different numbers of batches, or rounds, would wait
    for each other forever, and `generate` calls submodules, past the hooks that gather the weights of the whole model.

    Args:
        model (`PreTrainedModel`): the unwrapped model of a trainer.

    Returns:
        `PreTrainedModel`: the model itself, or the copy, on its device and in its mode.
    """
    if not is_sharded(model):
        return model
    device = model.device
    # The weights drawn here are overwritten: training must not notice.
    with torch.random.fork_rng([device] if device.type == "cuda" else []), device:
        copy = cast(Any, type(model))(model.config)
    copy.generation_config = model.generation_config
    for own, other in zip(copy.parameters(), model.parameters(), strict=True):
        with _gathered(other) as whole:
            own.data = whole.detach().clone()
    for buffer, original in zip(copy.buffers(), model.buffers(), strict=True):
        buffer.copy_(original)
    return copy.train(model.training)


@torch.no_grad()
def set_weights(model: PreTrainedModel, weights: Mapping[str, Tensor]) -> None:
    """Sets the parameters and buffers of a model, sharded or not, by their names; all processes must call this.

    Args:
        model (`PreTrainedModel`): the unwrapped model of a trainer.
        weights (`Mapping[str, Tensor]`): whole tensors, the same on all processes; a name that is missing keeps what
            it has.
    """
    tensors: list[tuple[str, Tensor]] = [*model.named_parameters(remove_duplicate=False), *model.named_buffers()]
    for name, tensor in tensors:
        if name not in weights:
            continue
        value = weights[name].to(tensor.device, tensor.dtype)
        if isinstance(tensor, DTensor):
            tensor.copy_(distribute_tensor(value, tensor.device_mesh, tensor.placements))
        else:
            with _gathered(tensor, modifier_rank=0) as whole:
                whole.copy_(value)


@contextmanager
def _gathered(tensor: Tensor, modifier_rank: int | None = None) -> Iterator[Tensor]:
    """Gives all of a parameter; what the process `modifier_rank` writes into one of ZeRO-3 stays."""
    if isinstance(tensor, DTensor):
        yield tensor.full_tensor()
    elif hasattr(tensor, "ds_id"):
        import deepspeed

        with deepspeed.zero.GatheredParameters([tensor], modifier_rank=modifier_rank):
            yield tensor
    else:
        yield tensor
