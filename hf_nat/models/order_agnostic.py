"""Order-agnostic cross-entropy (OaXE): a word is not wrong because it stands elsewhere.

Dimension letters: B batch, T target, D model, V vocabulary.
"""

import importlib
from collections.abc import Callable
from typing import Any

import torch

from .directed_acyclic import label_log_probs


@torch.compiler.disable
@torch.no_grad()
def best_order(
    hidden_states: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, selected: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Puts the labels of each target into the order in which they are most probable.

    Args:
        hidden_states (`torch.FloatTensor` of shape `(B, T, D)`): states of the positions.
        weight (`torch.FloatTensor` of shape `(V, D)`): weight of the output projection.
        labels (`torch.LongTensor` of shape `(B, T)`): targets.
        selected (`torch.BoolTensor` of shape `(B, T)`): True at the positions whose labels change places; the others
            stay.

    Returns:
        `tuple` of the labels in their new order (`torch.LongTensor` of shape `(B, T)`) and their log-probabilities in
        nats (`torch.FloatTensor` of shape `(B, T)`; 0 at positions that are not selected).

    Raises:
        ImportError: if SciPy is missing.

    Source: Du et al. 2021 (arXiv:2106.05093), section 3.1: the Hungarian algorithm, exact.
    """
    assign = import_assignment()
    # [B, label, position]
    log_probs = label_log_probs(hidden_states, weight, selected, labels.masked_fill(~selected, 0))
    ordered, scores = labels.clone(), torch.zeros(labels.shape, dtype=log_probs.dtype, device=labels.device)
    for row, (own, costs) in enumerate(zip(selected, log_probs, strict=True)):
        places = own.nonzero().squeeze(1)
        chosen, at = assign(costs[places][:, places].double().cpu().numpy(), maximize=True)
        chosen, at = (places[torch.as_tensor(number, device=places.device)] for number in (chosen, at))
        ordered[row, at] = labels[row, chosen]
        scores[row, at] = costs[chosen, at]
    return ordered, scores


def import_assignment() -> Callable[..., Any]:
    """Imports SciPy's solver of the assignment problem.

    Raises:
        ImportError: if it is missing, with the remedy.
    """
    try:
        # Not by a statement: transformers takes what those name for needed by every model of this code.
        return importlib.import_module("scipy.optimize").linear_sum_assignment
    except ImportError as error:
        raise ImportError("Order-agnostic training needs SciPy: pip install scipy.") from error
