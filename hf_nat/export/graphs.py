"""Decoding as graphs: what `generate` does, traced by torch.

Dimension letters: B batch, K candidates of a sentence, S source, T target, V vocabulary.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from ..models import NATState
from .shortlist import ShortList


# ONNX's version of the operators: the first with all that the graphs need, so that older runtimes read them too.
_OPSET = 20


class DecodingGraph(nn.Module):
    """All of `generate` as a function of tensors, with as many rounds as there may be.

    Args:
        model (`PreTrainedModel`): a model that `is_traceable`, in eval mode.
        settings (`SimpleNamespace`): the values of its knobs, which the graph keeps.
        short_list ([`ShortList`], *optional*): gives the tokens that may be written; by default all that are content.
    """

    inputs = ("input_ids", "attention_mask")

    def __init__(self, model: Any, settings: SimpleNamespace, short_list: ShortList | None = None) -> None:
        super().__init__()
        self.model, self.settings, self.short_list = model, settings, short_list
        self.register_buffer("vocabulary", content_vocabulary(model))

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what `forward` returns."""
        chosen = ("sequences", "token_scores")
        return chosen if self.num_candidates == 1 else (*chosen, "candidates", "candidate_scores")

    @property
    def num_candidates(self) -> int:
        """Candidates of a sentence (K)."""
        knobs: Any = self.model
        return math.prod(getattr(self.settings, name) for name in knobs.candidate_knobs)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Translates a batch.

        Args:
            input_ids (`torch.LongTensor` of shape `(B, S)`): source tokens, right-padded.
            attention_mask (`torch.LongTensor` of shape `(B, S)`): 1 at source tokens.

        Returns:
            `tuple`: `sequences` `(B, T)`, content, EOS, padding; `token_scores` `(B, T)`, log-probabilities in nats.
            With several candidates also those of all, `(B * K, T)`, side by side.
        """
        model: Any = self.model
        states = model.model.encoder(input_ids, attention_mask).last_hidden_state
        state = model.init_state(input_ids, attention_mask, (model,), (states,), self.settings)
        vocabulary = self.vocabulary if self.short_list is None else self.short_list(input_ids)
        state = dataclasses.replace(state, vocabulary=vocabulary)
        final = model.refine(state)
        for iteration in range(1, self.settings.max_iterations):
            before = dataclasses.replace(final, iteration=iteration)
            final = _unless_finished(before, model.refine(before))
        rows = torch.arange(final.tokens.shape[0], device=input_ids.device)
        done = [(rows, *model._written(final, self.settings.collapse_repeats), 1)]
        output = model._gather(done, None, with_scores=True)
        if self.num_candidates == 1:
            return output.sequences, output.token_scores
        scores = model._candidate_scores(state, output).view(input_ids.shape[0], self.num_candidates)
        chosen = model._choose(output, scores, 1)
        return chosen.sequences, chosen.token_scores, output.sequences, output.token_scores


def _unless_finished(before: NATState, after: NATState) -> NATState:
    """Returns the state after a round, but for rows that were finished before it: `generate` lets these go."""
    finished = before.finished.unsqueeze(1)
    return dataclasses.replace(
        after,
        tokens=torch.where(finished, before.tokens, after.tokens),
        scores=torch.where(finished, before.scores, after.scores),
        finished=before.finished | after.finished,
    )


def content_vocabulary(model: Any) -> torch.Tensor:
    """Returns the tokens `(V',)` that a model may write: all but the special ones, with the blank of CTC."""
    special = set(model._special_token_ids()) - {getattr(model.config, "blank_token_id", None)}
    return torch.tensor([token for token in range(model.config.vocab_size) if token not in special])


def save_graph(module: nn.Module, inputs: Sequence[torch.Tensor], path: Path) -> None:
    """Traces a module and writes it as an ONNX file whose batch and lengths are free.

    Args:
        module (`nn.Module`): has the names `inputs` and `outputs` of what goes in and comes out.
        inputs (`Sequence[torch.Tensor]`): an example of each input, no dimension of which is 1.
        path (`Path`): the file.
    """
    from onnxscript import ir, optimizer

    names: Any = module
    free = tuple(dict.fromkeys(range(2), torch.export.Dim.DYNAMIC) for _ in inputs)
    with torch.no_grad(), _traceable(names.model), _quiet():
        traced = torch.export.export(module, tuple(inputs), dynamic_shapes=free, strict=False)
        program = torch.onnx.export(
            traced,
            dynamo=True,
            opset_version=_OPSET,
            input_names=list(names.inputs),
            output_names=list(names.outputs),
            verbose=False,
        )
    assert program is not None
    graph = program.model
    # The rows of an embedding that are constant are taken now, not at every start.
    optimizer.optimize(graph, input_size_limit=1 << 40, output_size_limit=1 << 40)
    path.parent.mkdir(parents=True, exist_ok=True)
    ir.save(graph, path)


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
