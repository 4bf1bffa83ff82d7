"""The end of a training run by its validation curve."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.utils import logging


logger = logging.get_logger(__name__)


class StopWithoutProgress(TrainerCallback):
    """Stops once the best validation score has not risen enough over the last evaluations.

    transformers' own `EarlyStoppingCallback` compares each score with the best one, so that ten small steps up count
    as none, and it knows no smallest number of epochs. This one reads the logged history, so a resumed run stops where
    an uninterrupted one does.

    Args:
        metric (`str`): logged name of the score, such as `eval_bleu`.
        patience (`int`): evaluations over which the best score must rise.
        threshold (`float`): how much, in the unit of the score.
        min_epochs (`int`): epochs that are trained in any case.
        greater_is_better (`bool`): whether the score rises or falls as the model gets better.
    """

    def __init__(self, metric: str, patience: int, threshold: float, min_epochs: int, greater_is_better: bool):
        self.metric, self.patience, self.threshold = metric, patience, threshold
        self.min_epochs, self.sign = min_epochs, 1 if greater_is_better else -1

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Looks at the curve whenever a score has been added to it."""
        if state.log_history and self.metric in state.log_history[-1]:
            self._look(state, control)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Ends a resumed run that had come to its end."""
        self._look(state, control)

    def _look(self, state: TrainerState, control: TrainerControl) -> None:
        scores = [self.sign * log[self.metric] for log in state.log_history if self.metric in log]
        before, since = scores[: -self.patience], scores[-self.patience :]
        if (state.epoch or 0) + 1e-6 < self.min_epochs or not before:
            return
        if max(since) < max(before) + self.threshold:
            logger.info(
                f"Stopping after epoch {state.epoch:.4g}: the best `{self.metric}` has not risen by {self.threshold} "
                f"over {self.patience} evaluations."
            )
            control.should_training_stop = True
