"""What a training run adds up: the numbers of its log lines and of its end, the same for a resumed run."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Any

import torch
from torch import Tensor
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

from .expert_usage import ExpertUsage


class Totals:
    """Sums of one training run, over all its processes and over the kills that it survived.

    Args:
        trainer (`Trainer`): the trainer whose run it is.

    Attributes:
        evaluation_seconds (`float`): time spent on validation.
        snapshot (`dict[str, Any]`): what the next checkpoint stores.
    """

    def __init__(self, trainer: Trainer):
        # Its sums are private; a resumed run has to set them.
        self._trainer: Any = trainer
        self._num_target_tokens = self._zero(torch.long)
        self._components: defaultdict[str, Tensor] = defaultdict(self._zero)
        self._components_logged_at = 0
        self._expert_usage = ExpertUsage(trainer.accelerator)
        self._seconds_before, self._started = 0.0, time.perf_counter()
        self.evaluation_seconds = 0.0
        self.snapshot: dict[str, Any] = {}

    def add(self, labels: Tensor, outputs: Any) -> None:
        """Adds a batch.

        Args:
            labels (`Tensor`): its labels, `[B, T]`, -100 where there is no token.
            outputs: what the model returned: `loss_components`, `token_shares`, and of a mixture its experts.
        """
        self._num_target_tokens += labels.ne(-100).sum()
        for prefix, kind in (("loss", "loss_components"), ("share", "token_shares")):
            for name, value in (getattr(outputs, kind, None) or {}).items():
                self._components[f"{prefix}_{name}"] += value.detach() * self._trainer.accelerator.num_processes
        self._expert_usage.add(outputs)

    def since_last_log(self) -> dict[str, float]:
        """Returns the means an update of loss components and token shares, and the use of the experts, since then."""
        logs = self._expert_usage.summary()
        updates = max(1, self._trainer.state.global_step - self._components_logged_at)
        for name, total in self._components.items():
            logs[name] = round(self._mean(total) / updates, 4)
            total.zero_()
        self._components_logged_at = self._trainer.state.global_step
        return logs

    def summary(self) -> dict[str, Any]:
        """Returns what is said of the whole run at its end.

        `train_loss` is the mean over the updates, `train_seconds` leaves validation in and
        `target_tokens_per_second`, of all processes, leaves it out.
        """
        seconds = self._seconds_before + time.perf_counter() - self._started
        num_tokens = self._sum(self._num_target_tokens)
        return {
            "train_loss": self._trainer._total_loss_scalar / max(1, self._trainer.state.global_step),
            "train_seconds": round(seconds, 1),
            "target_tokens_per_second": round(num_tokens / max(seconds - self.evaluation_seconds, 1e-9), 1),
        }

    def start(self) -> None:
        """Starts the clock, after whatever came before the first update."""
        self._started = time.perf_counter()

    def take_snapshot(self) -> None:
        """Collects what a resumed run has to know; all processes call it, at a checkpoint."""
        trainer = self._trainer
        self.snapshot = {
            "loss": self._mean(trainer._tr_loss),
            "loss_logged_at": trainer._globalstep_last_logged,
            "loss_total": trainer._total_loss_scalar,
            "num_target_tokens": self._sum(self._num_target_tokens),
            "components": {name: self._mean(total) for name, total in self._components.items()},
            "components_logged_at": self._components_logged_at,
            "expert_usage": self._expert_usage.totals(),
            "seconds": self._seconds_before + time.perf_counter() - self._started,
            "evaluation_seconds": self.evaluation_seconds,
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Goes on from a snapshot; of what is summed over the processes, the main one gets all."""
        trainer = self._trainer
        is_main = trainer.accelerator.is_main_process
        trainer._tr_loss.fill_(snapshot["loss"])
        trainer._globalstep_last_logged = snapshot["loss_logged_at"]
        trainer._total_loss_scalar = snapshot["loss_total"]
        trainer._initial_global_step = 0
        self._num_target_tokens.fill_(snapshot["num_target_tokens"] if is_main else 0)
        for name, value in snapshot["components"].items():
            self._components[name].fill_(value)
        self._components_logged_at = snapshot["components_logged_at"]
        if (usage := snapshot["expert_usage"]) is not None:
            self._expert_usage.restore(usage if is_main else [0.0] * len(usage))
        self._seconds_before = snapshot["seconds"]
        self.evaluation_seconds = snapshot["evaluation_seconds"]

    def _zero(self, dtype: torch.dtype = torch.float) -> Tensor:
        return torch.zeros((), dtype=dtype, device=self._trainer.args.device)

    def _mean(self, value: Tensor) -> float:
        return self._trainer.accelerator.gather(value.reshape(1)).mean().item()

    def _sum(self, value: Tensor) -> int:
        return int(self._trainer.accelerator.reduce(value.clone(), reduction="sum").item())


class CarriedTotals(TrainerCallback, ExportableState):
    """Puts the totals into `trainer_state.json` of every checkpoint, and takes them from there on a resume."""

    def __init__(self, totals: Totals):
        self.totals = totals

    def state(self) -> dict[str, Any]:
        """Returns what `trainer_state.json` stores of this callback."""
        return {"args": {}, "attributes": self.totals.snapshot}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Goes on from the checkpoint's totals; one that was written before there were any has none."""
        self.totals.start()
        callbacks: Any = state.stateful_callbacks
        stored = callbacks.get(type(self).__name__, {}).get("attributes")
        if stored and state.global_step:
            self.totals.restore(stored)
