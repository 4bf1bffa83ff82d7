"""What an update of FlowSeq keeps for its backward: counted in bytes of live tensors, no clock and no allocator."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from hf_nat.models import (
    FlowSeqConfig,
    FlowSeqForConditionalGeneration,
    VanillaNATConfig,
    VanillaNATForConditionalGeneration,
    flows,
    size_config,
)


IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "mask_token_id": 3}


class PeakMemory(TorchDispatchMode):
    """Counts the bytes of all storages that operations make, and the most that were alive at once."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: dict[int, int] = {}
        self.live = self.peak = 0

    def __torch_dispatch__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage()._cdata not in self.sizes:
                storage = tensor.untyped_storage()
                self.sizes[storage._cdata] = storage.nbytes()
                self.live += storage.nbytes()
                self.peak = max(self.peak, self.live)
                weakref.finalize(storage, self.free, storage._cdata)
        return result

    def free(self, key: int) -> None:
        self.live -= self.sizes.pop(key)


def update(model: Any, batch_size: int) -> tuple[int, torch.Tensor, dict[str, torch.Tensor]]:
    """Executes forward and backward; returns the peak of memory, the loss and all gradients."""
    ids = torch.randint(4, 100, (batch_size, 24), generator=torch.Generator().manual_seed(1))
    ids[:, -1] = 2
    torch.manual_seed(0)
    with PeakMemory() as memory:
        loss = model(input_ids=ids, labels=ids.flip(0)).loss
        loss.backward()
    return memory.peak, loss.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def new_flowseq(**changes: Any) -> FlowSeqForConditionalGeneration:
    torch.manual_seed(0)
    return FlowSeqForConditionalGeneration(
        FlowSeqConfig(vocab_size=100, init_steps=0, **IDS, **size_config("nano") | changes)
    ).train()


def test_an_update_takes_a_few_times_the_memory_of_a_vanilla_nat() -> None:
    vanilla = VanillaNATForConditionalGeneration(VanillaNATConfig(vocab_size=100, **IDS, **size_config("nano")))
    expected, *_ = update(vanilla.train(), 32)
    found, *_ = update(new_flowseq(), 32)
    # So small a batch weighs little beside the gradients; without recomputation it was 15 times as much.
    assert found < 3.5 * expected


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_recomputed_values_give_the_same_loss_and_gradients(dropout: float, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = {"dropout": dropout, "attention_dropout": dropout, "activation_dropout": dropout}
    recomputed = update(new_flowseq(**changes, flow_steps=[1, 1]), 3)
    monkeypatch.setattr(flows, "recompute", lambda function, *args: function(*args))
    kept = update(new_flowseq(**changes, flow_steps=[1, 1]), 3)
    assert kept[0] > recomputed[0]
    assert torch.equal(kept[1], recomputed[1])
    assert kept[2].keys() == recomputed[2].keys()
    for name, gradient in kept[2].items():
        assert torch.equal(gradient, recomputed[2][name]), name
