"""How many pairs of a run its model cannot learn: those whose target does not fit into what it writes."""

from __future__ import annotations

from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc
import torch
from datasets import Dataset
from transformers import PreTrainedModel
from transformers.utils import logging


logger = logging.get_logger(__name__)

# Above this share of the training pairs the ratio of the canvas is too small for the corpus.
_TOLERABLE = 0.01
_ROWS = 1000
REMEDY = (
    "Raise `upsample_ratio` (CTC) or `graph_size_ratio` (DA-Transformer), or `max_position_embeddings` where that "
    "bounds the canvas."
)


def count_infeasible_pairs(
    model: PreTrainedModel, train_set: Dataset, validation_set: Dataset | None = None
) -> dict[str, int]:
    """Counts and logs the pairs that a model leaves out of its loss, in one pass without a forward pass of the model.

    Args:
        model (`PreTrainedModel`): asked for `infeasible_pairs`, a method from masks and labels to marks.
        train_set (`Dataset`): encoded training pairs.
        validation_set (`Dataset`, *optional*): encoded validation pairs.

    Returns:
        `dict[str, int]`: what metrics.json holds of them: `num_infeasible_pairs`, and of the validation pairs
        `eval_num_infeasible_pairs`; nothing for a model without such pairs.
    """
    if not hasattr(model, "infeasible_pairs"):
        return {}
    counts = {}
    for prefix, name, rows in (("", "training", train_set), ("eval_", "validation", validation_set)):
        if rows is None:
            continue
        count = counts[f"{prefix}num_infeasible_pairs"] = _count(model, rows)
        places = cast(Any, model).canvas_places
        text = (
            f"{count:,} of {len(rows):,} {name} pairs ({count / len(rows):.2%}) have a target that does not fit into "
            f"the {places} of its source: they are left out of the loss."
        )
        if count > _TOLERABLE * len(rows):
            logger.warning_once(f"{text} {REMEDY}")
        else:
            logger.info(text)
    return counts


def _count(model: Any, dataset: Dataset) -> int:
    """Counts the marks of a model over all pairs, some at a time."""
    tables = dataset.select_columns(["attention_mask", "labels"]).with_format("arrow").iter(_ROWS)
    return sum(
        int(model.infeasible_pairs(_padded(table["attention_mask"], 0), _padded(table["labels"], -100)).sum())
        for table in tables
    )


def _padded(column: pa.ChunkedArray, padding: int) -> torch.Tensor:
    """Turns lists of numbers into rows of one width."""
    lengths = torch.tensor(pc.list_value_length(column).to_numpy())
    is_there = torch.arange(int(lengths.max())) < lengths.unsqueeze(1)
    values = torch.tensor(pc.list_flatten(column).to_numpy(), dtype=torch.long)
    return torch.full(is_there.shape, padding).masked_scatter(is_there, values)
