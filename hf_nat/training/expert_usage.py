"""How a mixture of experts shares out the training sentences, for the trainer's logs."""

from __future__ import annotations

import math
from typing import Any

import torch
from accelerate import Accelerator
from transformers.utils import logging


logger = logging.get_logger(__name__)

MIN_EXPERT_SHARE = 0.05
MAX_EXPERT_ENTROPY = 0.95


class ExpertUsage:
    """Counts the sentences that each expert is responsible for between two log lines, over all processes.

    Args:
        accelerator (`Accelerator`): adds up the counts of the processes.
    """

    def __init__(self, accelerator: Accelerator):
        self.accelerator = accelerator
        # Sentences of each of K experts, then the entropies of all sentences.
        self._totals: torch.Tensor | None = None

    def add(self, outputs: Any) -> None:
        """Adds a batch: `expert_counts` `(K,)` and `expert_posteriors` `(B, K)` of a mixture's output.

        The output of a model without experts adds nothing.
        """
        counts = getattr(outputs, "expert_counts", None)
        if counts is not None:
            entropy = torch.special.entr(outputs.expert_posteriors.detach()).sum()
            totals = torch.cat([counts.detach().float(), entropy.reshape(1)])
            self._totals = totals if self._totals is None else self._totals + totals

    def totals(self) -> list[float] | None:
        """Returns the sums of all processes since the last log line, None without experts."""
        if self._totals is None:
            return None
        return self.accelerator.reduce(self._totals, reduction="sum").tolist()

    def restore(self, totals: list[float]) -> None:
        """Goes on from `totals`."""
        self._totals = torch.tensor(totals, device=self.accelerator.device)

    def summary(self) -> dict[str, float]:
        """Returns what the log line says of the sentences since the last call; warns of experts that fail.

        `expert_share_<k>`, in [0, 1], and `expert_entropy`, the mean entropy in nats of p(expert | source, target).
        A mixture degenerates in two ways: one of its experts takes all sentences, or all experts are alike, so that
        the entropy nears log K. Nothing without experts.

        Source: Shen et al. 2019, section 3 (degeneracies); the thresholds, 5 % of the sentences and 95 % of log K, are
        ours.
        """
        if self._totals is None:
            return {}
        *counts, entropy = self.totals() or []
        self._totals = None
        num_sentences = max(sum(counts), 1)
        shares, entropy = [count / num_sentences for count in counts], entropy / num_sentences
        for expert, share in enumerate(shares):
            if share < MIN_EXPERT_SHARE:
                logger.warning(
                    f"Every expert should win at least {MIN_EXPERT_SHARE:.0%} of the sentences, got {share:.1%} for "
                    f"expert {expert}. If it stays so, use fewer experts or another seed."
                )
        largest = math.log(len(shares))
        if largest and entropy > MAX_EXPERT_ENTROPY * largest:
            logger.warning(
                f"The experts should differ, got an entropy of {entropy:.3f} out of {largest:.3f} nats: no target "
                "tells which of them wrote it. If it stays so, train longer, or use hard assignment."
            )
        return {
            **{f"expert_share_{expert}": round(share, 4) for expert, share in enumerate(shares)},
            "expert_entropy": round(entropy, 4),
        }
