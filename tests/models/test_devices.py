"""What a GPU would trip over, shown on a CPU: tensors made without a device, and reads that make the host wait.

The `meta` device, which has shapes and no values, trains every architecture: none needs a value to go on. As the
default device of a training on the CPU it shows more: what is made without the device of its inputs lands there, and
fails at its first meeting with them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from nat_model_tester import (
    BOS,
    EOS,
    GLANCING_MODEL_TYPES,
    MODEL_TYPES,
    PAD,
    TINY,
    tiny_batch,
    tiny_model,
)
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import masking_utils

import hf_nat
from hf_nat.alignment import align, fast_align
from hf_nat.models import MoEMarianConfig, MoEMarianMTModel, marian_config, new_teacher
from hf_nat.training.trainer import CrossEntropyLoss


MODELS = Path(hf_nat.__file__).parent / "models"
ALIGNMENT = Path(hf_nat.__file__).parent / "alignment"
SPECIAL = {"pad_token_id": PAD, "bos_token_id": BOS, "eos_token_id": EOS}
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
ALLOWED_READS = {
    "canvas.largest": _WIDTH,
    "canvas.require_right_padding": "a source padded on the left is an error, not a bad translation",
    "generation_da_transformer._graph": _SELECTED,
    "generation_da_transformer._vertices": _SELECTED,
    "ctc_beam.prefix_beam_search": "the search runs on the host; one question for all sentences",
    "generation_da_transformer.initial_canvas": "it works on the CPU: the width, in the precision of the lengths",
    "generation_nat._run": "finished rows leave the batch: once a round, never in the last",
    "generation_nat._states_at": _SELECTED,
    "generation_output.trim": _WIDTH,
    "graph_beam.by_word": _WIDTH,
    "graph_beam.graph_beam_search": "as many steps as the longest translation may have words",
    "graph_decoding.joint_viterbi": "as many steps as the longest path",
    "modeling_insertion_transformer._choose_tokens": "each slot belongs to a row",
    "modeling_insertion_transformer.refine": "words go to the slots that got one",
    "modeling_insertion_transformer.slot_logits": _SELECTED,
    "modeling_levenshtein_transformer._edit": _ROWS,
    "modeling_levenshtein_transformer._replace_rows": _ROWS,
    "modeling_levenshtein_transformer._score": _SELECTED,
    "modeling_nat.bidirectional_mask": "transformers leaves out a mask that hides nothing",
    "noise.__init__": "FlowSeq's samples are seeded by the tokens of their sentence",
    "shallow_fusion._weighted": "a language model runs on the host",
}


class HostReads(TorchDispatchMode):
    """Notes in which functions the host waits for a value, Boolean indexing included."""

    def __init__(self) -> None:
        super().__init__()
        self.places: set[str] = set()

    def __torch_dispatch__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        # With its size given, `repeat_interleave` asks for nothing.
        if (function in READS and (kwargs or {}).get("output_size") is None) or (
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
    """The innermost function of `hf_nat.models` or `hf_nat.alignment` that is running."""
    frame = sys._getframe(2)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.parent in (MODELS, ALIGNMENT):
            return f"{path.stem}.{frame.f_code.co_qualname.split('.<locals>')[0].rsplit('.', 1)[-1]}"
        frame = frame.f_back
    return "elsewhere"


def generate(model: Any) -> Any:
    batch = tiny_batch()
    knobs: dict[str, Any] = dict.fromkeys(model.candidate_knobs, 2)
    if "graph_decoding" in model.generation_defaults:
        knobs["graph_decoding"] = "viterbi"
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    found = [model.generate(**inputs), model.generate(**inputs, return_dict_in_generate=True, **knobs).sequences]
    if "lm_weight" in model.generation_defaults:
        knobs |= {"graph_decoding": "beam"} if "graph_decoding" in knobs else {}
        found.append(model.generate(**inputs, language_model=lambda prefix, token: -0.1 * token, **knobs))
    return found


def train(model: Any) -> Any:
    batch = tiny_batch()
    torch.manual_seed(3)
    loss = model.train()(**batch).loss
    loss.backward()
    return [loss.detach(), *(p.grad for p in model.parameters() if p.grad is not None)]


# What an architecture can also be trained with.
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((model_type, {}) for model_type in MODEL_TYPES),
    *((model_type, {"glancing_ratio": 0.5}) for model_type in GLANCING_MODEL_TYPES),
    ("cmlm", {"correction_ratio": 0.3}),
    ("da_transformer", {"fuzzy_alignment": True}),
    ("flowseq", {"init_steps": 1}),
    ("levenshtein_transformer", {"sample_deletion_roll_in": True}),
]


def assert_update_on_meta(model: Any, loss: Callable[[dict[str, torch.Tensor]], torch.Tensor]) -> None:
    """One update, after which every parameter that learns has a gradient."""
    optimizer = torch.optim.AdamW(model.parameters())
    value = loss({name: tensor.to("meta") for name, tensor in tiny_batch().items()})
    assert value.is_meta and value.shape == ()
    value.backward()
    optimizer.step()
    assert all(p.grad is not None and p.grad.is_meta for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize(("model_type", "fields"), VARIANTS, ids=lambda value: str(value).strip("{}"))
def test_an_update_needs_shapes_alone(model_type: str, fields: dict[str, Any]) -> None:
    with torch.device("meta"):
        model = tiny_model(model_type, **fields).train()
    assert_update_on_meta(model, lambda batch: model(**batch).loss)


@pytest.mark.parametrize("kinds", [{}, {"assignment": "soft", "prior": "learned"}], ids=str)
def test_an_update_of_a_mixture_needs_shapes_alone(kinds: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    # Marian's masks are made by transformers, which asks whether they hide anything, unless it traces.
    monkeypatch.setattr(masking_utils, "is_tracing", lambda tensor=None: True)
    with torch.device("meta"):
        model = MoEMarianMTModel(MoEMarianConfig(**{**TINY, "num_experts": 2, **SPECIAL, **kinds})).train()
    assert_update_on_meta(model, lambda batch: model(**batch).loss)


def test_an_update_of_a_teacher_needs_shapes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masking_utils, "is_tracing", lambda tensor=None: True)
    with torch.device("meta"):
        model = new_teacher(marian_config("nano", **{**TINY, **SPECIAL})).train()

    def loss(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        labels = batch.pop("labels")
        decoder_input_ids = model.prepare_decoder_input_ids_from_labels(labels)
        return CrossEntropyLoss(0.1)(model(**batch, decoder_input_ids=decoder_input_ids), labels)

    assert_update_on_meta(model, loss)


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


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_padding_on_the_left_is_found_without_waiting(model_type: str) -> None:
    batch = tiny_batch()
    left = {name: batch[name].flip(1) for name in ("input_ids", "attention_mask")}
    places = []
    for inputs in (batch, batch | left):
        torch.manual_seed(3)
        with HostReads() as reads, Lists() as lists:
            tiny_model(model_type).train()(**inputs)
        places.append(reads.places | lists.places)
    assert places[0] == places[1]
    assert not [name for name in places[1] if name.startswith(("canvas.source_positions", "modeling_nat.source_mask"))]


def test_the_aligner_makes_every_tensor_on_its_device() -> None:
    corpus = [["a", "dog", "runs"], ["a", "cat"], ["dogs", "run", "home"]] * 4
    expected = [list(links) for links in align(corpus, corpus[::-1], device="cpu")]
    with torch.device("meta"):
        assert [list(links) for links in align(corpus, corpus[::-1], device="cpu")] == expected


# The same for the aligner.
ALIGNER_READS = {
    "diagonal_prior.update_tension": "it works on the CPU: a table of all pairs of lengths",
    "fast_align._search": "the links of a chunk go to disk",
    "fast_align._train": "how long the table is; once a pass, for the tension",
}


def test_the_aligner_waits_for_the_device_only_where_it_must(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def in_this_thread(device: torch.device) -> Iterator[Any]:
        # What is on the watch sees no other thread.
        yield lambda function, num_chunks: map(function, range(num_chunks))

    monkeypatch.setattr(fast_align, "_worker_threads", in_this_thread)
    corpus = [["a", "dog", "runs"], ["a", "cat"], ["dogs", "run", "home"]] * 4
    with HostReads() as reads, Lists() as lists:
        assert len(list(align(corpus, corpus[::-1], device="cpu"))) == len(corpus)
    assert sorted(reads.places | lists.places) == sorted(ALIGNER_READS)
