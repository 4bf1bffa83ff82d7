"""The end of a run by its validation curve."""

import pytest
from transformers import TrainerControl, TrainerState

from hf_nat.training.early_stopping import StopWithoutProgress


def stops_at(scores, *, patience=2, threshold=0.2, min_epochs=0, greater_is_better=True):
    """Returns the epoch after which a run with this curve ends, None if it never does."""
    callback = StopWithoutProgress("eval_bleu", patience, threshold, min_epochs, greater_is_better)
    state, control = TrainerState(), TrainerControl()
    for epoch, score in enumerate(scores, start=1):
        state.epoch = float(epoch)
        for entry in ({"loss": 1.0}, {"eval_loss": 1.0}, {"eval_bleu": score}):
            state.log_history.append(entry)
            callback.on_log(None, state, control)
        if control.should_training_stop:
            return epoch
    return None


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([1, 2, 3, 4], None),
        ([1, 1, 1], 3),
        # Small steps count together.
        ([1.0, 1.15, 1.3, 1.45], None),
        ([1.0, 1.05, 1.1], 3),
        # A worse score after a better one is no progress, a late jump is.
        ([5, 3, 5.1, 6], 3),
        ([5, 3, 5.2, 6], None),
    ],
)
def test_it_stops_where_the_best_score_has_not_risen(scores, expected):
    assert stops_at(scores) == expected


def test_it_waits_for_the_smallest_number_of_epochs():
    assert stops_at([1] * 8, min_epochs=6) == 6


def test_a_loss_must_fall():
    assert stops_at([3, 2, 1], greater_is_better=False) is None
    assert stops_at([3, 3, 3], greater_is_better=False) == 3
