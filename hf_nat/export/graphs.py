"""Decoding as graphs: what `generate` does, traced by torch.

A model of one round is one graph. One of several rounds is two, an encoder and a round; their loop is that of whoever
runs them, so that rows leave when they are finished and the number of rounds is free.

Dimension letters: B batch, K candidates of a sentence, S source, T target, D model, V vocabulary; R = B * K rows.
"""

from __future__ import annotations

import dataclasses
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from ..decoding.shortlist import ShortList, content_vocabulary
from ..models import NATState
from ..models.canvas import content_mask, resize
from ..models.generation_output import choose_candidates, gather_rows


# ONNX's version of the operators: the first with all that the graphs need, so that older runtimes read them too.
_OPSET = 20


class Graph(nn.Module):
    """A function of tensors.

    Args:
        model (`PreTrainedModel`): a NAT model in eval mode.
        settings (`SimpleNamespace`): the values of its knobs, which the graph keeps.
        short_list ([`ShortList`], *optional*): gives the tokens that may be chosen; by default all that are not
            forbidden.
    """

    inputs: tuple[str, ...] = ("input_ids", "attention_mask")
    outputs: tuple[str, ...]
    vocabulary: torch.Tensor

    def __init__(self, model: Any, settings: SimpleNamespace, short_list: ShortList | None = None) -> None:
        super().__init__()
        self.model, self.settings, self.short_list = model, settings, short_list
        self.register_buffer("vocabulary", content_vocabulary(model))
        for module in model.modules():
            if hasattr(module, "freeze"):
                module.freeze()

    def example(self) -> tuple[torch.Tensor, ...]:
        """Returns inputs to trace with, no dimension of which is 1: two sources of different lengths."""
        config: Any = self.model.config
        word, eos, pad = 3, config.eos_token_id, config.pad_token_id
        input_ids = torch.tensor([[word, word, word, word, eos], [word, word, eos, pad, pad]])
        return input_ids, input_ids.ne(pad).long()

    def init_state(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> NATState:
        """Encodes sources `(B, S)` and returns the state before the first round, with a vocabulary if it is short."""
        states = self.model.model.encoder(input_ids, attention_mask).last_hidden_state
        state = self.model.init_state(input_ids, attention_mask, (self.model,), (states,), self.settings)
        return state if self.short_list is None else dataclasses.replace(state, vocabulary=self.short_list(input_ids))

    def with_vocabulary(self, state: NATState) -> NATState:
        """Returns the state with the tokens that may be chosen, if it has none: others are not even scored."""
        return dataclasses.replace(state, vocabulary=self.vocabulary) if state.vocabulary is None else state

    def refine(self, state: NATState) -> NATState:
        """Executes a round."""
        return self.model.refine(self.with_vocabulary(state))


class DecodingGraph(Graph):
    """All of `generate`, for a model of one round, and what a search needs that is none of the graph's."""

    @property
    def outputs(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names of what `forward` returns."""
        chosen = ("sequences", "token_scores")
        if self.is_searched:
            return (*chosen, "frame_logits") if self.short_list is None else (*chosen, "frame_logits", "vocabulary")
        return chosen if self.num_candidates == 1 else (*chosen, "candidates", "candidate_scores")

    @property
    def is_searched(self) -> bool:
        """Whether a beam search may read the frames."""
        model: Any = self.model
        return bool(model.search_knobs)

    @property
    def num_candidates(self) -> int:
        """Candidates of a sentence (K)."""
        model: Any = self.model
        return model._num_candidates(self.settings)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Translates a batch.

        Args:
            input_ids (`torch.LongTensor` of shape `(B, S)`): source tokens, right-padded.
            attention_mask (`torch.LongTensor` of shape `(B, S)`): 1 at source tokens.

        Returns:
            `tuple`: `sequences` `(B, T)`, content, EOS, padding; `token_scores` `(B, T)`, log-probabilities in nats.
            With several candidates also those of all, `(B * K, T)`, side by side. With a search `frame_logits`
            `(N, V)` of all frames, a column for each token of the vocabulary and any behind; with a short list also
            this `vocabulary` `(V',)`.
        """
        model: Any = self.model
        state = self.init_state(input_ids, attention_mask)
        final = self.refine(state)
        rows = torch.arange(final.tokens.shape[0], device=input_ids.device)
        done = [(rows, *model._written(final, self.settings.collapse_repeats), 1)]
        output = gather_rows(done, None, True, model.config.pad_token_id)
        if self.is_searched:
            # The round has computed the same, which the optimizer sees.
            state = self.with_vocabulary(state)
            is_frame = content_mask(model._sentences(state).tokens.ne(model.config.pad_token_id))
            searched = model.frame_logits(state, is_frame)
            return output.sequences, output.token_scores, *(searched if self.short_list else searched[:1])
        if self.num_candidates == 1:
            return output.sequences, output.token_scores
        scores = model._candidate_scores(state, output).view(input_ids.shape[0], self.num_candidates)
        chosen = choose_candidates(output, scores, 1)
        return chosen.sequences, chosen.token_scores, output.sequences, output.token_scores


class EncoderGraph(Graph):
    """What comes before the first round of a model that refines: encoder states and canvases of the K candidates.

    Args:
        outputs (`tuple[str, ...]`): which tensors of the first state, see [`state_tensors`].
    """

    def __init__(
        self, model: Any, settings: SimpleNamespace, short_list: ShortList | None, outputs: tuple[str, ...]
    ) -> None:
        super().__init__(model, settings, short_list)
        self.outputs = outputs

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Returns the first state of sources `(B, S)`, R rows: `encoder_hidden_states` `(R, S, D)` and the others."""
        tensors = state_tensors(self.init_state(input_ids, attention_mask))
        return tuple(tensors[name] for name in self.outputs)


class StepGraph(Graph):
    """One round of a model that refines; rows that were finished before it stay as they are."""

    outputs = ("next_tokens", "next_scores", "next_finished")

    def __init__(self, model: Any, settings: SimpleNamespace, short_list: ShortList | None = None) -> None:
        super().__init__(model, settings, short_list)
        with torch.no_grad():
            self.template = self.init_state(*super().example())
        self.state = tuple(state_tensors(self.template))
        self.inputs = (*Graph.inputs, *self.state, "iteration", "max_iterations")

    def example(self) -> tuple[torch.Tensor, ...]:
        """See [`Graph.example`]; the canvases have words."""
        tokens, state = super().example()[0], self.template
        tokens = tokens.repeat_interleave(state.tokens.shape[0] // tokens.shape[0], dim=0)[:, :3]
        tokens = tokens.index_fill(1, torch.tensor([2]), self.model.config.eos_token_id)
        changed = {"tokens": tokens, "scores": torch.zeros(tokens.shape), "vocabulary": self.vocabulary}
        tensors = {name: changed.get(name, value) for name, value in state_tensors(state).items()}
        return (state.input_ids, state.attention_mask, *tensors.values(), torch.tensor(1), torch.tensor(4))

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Refines canvases `(R, T)`.

        Args:
            *tensors (`torch.Tensor`): sources `(R, S)` and their mask; the tensors of the state; the rounds that were
                executed and those that may be, `()`.

        Returns:
            `tuple`: `tokens` `(R, T')`, `scores` `(R, T')` and `finished` `(R,)` after the round.
        """
        values: dict[str, Any] = dict(zip(self.inputs, tensors, strict=True))
        values["encoder_hidden_states"] = (values["encoder_hidden_states"],)
        before = dataclasses.replace(self.template, **values)
        after = self.refine(before)
        width, pad = after.tokens.shape[1], self.model.config.pad_token_id
        held = before.finished.unsqueeze(1)
        return (
            torch.where(held, resize(before.tokens, width, pad), after.tokens),
            torch.where(held, resize(before.scores, width, 0.0), after.scores),
            before.finished | after.finished,
        )


def state_tensors(state: NATState) -> dict[str, torch.Tensor]:
    """Returns the tensors of a state beside its source: `encoder_hidden_states`, then the others."""
    known = ("input_ids", "attention_mask")
    values = {field.name: getattr(state, field.name) for field in dataclasses.fields(state) if field.name not in known}
    own = {name: value for name, value in values.items() if isinstance(value, torch.Tensor)}
    return {"encoder_hidden_states": state.encoder_hidden_states[0], **own}


def save_graph(module: Graph, path: Path) -> tuple[str, ...]:
    """Traces a module and writes it as an ONNX file whose batch and lengths are free.

    Args:
        module (`Graph`): the function.
        path (`Path`): the file.

    Returns:
        `tuple[str, ...]`: names of the inputs on which the outputs depend; the file has no others.
    """
    from onnx_ir.passes import common
    from onnxscript import ir, optimizer

    inputs = module.example()
    free: tuple[Any, ...] = tuple(
        dict.fromkeys(range(min(2, value.dim())), torch.export.Dim.DYNAMIC) for value in inputs
    )
    if isinstance(module, StepGraph):
        free = (free,)  # its inputs are one argument, `*tensors`
    with torch.no_grad(), _traceable(module.model), _quiet():
        traced = torch.export.export(module, inputs, dynamic_shapes=free, strict=False)
        program = torch.onnx.export(
            traced,
            dynamo=True,
            opset_version=_OPSET,
            input_names=list(module.inputs),
            output_names=list(module.outputs),
            verbose=False,
        )
    assert program is not None
    graph = program.model
    # The rows of an embedding that are constant are taken now, not at every start.
    optimizer.optimize(graph, input_size_limit=1 << 40, output_size_limit=1 << 40)
    # It leaves large tensors as they are, and so what is computed from them: once for each output that reads them.
    common.DeduplicateInitializersPass(size_limit=1 << 40)(graph)
    common.CommonSubexpressionEliminationPass()(graph)
    used = [value for value in graph.graph.inputs if value.uses()]
    graph.graph.inputs[:] = used
    path.parent.mkdir(parents=True, exist_ok=True)
    ir.save(graph, path)
    return tuple(str(value.name) for value in used)


@contextmanager
def _traceable(model: PreTrainedModel) -> Iterator[None]:
    """Attention as plain operators, which a trace of free sizes can follow."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps torch's notes about packages that no translation needs to itself."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
