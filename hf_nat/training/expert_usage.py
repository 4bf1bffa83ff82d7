"""How a mixture of experts shares out the training sentences, for the trainer's logs."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from transformers.utils import logging


logger = logging.get_logger(__name__)

MIN_EXPERT_SHARE = 0.05


class ExpertUsage:
    """Counts the sentences that each expert wins between two log lines, over all processes.

    Args:
        accelerator (`Accelerator`): adds up the counts of the processes.
    """

    def __init__(self, accelerator: Accelerator):
        self.accelerator = accelerator
        self._counts: torch.Tensor | None = None

    def add(self, counts: torch.Tensor | None) -> None:
        """Adds a batch's sentences per expert, `(K,)`; `None` of a model without experts."""
        if counts is not None:
            counts = counts.detach()
            self._counts = counts if self._counts is None else self._counts + counts

    def shares(self) -> dict[str, float]:
        """Returns `expert_share_<k>`, in [0, 1], since the last call; warns of experts that are hardly used.

        Nothing without experts. A mixture that degenerates gives all sentences to one of them.

        Source: Shen et al. 2019, section 3 (degeneracies); the threshold of 5 % is ours.
        """
        if self._counts is None:
            return {}
        counts = self.accelerator.reduce(self._counts, reduction="sum").tolist()
        self._counts = None
        shares = [count / max(sum(counts), 1) for count in counts]
        for expert, share in enumerate(shares):
            if share < MIN_EXPERT_SHARE:
                logger.warning(
                    f"Every expert should win at least {MIN_EXPERT_SHARE:.0%} of the sentences, got {share:.1%} for "
                    f"expert {expert}. If it stays so, use fewer experts or another seed."
                )
        return {f"expert_share_{expert}": round(share, 4) for expert, share in enumerate(shares)}
