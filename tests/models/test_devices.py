"""What a GPU would trip over, shown on a CPU: tensors made without a device, and reads that make the host wait.

The `meta` device itself can run no loss: all select positions by Boolean masks, whose number `meta` does not know. It
serves as the default device instead. What is made without the device of its inputs lands there, and fails at its first
meeting with them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from nat_model_tester import MODEL_TYPES, tiny_batch, tiny_model
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import hf_nat
from hf_nat.alignment import align


MODELS = Path(hf_nat.__file__).parent / "models"
READS = {
    torch.ops.aten._local_scalar_dense.default,
    torch.ops.aten.nonzero.default,
    torch.ops.aten.masked_select.default,
    torch.ops.aten.repeat_interleave.Tensor,
}
ASKS = {getattr(torch.Tensor, name) for name in ("tolist", "cpu", "numpy", "item")} | {
    getattr(torch.Tensor, f"__{name}__") for name in ("bool", "int", "float", "index")
}
# Function -> why it has to ask the device. Whoever adds a row says why.
_WIDTH = "the width of a tensor is a number of the host"
_SELECTED = "the output layer, the largest by far, computes selected positions alone"
_ROWS = "an edit is made of the rows alone that need it"
_FEW_ROWS = "once in a sentence's first round"
ALLOWED_READS = {
    "canvas.largest": _WIDTH,
    "canvas.require_right_padding": "a source padded on the left is an error, not a bad translation",
    "flow_layers.make_grids": "transformers leaves out a mask that hides nothing",
    "generation_da_transformer._graph": _SELECTED,
    "generation_ctc._search": "a sentence is searched as many steps as it has frames",
    "generation_ctc.refine": _SELECTED,
    "generation_nat._run": "finished rows leave the batch: once a round, never in the last",
    "generation_nat._trim": _WIDTH,
    "graph_decoding.joint_viterbi": "as many steps as the longest path",
    "modeling_cmlm.refine": _SELECTED,
    "modeling_insertion_transformer._choose_tokens": _FEW_ROWS,
    "modeling_insertion_transformer.refine": "words go to the slots that got one",
    "modeling_insertion_transformer.slot_logits": _SELECTED,
    "modeling_iterative_nat.refine": _SELECTED,
    "modeling_levenshtein_transformer._edit": _ROWS,
    "modeling_levenshtein_transformer._insert": _FEW_ROWS,
    "modeling_levenshtein_transformer._replace_rows": _ROWS,
    "modeling_levenshtein_transformer._score": _SELECTED,
    "modeling_nat.forward": "transformers leaves out a mask that hides nothing",
    "modeling_vanilla_nat.refine": _SELECTED,
    "noise.__init__": "FlowSeq's samples are seeded by the tokens of their sentence",
    "source_copy.word_logits": _SELECTED,
}


class HostReads(TorchDispatchMode):
    """Notes in which functions of `hf_nat.models` the host waits for a value, Boolean indexing included."""

    def __init__(self) -> None:
        super().__init__()
        self.places: set[str] = set()

    def __torch_dispatch__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function in READS or (
            function in (torch.ops.aten.index.Tensor, torch.ops.aten.index_put_.default)
            and any(index is not None and index.dtype == torch.bool for index in args[1])
        ):
            self.places.add(place())
        return function(*args, **(kwargs or {}))


class Lists(TorchFunctionMode):
    """Notes calls of `int`, `tolist` and the like, which no dispatcher sees on a CPU or in inference mode."""

    def __init__(self) -> None:
        super().__init__()
        self.places: set[str] = set()

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function in ASKS:
            self.places.add(place())
        return function(*args, **(kwargs or {}))


def place() -> str:
    """The innermost function of `hf_nat.models` that is running."""
    frame = sys._getframe(2)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.parent == MODELS:
            return f"{path.stem}.{frame.f_code.co_qualname.split('.<locals>')[0].rsplit('.', 1)[-1]}"
        frame = frame.f_back
    return "elsewhere"


def generate(model: Any) -> Any:
    batch = tiny_batch()
    knobs: dict[str, Any] = dict.fromkeys(model.candidate_knobs, 2)
    if "graph_decoding" in model.generation_defaults:
        knobs["graph_decoding"] = "viterbi"
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    return [model.generate(**inputs), model.generate(**inputs, return_dict_in_generate=True, **knobs).sequences]


def train(model: Any) -> Any:
    batch = tiny_batch()
    torch.manual_seed(3)
    loss = model.train()(**batch).loss
    loss.backward()
    return [loss.detach(), *(p.grad for p in model.parameters() if p.grad is not None)]


@pytest.mark.parametrize("work", [generate, train])
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_every_tensor_is_made_on_the_device_of_its_inputs(model_type: str, work: Callable[[Any], Any]) -> None:
    expected = work(tiny_model(model_type))
    model, batch = tiny_model(model_type), tiny_batch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules[__name__], "tiny_batch", lambda: batch)
        with torch.device("meta"):
            found = work(model)
    for tensor, wanted in zip(found, expected, strict=True):
        assert tensor.device.type == "cpu"
        assert torch.equal(tensor, wanted)


def test_decoding_waits_for_the_device_only_where_it_must() -> None:
    with HostReads() as reads, Lists() as lists:
        for model_type in MODEL_TYPES:
            generate(tiny_model(model_type))
    assert sorted(reads.places | lists.places) == sorted(ALLOWED_READS)


def test_the_aligner_makes_every_tensor_on_its_device() -> None:
    corpus = [["a", "dog", "runs"], ["a", "cat"], ["dogs", "run", "home"]] * 4
    expected = [list(links) for links in align(corpus, corpus[::-1], device="cpu")]
    with torch.device("meta"):
        assert [list(links) for links in align(corpus, corpus[::-1], device="cpu")] == expected
